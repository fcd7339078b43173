"""The words for the result of a run: held, broken, not run."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from behave.model import Scenario, Step
from behave.model_type import Status


class Verdict(StrEnum):
    HELD = "held"
    BROKEN = "broken"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Outcome:
    """The verdicts of a number of scenarios; `failed` if something other than a scenario broke."""

    verdicts: list[Verdict]
    failed: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.failed or Verdict.BROKEN in self.verdicts:
            return Verdict.BROKEN
        return Verdict.HELD if set(self.verdicts) == {Verdict.HELD} else Verdict.NOT_RUN

    @property
    def of_what_ran(self) -> Verdict:
        """The verdict if what was not run is left out of account."""
        return Verdict.HELD if self.verdict is Verdict.NOT_RUN and Verdict.HELD in self.verdicts else self.verdict

    @property
    def word(self) -> str:
        """The verdict in words, which tells a part that was not run from the whole."""
        if self.of_what_ran is self.verdict:
            return self.verdict
        missing = self.verdicts.count(Verdict.NOT_RUN)
        return f"{self.of_what_ran} ({missing} scenario{'s' if missing > 1 else ''} not run)"

    @classmethod
    def together(cls, outcomes: Iterable[Self], *, failed: bool = False) -> Self:
        outcomes = list(outcomes)
        verdicts = [verdict for outcome in outcomes for verdict in outcome.verdicts]
        return cls(verdicts, failed or any(outcome.failed for outcome in outcomes))


def of_scenario(scenario: Scenario) -> Verdict:
    """Stricter than behave, for which a scenario without steps has passed, and one of @wip with a pending step."""
    if scenario.was_dry_run:
        return Verdict.NOT_RUN
    if scenario.status.has_failed():
        return Verdict.BROKEN
    all_held = all(of_step(step) is Verdict.HELD for step in scenario.all_steps)
    return Verdict.HELD if scenario.steps and all_held else Verdict.NOT_RUN


def of_step(step: Step) -> Verdict:
    if step.status.has_failed():
        return Verdict.BROKEN
    return Verdict.HELD if step.status is Status.passed else Verdict.NOT_RUN
