"""What the hosts say in their logs that nobody sees from outside."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from .record import StoreState, Traceback

_WORKS = {"the shared store fails": False, "the shared store works again": True}


def said_by(log: Path) -> Iterator[StoreState | Traceback]:
    """What a host's processes say of the store, and their tracebacks, from its log in JSON, which has its name.

    What no record of ours says has the time of the last one before it.
    """
    since = 0.0
    with log.open(errors="replace") as lines:
        for line in lines:
            # What is longer than a pipe takes at once may be mixed with what another process says.
            try:
                said = json.loads(line)
                since = datetime.fromisoformat(said["timestamp"]).timestamp()
            except ValueError:
                said = {"event": ""}
            for start, works in _WORKS.items():
                if said["event"].startswith(start):
                    yield StoreState(log.stem, since, works)
            if "Traceback (most recent call last)" in line:
                yield Traceback(log.stem, since, line.strip())
