"""What tests rely on when they start a process."""

import sys
import unittest

from harness.processes import Process, clean_environ

LEAVES_A_SOCKET_OPEN = "import socket; socket.socket()"


class ProcessTest(unittest.TestCase):
    def test_unclosed(self) -> None:
        """A process that leaves something open fails the test that has started it."""
        process = Process([sys.executable, "-c", LEAVES_A_SOCKET_OPEN], clean_environ())
        process.wait()
        with self.assertRaisesRegex(AssertionError, "has left something open"):
            process.close()
