"""The proxy under systemd, whose side the test plays: sd_notify(3)."""

import os
import socket
import tempfile
import textwrap
from pathlib import Path

from harness.processes import Process, until
from tests.web.test_ops import TIMEOUT, OpsTestCase


class SystemdTest(OpsTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.systemd = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.systemd.settimeout(TIMEOUT)

    def serve_with_two_slow_workers(self, address: str, **variables: str) -> Process:
        """The workers begin when there is a file `go`."""
        self.systemd.bind(address.replace("@", "\0"))
        hook = f"""
            import os, time
            def post_fork(server, worker):
                while not os.path.exists("{self.folder}/go"):
                    time.sleep(0.02)
        """
        (self.folder / "gunicorn.conf.py").write_text(textwrap.dedent(hook))
        variables["GUNICORN_CMD_ARGS"] = f"--config {self.folder}/gunicorn.conf.py --workers 2"
        process = self.begin(NOTIFY_SOCKET=address, **variables)
        until(lambda: process.output().count("Booting worker") == 2, "two workers")
        return process

    def received(self) -> bytes:
        return self.systemd.recv(4096)

    def test_ready(self) -> None:
        """READY is reported once, when the workers answer and not when gunicorn listens."""
        for address in (f"{self.folder}/notify", f"@c42-proxy-test-{os.getpid()}"):
            with self.subTest(address):
                process = self.serve_with_two_slow_workers(address)
                self.systemd.setblocking(False)
                self.assertRaises(BlockingIOError, self.received)
                self.systemd.settimeout(TIMEOUT)
                (self.folder / "go").touch()
                self.assertEqual(b"READY=1", self.received())
                self.ask_for_events(1)
                process.close()
                self.systemd.setblocking(False)
                self.assertRaises(BlockingIOError, self.received)
                (self.folder / "go").unlink()
                self.systemd.close()
                self.systemd = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))

    def test_watchdog(self) -> None:
        """The watchdog gets signs of life if it watches this process."""
        self.serve_with_two_slow_workers(f"{self.folder}/notify", WATCHDOG_USEC="30000000")
        self.assertEqual(b"WATCHDOG=1", self.received())
        (self.folder / "go").touch()
        until(lambda: self.received() == b"READY=1", "READY")
        self.assertEqual(b"WATCHDOG=1", self.received())

    def test_watchdog_of_another_process(self) -> None:
        """A watchdog that watches another process gets nothing."""
        self.serve_with_two_slow_workers(f"{self.folder}/notify", WATCHDOG_USEC="30000000", WATCHDOG_PID="1")
        (self.folder / "go").touch()
        self.assertEqual(b"READY=1", self.received())
