"""Which faults are planned, whatever the seed."""

import unittest
from itertools import pairwise

from tools.soak.faults import planned

SECONDS = 60
"""As long as CI lets the soak run."""
ALWAYS = {
    "C42 fails",
    "one address dead",
    "no threads",
    "no descriptors",
    "shared memory full",
    "log not read",
    "Redis moved",
    "Redis hangs",
    "worker killed",
}


class PlannedTest(unittest.TestCase):
    def test_a_minute(self) -> None:
        """A run of a minute has each of these, whatever its seed; they differ in when and how long."""
        plans = [planned(seed, SECONDS) for seed in range(300)]
        for seed, rows in enumerate(plans):
            self.assertLessEqual(ALWAYS, {fault.kind for row in rows for fault in row}, f"seed {seed}")
        self.assertGreater(len({tuple(fault.kind for fault in rows[1][:5]) for rows in plans}), 100)

    def test_after_each_other(self) -> None:
        """In its row, each fault begins after the one before it has ended, and the last one ends before the run."""
        for seed in range(100):
            for row in planned(seed, SECONDS):
                for one, other in pairwise(row):
                    self.assertLess(one.at + one.seconds, other.at)
                self.assertLess(row[-1].at + row[-1].seconds, SECONDS)
