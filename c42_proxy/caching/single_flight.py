"""Within one process: an event is fetched once at a time, whoever asks, and not too many events at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Lock, Semaphore
from typing import Generic, TypeVar

from ..errors import Busy
from ..observability.metrics import Metrics

FETCHES_AT_ONCE = 256
MAX_WAITING = 1000
MAX_FLIGHTS = FETCHES_AT_ONCE + MAX_WAITING

R = TypeVar("R")


class Flights(Generic[R]):
    """Work under way, by event. It runs in threads of its own: a client that gives up does not stop it."""

    def __init__(self) -> None:
        self._flights: dict[str, Future[R]] = {}
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(MAX_FLIGHTS, thread_name_prefix="c42-fetch")

    def join(self, event_id: str, work: Callable[[], R]) -> tuple[Future[R], bool]:
        """The flight for an event, begun with `work` if there was none; and whether it was.

        Raises Busy where there are more already than may run and wait: that takes no thread to find out.
        """
        with self._lock:
            flight = self._flights.get(event_id)
            if flight is not None:
                return flight, False
            if len(self._flights) >= MAX_FLIGHTS:
                raise Busy
            flight = self._flights[event_id] = self._threads.submit(copy_context().run, self._fly, event_id, work)
            return flight, True

    def close(self) -> None:
        """Wait for the flights under way, and end the threads."""
        self._threads.shutdown()

    def _fly(self, event_id: str, work: Callable[[], R]) -> R:
        try:
            return work()
        finally:
            with self._lock:
                del self._flights[event_id]


class Turns:
    """A bounded number of fetches at a time, and a bounded number of those who wait for their turn."""

    def __init__(self, metrics: Metrics, at_once: int = FETCHES_AT_ONCE, waiting: int = MAX_WAITING) -> None:
        self._metrics = metrics
        self._free = Semaphore(at_once)
        self._places = Semaphore(waiting)

    @contextmanager
    def turn(self, patience: float) -> Iterator[None]:
        """Waits up to `patience` seconds; raises Busy after that, or where too many wait already."""
        if not self._free.acquire(blocking=False):
            if not self._places.acquire(blocking=False):
                raise Busy
            try:
                with self._metrics.fetches_waiting.track_inprogress():
                    if not self._free.acquire(timeout=patience):
                        raise Busy
            finally:
                self._places.release()
        try:
            with self._metrics.fetches_in_flight.track_inprogress():
                yield
        finally:
            self._free.release()
