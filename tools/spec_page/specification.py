"""What the page tells, taken from behave's model when all has been run."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from behave import model

from .anchors import Anchors
from .failure import Failure, failures_of_scenario, own_failures
from .verdict import Outcome, Verdict, of_scenario, of_step

READING_ORDER = ("combining", "reusing", "sparing", "riding", "explaining")
"""The first words of the features' names, from what the proxy is for to what can go wrong. Others come after."""

LAST = "settling"
"""The feature of rare and technical cases, which nobody has to read first."""

STORY = re.compile(r"(In order|As (a|an|the)|I want|So that)\b")


@dataclass(frozen=True)
class Table:
    headings: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Step:
    keyword: str
    text: str
    verdict: Verdict
    block: str | None
    table: Table | None


@dataclass(frozen=True)
class Row:
    """A row of an outline's examples: a scenario of its own."""

    cells: list[str]
    verdict: Verdict
    failures: list[Failure]
    reason: str


@dataclass(frozen=True)
class Examples:
    name: str
    headings: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Scenario:
    """A scenario, or an outline: then with `examples`, and the verdicts and failures in their rows."""

    name: str
    anchor: str
    description: str
    steps: list[Step]
    outcome: Outcome
    failures: list[Failure]
    reason: str
    examples: list[Examples] | None = None

    @property
    def parameters(self) -> set[str]:
        """What its text leaves open, for the rows to fill in."""
        return {heading for examples in self.examples or [] for heading in examples.headings}


@dataclass(frozen=True)
class Rule:
    """A rule; or, without a name, the scenarios of a feature that belong to none."""

    name: str
    anchor: str
    description: str
    background: list[Step]
    scenarios: list[Scenario]
    outcome: Outcome
    failures: list[Failure]


@dataclass(frozen=True)
class Feature:
    """`story` is what it is for, line by line."""

    name: str
    anchor: str
    language: str
    story: list[str]
    description: str
    background: list[Step]
    rules: list[Rule]
    outcome: Outcome
    failures: list[Failure]


@dataclass(frozen=True)
class Specification:
    features: list[Feature]

    @property
    def outcome(self) -> Outcome:
        """Of all scenarios. Each row of an outline counts as one, as behave counts."""
        return Outcome.together(feature.outcome for feature in self.features)

    @property
    def rules(self) -> Outcome:
        return Outcome.of(rule.outcome.verdict for feature in self.features for rule in feature.rules if rule.name)

    @property
    def broken(self) -> Iterator[tuple[str, str, set[str]]]:
        """Name, anchor and parameters of whatever broke by itself."""
        for feature in self.features:
            if feature.failures:
                yield feature.name, feature.anchor, set()
            for rule in feature.rules:
                if rule.failures:
                    yield rule.name, rule.anchor, set()
                for scenario in rule.scenarios:
                    if scenario.outcome.broken:
                        yield scenario.name, scenario.anchor, scenario.parameters


def specification(features: Iterable[model.Feature]) -> Specification:
    anchors = Anchors()
    return Specification([_feature(feature, anchors) for feature in sorted(features, key=_place)])


def _place(feature: model.Feature) -> tuple[int, str]:
    word = feature.name.partition(" ")[0].casefold()
    place = READING_ORDER.index(word) if word in READING_ORDER else len(READING_ORDER)
    return len(READING_ORDER) + 1 if word == LAST else place, feature.name


def _feature(feature: model.Feature, anchors: Anchors) -> Feature:
    anchor = anchors.give(feature.name)
    loose = [item for item in feature.run_items if not isinstance(item, model.Rule)]
    rules = [_rule(item, anchor, anchors) for item in feature.run_items if isinstance(item, model.Rule)]
    if loose:
        scenarios = [_scenario(item, anchor, anchors) for item in loose]
        outcome = Outcome.together(scenario.outcome for scenario in scenarios)
        rules.insert(0, Rule("", anchors.give("", anchor), "", [], scenarios, outcome, []))
    story = list(takewhile(STORY.match, feature.description))
    failures = own_failures(feature)
    return Feature(
        name=feature.name,
        anchor=anchor,
        language=feature.language or "en",
        story=story,
        description=" ".join(feature.description[len(story) :]),
        background=_background(feature),
        rules=rules,
        outcome=Outcome.together((rule.outcome for rule in rules), failed=bool(failures)),
        failures=failures,
    )


def _rule(rule: model.Rule, within: str, anchors: Anchors) -> Rule:
    anchor = anchors.give(rule.name, within)
    scenarios = [_scenario(item, anchor, anchors) for item in rule.run_items]
    failures = own_failures(rule)
    return Rule(
        name=rule.name,
        anchor=anchor,
        description=" ".join(rule.description),
        background=_background(rule),
        scenarios=scenarios,
        outcome=Outcome.together((scenario.outcome for scenario in scenarios), failed=bool(failures)),
        failures=failures,
    )


def _scenario(scenario: model.Scenario, within: str, anchors: Anchors) -> Scenario:
    anchor = anchors.give(scenario.name, within)
    examples = _examples(scenario) if isinstance(scenario, model.ScenarioOutline) else None
    if examples is None:
        verdicts = [of_scenario(scenario)]
        failures = _failures(scenario)
    else:
        verdicts = [row.verdict for table in examples for row in table.rows]
        failures = []
    return Scenario(
        name=scenario.name,
        anchor=anchor,
        description=" ".join(scenario.description),
        steps=[_step(step) for step in scenario.steps],
        outcome=Outcome.of(verdicts),
        failures=failures,
        reason=scenario.skip_reason or "",
        examples=examples,
    )


def _examples(outline: model.ScenarioOutline) -> list[Examples]:
    scenarios = iter(outline.scenarios)
    return [
        Examples(
            name=examples.name,
            headings=list(examples.table.headings),
            # The rows first: zip asks its second part no further when they are at an end.
            rows=[_row(row, scenario) for row, scenario in zip(examples.table.rows, scenarios, strict=False)],
        )
        for examples in outline.examples
        if examples.table is not None
    ]


def _row(row: model.Row, scenario: model.Scenario) -> Row:
    return Row(list(row.cells), of_scenario(scenario), _failures(scenario), scenario.skip_reason or "")


def _failures(scenario: model.Scenario) -> list[Failure]:
    # A dry run finds steps that are undefined, but it breaks nothing.
    return failures_of_scenario(scenario) if of_scenario(scenario) is Verdict.BROKEN else []


def _background(element: model.Feature | model.Rule) -> list[Step]:
    return [_step(step) for step in element.background.steps] if element.background else []


def _step(step: model.Step) -> Step:
    table = Table(list(step.table.headings), [list(row.cells) for row in step.table.rows]) if step.table else None
    return Step(step.keyword, step.name, of_step(step), step.text, table)
