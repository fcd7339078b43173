"""What those read who run the features: dots, and why a scenario broke."""

import unittest

from behave.runner import Context

from tools.spec_page.tests.feature_runs import dots_of

TWO = """
Feature: F
  Rule: R
    Scenario: all is well
      Given it holds
    Scenario: something is wrong
      Given it holds
      Then {step}
      And it holds
"""


class TestFailures(unittest.TestCase):
    def test_a_failed_check_is_told_in_its_own_words_alone(self) -> None:
        """Feature, scenario, the sentence that broke, and what was expected and came: no traceback."""
        self.assertEqual(
            "small.feature  .F\n\n"
            "small.feature:6  Scenario: something is wrong\n"
            "  broken at: Then it breaks\n"
            "  two answers are not one\n\n",
            dots_of(TWO.format(step="it breaks")),
        )

    def test_every_line_of_what_came_is_indented(self) -> None:
        """What was expected and what came stand below each other."""

        def differs(_context: Context) -> None:
            raise AssertionError("expected: Arthur\n     got: Ford")

        told = dots_of(TWO.format(step="it differs"), steps={"it differs": differs})
        self.assertIn("  expected: Arthur\n       got: Ford\n", told)

    def test_an_error_of_a_step_is_told_with_its_place(self) -> None:
        """What no check has foreseen comes with its traceback: behave's own part is left out."""
        told = dots_of(TWO.format(step="it errs"))
        self.assertIn("  broken at: Then it errs\n  LookupError: nothing there\n", told)
        self.assertIn("feature_runs.py", told)
        self.assertNotIn("behave/", told)

    def test_an_unknown_step_is_a_sentence(self) -> None:
        """A step that nobody has defined is reported as undefined."""
        told = dots_of(TWO.format(step="nobody knows it"))
        self.assertIn("broken at: Then nobody knows it\n  Nobody has written down how to try this step.\n", told)

    def test_an_error_around_a_feature_is_told(self) -> None:
        """What fails before a feature is reported with the feature."""

        def fails(*_arguments: object) -> None:
            raise OSError("no room")

        told = dots_of(TWO.format(step="it holds"), hooks={"before_feature": fails})
        self.assertIn("small.feature:2  Feature: F\n  OSError: no room\n", told)

    def test_nothing_is_told_of_what_holds(self) -> None:
        """Where all holds, there are dots alone."""
        self.assertEqual("small.feature  ..\n\n", dots_of(TWO.format(step="it holds")))


if __name__ == "__main__":
    unittest.main()
