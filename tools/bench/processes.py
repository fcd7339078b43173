"""Servers under test: started on a core of their own, watched through /proc, ended by their own ids."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.processes import Process, clean_environ, free_port

PYTHON = sys.executable
READY_SECONDS = 300.0
"""A server with a million events takes its time to make them."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Server(Process):
    """A server at `port` of 127.0.0.1, bound to `cores` (as taskset has them), answering once it is made."""

    def __init__(
        self, command: Sequence[str], *, port: int, cores: str, environ: dict[str, str], ready_path: str = "/"
    ) -> None:
        super().__init__(["taskset", "--cpu-list", cores, *command], environ)
        self.port = port
        try:
            self.wait_until_answers(f"http://127.0.0.1:{port}{ready_path}", READY_SECONDS)
        except BaseException:
            self.close()
            raise

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def workers(self) -> list[int]:
        """The ids of the processes that do the work."""
        return [pid for pid, _began in self.descendants()] or [self.pid]

    @property
    def cpu_seconds(self) -> float:
        """What the workers have used so far, in all their threads (proc(5), utime and stime)."""
        return sum(_cpu_ticks(pid) for pid in self.workers) / _TICKS

    @property
    def resident_bytes(self) -> int:
        """The memory that the workers have now."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in self.workers)

    @property
    def threads(self) -> int:
        """The threads of the workers."""
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in self.workers)


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@dataclass(frozen=True)
class Gunicorn:
    """An app under gunicorn, with the settings that all peers share."""

    app: str
    options: tuple[str, ...]

    def start(self, cores: str, variables: dict[str, str], workers: int = 1, more: Iterable[str] = ()) -> Server:
        port = free_port()
        command = [PYTHON, "-m", "gunicorn", self.app, "--bind", f"127.0.0.1:{port}", "--workers", str(workers)]
        command += ["--keep-alive", "75", "--timeout", "0", "--log-level", "warning", "--no-control-socket"]
        command += ["--worker-tmp-dir", "/dev/shm", *self.options, *more]  # noqa: S108  # gunicorn makes an unnamed file there
        return Server(command, port=port, cores=cores, environ=clean_environ(**variables))
