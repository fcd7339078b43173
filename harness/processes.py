"""Real processes for tests: start one, poll until it answers, stop it by its own id, show its output on failure."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

ROOT = Path(__file__).resolve().parents[1]
C42_PROXY = (sys.executable, "-m", "c42_proxy")
START_SECONDS = 20.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02
UNCLOSED = "ResourceWarning"
"""What Python says of a file, a socket or a database that nobody has closed: in each process, not in this one alone."""

# What would reach into a process that is started: our own settings, and those of gunicorn and Flask.
_FOREIGN = ("C42_", "OTEL_", "GUNICORN_", "FLASK_", "WEB_CONCURRENCY", "SCRIPT_NAME", "SERVER_SOFTWARE")

T = TypeVar("T")


def clean_environ(**variables: str) -> dict[str, str]:
    """This process's environment without any setting in it, and with `variables`."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**environ, "NO_PROXY": "*", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": f"error::{UNCLOSED}", **variables}


_given_ports: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 at which nobody listened a moment ago. No port is returned twice.

    It is below those that the system gives to connections (from 32,768 on, ip(7)): none of them takes it meanwhile.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        if port not in _given_ports:
            _given_ports.add(port)
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                return port


def until(found: Callable[[], T | None], what: str, seconds: float = START_SECONDS) -> T:
    """Poll until `found` gives something true; TimeoutError with `what` after `seconds`."""
    give_up = time.monotonic() + seconds
    while True:
        result = found()
        if result:
            return result
        if time.monotonic() >= give_up:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(POLL_SECONDS)


class Process:
    """A process in a session of its own, with all that it says kept. As a context manager it is stopped at the end."""

    def __init__(self, command: Sequence[str], environ: dict[str, str], cwd: Path = ROOT) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        try:
            self._popen = subprocess.Popen(
                command,
                env=environ,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError:
            self._output.close()
            raise
        self.command = " ".join(command)
        self._is_strict = UNCLOSED in environ.get("PYTHONWARNINGS", "")
        self.pid = self._popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"Output of {self.command}:\n{self.output()}")
        self.close()

    def close(self) -> None:
        """End the process and all that it started, whatever state they are in."""
        if self._output.closed:
            return
        self._popen.terminate()
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        with contextlib.suppress(ProcessLookupError):
            # Whatever it started is in its group, also where it has left that behind.
            os.killpg(self.pid, signal.SIGKILL)
        output = self.output()
        self._output.close()
        if self._is_strict and UNCLOSED in output:
            raise AssertionError(f"{self.command} has left something open:\n{output}")

    @property
    def said(self) -> int:
        """How many bytes it has said up to now."""
        return os.fstat(self._output.fileno()).st_size

    def output(self, start: int = 0) -> str:
        """What it has said up to now on both of its streams, from this byte on."""
        start = max(start, 0)
        return os.pread(self._output.fileno(), self.said - start, start).decode(errors="replace")

    def descendants(self) -> set[tuple[int, str]]:
        """See the function."""
        return descendants(self.pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._popen.send_signal(number)

    def send_to_all(self, number: signal.Signals) -> None:
        """Send a signal as a terminal does: to this process and all that it started."""
        os.killpg(self.pid, number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit status; TimeoutError with the output where it does not end within `seconds`."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired as exc:
            raise TimeoutError(f"{self.command} does not end:\n{self.output()}") from exc

    @property
    def ending(self) -> str:
        """How it ended."""
        status = self._popen.wait(0)
        return f"status {status}" if status >= 0 else signal.Signals(-status).name

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def wait_until_answers(self, url: str, seconds: float = START_SECONDS) -> None:
        """Poll until something answers HTTP at `url`, with whatever status, while this process runs."""
        until(lambda: _answers(url) or not self.is_running, f"an answer at {url}:\n{self.output()}", seconds)
        if not self.is_running:
            raise RuntimeError(f"{self.command} ended with {self.wait()}:\n{self.output()}")

    def wait_until_says(self, text: str) -> None:
        """Poll until `text` is in the output, or the process has ended without it."""
        until(lambda: text in self.output() or not self.is_running, f"{text!r} in:\n{self.output()}")
        if text not in self.output():
            raise RuntimeError(f"{self.command} ended with {self.wait()}:\n{self.output()}")


def descendants(pid: int) -> set[tuple[int, str]]:
    """The processes that this one started, and those that they started. A process is its id and when it began."""
    parents = {process: parent for process, parent in map(_stat, _pids()) if process is not None}
    found: set[tuple[int, str]] = set()
    pids = {pid}
    while True:
        more = {process for process, parent in parents.items() if parent in pids} - found
        if not more:
            return found
        found |= more
        pids |= {pid for pid, _began in more}


def started_with(variables: dict[str, str]) -> set[tuple[int, str]]:
    """The processes that have these variables in their environment, whoever is their parent now: ids and programs."""
    wanted = {f"{name}={value}".encode() for name, value in variables.items()}
    found = set()
    for pid in _pids():
        with contextlib.suppress(OSError):
            if wanted <= set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")) and _stat(pid)[0]:
                found.add((pid, Path(os.readlink(f"/proc/{pid}/exe")).name))
    return found


def listeners(process: Process) -> dict[str, int]:
    """Where a process and what it started listen, `127.0.0.1:80` or `[::1]:80`, each with the id of one that does."""
    sockets: dict[str, int] = {}
    for pid, _ in {*process.descendants(), (process.pid, "")}:
        with contextlib.suppress(OSError):
            sockets |= {os.readlink(each): pid for each in Path(f"/proc/{pid}/fd").iterdir()}
    found = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            # proc(5): the address as words in the machine's order, its port, and 0A for a socket that listens
            _, local, _, state, *_, inode = line.split()[:10]
            host, _, port = local.partition(":")
            if state == "0A" and f"socket:[{inode}]" in sockets:
                packed = b"".join(bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8))
                name = socket.inet_ntop(family, packed)
                place = name if family == socket.AF_INET else f"[{name}]"
                found[f"{place}:{int(port, 16)}"] = sockets[f"socket:[{inode}]"]
    return found


def is_alive(process: tuple[int, str]) -> bool:
    """Whether this very process still runs: its id may long be another's."""
    return _stat(process[0])[0] == process


def run(
    *command: str, environ: dict[str, str], cwd: Path = ROOT, seconds: float = START_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and give its status and output; TimeoutExpired where that takes too long."""
    return subprocess.run(
        command,
        check=False,
        env=environ,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


class ProcessTestCase(unittest.TestCase):
    """Tests that share `processes`: where one of them fails, it prints what they said meanwhile."""

    processes: ClassVar[list[Process]] = []

    @classmethod
    def start(cls, *command: str, environ: dict[str, str]) -> Process:
        """Start a process for all tests of this class."""
        process = cls.enterClassContext(Process(command, environ))
        cls.processes = [*cls.processes, process]
        return process

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        result = result or self.defaultTestResult()
        said = {process: len(process.output()) for process in self.processes}
        wrong = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > wrong:
            for process, length in said.items():
                sys.stderr.write(f"\nOutput of {process.command} during {self.id()}:\n{process.output()[length:]}\n")
        return result


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> tuple[tuple[int, str] | None, int]:
    """(a process and when it began, the id of its parent); None where it is gone, or dead and not yet taken away."""
    try:
        # After the name, which may hold anything: state, parent, ..., start time (proc(5), /proc/pid/stat).
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None, 0
    return (None if fields[0] in "ZX" else (pid, fields[19])), int(fields[1])


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True
