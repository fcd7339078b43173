"""The end of a time budget."""

import time
import unittest

from c42_proxy.deadline import Deadline


class DeadlineTest(unittest.TestCase):
    def test_remaining(self) -> None:
        """A deadline tells what is left of it, and raises when nothing is."""
        deadline = Deadline(0.05)
        self.assertFalse(deadline.passed)
        self.assertTrue(0 < deadline.remaining() <= 0.05)
        time.sleep(0.06)
        self.assertTrue(deadline.passed)
        with self.assertRaises(TimeoutError):
            deadline.remaining()
