"""The results of a run, in words for people."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict

from .checker import Violation
from .history import History
from .record import Call, Record, Request, StoreState

SHOWN = 5
AROUND = 1.5
"""Seconds before and after a violation of which the records are shown."""
LINES = 30
LONGEST = 300
STORE_SECONDS = 0.25
"""Seconds after which a command fails that was sent while Redis hung or was away."""


def table(history: History, violations: list[Violation]) -> str:
    """Counts of everything."""
    seconds: dict[str, float] = defaultdict(float)
    for fault in history.faults:
        seconds[fault.kind] += fault.until - fault.since
    counted: dict[str, list[str]] = {
        "requests": [request.at for request in history.requests],
        "answers": [f"{one.kind}, {one.request.loss or one.request.status}" for one in history.answers],
        "calls at C42": [
            f"{'event' if one.offset is None else 'page'}: {one.outcome}" for one in history.calls.values()
        ],
        "fetches": [fetch.result for fetch in history.fetches],
        "faults": [f"{fault.kind} ({seconds[fault.kind]:.1f} s in all)" for fault in history.faults],
        "the store, as the hosts say": [_state(history, state) for state in history.store_states],
        "violations": [violation.rule.replace("_", " ") for violation in violations],
    }
    lines: list[str] = []
    for title, names in counted.items():
        lines.append(f"{title:44}{len(names):8}")
        lines += [f"  {name:42}{number:8}" for name, number in Counter(names).most_common()]
    return "\n".join(lines)


def _state(history: History, state: StoreState) -> str:
    if state.works:
        return "taken back"
    faults = history.struck(
        state.since, state.since, "Redis hangs", "Redis restarted", "Redis moved", lasting=STORE_SECONDS
    )
    return "lost" if faults else "lost, though nothing struck it"


def shown(history: History, violations: list[Violation]) -> Iterator[str]:
    """The first few violations, each with what was going on around it."""
    for violation, heading in zip(violations, headings(violations), strict=False):
        yield f"\n{heading}"
        records: list[Record] = [
            *(request for request in history.requests if request.event == violation.event),
            # What was asked for another event may be why this one was not to be asked for.
            *history.calls.values(),
            *history.versions.get(violation.event, []),
            *history.faults,
            *history.store_states,
        ]
        timed = [(_instant(record) - violation.at, record) for record in records]
        around = [(at, record) for at, record in timed if -history.run.ttl - AROUND <= at <= AROUND]
        # The nearest ones, and the request itself in any case.
        nearest = sorted(around, key=lambda one: abs(one[0]))[:LINES]
        for at, record in sorted(nearest, key=lambda one: one[0]):
            fields = (f"{name}={_field(value, violation.at)}" for name, value in asdict(record).items() if value)
            yield f"  {at:+8.3f} {type(record).__name__} {' '.join(fields)}"


def headings(violations: list[Violation]) -> list[str]:
    """A line for each of the first few violations."""
    return [
        f"{violation.at:.3f} {violation.rule}: {violation.event}, {violation.request}: {violation.how}"
        for violation in violations[:SHOWN]
    ]


def _instant(record: Record) -> float:
    instant: float = getattr(record, {Request: "sent", Call: "received"}.get(type(record), "since"))
    return instant


def _field(value: object, at: float) -> str:
    """Instants as seconds from `at`, and the beginning of what is long."""
    return f"{value - at:+.3f}" if isinstance(value, float) and value > 1e9 else f"{value}"[:LONGEST]
