"""What was tried: which commit, and with which driver and store."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from features import drivers

from .failure import without_places

IN_PROCESS = (
    "The proxy ran inside the program that tries it, through {}, and so did a simulated C42: no network was used. The "
    "clock was stopped, and jumped where a scenario says that time passes."
)
FOR_REAL = "C42 was simulated by a server on the same machine. "
ONE_CLOCK = "All programs were shown one clock that jumped where a scenario says that time passes; waiting was real."
HOW = {
    "flask": IN_PROCESS.format("Flask alone"),
    "asgi": IN_PROCESS.format("its ASGI app"),
    "sockets": f"The proxy ran inside the program that tries it, through its ASGI app. {FOR_REAL}The clock was "
    "stopped, and jumped where a scenario says that time passes. Where C42 does not answer, time was real.",
    "live": f"The proxy ran for real, in workers of gunicorn that were asked over HTTP. {FOR_REAL}The proxy read the "
    "time from a file; it jumped where a scenario says that time passes. Where C42 does not answer, time was real.",
    "stack": f"nginx, two hosts of the proxy and Redis ran for real. {FOR_REAL}{ONE_CLOCK}",
    "command": f"Another program was tried, as it is: {{command}}. {FOR_REAL}{ONE_CLOCK}",
}
"""How the proxy, C42 and time were, by the name of the driver."""


@dataclass(frozen=True)
class Commit:
    id: str
    date: str
    subject: str


@dataclass(frozen=True)
class Tried:
    """`commit` is None where there is no Git or no history. `changed`: the files differ from the commit's."""

    commit: Commit | None
    changed: bool
    driver: str
    store: str
    how: str


def tried(options: Mapping[str, str]) -> Tried:
    """What a run of behave tries that has these options (`-D`)."""
    driver = options.get("driver", "flask")
    how = HOW.get(driver, "").format(command=without_places(options.get("command", "")))
    changed = bool(git("status", "--porcelain"))
    return Tried(commit("HEAD"), changed, driver, drivers.store_of(driver, options.get("store")), how)


def commit(name: str) -> Commit | None:
    """The commit of that name, if it is in the clone in this folder."""
    found = git("log", "-1", "--format=%h%n%cs%n%s", name, "--")
    return Commit(*found.splitlines()) if found else None


def git(*arguments: str) -> str:
    """What Git prints; nothing where it fails or is not there, or where this folder is not the clone's own.

    By itself, Git looks in the folders around this one, too: an unpacked archive may lie in another project's clone.
    """
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(Path.cwd().parent)}
    try:
        run = subprocess.run(  # noqa: S603  # our own arguments
            ["git", *arguments],  # noqa: S607  # the Git of whoever runs this
            env=environ,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except OSError:
        return ""
    return run.stdout if run.returncode == 0 else ""
