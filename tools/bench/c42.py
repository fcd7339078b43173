"""A C42 for the benchmarks: the sandbox, which knows every event, and is much faster than what is measured.

An event's id tells its size: `250-anything` has 250 subscribers. What is said of a size is made once.
`python -m tools.bench.c42 --bind HOST:PORT` is that sandbox.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from functools import lru_cache

from c42_proxy.address import Address
from c42_proxy.sandbox.api import Sandbox
from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.sandbox.events import sample
from c42_proxy.sandbox.server import serve
from c42_proxy.sandbox.shapes import Person
from harness import sandbox

from .processes import PYTHON

TITLE = "Drink a cup of coffee with C42 Team"
PLACEHOLDER = "the-event"
SPIN_SECONDS = 0.002
"""Longer than a timer of the event loop may be late."""
EXACT_SECONDS = 0.1
"""Up to here."""


class StandIn(sandbox.Sandbox):
    """The running stand-in, on a core of its own."""

    def __init__(self, core: int) -> None:
        super().__init__(["taskset", "--cpu-list", str(core), PYTHON, "-m", "tools.bench.c42"])

    def takes(self, seconds: float) -> None:
        """How long each call takes from now on; the count of calls begins again."""
        self.set(latency=seconds, calls="reset")


class AnyEvent(Sandbox):
    """The sandbox with all events there could be."""

    def event(self, event_id: str) -> bytes:
        return _said_of(event_id, _event(_size(event_id)))

    def page(self, event_ids: Sequence[str], limit: int, offset: int) -> bytes:
        [event_id] = event_ids
        return _said_of(event_id, _page(_size(event_id), limit, offset))


@lru_cache
def _knowing(size: int) -> Sandbox:
    people = [Person(f"Michel {number}", "de Vries") for number in range(size)]
    return Sandbox(token="", events={PLACEHOLDER: sample(PLACEHOLDER, TITLE, people)})


@lru_cache
def _event(size: int) -> bytes:
    return _knowing(size).event(PLACEHOLDER)


@lru_cache(1000)
def _page(size: int, limit: int, offset: int) -> bytes:
    return _knowing(size).page([PLACEHOLDER], limit, offset)


def _size(event_id: str) -> int:
    return int(event_id.partition("-")[0])


def _said_of(event_id: str, said: bytes) -> bytes:
    return said.replace(PLACEHOLDER.encode(), event_id.encode())


async def exactly(seconds: float) -> None:
    """Wait for that many seconds, exact to a few microseconds: timers of the event loop have steps of a millisecond.

    Not if it is long: then many calls wait at once, and a millisecond is nothing.
    """
    if seconds > EXACT_SECONDS:
        await asyncio.sleep(seconds)
        return
    end = time.perf_counter() + seconds
    await asyncio.sleep(max(0, seconds - SPIN_SECONDS))
    while time.perf_counter() < end:
        await asyncio.sleep(0)


if __name__ == "__main__":
    serve(AnyEvent(token=SANDBOX_TOKEN), Address.parsed(sys.argv[-1]), exactly)
