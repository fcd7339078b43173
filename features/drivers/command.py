"""`-D driver=command -D command='…'`: any program that serves the one address.

It reads `C42_API_URL`, `C42_API_TOKEN` and `PORT` from its environment, and listens at that port of 127.0.0.1. It may
be of any language, if it is linked dynamically. With `-D monotonic=yes` its monotonic clock jumps, too: some caches
live by it. gunicorn watches its workers by that clock, and has to be told not to (`--timeout 0`).
"""

import os
import resource
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from werkzeug.test import Client

from features.drivers.asking import asked_at
from features.drivers.clock import library
from features.drivers.processes import START_SECONDS, Processes
from features.support.fake_c42 import TOKEN, Failure
from harness.processes import Process, free_port, listeners, started_with

END_SECONDS = 10.0
POLL_SECONDS = 0.1
OWN = ("PYTHONPATH", "PYTHONWARNINGS")
"""Variables of which a program has what whoever judges it has, and not what our tests want."""
FILE_BYTES = 2**30
"""How much a program may write into a file, and its output is one: a disk has an end."""
GO = b"\xff Go buildinf:"
"""It stands in each program that Go has built."""


class Command(Processes):
    """The program has `seconds` until it answers; `elsewhere_seconds` if it listens, and not at its port."""

    def __init__(
        self,
        words: str,
        folder: Path,
        *,
        monotonic: bool = False,
        seconds: float = START_SECONDS,
        elsewhere_seconds: float = 10.0,
    ) -> None:
        super().__init__("memory", self._started, monotonic=monotonic)
        self._words = words
        self._folder = folder
        self._seconds, self._elsewhere_seconds = seconds, elsewhere_seconds
        self._in_vain: str | None = None
        """Why the program did not answer when it was started first; empty if it did."""

    def why_not(self) -> str:
        """Why the program cannot be judged, in a sentence; nothing if it can."""
        self.begin()
        try:
            with (
                self.wire(lambda _path, _headers: Failure.UNREACHABLE),
                self.proxy({"C42_API_TOKEN": TOKEN}, has_bug=False),
            ):
                return ""
        except AssertionError as error:
            return str(error)

    @contextmanager
    def _started(self, environ: dict[str, str]) -> Iterator[tuple[Process, int]]:
        # One that does not start is not waited for in each scenario anew.
        assert not self._in_vain, self._in_vain
        port = free_port()
        environ = {name: value for name, value in environ.items() if name not in OWN} | {"PORT": str(port)}
        environ |= {name: os.environ[name] for name in OWN if name in os.environ}
        mark = {name: environ[name] for name in ("PORT", "CLOCK_FILE")}
        try:
            with self._process(environ) as process:
                self._wait(process, port)
                self._in_vain = ""
                yield process, port
                self._end(process, mark)
        except AssertionError as error:
            if self._in_vain is None:
                self._in_vain = str(error)
            raise
        finally:
            for pid, _name in started_with(mark):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _process(self, environ: dict[str, str]) -> Process:
        try:
            process = Process(shlex.split(self._words), environ, self._folder)
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            raise AssertionError(f"The program cannot be started: {why} ({self._words}).") from exc
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        return process

    def _wait(self, process: Process, port: int) -> None:
        """Until it answers, whatever it answers. Raises AssertionError with the reason if it does not."""
        client, began = Client(asked_at(port)), time.monotonic()
        while True:
            with suppress(AssertionError):
                client.get("/")
                break
            if not process.is_running:
                raise AssertionError(
                    f"The program ended ({process.ending}) before it answered at its PORT.{_said(process)}"
                )
            found, waited = listeners(process), time.monotonic() - began
            here = found.keys() & {f"{host}:{port}" for host in ("127.0.0.1", "0.0.0.0", "[::]")}
            if waited > self._seconds or (found and not here and waited > self._elsewhere_seconds):
                where = (
                    "takes connections there, but gives no answer"
                    if here
                    else f"listens at {' and '.join(sorted(found)) or 'no port'}"
                )
                raise AssertionError(
                    f"The program has not answered at 127.0.0.1:{port}, where {port} is its PORT, within {waited:.0f}"
                    f" s: it {where}.{_said(process)}"
                )
            time.sleep(POLL_SECONDS)
        for address, pid in listeners(process).items():
            if address.endswith(f":{port}"):
                see_that_time_can_jump(pid)

    def _end(self, process: Process, mark: dict[str, str]) -> None:
        """Ask it to end, as the machine does when it shuts down, and note what stays behind."""
        if process.is_running:
            process.send(signal.SIGTERM)
            with suppress(TimeoutError):
                process.wait(END_SECONDS)
        if process.is_running:
            self.notes[f"Told to end (SIGTERM), it did not within {END_SECONDS:.0f} s, and was killed."] = None
        elif left := sorted({name for _pid, name in started_with(mark)}):
            self.notes[f"Told to end (SIGTERM), it left processes behind, which were killed: {', '.join(left)}."] = None
        if process.said >= FILE_BYTES:
            self.notes["It has said a gigabyte, and was let say no more."] = None


def see_that_time_can_jump(pid: int) -> None:
    """Raises AssertionError with the reason if a process does not show the preloaded clock's time, or may not."""
    try:
        maps, program = Path(f"/proc/{pid}/maps").read_text(), Path(f"/proc/{pid}/exe").read_bytes()
    except OSError as exc:
        raise AssertionError(
            "Whether time can jump for the program cannot be told: its process at the PORT has ended, or may not be"
            f" looked into ({exc.strerror})."
        ) from exc
    if str(library()) not in maps or GO in program:
        raise AssertionError(
            "The program does not ask the C library for the time (it is linked statically, or was made with Go):"
            " time cannot jump for it."
        )


def _said(process: Process) -> str:
    """The last line of what it has said, or the last one about an error: some say more behind it."""
    lines = [line.strip() for line in process.output(process.said - 10_000).split("\n") if line.strip()]
    last = next((line for line in reversed(lines) if "error" in line.casefold()), lines[-1] if lines else "")
    return f" The last that it said: {last}" if last else " It has said nothing."
