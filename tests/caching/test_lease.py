"""When to try again to get a lease that somebody else has."""

import unittest
from unittest.mock import patch

from c42_proxy.caching.lease import attempts


class AttemptsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []
        self.enterContext(patch("time.sleep", self.sleep))
        self.enterContext(patch("time.monotonic", lambda: self.now))

    def sleep(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 3))
        self.now += seconds

    def attempt(self, patience: float, seconds: float) -> list[bool]:
        """What each attempt is told; each of them takes so long."""
        told = []
        for waited in attempts(patience=patience):
            told.append(waited)
            self.now += seconds
        return told

    def test_quick(self) -> None:
        """The first attempt is made at once, the next ones after ever longer pauses, up to a tenth of a second."""
        self.assertEqual([False] + [True] * 8, self.attempt(0.5, 0))
        self.assertEqual([0.02, 0.03, 0.045, 0.068, 0.1, 0.1, 0.1, 0.1], self.pauses)

    def test_slow(self) -> None:
        """Where the store takes long to answer, it is asked less often, but at least twice a second."""
        self.attempt(2, 0.05)
        self.assertEqual({0.2}, set(self.pauses))
        self.pauses.clear()
        self.attempt(2, 0.4)
        self.assertEqual({0.5}, set(self.pauses))

    def test_in_vain(self) -> None:
        """The last attempt is made when patience is at its end, or a pause later."""
        self.attempt(1, 0)
        self.assertTrue(101 <= self.now <= 101.1)
