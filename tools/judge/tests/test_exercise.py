"""The rules of the exercise hold of any proxy."""

import unittest

from behave.model import Rule
from behave.parser import parse_file

from harness.processes import ROOT


class ExerciseTest(unittest.TestCase):
    def test_no_step_is_about_this_proxy(self) -> None:
        """Neither its name nor a setting, nor a problem, a mark or a moment as it alone tells them."""
        features = [parse_file(str(file)) for file in sorted((ROOT / "features").glob("*.feature"))]
        rules = [item for feature in features for item in feature.run_items if isinstance(item, Rule)]
        covered = [rule for rule in rules if "exercise" in rule.tags]
        self.assertEqual(8, len(covered))
        for rule in covered:
            for step in (step for scenario in rule.walk_scenarios() for step in scenario.all_steps):
                with self.subTest(rule=rule.name, step=step.name):
                    self.assertNotRegex(
                        step.name, r"c42-proxy|C42_|the proxy (is|has)|is told|problem|marked|valid until"
                    )
