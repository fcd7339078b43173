"""How much one process does at once: so many fetches, and so many that wait for one to end."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Semaphore

from ..errors import Overloaded
from ..observability.metrics import Metrics

FETCHES_AT_ONCE = 256
MAX_WAITING = 1000


class ConcurrencyLimit:
    """A bounded number of fetches at a time, and a bounded number of those that wait for a slot."""

    def __init__(self, metrics: Metrics, at_once: int = FETCHES_AT_ONCE, waiting: int = MAX_WAITING) -> None:
        self._metrics = metrics
        self._slots = Semaphore(at_once)
        self._queue = Semaphore(waiting)

    @contextmanager
    def slot(self, patience: float) -> Iterator[None]:
        """Wait up to `patience` seconds for a slot; raises Overloaded after that, or where too many wait already."""
        if not self._slots.acquire(blocking=False):
            if not self._queue.acquire(blocking=False):
                raise Overloaded
            try:
                with self._metrics.fetches_waiting.track_inprogress():
                    if not self._slots.acquire(timeout=patience):
                        raise Overloaded
            finally:
                self._queue.release()
        try:
            with self._metrics.fetches_in_flight.track_inprogress():
                yield
        finally:
            self._slots.release()
