"""What the hosts say in their logs that nobody sees from outside."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from .record import StoreState, Traceback

TRACEBACK = "Traceback (most recent call last)"
_WORKS = {"the shared store fails": False, "the shared store works again": True}


def store_states(log: Path) -> Iterator[StoreState]:
    """What a host's processes say of the store, from its log in JSON, whose file name contains the host's name."""
    with log.open() as lines:
        for line in lines:
            if "the shared store" not in line:
                continue
            said = json.loads(line)
            for start, works in _WORKS.items():
                if said["event"].startswith(start):
                    yield StoreState(log.stem, _instant(said), works)


def tracebacks(log: Path) -> Iterator[Traceback]:
    """Those in the log of a host. What no record of ours says has the time of the last one before it."""
    since = 0.0
    with log.open(errors="replace") as lines:
        for line in lines:
            # What is longer than a pipe takes at once may be mixed with what another process says.
            with suppress(ValueError):
                since = _instant(json.loads(line))
            if TRACEBACK in line:
                yield Traceback(log.stem, since, line.strip())


def _instant(said: dict[str, Any]) -> float:
    return datetime.fromisoformat(said["timestamp"]).timestamp()
