"""From the records of a run to what they prove: which promises were not kept."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tools.soak import rules_for_answers, rules_for_calls, rules_for_hosts

from .fetches import Fetch
from .history import History
from .record import Fault, Record, Request, Traceback

Rule = Callable[[History], Iterator[tuple[Request | Fetch | Fault | Traceback, str]]]
RULES: tuple[Rule, ...] = (*rules_for_answers.RULES, *rules_for_calls.RULES, *rules_for_hosts.RULES)


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
    found = []
    for rule in RULES:
        for one, how in rule(history):
            match one:
                case Request():
                    where = one.sent, one.event, one.id
                case Fetch():
                    where = one.latest, one.event, one.request
                case _:
                    where = one.since, "", one.at
            found.append(Violation(rule.__name__, *where, how))
    return sorted(found, key=lambda violation: violation.at)
