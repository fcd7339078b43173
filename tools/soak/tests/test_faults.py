"""Which faults are planned, whatever the seed."""

import unittest
from itertools import pairwise

from tools.soak.faults import C42_FAULTS, STACK_FAULTS, planned

CHOICES = (*C42_FAULTS, *STACK_FAULTS)
OF_A_MINUTE = {"C42 fails", "one address dead", "no threads", "no descriptors", "shared memory full", "log not read"}
OF_A_MINUTE |= {"Redis moved", "Redis hangs", "worker killed"}


class PlannedTest(unittest.TestCase):
    def test_what_comes_in_a_run(self) -> None:
        """Three minutes have each kind of fault, and one (as long as CI lets it run) has these, whatever the seed."""
        for seconds, wanted in ((60, OF_A_MINUTE), (180, {choice.kind for choice in CHOICES})):
            plans = [planned(seed, seconds) for seed in range(100)]
            for seed, rows in enumerate(plans):
                self.assertLessEqual(wanted, {fault.kind for row in rows for fault in row}, f"seed {seed}")
                for row in rows:
                    for one, other in pairwise(row):
                        self.assertLess(one.at + one.seconds, other.at)
                    self.assertLess(row[-1].at + row[-1].seconds, seconds)
            self.assertGreater(len({tuple(fault.kind for fault in rows[1][:5]) for rows in plans}), 50)

    def test_same_seed(self) -> None:
        """A seed stands for its faults, however long the run; another seed for others."""
        short, long, other = planned(1, 60), planned(1, 180), planned(2, 180)
        for some, more in zip(short, long, strict=True):
            self.assertEqual(some, more[: len(some)])
            self.assertLess(len(some), len(more))
        self.assertNotEqual(long, other)
