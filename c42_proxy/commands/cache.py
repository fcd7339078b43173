"""`c42-proxy cache`: the entries of the shared store, one a line, the newest first."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import click

from ..caching.freshness import Freshness
from ..errors import StoreError
from ..settings import Settings
from ..stores.contract import Listed, is_ahead
from ..stores.opening import open_shared, shared_file, store_name
from ..web.routes import EVENT_ID

HEADINGS = ("STATE", "AGE", "FRESH", "STALE", "BYTES", "EVENT")

State = Literal["fresh", "stale", "too old", "ahead"]
"""What the age of an entry allows. One that is ahead is not served: the clock was set back after it was fetched."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the store; its instants are seconds since the epoch.

    `stale_until` is None for an entry that is never served stale. `bytes` is the length of the answer; 0 for a 404,
    whose text is our own.
    """

    event: str
    status: Literal[200, 404]
    state: State
    fetched_at: float
    fresh_until: float
    stale_until: float | None
    bytes: int


def print_entries(settings: Settings, clock: Callable[[], float], *, as_json: bool) -> None:
    """Print the entries; write to standard error where the store is and how many entries it has.

    Raises ClickException.
    """
    name = store_name(settings)
    store = open_shared(settings, clock)
    if store is None:
        # Not an empty list, which would mean that nothing is cached.
        raise click.ClickException(f"{name}: each worker has a memory of its own, and nobody else can look into it.")
    counts: Counter[State] = Counter()
    now = clock()
    rows = _counted(_rows(store.listed(), now, settings), counts)
    try:
        for line in _json(rows) if as_json else _table(rows, now):
            click.echo(line)
    except StoreError as exc:
        raise click.ClickException(str(exc)) from exc
    file = shared_file(settings)
    if file is not None and not file.exists():
        summary = "there is no such file yet"
    else:
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        summary = f"{counts.total()} answers ({states})" if counts else "no answers of this C42 and token"
    click.echo(f"{name}: {summary}", err=True)


def _rows(listed: Iterable[Listed], now: float, settings: Settings) -> Iterator[Row]:
    freshness = Freshness(settings.cache_ttl, settings.stale_if_error)
    for entry in listed:
        if not re.fullmatch(EVENT_ID, entry.event_id):
            continue  # no client can ask for it, so it is not ours
        yield Row(
            entry.event_id,
            entry.status,
            _state(entry, now, freshness),
            entry.fetched_at,
            expiry := freshness.expiry(entry.fetched_at),
            expiry + freshness.stale_if_error if entry.status == 200 and freshness.stale_if_error > 0 else None,
            entry.size,
        )


def _state(entry: Listed, now: float, freshness: Freshness) -> State:
    if freshness.is_fresh(entry, now):
        return "fresh"
    if freshness.is_stale(entry, now):
        return "stale"
    return "ahead" if is_ahead(entry.fetched_at, now) else "too old"


def _counted(rows: Iterable[Row], counts: "Counter[State]") -> Iterator[Row]:
    for row in rows:
        counts[row.state] += 1
        yield row


def _json(rows: Iterable[Row]) -> Iterator[str]:
    """A list with one object a line, written while the entries are read."""
    last = None
    for row in rows:
        yield "[" if last is None else f"{last},"
        last = json.dumps(asdict(row))
    yield "[]" if last is None else f"{last}\n]"


def _table(rows: Iterable[Row], now: float) -> Iterator[str]:
    """Times are relative to now: three instants would not fit into a line of 80 columns.

    The event comes last: all other columns have a width that is known before the first row is.
    """
    form = "{:<7} {:>4} {:>5} {:>5} {:>5} {}"
    before = form.format(*HEADINGS) + "\n"
    for row in rows:
        fresh = _span(row.fresh_until - now) if row.state == "fresh" else "-"
        is_served = row.state in {"fresh", "stale"}
        stale = _span(row.stale_until - now) if is_served and row.stale_until is not None else "-"
        size = "(404)" if row.status == 404 else f"{row.bytes}" if row.bytes < 100_000 else f"{row.bytes // 1000}k"
        yield before + form.format(row.state, _span(now - row.fetched_at), fresh, stale, size, row.event)
        before = ""


def _span(seconds: float) -> str:
    """Seconds, minutes and hours are rounded down, days to three digits; it has five characters at most."""
    for unit, length in (("s", 1), ("m", 60), ("h", 3600)):
        if abs(seconds) < 1000 * length:
            return f"{math.floor(seconds / length)}{unit}"
    return f"{seconds / 86_400:.3g}d"
