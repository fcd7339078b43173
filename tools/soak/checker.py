"""From the records of a run to what they prove: which promises were not kept."""

from collections.abc import Iterable
from dataclasses import dataclass

from tools.soak import rules_for_answers, rules_for_calls, rules_for_hosts

from .history import History
from .record import Record


@dataclass(frozen=True, slots=True)
class Violation:
    """`rule` is the name of the function that found it. `at` is when the request was sent, the first call came, or
    a host said so; `request` is the id of the request, or the name of the host."""

    rule: str
    at: float
    event: str
    request: str
    how: str


def violations_of(records: Iterable[Record]) -> list[Violation]:
    """All violations, the first one first. Raises ValueError where the records are not those of one run."""
    return check(History(records))


def check(history: History) -> list[Violation]:
    """The same of records in order."""
    found: list[Violation] = []
    for for_answers in rules_for_answers.RULES:
        for request, how in for_answers(history):
            found.append(Violation(for_answers.__name__, request.sent, request.event, request.id, how))
    for for_calls in rules_for_calls.RULES:
        for fetch, how in for_calls(history):
            found.append(Violation(for_calls.__name__, fetch.latest, fetch.event, fetch.request, how))
    for for_hosts in rules_for_hosts.RULES:
        for host, at, how in for_hosts(history):
            found.append(Violation(for_hosts.__name__, at, "", host, how))
    return sorted(found, key=lambda violation: violation.at)
