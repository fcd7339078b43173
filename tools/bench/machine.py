"""The machine that measured: without it, no figure means anything."""

import os
import platform
import resource
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self

from harness.history import short

BACKLOG = Path("/proc/sys/net/core/somaxconn")
PACKAGES = ("gunicorn", "uvicorn", "uvicorn-worker", "uvloop", "httptools", "flask", "requests")


@dataclass(frozen=True)
class Cores:
    """The core that the servers run on, and the one for wrk, the clients and the stand-in C42."""

    server: int
    load: int

    @classmethod
    def take(cls) -> Self:
        """Two of the cores that this process may use; the process itself keeps to the second from now on."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise SystemExit("Two cores are needed: one for the servers, one for the load.")
        os.sched_setaffinity(0, {usable[1]})
        return cls(*usable[:2])


def open_files() -> int:
    """How many files this process may have open, from now on as many as it may ask for."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def described(earlier: str) -> list[tuple[str, str]]:
    """What a reader needs to know to believe the figures, or to doubt them. `earlier` is the commit to compare with."""
    models = [line.partition(":")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    nginx = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr.strip()  # noqa: S607  # the one of the PATH
    return [
        ("Date", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("CPU", f"{models[0].strip()}, {len(models)} cores"),
        ("System", f"{platform.system()} {platform.release().partition('-')[0]}"),
        ("Python", platform.python_version()),
        ("Packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        ("nginx", nginx.partition("nginx/")[2]),
        ("Open files, somaxconn", f"{open_files():,}, {int(BACKLOG.read_text()):,}"),
        ("Commit, and that of the earlier version", f"{short('HEAD')}, {short(earlier)}"),
    ]
