"""Turns at a store, for the threads of a process: waiting for others is no failure of the store."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from ..errors import StoreError
from .contract import STORE_SECONDS

QUEUE_SECONDS = 2.0
"""How long a burst may keep somebody waiting."""


class Gate:
    """Lets `at_once` threads through at a time, each for an operation of STORE_SECONDS at most.

    Who waits is told at once that the store fails when it fails for one of those ahead, or when none of them gets on:
    a hundred threads behind a store that hangs have all failed soon.
    """

    def __init__(self, at_once: int) -> None:
        self._places = BoundedSemaphore(at_once)
        self._failures = 0
        self._progress = time.monotonic()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Raises StoreError; one that is raised within counts as a failure of the store."""
        seen = self._failures
        give_up = time.monotonic() + QUEUE_SECONDS
        while not self._places.acquire(timeout=STORE_SECONDS):
            now = time.monotonic()
            if now - self._progress > STORE_SECONDS or now >= give_up:
                raise StoreError("the store is busy, and does not get on")
        try:
            if self._failures != seen:
                raise StoreError("the store has failed for somebody ahead")
            self._progress = time.monotonic()
            yield
        except StoreError:
            self._failures += 1
            raise
        finally:
            self._progress = time.monotonic()
            self._places.release()
