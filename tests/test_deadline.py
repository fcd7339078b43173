"""The end of a time budget."""

import time
import unittest
from unittest.mock import patch

from c42_proxy.deadline import Deadline, deadline_in_force, ends_at


class DeadlineTest(unittest.TestCase):
    def test_remaining(self) -> None:
        """A deadline tells what is left of it, and raises when nothing is."""
        deadline = Deadline(0.05)
        self.assertFalse(deadline.passed)
        self.assertTrue(0 < deadline.remaining() <= 0.05)
        time.sleep(0.06)  # it bounds waits on sockets, so it goes by the monotonic clock
        self.assertTrue(deadline.passed)
        with self.assertRaises(TimeoutError):
            deadline.remaining()

    def test_the_very_instant(self) -> None:
        """At the deadline nothing is left: a time-out of zero would mean not to wait at all, which is another error."""
        with patch("time.monotonic", return_value=5.0):
            deadline = Deadline(0)
            self.assertTrue(deadline.passed)
            self.assertRaises(TimeoutError, deadline.remaining)

    def test_may_begin(self) -> None:
        """Nothing is begun after the deadline, nor after the fetch has ended."""
        deadline = Deadline(60)
        deadline.check_may_begin()
        deadline.fetch_ended = True
        self.assertRaises(TimeoutError, deadline.check_may_begin)
        self.assertRaises(TimeoutError, Deadline(0).check_may_begin)

    def test_in_force(self) -> None:
        """A deadline is in force within its block, and then the one around it, if there is one."""
        outer, inner = Deadline(60), Deadline(60)
        with ends_at(outer):
            with ends_at(inner):
                self.assertIs(inner, deadline_in_force())
            self.assertIs(outer, deadline_in_force())
        self.assertRaises(LookupError, deadline_in_force)
