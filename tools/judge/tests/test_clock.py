"""The preloaded clock: what a program is shown, and what goes on in real time all the same."""

import json
import os
import subprocess
import sys
import time
import unittest
from contextlib import closing
from datetime import UTC, datetime, timedelta
from subprocess import PIPE

from features.drivers.clock import Clock
from harness.needs import needs, one_platform_is_enough
from harness.processes import ROOT, run

NOON = datetime(2016, 10, 21, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)

CLOCKS = """
import json, time
print(json.dumps([time.time(), time.clock_gettime(5), time.monotonic(), time.clock_gettime(7)]))
"""
"""Realtime and its coarse kind, monotonic and since boot (clock_gettime(2))."""
WAITS = """
import threading, time
time.sleep(0.01)
threading.Event().wait(0.01)
lock = threading.Lock()
print(lock.acquire(), lock.acquire(timeout=0.01))
"""


@one_platform_is_enough
@needs("cc")
class ClockTest(unittest.TestCase):
    def shown(self, clock: Clock) -> list[float]:
        shown: list[float] = json.loads(self.said(clock, CLOCKS))
        return shown

    def said(self, clock: Clock, program: str) -> str:
        done = run(sys.executable, "-c", program, environ={**os.environ, **clock.variables}, cwd=ROOT)
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout

    def clock(self, *, monotonic: bool = False) -> Clock:
        clock = self.enterContext(closing(Clock(monotonic=monotonic)))
        clock.set(NOON)
        return clock

    def test_the_wall_clock_stands_still_and_the_monotonic_goes_on(self) -> None:
        """Without a word of the monotonic clock, that is the machine's, whatever the wall clock does."""
        clock = self.clock()
        before = time.monotonic()
        for now in (NOON, NOON + DAY + timedelta(milliseconds=1), NOON - DAY):
            clock.set(now)
            wall, coarse, monotonic, _boot = self.shown(clock)
            self.assertEqual((now.timestamp(), now.timestamp()), (wall, coarse))
            self.assertTrue(before <= monotonic <= time.monotonic())

    def test_the_monotonic_clock_jumps_on_request_and_is_never_set_back(self) -> None:
        """It stands still between `stop` and `go_on`, to the nanosecond."""
        clock = self.clock(monotonic=True)
        clock.stop()
        _, _, first, boot = self.shown(clock)
        self.assertEqual(first, boot)
        clock.set(NOON + DAY)
        self.assertAlmostEqual(first + 86_400, self.shown(clock)[2], places=6)
        clock.set(NOON)
        self.assertAlmostEqual(first + 86_400, self.shown(clock)[2], places=6)
        clock.go_on()
        self.assertLess(first + 86_400, self.shown(clock)[2])

    def test_waits_are_real(self) -> None:
        """Deadlines are made from a clock that is years or days off: nobody waits for that long, or not at all."""
        clock = self.clock(monotonic=True)
        clock.set(NOON + DAY)
        for stopped in (False, True):
            if stopped:
                clock.stop()
            began = time.monotonic()
            self.assertEqual("True False\n", self.said(clock, WAITS))
            self.assertGreater(time.monotonic() - began, 0.03)

    def test_time_jumps_in_a_program_that_runs_and_in_those_that_a_shell_starts(self) -> None:
        """All of them read one file."""
        clock = self.clock()
        program = [sys.executable, "-c", "import sys, time\nfor _ in sys.stdin: print(time.time(), flush=True)"]
        environ = {**os.environ, **clock.variables}
        with subprocess.Popen(program, stdin=PIPE, stdout=PIPE, text=True, env=environ, bufsize=1) as running:
            assert running.stdin is not None
            assert running.stdout is not None
            for now in (NOON + timedelta(seconds=251.999), NOON + timedelta(seconds=252)):
                clock.set(now)
                running.stdin.write("\n")
                self.assertEqual(now.timestamp(), float(running.stdout.readline()))
                date = run("sh", "-c", "date +%s.%N; true", environ=environ).stdout
                self.assertEqual(now.timestamp(), float(date))
