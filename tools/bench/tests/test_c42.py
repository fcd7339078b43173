"""The stand-in answers when it should."""

import asyncio
import time
import unittest

from tools.bench.c42 import EXACT_SECONDS, SPIN_SECONDS, exactly


class Loop(asyncio.SelectorEventLoop):
    """Notes for how long timers are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[float] = []

    def call_later(self, delay: float, *arguments: object, **keywords: object) -> asyncio.TimerHandle:
        self.timers.append(delay)
        return super().call_later(delay, *arguments, **keywords)  # type: ignore[arg-type]  # as they come


class ExactlyTest(unittest.TestCase):
    def test_exact(self) -> None:
        """It never ends too early, and leaves the last two milliseconds to no timer, unless it takes long."""
        for seconds, timers in (
            (0.0, []),
            (0.001, []),
            (0.0035, [0.0035 - SPIN_SECONDS]),
            (EXACT_SECONDS + 0.001, [EXACT_SECONDS + 0.001]),
        ):
            with self.subTest(seconds=seconds), asyncio.Runner(loop_factory=Loop) as runner:
                loop = runner.get_loop()
                assert isinstance(loop, Loop)
                began = time.perf_counter()
                runner.run(exactly(seconds))
                self.assertGreaterEqual(time.perf_counter() - began, seconds - 0.0005 * (seconds > EXACT_SECONDS))
                self.assertEqual(timers, loop.timers)
