"""What the driver of the stack leaves out."""

import operator
import unittest

from behave.runner_util import collect_feature_locations, parse_features
from behave.tag_matcher import ActiveTagMatcher, ValueObject

from features.environment import IMPOSSIBLE
from harness.processes import ROOT


class UntoldTest(unittest.TestCase):
    def test_stack(self) -> None:
        """But for the rules that need the log, the operators' port or the network, it tells all rows but a few."""
        impossible = ValueObject(IMPOSSIBLE["stack"], operator.contains)
        stack = ActiveTagMatcher({"driver": "stack", "store": "redis", "impossible": impossible})
        untold = [
            row.name
            for feature in parse_features(collect_feature_locations([f"{ROOT}/features"]))
            for rule in feature.rules
            if not stack.should_skip_with_tags(rule.effective_tags)
            for row in rule.walk_scenarios()
            if stack.should_skip_with_tags(row.effective_tags)
        ]
        self.assertEqual(9, len(untold), untold)
