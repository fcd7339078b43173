"""From the records of a run to what they prove: which promises were not kept."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tools.soak import rules_for_answers, rules_for_calls, rules_for_hosts

from .fetches import Fetch
from .history import History
from .record import Fault, Record, Traceback

RuleForAll = Callable[[History], Iterator[tuple[Fetch | Fault | Traceback, str]]]
FOR_ANSWERS = rules_for_answers.RULES
FOR_ALL: tuple[RuleForAll, ...] = (*rules_for_calls.RULES, *rules_for_hosts.RULES)


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
    for for_answer in FOR_ANSWERS:
        for answer in history.answers:
            if (how := for_answer(history, answer)) is not None:
                one = answer.request
                found.append(Violation(for_answer.__name__, one.sent, one.event, one.id, how))
    for for_all in FOR_ALL:
        for broken, how in for_all(history):
            if isinstance(broken, Fetch):
                where = broken.latest, broken.event, broken.request
            else:
                where = broken.since, "", broken.at
            found.append(Violation(for_all.__name__, *where, how))
    return sorted(found, key=lambda violation: violation.at)
