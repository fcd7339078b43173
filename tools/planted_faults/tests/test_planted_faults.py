"""The tool that plants faults sees when the features notice nothing."""

import unittest
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any, ClassVar, TypeVar

from harness.processes import ROOT
from tools.planted_faults.faults import FAULTS, NONE
from tools.planted_faults.runs import Steps, survey, with_fault, with_idle_step

R = TypeVar("R")
RUN_SECONDS = 60


def alone(run: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """The run in a process of its own: it stops the clock, and keeps it stopped."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply_async(run, arguments, options).get(RUN_SECONDS)


def place(name: str, feature: str = "combining_an_event_with_its_subscribers") -> str:
    """Where the scenario of that name stands."""
    lines = (ROOT / f"features/{feature}.feature").read_text("utf-8").splitlines()
    (line,) = [number for number, line in enumerate(lines, 1) if line.strip() == f"Scenario: {name}"]
    return f"features/{feature}.feature:{line}"


class TestPlantedFaults(unittest.TestCase):
    steps: ClassVar[Steps]

    @classmethod
    def setUpClass(cls) -> None:
        cls.steps = alone(survey)

    def test_a_proxy_that_is_right_is_not_noticed(self) -> None:
        """Where nothing is planted, no scenario breaks."""
        self.assertEqual([], alone(with_fault, NONE.name, [place("an event with two subscribers")]).scenarios)

    def test_a_fault_is_noticed_where_it_shows_alone(self) -> None:
        """Names in another order break a scenario with two of them, and none with one."""
        two, one = place("an event with two subscribers"), place("an event without a title")
        noticed = alone(with_fault, "names come in another order", [two])
        self.assertEqual([f"an event with two subscribers ({two})"], noticed.scenarios)
        self.assertEqual({"answer_says_this"}, noticed.steps)
        self.assertEqual([], alone(with_fault, "names come in another order", [one]).scenarios)

    def test_a_step_that_does_nothing(self) -> None:
        """Without its event, or without a request, a scenario breaks; without its one check, nothing does."""
        two = place("an event with two subscribers")
        for step in ("event_with_subscribers", "request_it"):
            self.assertEqual([f"an event with two subscribers ({two})"], alone(with_idle_step, step, [two]).scenarios)
        self.assertEqual([], alone(with_idle_step, "answer_says_this", [two]).scenarios)

    def test_the_whole_goes_on_behind_a_step_that_failed(self) -> None:
        """Each check that fails is reported, not only the first one of a scenario."""
        noticed = alone(with_fault, "no answer is right", [place("an event without a title")], whole=True)
        self.assertEqual({"answer_has_no_title", "answer_names"}, noticed.steps)

    def test_every_step_is_tried(self) -> None:
        """Each step is used somewhere, under a name that no other step has, and the checks are known from the rest."""
        self.assertNotIn("", self.steps.used)
        self.assertLessEqual(self.steps.checks, self.steps.used.keys())
        self.assertIn("answer_names", self.steps.checks)
        self.assertNotIn("c42_misbehaves", self.steps.checks)
        self.assertIn(place("an event with two subscribers"), self.steps.used["request_it"])

    def test_names_are_unique(self) -> None:
        """Neither two faults nor two steps share a name: one would hide the other."""
        names = [fault.name for fault in FAULTS]
        self.assertEqual(sorted(set(names)), sorted(names))
        self.assertEqual([], self.steps.twice)


if __name__ == "__main__":
    unittest.main()
