"""The project's git history: earlier versions, to run them beside this one."""

import subprocess
from pathlib import Path

from harness.processes import ROOT


def short(commit: str) -> str:
    """The short id of a commit, which may be `HEAD`. Raises CalledProcessError if the history does not have it."""
    words = ["git", "rev-parse", "--short", "--verify", f"{commit}^{{commit}}"]
    return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def extract(commit: str, folder: Path) -> None:
    """Put the files of a commit into a folder. Raises CalledProcessError if the history does not have it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract", "--directory", f"{folder}"], input=files, check=True)
