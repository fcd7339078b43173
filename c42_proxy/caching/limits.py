"""How much one process does at once: at most 256 fetches, and at most 1,000 misses that wait for a slot."""

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from threading import Lock

from ..errors import Overloaded
from ..observability.metrics import Metrics
from ..threads import Threads, Timer

FETCHES_AT_ONCE = 256
MAX_WAITING = 1000
SPARE_THREADS = FETCHES_AT_ONCE + 16
"""Threads beyond the slots: a slot is free a moment before its thread is. On a busy machine, those of all slots may be
late at once."""

Work = Callable[[], object]


class ConcurrencyLimit:
    """At most `at_once` fetches run at a time, each in a thread. At most `waiting` wait for one, without a thread.

    `timer` calls `too_late` when a wait has lasted too long.
    """

    def __init__(
        self, metrics: Metrics, timer: Timer, at_once: int = FETCHES_AT_ONCE, waiting: int = MAX_WAITING
    ) -> None:
        self._waiting = metrics.fetches_waiting
        self._in_flight = metrics.fetches_in_flight.track_inprogress()
        self._timer = timer
        self._may_come = at_once + waiting
        self._free = at_once
        self._threads = Threads(at_once + SPARE_THREADS, name="c42-fetch")
        self._queue: dict[object, tuple[Work, Work]] = {}
        self._lock = Lock()
        self._admitting = Lock()
        """Separate from `_lock`, which stays locked while a thread starts."""

    def admit(self) -> None:
        """Count one more miss, until `leave`. Raises Overloaded if too many are under way."""
        with self._admitting:
            if not self._may_come:
                raise Overloaded
            self._may_come -= 1

    def leave(self) -> None:
        with self._admitting:
            self._may_come += 1

    def begin(self, work: Work, too_late: Work, *, patience: float) -> None:
        """Begin `work` in a thread as soon as there is a slot, or `too_late` after `patience` seconds without one.

        Neither may raise; `too_late` must not block. Raises Overloaded if the system gives no thread.
        """
        with self._lock:
            if self._free:
                self._threads.begin(partial(self._use_slot, work))
                self._free -= 1
                return
            ticket = object()
            self._timer.later(patience, self._give_up, ticket)
            # The work keeps the context (the request id) of the request that queued it.
            self._queue[ticket] = (partial(copy_context().run, work), too_late)
            self._waiting.inc()

    def close(self) -> None:
        """Wait for the fetches under way, and end their threads."""
        self._threads.close()

    def _use_slot(self, work: Work) -> None:
        """Do `work`, then the queued work, one after the other, until the queue is empty."""
        next_work: Work | None = work
        while next_work is not None:
            with self._in_flight:
                next_work()
            next_work = self._next()

    def _next(self) -> Work | None:
        with self._lock:
            for ticket in self._queue:
                return self._dequeue(ticket)[0]
            self._free += 1
            return None

    def _give_up(self, ticket: object) -> None:
        with self._lock:
            if ticket not in self._queue:
                return
            _, too_late = self._dequeue(ticket)
        too_late()

    def _dequeue(self, ticket: object) -> tuple[Work, Work]:
        self._waiting.dec()
        return self._queue.pop(ticket)
