"""The stand-in answers when it should."""

import asyncio
import time
import unittest

from tools.bench.c42 import EXACT_SECONDS, exactly


class ExactlyTest(unittest.TestCase):
    def test_never_too_early(self) -> None:
        """A call takes as long as it should; how much longer says the bench itself."""
        for seconds in (0.0, 0.001, 0.0035, EXACT_SECONDS + 0.001):
            with self.subTest(seconds=seconds):
                began = time.perf_counter()
                asyncio.run(exactly(seconds))
                self.assertGreaterEqual(time.perf_counter() - began, seconds - 0.0005 * (seconds > EXACT_SECONDS))
