"""Servers under test: started on a core of their own, ended by their own ids."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.processes import ROOT, Process, clean_environ, free_port

PYTHON = sys.executable
READY_SECONDS = 300.0
"""A server with a million events takes its time to make them."""


class Server(Process):
    """A server at `port` of 127.0.0.1, bound to a core, answering once it is made."""

    def __init__(
        self, command: Sequence[str], *, port: int, core: int, environ: dict[str, str], cwd: Path = ROOT
    ) -> None:
        super().__init__(["taskset", "--cpu-list", f"{core}", *command], environ, cwd)
        self.port = port
        try:
            self.wait_until_answers(self.url("/"), READY_SECONDS)
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> list[Path]:
        """The folders in /proc of its processes, without the one that was started."""
        return [Path(f"/proc/{pid}") for pid, _began in self.descendants()]

    @property
    def cpu_seconds(self) -> float:
        """User and system time of its workers, to a hundredth of a second."""
        times = [(worker / "stat").read_text().rpartition(")")[2].split()[11:13] for worker in self.workers]
        return sum(int(ticks) for pair in times for ticks in pair) / os.sysconf("SC_CLK_TCK")

    def status(self, name: str) -> int:
        """A number in /proc/.../status, of the worker that has most: `Threads`, or `VmHWM`, in KiB."""
        lines = [line.split() for worker in self.workers for line in (worker / "status").read_text().splitlines()]
        return max(int(number) for key, number, *_ in filter(lambda line: len(line) > 1, lines) if key == f"{name}:")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def under_gunicorn(app: str, core: int, variables: dict[str, str], options: Sequence[str]) -> Server:
    """An app under gunicorn, with the settings that all peers share."""
    port = free_port()
    command = [PYTHON, "-m", "gunicorn", f"tools.bench.peers.{app}", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    command += ["--keep-alive", "75", "--timeout", "0", "--log-level", "warning", "--no-control-socket"]
    command += ["--worker-tmp-dir", "/dev/shm", *options]  # noqa: S108  # gunicorn makes an unnamed file there
    return Server(command, port=port, core=core, environ=clean_environ(**variables))
