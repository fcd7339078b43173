"""What the benchmarks say of what they measured."""

import unittest

from tools.bench.report import markdown, plain
from tools.bench.results import Goal, Section, Table, interleaved, middle


class GoalTest(unittest.TestCase):
    def test_bounds(self) -> None:
        """A goal is met at its bound, on the right side of it, and on no other."""
        for measured, at_least, is_met in (
            *((0.97, True, True), (0.9699, True, False), (1.2, True, True)),
            *((5.0, False, True), (5.001, False, False), (1.0, False, True)),
        ):
            with self.subTest(measured=measured, at_least=at_least):
                bound = 0.97 if at_least else 5.0
                self.assertIs(is_met, Goal("hits", measured, bound, at_least=at_least).is_met)

    def test_row(self) -> None:
        """A goal that is missed says so in its row."""
        self.assertEqual("met", Goal("hits", 1.0, 0.97).row[-1])
        self.assertEqual("**missed**", Goal("hits", 0.9, 0.97).row[-1])


class InterleavedTest(unittest.TestCase):
    def test_order(self) -> None:
        """The candidates take turns, so that a slow moment of the machine meets all of them."""
        order: list[str] = []
        measured = interleaved(
            2,
            {name: lambda name=name: order.append(name) or len(order) for name in ("a", "b")},  # type: ignore[func-returns-value, misc]  # appends, then counts
        )
        self.assertEqual(["a", "b", "a", "b"], order)
        self.assertEqual({"a": [1, 3], "b": [2, 4]}, measured)

    def test_middle(self) -> None:
        """The value of several runs is their median."""
        self.assertEqual(2.0, middle(["xx", "x", "xxxx"], len))


class ReportTest(unittest.TestCase):
    section = Section(
        "Hits", "Why hits.", tables=[Table(["server", "rate"], [["proxy", "1"]])], goals=[Goal("hits", 0.5, 0.9)]
    )

    def test_plain(self) -> None:
        """A section in the terminal has its title, its tables and its goals."""
        text = plain(self.section)
        for part in ("Hits", "proxy", "missed"):
            self.assertIn(part, text)

    def test_markdown(self) -> None:
        """The page names the machine and the command that measured it."""
        page = markdown([self.section], [("cores", "2")], "make bench")
        for part in ("Hits", "make bench", "cores", "| proxy"):
            self.assertIn(part, page)
