"""How many threads of a process use a store at once.

Waiting for others is no failure as long as operations end and it lasts no longer than `QUEUE_SECONDS`.
"""

import time
from collections import deque
from threading import Lock

from ..errors import StoreError, StoreNotReached
from .contract import STORE_SECONDS

QUEUE_SECONDS = 2.0
"""How long a thread may queue for a slot."""


class StoreLimit:
    """Lets `at_once` threads use a store at a time, each for an operation of `seconds` at most.

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

    def slot(self) -> "_Slot":
        """Wait for a slot. Raises StoreError. A StoreError raised in the block counts as a failure of the store."""
        return _Slot(self)

    def _enter(self) -> None:
        seen = self._failure
        self._acquire()
        if self._failure is not seen:
            error = StoreError(str(self._failure))
            self._leave(error)
            raise error

    def _leave(self, error: BaseException | None = None) -> None:
        if isinstance(error, StoreError) and not isinstance(error, StoreNotReached):
            # Not the error itself: it refers to the frames that it came through.
            self._failure = StoreError(str(error))
        # The next thread may take a moment to wake up.
        self._progress = time.monotonic()
        self._release()

    def _acquire(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            # This lock stays locked until a slot is handed over.
            mine = Lock()
            mine.acquire()
            self._waiting.append(mine)
        give_up = time.monotonic() + QUEUE_SECONDS
        while not mine.acquire(timeout=self._seconds):
            now = time.monotonic()
            if now - self._progress <= self._seconds and now < give_up:
                continue
            with self._lock:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    raise StoreError("the store is busy: this operation has waited too long for its turn")

    def _release(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class _Slot:
    """Not a generator with `contextmanager`: each read of a shared tier waits for it."""

    __slots__ = ("_limit",)

    def __init__(self, limit: StoreLimit) -> None:
        self._limit = limit

    def __enter__(self) -> None:
        self._limit._enter()

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self._limit._leave(error)
