"""Servers under test: started on a core of their own, ended by their own ids."""

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

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def under_gunicorn(app: str, core: int, variables: dict[str, str], options: Sequence[str]) -> Server:
    """An app under gunicorn, with the settings that all peers share."""
    port = free_port()
    command = [PYTHON, "-m", "gunicorn", f"tools.bench.peers.{app}", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    command += ["--keep-alive", "75", "--timeout", "0", "--log-level", "warning", "--no-control-socket"]
    command += ["--worker-tmp-dir", "/dev/shm", *options]  # noqa: S108  # gunicorn makes an unnamed file there
    return Server(command, port=port, core=core, environ=clean_environ(**variables))
