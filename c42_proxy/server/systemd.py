"""Reports to systemd that the proxy is ready, and that it lives (sd_notify(3), `Type=notify`)."""

import os
import socket
from contextlib import suppress


class Systemd:
    """Without systemd, every call does nothing.

    gunicorn would report READY as soon as it listens, before any worker can answer. So its variable is taken away.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", None)
        watched = os.environ.get("WATCHDOG_PID", str(os.getpid()))
        self._has_watchdog = "WATCHDOG_USEC" in os.environ and watched == str(os.getpid())
        self._missing: int | None = None
        if self._address is not None:
            self._workers, self._worker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def worker_is_up(self) -> None:
        """Called in a worker that has its app: it answers from now on."""
        if self._address is not None:
            with suppress(OSError):  # the pipe is full: READY was reported long ago
                os.write(self._worker, b".")

    def report(self, workers: int) -> None:
        """Called by the master at least once a second. READY is reported once, when so many `workers` are up."""
        if self._address is None:
            return
        if self._missing is None:
            self._missing = workers
        if self._missing > 0:
            with suppress(BlockingIOError):
                self._missing -= len(os.read(self._workers, workers))
            if self._missing <= 0:
                self._send("READY=1")
        if self._has_watchdog:
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        address = str(self._address)
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            # An address in the abstract namespace begins with "@".
            channel.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            channel.send(state.encode())
