"""The proxy under gunicorn where the machine gives it little: a log that nobody reads, few descriptors, few threads."""

import fcntl
import os
import signal
import subprocess
import unittest
from pathlib import Path

from c42_proxy.sandbox.events import COFFEE
from harness.processes import C42_PROXY, ROOT, STOP_SECONDS, free_port, until
from harness.sandbox import Sandbox
from tests.server.test_gunicorn import ask, environ_of

PATH = f"/events-with-subscriptions/{COFFEE}/"


class UnreadLogTest(unittest.TestCase):
    """The standard error of the proxy is a pipe of 4 KiB that nobody reads."""

    def setUp(self) -> None:
        self.reading, writing = os.pipe()
        self.addCleanup(os.close, self.reading)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        sandbox = self.enterContext(Sandbox())
        self.port = free_port()
        self.process = subprocess.Popen(
            [*C42_PROXY, "serve"],
            env=environ_of(self.port, sandbox.url, C42_LOG_FORMAT="json"),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=writing,
            start_new_session=True,
        )
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        os.close(writing)
        until(self.answers, "an answer")

    def answers(self) -> bool:
        try:
            return ask(self.port).status == 200
        except OSError:
            return False

    def workers(self) -> set[str]:
        """The ids of the workers that run."""
        return set(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())

    def test_answers_go_on(self) -> None:
        """Hits and misses are answered, the master replaces a worker, and all end when they are told to."""
        # Each refused request is a line of 200 bytes.
        statuses = [ask(self.port, "/").status for _ in range(100)]
        self.assertEqual([404] * 100, statuses)
        self.assertIn("; hit;", ask(self.port).header("Cache-Status") or "")
        old = self.workers()
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.workers() and not self.workers() & old, "a new worker")
        until(self.answers, "an answer of the new worker")
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(0, self.process.wait(STOP_SECONDS))

    def test_end(self) -> None:
        """What was not written yet is written at the end, if somebody reads it then."""
        for number in range(100):
            ask(self.port, f"/{number}")
        self.process.send_signal(signal.SIGTERM)
        said = b""
        while chunk := os.read(self.reading, 65536):
            said += chunk
        for number in (0, 50, 99):
            self.assertIn(f'"path": "/{number}"', said.decode())
        self.assertEqual(0, self.process.wait(STOP_SECONDS))


if __name__ == "__main__":
    unittest.main()
