"""When to try again to get a lease that somebody else has."""

import unittest
from unittest.mock import patch

from c42_proxy.caching.lease import Attempts


class AttemptsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.enterContext(patch("time.monotonic", lambda: self.now))

    def pauses(self, patience: float, seconds: float) -> list[float]:
        """The pauses between attempts that take `seconds` each."""
        attempts = Attempts(patience=patience)
        pauses = []
        self.now += seconds
        while (pause := attempts.pause_after(seconds)) is not None:
            pauses.append(round(pause, 3))
            self.now += pause + seconds
        return pauses

    def test_quick(self) -> None:
        """The pauses are ever longer, up to a tenth of a second."""
        self.assertEqual([0.02, 0.03, 0.045, 0.068, 0.1, 0.1, 0.1, 0.1], self.pauses(0.5, 0))

    def test_slow(self) -> None:
        """Where the store takes long to answer, it is asked less often, but at least twice a second."""
        self.assertEqual({0.2}, set(self.pauses(2, 0.05)))
        self.assertEqual({0.5}, set(self.pauses(2, 0.4)))

    def test_in_vain(self) -> None:
        """The last attempt is made when patience is at its end, or a pause later."""
        self.pauses(1, 0)
        self.assertTrue(101 <= self.now <= 101.1)


if __name__ == "__main__":
    unittest.main()
