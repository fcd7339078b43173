"""The words for the result of a run: held, broken, not run."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from behave.model import Scenario, Step
from behave.model_type import Status


class Verdict(StrEnum):
    HELD = "held"
    BROKEN = "broken"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Outcome:
    """The result of a number of scenarios; `failed` if something other than a scenario broke."""

    held: int = 0
    broken: int = 0
    not_run: int = 0
    failed: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.broken or self.failed:
            return Verdict.BROKEN
        return Verdict.HELD if self.held and not self.not_run else Verdict.NOT_RUN

    @property
    def word(self) -> str:
        """The verdict in words, which tells a part that was not run from the whole."""
        return "not all run" if self.verdict is Verdict.NOT_RUN and self.held else self.verdict

    @property
    def total(self) -> int:
        return self.held + self.broken + self.not_run

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> "Outcome":
        verdicts = list(verdicts)
        held, broken, not_run = map(verdicts.count, (Verdict.HELD, Verdict.BROKEN, Verdict.NOT_RUN))
        return cls(held, broken, not_run)

    @classmethod
    def together(cls, outcomes: Iterable["Outcome"], *, failed: bool = False) -> "Outcome":
        outcomes = list(outcomes)
        return cls(
            held=sum(outcome.held for outcome in outcomes),
            broken=sum(outcome.broken for outcome in outcomes),
            not_run=sum(outcome.not_run for outcome in outcomes),
            failed=failed or any(outcome.failed for outcome in outcomes),
        )


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
