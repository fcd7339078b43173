"""How many threads of a process use a store at once. Waiting for the others is no failure of the store."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from ..errors import StoreError
from .contract import STORE_SECONDS

QUEUE_SECONDS = 2.0
"""How long a thread may wait for its operation to begin, in a burst."""


class StoreLimit:
    """Lets `at_once` threads use a store at a time, each for an operation of STORE_SECONDS at most.

    Fail fast: waiters raise StoreError as soon as an operation ahead of them fails, or none of them ends. So a hundred
    threads behind a store that hangs fail soon, and not one after the other.
    """

    def __init__(self, at_once: int) -> None:
        self._slots = BoundedSemaphore(at_once)
        self._failures = 0
        self._progress = time.monotonic()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot. Raises StoreError; a StoreError raised within counts as a failure of the store."""
        seen = self._failures
        give_up = time.monotonic() + QUEUE_SECONDS
        while not self._slots.acquire(timeout=STORE_SECONDS):
            now = time.monotonic()
            if now - self._progress > STORE_SECONDS or now >= give_up:
                raise StoreError("the store is busy, and no operation on it ends")
        try:
            if self._failures != seen:
                raise StoreError("an operation ahead of this one has failed")
            self._progress = time.monotonic()
            yield
        except StoreError:
            self._failures += 1
            raise
        finally:
            self._slots.release()
