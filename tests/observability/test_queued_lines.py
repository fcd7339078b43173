"""A log that nobody reads holds up nobody: what is too much is dropped and counted, and the rest is written."""

import io
import logging
import os
import signal
import threading
import time
import unittest
from collections.abc import Callable
from contextlib import closing
from unittest.mock import patch

from pydantic import SecretStr

from c42_proxy.app import build
from c42_proxy.observability.queued_lines import FLUSH_SECONDS, QueuedLines
from c42_proxy.settings import Settings

PATIENCE = 10.0
"""No test waits longer for another thread."""

SIZE = 4096
"""Of a line, with which the smallest pipe is full."""


class QueuedLinesTest(unittest.TestCase):
    """A logger that writes to a pipe, which nobody reads unless the test does."""

    def setUp(self) -> None:
        self.reading, writing = os.pipe()
        self.addCleanup(os.close, self.reading)
        os.set_blocking(self.reading, False)
        self.stream = self.enterContext(open(writing, "w"))
        self.dropped = 0
        self.enterContext(patch.object(QueuedLines, "count_dropped", self.count_dropped))

    def count_dropped(self) -> None:
        self.dropped += 1

    def handler(self, max_queued: int = 100) -> QueuedLines:
        handler = QueuedLines(self.stream, max_queued=max_queued)
        logger = logging.getLogger("c42_proxy.observability.queued_lines")
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.addCleanup(handler.close)
        # A thread that writes would stay for ever.
        self.addCleanup(lambda: self.wait_until(lambda: self.read() == "" and not handler._queue, "an empty queue"))
        return handler

    def say(self, handler: QueuedLines, text: str) -> None:
        handler.handle(logging.LogRecord("c42", logging.INFO, __file__, 1, text, (), None))

    def read(self) -> str:
        try:
            return os.read(self.reading, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def fill(self, handler: QueuedLines) -> None:
        """Say so much that nothing more goes into the pipe."""
        for _ in range(20):
            self.say(handler, "x" * SIZE)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), give_up, what)
            time.sleep(0.001)


class ReadTest(QueuedLinesTest):
    def test_in_order(self) -> None:
        """All lines are written, each whole and in order."""
        handler = self.handler(1000)
        for number in range(500):
            self.say(handler, f"line {number}")
        handler.flush()
        self.assertEqual([f"line {number}" for number in range(500)], self.read().splitlines())
        self.assertEqual(0, self.dropped)

    def test_object(self) -> None:
        """What has no descriptor is written to, too."""
        handler = QueuedLines(stream := io.StringIO())
        self.say(handler, "line")
        handler.close()
        self.assertEqual("line\n", stream.getvalue())

    def test_close(self) -> None:
        """A handler that is closed has written all, and has no thread any more; another line begins anew."""
        handler = QueuedLines(stream := io.StringIO())
        for number in range(1, 3):
            self.say(handler, "line")
            writer = handler._writer
            handler.close()
            self.assertEqual("line\n" * number, stream.getvalue())
            assert writer is not None
            writer.join(FLUSH_SECONDS)
            self.assertFalse(writer.is_alive())

    def test_cannot_be_formatted(self) -> None:
        """A line that cannot be written is named, and raises nothing."""
        handler = self.handler()
        handler.handle(logging.LogRecord("c42", logging.INFO, "tea.py", 42, "%d", ("tea",), None))
        handler.flush()
        self.assertEqual("a line of c42 cannot be written: tea.py:42\n", self.read())

    def test_nobody_there(self) -> None:
        """Where the reader has gone, lines are lost, and nobody notices."""
        reading, writing = os.pipe()
        with open(writing, "w") as stream:
            os.close(reading)
            handler = QueuedLines(stream)
            self.say(handler, "line")
            handler.close()

    def test_non_blocking(self) -> None:
        """A descriptor that somebody has made non-blocking is waited for."""
        handler = self.handler()
        os.set_blocking(self.stream.fileno(), False)
        self.fill(handler)
        received = ""
        while len(received) < 20 * (SIZE + 1):
            received += self.read()
        self.assertEqual(["x" * SIZE] * 20, received.splitlines())


class UnreadTest(QueuedLinesTest):
    def test_dropped(self) -> None:
        """Lines beyond the limit are dropped and counted; when the log is read again, a line says how many."""
        handler = self.handler(max_queued=30)
        self.fill(handler)
        self.assertEqual(0, self.dropped)
        for number in range(60):
            self.say(handler, f"line {number}")
        self.assertGreaterEqual(self.dropped, 30)
        received = ""
        give_up = time.monotonic() + PATIENCE
        while "dropped" not in received:
            self.assertLess(time.monotonic(), give_up, received)
            received += self.read()
        self.assertIn("line 0\nline 1\nline 2\n", received)
        self.assertNotIn("line 59", received)
        self.assertIn("log lines were dropped", received.splitlines()[-1])

    def test_end(self) -> None:
        """The end of the process does not wait for a reader for ever."""
        handler = self.handler()
        self.fill(handler)
        began = time.monotonic()
        handler.flush()
        self.assertLess(time.monotonic() - began, FLUSH_SECONDS + PATIENCE / 2)

    def test_metric(self) -> None:
        """The proxy counts what was dropped."""
        proxy = self.enterContext(closing(build(Settings(api_token=SecretStr("s3kr3t"), cache_url="memory://"))))
        handler = self.handler(max_queued=1)
        self.fill(handler)
        self.assertRegex(proxy.metrics.exposition().decode(), r"c42_proxy_log_records_dropped_total [1-9]")


class ProcessTest(QueuedLinesTest):
    def test_fork(self) -> None:
        """A process that is forked writes its own lines, and not those that its parent still has to write."""
        handler = self.handler()
        self.fill(handler)
        pid = os.fork()
        if not pid:
            self.say(handler, "child")
            while handler._queue:
                time.sleep(0.001)
            os._exit(0)
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        received = ""
        give_up = time.monotonic() + PATIENCE
        while len(received) < 20 * (SIZE + 1) + len("child\n"):
            self.assertLess(time.monotonic(), give_up, len(received))
            received += self.read()
        self.assertEqual(["child"], [line for line in received.splitlines() if line != "x" * SIZE])

    def test_no_thread(self) -> None:
        """Where the system gives no thread, lines wait for the next one that is said, and nothing is raised."""
        handler = self.handler()
        with patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
            self.say(handler, "first")
            handler.flush()
        self.say(handler, "second")
        handler.flush()
        self.assertEqual("first\nsecond\n", self.read())


if __name__ == "__main__":
    unittest.main()
