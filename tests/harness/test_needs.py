"""Tests that need a program are skipped where it is lacking, and nothing else is."""

import unittest
from collections.abc import Callable

from harness.needs import needs

IS_THERE, IS_LACKING = "sh", "no-such-program"


def some_test() -> type[unittest.TestCase]:
    """A class of this module would be run with the others."""

    class SomeTest(unittest.TestCase):
        def test_some(self) -> None:
            self.fail("it was not skipped")

    return SomeTest


def helper() -> None:
    """No test."""


def run(tests: type[unittest.TestCase]) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(tests).run(result)
    return result


class NeedsTest(unittest.TestCase):
    def test_lacking(self) -> None:
        """A class is skipped, and so is a method."""
        with_method = some_test()
        with_method.test_some = needs(IS_LACKING)(with_method.test_some)  # type: ignore[attr-defined]  # it has one
        for tests in (needs(IS_LACKING)(some_test()), with_method):
            result = run(tests)
            self.assertEqual([f"{IS_LACKING} is not there"], [why for _, why in result.skipped])
            self.assertTrue(result.wasSuccessful())

    def test_there(self) -> None:
        result = run(needs(IS_THERE)(some_test()))
        self.assertEqual(([], 1), (result.skipped, len(result.failures)))

    def test_no_test(self) -> None:
        """A function or a class that has come between the decorator and its test is noticed at once."""
        others: list[Callable[..., object]] = [helper, object]
        for other in others:
            for program in (IS_THERE, IS_LACKING):
                with self.assertRaisesRegex(TypeError, f"^{other.__qualname__} is no test"):
                    needs(program)(other)
