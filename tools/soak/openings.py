"""When the circuit breaker was certainly open, because of too many failures in a row."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .fetches import Fetch
from .history import History


@dataclass(frozen=True, slots=True)
class Opening:
    """Failures in a row that opened the breaker, up to the next fetch that may have closed it, at `until`.

    The count was last cleared at `cleared` or later. The breaker opened at `opened` or later, and all processes knew by
    `known`; a failure of one of the events in `last` opened it.
    """

    cleared: float
    opened: float
    known: float
    until: float
    last: set[str]


def openings_of(history: History) -> Iterator[Opening]:
    """The openings of which there is no doubt."""
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
            yield Opening(cleared, opened, known, until, last)


def _rows(fetches: Iterable[Fetch]) -> Iterator[tuple[float, float, float]]:
    """The times between fetches that may have cleared the count. Each fetch clears it between its `ended` and `noted`.

    Gives when the count was cleared at the earliest, when at the latest, and when it may be cleared again.
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
    """When this number of different events have failed."""
    events: set[str] = set()
    for at, event in sorted(failed):
        events.add(event)
        if len(events) == number:
            return at
    return None
