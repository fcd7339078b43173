"""The results of a run, in words for people."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from .checker import Violation
from .history import History
from .record import Call, Fault, Record, Request, StoreState, Version
from .rules_for_answers import is_excusable

SHOWN = 5
AROUND = 1.5
"""Seconds before and after a violation of which the records are shown."""
LINES = 30
STORE_SECONDS = 0.25
"""Seconds after which a command fails that was sent while Redis hung or was away."""


def table(history: History, violations: list[Violation]) -> str:
    """Counts of everything."""
    answers = Counter(_answered(answer.kind, answer.request) for answer in history.answers)
    lost = [request for request in history.requests if request.status is None]
    excused = Counter(f"none, excused: {one.loss}" for one in lost if is_excusable(history, one))
    calls = Counter(f"{'event' if call.offset is None else 'page'}: {call.outcome}" for call in history.calls.values())
    fetches: Counter[str] = Counter(fetch.result for fetch in history.fetches)
    seconds: dict[str, float] = defaultdict(float)
    for fault in history.faults:
        seconds[fault.kind] += fault.until - fault.since
    struck = Counter(fault.kind for fault in history.faults)
    faults = {f"{kind} ({seconds[kind]:.1f} s in all)": number for kind, number in struck.items()}
    lines = [
        *_counts("requests", Counter(request.at for request in history.requests)),
        *_counts("answers", answers + excused),
        *_counts("calls at C42", calls),
        *_counts("fetches", fetches),
        *_counts("faults", Counter(faults)),
        *_counts("the store, as the hosts say", Counter(_state(history, state) for state in history.store_states)),
        *_counts("violations", Counter(violation.rule.replace("_", " ") for violation in violations)),
    ]
    return "\n".join(lines)


def _answered(kind: str, request: Request) -> str:
    status = {200: "", 304: ", not modified"}.get(request.status or 0, f", {request.status}")
    return f"{kind}{status}"


def _state(history: History, state: StoreState) -> str:
    if state.works:
        return "taken back"
    struck = any(fault.since <= state.since <= fault.until + STORE_SECONDS for fault in history.redis_faults)
    return "lost" if struck else "lost, though nothing struck it"


def _counts(title: str, counts: Counter[str]) -> Iterator[str]:
    yield f"{title:44}{counts.total():8}"
    for name, number in sorted(counts.items(), key=lambda counted: -counted[1]):
        yield f"  {name:42}{number:8}"


def shown(history: History, violations: list[Violation]) -> Iterator[str]:
    """The first few violations, each with what was going on around it."""
    for violation in violations[:SHOWN]:
        yield f"\n{violation.at:.3f} {violation.rule}: {violation.event}, {violation.request}: {violation.how}"
        around = [
            (at, record)
            for at, record in _timed(history, violation.event)
            if violation.at - history.run.ttl - AROUND <= at <= violation.at + AROUND
        ]
        # The nearest ones, and the request itself in any case.
        around.sort(key=lambda timed: abs(timed[0] - violation.at))
        for at, record in sorted(around[:LINES], key=lambda timed: timed[0]):
            yield f"  {at - violation.at:+8.3f} {_line(record)}"


def _timed(history: History, event: str) -> Iterator[tuple[float, Record]]:
    yield from ((request.sent, request) for request in history.requests if request.event == event)
    # What was asked for another event may be why this one was not to be asked for.
    yield from ((call.received, call) for call in history.calls.values())
    yield from ((version.since, version) for version in history.versions.get(event, []))
    yield from ((fault.since, fault) for fault in history.faults)
    yield from ((state.since, state) for state in history.store_states)


def _line(record: Record) -> str:
    match record:
        case Request():
            told = record.body[:60] if record.status == 200 else record.loss or ""
            headers = record.headers.get("cache-status"), record.headers.get("expires")
            took = record.ended - record.sent
            return f"{record.id} at {record.at} ({took:.3f} s): {record.status} {told} {headers}"
        case Call():
            part = record.event if record.offset is None else f"{record.event} from {record.offset} on"
            took = record.ended - record.received
            told = f"{record.outcome} {record.wait or ''}"
            return f"call {record.number} for {record.request} ({took:.3f} s): {part}: {told}"
        case Version():
            return f"version {record.number}{', gone' if record.gone else ''}"
        case Fault():
            return f"fault: {record.kind} {record.at} for {record.until - record.since:.3f} s"
        case StoreState():
            return f"store {'taken back' if record.works else 'lost'} by a process of {record.at}"
    return ""
