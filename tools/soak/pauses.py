"""When C42 was certainly left alone, for too many failures in a row."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .fetches import Fetch
from .history import History


@dataclass(frozen=True, slots=True)
class Pause:
    """Failures in a row, up to the next fetch that may have ended it at `until`.

    The count was last cleared at `cleared` or later. The pause began at `opened` or later, and all knew by `known`;
    `last` are the events of which one began it.
    """

    cleared: float
    opened: float
    known: float
    until: float
    last: set[str]


def pauses_of(history: History) -> Iterator[Pause]:
    """Those of which there is no doubt."""
    failures = [fetch for fetch in history.fetches if fetch.result in {"down", "unknown"}]
    if history.run.threshold == 0:
        return
    for cleared, since, until in _rows(history.fetches):
        possible = [fetch for fetch in failures if fetch.noted > cleared]
        certain = [fetch for fetch in possible if fetch.result == "down" and since < fetch.ended < until]
        known = _nth_event(((fetch.noted, fetch.event) for fetch in certain), history.run.threshold)
        opened = _nth_event(((fetch.ended, fetch.event) for fetch in possible), history.run.threshold)
        if known is not None and opened is not None:
            last = {fetch.event for fetch in possible if fetch.noted >= opened and fetch.ended <= known}
            yield Pause(cleared, opened, known, until, last)


def _rows(fetches: Iterable[Fetch]) -> Iterator[tuple[float, float, float]]:
    """The times between fetches that may have cleared the count: between its `ended` and its `noted` each of them does.

    (When it was cleared at the earliest, when at the latest, and when it may be again.)
    """
    may_clear = [fetch for fetch in fetches if fetch.has_succeeded or fetch.result == "unknown"]
    cleared = since = 0.0
    for fetch in sorted(may_clear, key=lambda fetch: fetch.ended):
        if fetch.ended > since:
            yield cleared, since, fetch.ended
        cleared = fetch.ended if fetch.has_succeeded else cleared
        since = max(since, fetch.noted)
    yield cleared, since, math.inf


def _nth_event(failed: Iterable[tuple[float, str]], number: int) -> float | None:
    """When so many different events have failed."""
    events: set[str] = set()
    for at, event in sorted(failed):
        events.add(event)
        if len(events) == number:
            return at
    return None
