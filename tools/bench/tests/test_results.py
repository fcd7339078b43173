"""What the benchmarks say of what they measured."""

import unittest

from tools.bench.results import Goal, Section, Table, interleaved, middle, missed, page, text


class ResultsTest(unittest.TestCase):
    def test_goals(self) -> None:
        """A goal is met at its bound, on the right side of it, and on no other; its row says so."""
        for measured, bound, at_least, verdict in (
            *((0.97, 0.97, True, "met"), (0.9699, 0.97, True, "**missed**"), (1.2, 0.97, True, "met")),
            *((5.0, 5, False, "met"), (5.001, 5, False, "**missed**"), (1.0, 5, False, "met")),
        ):
            self.assertEqual(verdict, Goal("hits", measured, bound, at_least=at_least).row[-1])

    def test_earlier_version(self) -> None:
        """What the earlier version reached is beside what this one did, if it was measured."""
        for earlier, shown in ((None, ""), (1.24, "1.24 ms")):
            goal = Goal("a miss", 3, 2, at_least=False, unit=" ms", earlier=earlier)
            self.assertEqual(["a miss", "≤ 2 ms", "3 ms", shown, "**missed**"], goal.row)

    def test_runs(self) -> None:
        """Candidates take turns, so that a slow moment of the machine meets all of them; the median of each counts."""
        order: list[str] = []

        def run(name: str) -> int:
            order.append(name)
            return len(order)

        self.assertEqual({"a": [1, 3], "b": [2, 4]}, interleaved(2, {"a": lambda: run("a"), "b": lambda: run("b")}))
        self.assertEqual(["a", "b", "a", "b"], order)
        self.assertEqual(2.0, middle(["xx", "x", "xxxx"], len))

    def test_missed(self) -> None:
        """Each goal counts, of whatever section: one that is missed makes the bench fail."""
        good, bad = Goal("hits", 1, 0.9), Goal("misses", 3, 2, at_least=False)
        sections = [Section("Hits", "Why.", goals=[good]), Section("Misses", "Why.", goals=[good, bad])]
        self.assertEqual([bad], missed(sections))
        self.assertEqual([], missed(sections[:1]))

    def test_page(self) -> None:
        """The terminal shows the title, the tables and the goals; the page also says which machine measured."""
        section = Section("Hits", "Why hits.", [Table(["server", "rate"], [["proxy", "1"]])], [Goal("hits", 0.5, 0.9)])
        for part in ("## Hits", "| proxy | 1 |", "**missed**"):
            self.assertIn(part, text(section))
            self.assertIn(part, page([section], [("cores", "2")]))
        self.assertIn("| cores | 2 |", page([section], [("cores", "2")]))

    def test_reason(self) -> None:
        """A measurement that neither a goal nor a decision needs is refused; a decision is named on the page."""
        with self.assertRaisesRegex(ValueError, "Hits: neither"):
            page([Section("Hits", "Why hits.")], [])
        self.assertIn("ADR 0005 rests on this.", page([Section("Hits", "Why hits.", decision="ADR 0005")], []))
