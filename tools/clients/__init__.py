"""What makers of apps use: the reference of the address, and clients that generators make of `openapi.yaml`."""

import os

from harness.processes import ROOT, clean_environ

FOLDER = ROOT / "build" / "clients"
"""Where `make` installs the generators: Python's in `venv/`, Node's in `node_modules/`."""


def environ() -> dict[str, str]:
    """Of a process that uses the generators, or what they need."""
    folders = (FOLDER / "node_modules" / ".bin", FOLDER / "venv" / "bin")
    return clean_environ(PATH=os.pathsep.join([*map(str, folders), os.environ["PATH"]]), PYTHONPATH="", NO_COLOR="1")
