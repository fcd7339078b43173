"""`c42-proxy cache`: the entries of the shared store, one a line, the newest first."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

import click

from ..caching.freshness import Age, Freshness
from ..errors import StoreError
from ..settings import Settings
from ..stores.contract import Listed
from ..stores.opening import open_shared, shared_file, store_name
from ..web.routes import EVENT_ID

HEADINGS = ("STATE", "STATUS", "FETCHED AT", "FRESH UNTIL", "STALE UNTIL", "BYTES", "EVENT")


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the store; its instants are seconds since the epoch.

    `stale_until` is None for an entry that is never served stale. `bytes` is the length of the answer; 0 for a 404,
    whose text is our own.
    """

    event: str
    status: Literal[200, 404]
    state: Age
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
    counts: Counter[Age] = Counter()
    rows = _counted(_rows(store.listed(), clock(), settings), counts)
    try:
        for line in _json(rows) if as_json else _table(rows):
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
            freshness.age(entry.status, entry.fetched_at, now),
            entry.fetched_at,
            freshness.expiry(entry.fetched_at),
            freshness.stale_until(entry.status, entry.fetched_at),
            entry.size,
        )


def _counted(rows: Iterable[Row], counts: "Counter[Age]") -> Iterator[Row]:
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


def _table(rows: Iterable[Row]) -> Iterator[str]:
    """The event is the last column, because only its width is not known beforehand."""
    form = "{:<7}  {:>6}  {:<20}  {:<20}  {:<20}  {:>8}  {}"
    before = form.format(*HEADINGS) + "\n"
    for row in rows:
        instants = map(_utc, (row.fetched_at, row.fresh_until, row.stale_until))
        yield before + form.format(row.state, row.status, *instants, row.bytes, row.event)
        before = ""


def _utc(instant: float | None) -> str:
    """ISO 8601 with whole seconds, rounded down as in `Expires`."""
    if instant is None:
        return "-"
    try:
        return datetime.fromtimestamp(math.floor(instant), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # a year that no calendar has
        return f"{instant:g}"
