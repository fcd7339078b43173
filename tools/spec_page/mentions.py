"""The problems and the settings that rules mention."""

import inspect
import re
from dataclasses import dataclass
from typing import Any

from behave import model
from behave.step_registry import StepRegistry, registry

from features.support.answers import PROBLEMS

from .specification import Part, Specification


@dataclass(frozen=True)
class Mention:
    """`name` is a word for programs, `words` are the scenarios' for it."""

    name: str
    words: str
    rules: list[Part]


def problems(specification: Specification) -> list[Mention]:
    """Those that a rule tells of, or its scenarios expect, in the words for apps or by the word for programs.

    What is only given in a scenario counts for nothing: "C42 asks to wait" does not mean that an app is told so.
    """
    texts = [(rule, "\n".join([*rule.described, *_expected(rule)])) for rule in _rules(specification)]
    found = [
        Mention(one.reason, one.name, [rule for rule, text in texts if one.name in text or one.reason in text])
        for one in PROBLEMS.values()
    ]
    return [one for one in found if one.rules]


def settings(specification: Specification, known: StepRegistry = registry) -> list[Mention]:
    """Those that a step of a rule sets, in the words of the step."""
    found: dict[str, Mention] = {}
    for rule in _rules(specification):
        for step in _steps(rule):
            match = known.find_match(step)
            for name in re.findall(r"\bC42_[A-Z_]+\b", inspect.getsource(match.func)) if match else ():
                mention = found.setdefault(name, Mention(name, step.name, []))
                if rule not in mention.rules:
                    mention.rules.append(rule)
    return sorted(found.values(), key=lambda mention: mention.name)


def _rules(specification: Specification) -> list[Part]:
    return [rule for feature in specification.features for rule in feature.parts if rule.name]


def _expected(rule: Part) -> list[str]:
    return [f"{step.name}\n{step.text or ''}" for step in _steps(rule) if step.step_type == "then"]


def _steps(rule: Part) -> list[model.Step]:
    source: Any = rule.source
    return [step for scenario in source.walk_scenarios() for step in scenario.all_steps]
