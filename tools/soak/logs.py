"""What the hosts say in their logs that nobody sees from outside."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from .record import StoreState

_WORKS = {"the shared store fails": False, "the shared store works again": True}


def store_states(log: Path) -> Iterator[StoreState]:
    """From the log of a host in JSON, in whose name its own is: what its processes say of the store."""
    with log.open() as lines:
        for line in lines:
            if "the shared store" not in line:
                continue
            said = json.loads(line)
            for start, works in _WORKS.items():
                if said["event"].startswith(start):
                    yield StoreState(log.stem, datetime.fromisoformat(said["timestamp"]).timestamp(), works)
