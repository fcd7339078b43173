"""What the page tells, taken from behave's model when all has been run."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from behave import model

from .anchors import Anchors
from .failure import Failure, failures_of_scenario, own_failures
from .verdict import Outcome, Verdict, of_scenario

READING_ORDER = ("combining", "reusing", "sparing", "riding", "explaining")
"""The first words of the features' names, from what the proxy is for to what can go wrong. Others come after."""

LAST = "settling"
"""The feature of rare and technical cases, which nobody has to read first."""

STORY = re.compile(r"(In order|As (a|an|the)|I want|So that)\b")


@dataclass(frozen=True)
class Row:
    """A row of an outline's examples: a scenario of its own."""

    name: str
    anchor: str
    cells: list[str]
    verdict: Verdict
    failures: list[Failure]
    reason: str


@dataclass(frozen=True)
class Part:
    """A feature, a rule or a scenario: what behave knows of it, where it is on the page, and what came of it.

    `source` is behave's. `parts` are the rules of a feature and the scenarios of a rule; `rows` those of each of an
    outline's examples. The scenarios of a feature that belong to no rule are in a rule without a name and a source.
    """

    name: str
    anchor: str
    outcome: Outcome
    failures: list[Failure]
    source: model.Feature | model.Rule | model.Scenario | None = None
    parts: list["Part"] = field(default_factory=list)
    rows: list[list[Row]] | None = None

    @property
    def story(self) -> list[str]:
        """What a feature is for, line by line."""
        return list(takewhile(STORY.match, self.source.description)) if isinstance(self.source, model.Feature) else []

    @property
    def described(self) -> list[str]:
        """What is said of it below its name, line by line."""
        return list(self.source.description[len(self.story) :]) if self.source else []

    @property
    def description(self) -> str:
        return " ".join(self.described)

    @property
    def background(self) -> list[model.Step]:
        return list(self.source.background.steps) if self.source and self.source.background else []

    @property
    def examples(self) -> list[model.Examples]:
        return [examples for examples in getattr(self.source, "examples", []) if examples.table is not None]

    @property
    def parameters(self) -> set[str]:
        """What the text of an outline leaves open, for the rows to fill in."""
        return {heading for examples in self.examples for heading in examples.table.headings}


@dataclass(frozen=True)
class Specification:
    features: list[Part]

    @property
    def outcome(self) -> Outcome:
        """Of all scenarios. Each row of an outline counts as one, as behave counts."""
        return Outcome.together(feature.outcome for feature in self.features)

    @property
    def rules(self) -> Outcome:
        return Outcome([rule.outcome.verdict for feature in self.features for rule in feature.parts if rule.name])

    @property
    def broken(self) -> Iterator[Part | Row]:
        """Whatever broke by itself: of an outline the rows."""
        for feature in self.features:
            for part in (feature, *(each for rule in feature.parts for each in (rule, *rule.parts))):
                is_broken_scenario = not part.parts and part.outcome.verdict is Verdict.BROKEN
                if part.rows is not None:
                    yield from (row for rows in part.rows for row in rows if row.verdict is Verdict.BROKEN)
                elif part.failures or is_broken_scenario:
                    yield part


def specification(features: Iterable[model.Feature]) -> Specification:
    anchors = Anchors()
    return Specification([_feature(feature, anchors) for feature in sorted(features, key=_place)])


def _place(feature: model.Feature) -> tuple[int, str]:
    word = feature.name.partition(" ")[0].casefold()
    place = READING_ORDER.index(word) if word in READING_ORDER else len(READING_ORDER)
    return len(READING_ORDER) + 1 if word == LAST else place, feature.name


def _feature(feature: model.Feature, anchors: Anchors) -> Part:
    anchor = anchors.give(feature.name)
    rules = [_rule(item, anchor, anchors) for item in feature.run_items if isinstance(item, model.Rule)]
    loose = [_scenario(item, anchor, anchors) for item in feature.run_items if not isinstance(item, model.Rule)]
    if loose:
        outcome = Outcome.together(scenario.outcome for scenario in loose)
        rules.insert(0, Part("", anchors.give("", anchor), outcome, [], parts=loose))
    return _whole(feature, anchor, rules)


def _rule(rule: model.Rule, within: str, anchors: Anchors) -> Part:
    anchor = anchors.give(rule.name, within)
    return _whole(rule, anchor, [_scenario(item, anchor, anchors) for item in rule.run_items])


def _whole(element: model.Feature | model.Rule, anchor: str, parts: list[Part]) -> Part:
    failures = own_failures(element)
    outcome = Outcome.together((part.outcome for part in parts), failed=bool(failures))
    return Part(element.name, anchor, outcome, failures, element, parts)


def _scenario(scenario: model.Scenario, within: str, anchors: Anchors) -> Part:
    anchor = anchors.give(scenario.name, within)
    if not isinstance(scenario, model.ScenarioOutline):
        return Part(scenario.name, anchor, Outcome([of_scenario(scenario)]), _failures(scenario), scenario)
    scenarios = iter(scenario.scenarios)
    # The rows first: zip asks its second part no further when they are at an end.
    rows = [
        [
            _row(row, one, scenario.name, anchors.give(" ".join(row.cells), anchor))
            for row, one in zip(examples.table.rows, scenarios, strict=False)
        ]
        for examples in scenario.examples
        if examples.table is not None
    ]
    return Part(scenario.name, anchor, Outcome([row.verdict for some in rows for row in some]), [], scenario, rows=rows)


def _row(row: model.Row, scenario: model.Scenario, outline: str, anchor: str) -> Row:
    """Its name is the outline's, filled in; the cells that are not in it tell the row from others."""
    pairs = zip(row.headings, row.cells, strict=True)
    rest = ", ".join(f"{heading}: {cell}" for heading, cell in pairs if f"<{heading}>" not in outline)
    name = scenario.name.partition(" -- @")[0] + (f" ({rest})" if rest else "")
    return Row(name, anchor, list(row.cells), of_scenario(scenario), _failures(scenario), scenario.skip_reason or "")


def _failures(scenario: model.Scenario) -> list[Failure]:
    # A dry run finds steps that are undefined, but it breaks nothing.
    return failures_of_scenario(scenario) if of_scenario(scenario) is Verdict.BROKEN else []
