"""What has changed since another commit: rules added, reworded and removed, and rules of which other things held."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from typing import Any

from behave import model

from .since import Earlier
from .specification import Part, Specification
from .tried import Commit
from .verdict import Outcome, Verdict

ALIKE = 0.6
"""How much of the text, from 0 to 1, is common to two rules that are one rule in other words."""


@dataclass(frozen=True)
class Reworded:
    """`lines` are pairs of a mark and a line: "-" it is gone, "+" it is new, "" it stays, "…" others are left out."""

    rule: Part
    was: str
    lines: list[tuple[str, str]]


@dataclass(frozen=True)
class Turned:
    """A rule of both, with another verdict of what was run: then as now, a driver or the tags may leave out others."""

    rule: Part
    was: str


@dataclass(frozen=True)
class Changes:
    """`held` is the number of rules that held in the other commit, and None if its features could not be run."""

    commit: Commit
    rules: int
    held: int | None
    added: list[Part]
    removed: list[Part]
    reworded: list[Reworded]
    turned: list[Turned]


def changes(now: Specification, then: Earlier) -> Changes:
    new, old = _rules(now), _rules(then.specification)
    pairs = sorted(_pairs(new, old), key=lambda pair: new.index(pair[0]))
    outcomes = {id(rule): then.outcome(rule) for rule in old}
    held = [outcome for outcome in outcomes.values() if outcome and outcome.verdict is Verdict.HELD]
    return Changes(
        commit=then.commit,
        rules=len(old),
        held=None if then.verdicts is None else len(held),
        added=[rule for rule in new if not any(rule is one for one, _ in pairs)],
        removed=[rule for rule in old if not any(rule is one for _, one in pairs)],
        reworded=[Reworded(rule, was.name, _difference(was, rule)) for rule, was in pairs if told(rule) != told(was)],
        turned=[Turned(rule, word) for rule, was in pairs if (word := _turned(rule, outcomes[id(was)]))],
    )


def _rules(specification: Specification) -> list[Part]:
    return [rule for feature in specification.features for rule in feature.parts if rule.name]


def _turned(rule: Part, was: Outcome | None) -> str:
    verdicts = {was.of_what_ran, rule.outcome.of_what_ran} if was else set()
    return was.word if was and len(verdicts - {Verdict.NOT_RUN}) > 1 else ""


def _pairs(new: list[Part], old: list[Part]) -> Iterator[tuple[Part, Part]]:
    """Rules of one name, and then those that are most alike."""
    left = list(old)
    unpaired = []
    for rule in new:
        same = next((one for one in left if one.name == rule.name), None)
        if same is None:
            unpaired.append(rule)
        else:
            left.remove(same)
            yield rule, same
    alike = sorted(
        ((_alike(rule, one), number, place) for number, rule in enumerate(unpaired) for place, one in enumerate(left)),
        reverse=True,
    )
    taken_new, taken_old = set[int](), set[int]()
    for ratio, number, place in alike:
        if ratio >= ALIKE and number not in taken_new and place not in taken_old:
            taken_new.add(number)
            taken_old.add(place)
            yield unpaired[number], left[place]


def _alike(one: Part, other: Part) -> float:
    """By their names, or by all of their text, whichever is more."""
    texts = ((one.name.split(), other.name.split()), (" ".join(told(one)).split(), " ".join(told(other)).split()))
    return max(SequenceMatcher(a=first, b=second, autojunk=False).ratio() for first, second in texts)


def _difference(was: Part, now: Part) -> list[tuple[str, str]]:
    marked = list(unified_diff(told(was), told(now), n=1, lineterm=""))[2:]
    # The first line is the name, which stands above the difference: it does not count as left out.
    begin = 1 if re.match("@@ -[12][, ]", marked[0]) else 0
    return [("…", "") if line.startswith("@@") else (line[0].strip(), line[1:]) for line in marked[begin:]]


def told(rule: Part) -> list[str]:
    """The text of a rule, line by line, without the tags and comments that are for those who run it."""
    lines = [rule.name, *rule.described, *_steps(rule.background)]
    for part in rule.parts:
        source: Any = part.source
        lines += [f"{source.keyword}: {part.name}", *part.described, *_steps(source.steps)]
        for examples in part.examples:
            lines += [f"{examples.keyword}: {examples.name}", *_table(examples.table)]
    return lines


def _steps(steps: list[model.Step]) -> Iterator[str]:
    for step in steps:
        yield f"{step.keyword} {step.name}"
        yield from (step.text or "").splitlines()
        if step.table:
            yield from _table(step.table)


def _table(table: model.Table) -> Iterator[str]:
    for row in (table.headings, *(row.cells for row in table.rows)):
        yield "  " + " | ".join(row)
