"""How many threads of a process use a store at once.

Waiting for others is no failure as long as operations end and it lasts no longer than `QUEUE_SECONDS`.
"""

import time
from collections import deque
from threading import Lock

from ..errors import StoreError, StoreNotReached
from .contract import STORE_SECONDS

QUEUE_SECONDS = 2.0
"""How long a thread may wait for a slot."""


class StoreLimit:
    """Lets `at_once` threads use a store at a time, each for an operation of `seconds` at most, in a `with` block.

    First come, first served: with a semaphore, a thread that comes at the right moment goes before those that wait, and
    with a store that is far away, some would wait for seconds.

    Fail fast: waiters raise StoreError as soon as an operation that ran while they waited has failed, or if none ends
    within `seconds`. So a hundred threads that wait for a hanging store fail soon, and not one after the other. They
    raise the text of that failure: theirs may be the only line in the log. That this process lacks something
    (StoreNotReached) is found out at once, and no failure.
    """

    def __init__(self, at_once: int, seconds: float = STORE_SECONDS) -> None:
        self._free = at_once
        self._seconds = seconds
        self._waiting: deque[Lock] = deque()
        self._lock = Lock()
        self._failure: StoreError | None = None
        """The last one: a new object for each failure, so that `is` tells them apart."""
        self._progress = time.monotonic()

    def __enter__(self) -> None:
        """Wait for a slot. Raises StoreError."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            seen = self._failure
            # This lock stays locked until a slot is handed over.
            mine = Lock()
            mine.acquire()
            self._waiting.append(mine)
        self._wait_for(mine)
        if self._failure is not seen:
            self._hand_over()
            raise StoreError(str(self._failure))

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        """A StoreError raised in the block counts as a failure of the store."""
        if isinstance(error, StoreError) and not isinstance(error, StoreNotReached):
            # Not the error itself: it refers to the frames that it came through.
            self._failure = StoreError(str(error))
        self._hand_over()

    def _hand_over(self) -> None:
        # The next thread may take a moment to wake up.
        self._progress = time.monotonic()
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _wait_for(self, mine: Lock) -> None:
        give_up = time.monotonic() + QUEUE_SECONDS
        while not mine.acquire(timeout=self._seconds):
            now = time.monotonic()
            if now - self._progress <= self._seconds and now < give_up:
                continue
            with self._lock:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    raise StoreError("the store is busy: this operation has waited too long for a slot")
