"""Single-flight: within one process, one fetch for all requests that ask for an event at the same time."""

from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

R = TypeVar("R")


class SingleFlight(Generic[R]):
    """The flights under way, one for each event. The leader of a flight must `land` or `crash` it. Thread-safe."""

    def __init__(self) -> None:
        self._flights: dict[str, Future[R]] = {}
        self._lock = Lock()

    def join(self, event_id: str) -> tuple[Future[R], bool]:
        """The flight of an event, and whether the caller leads it, because there was none."""
        with self._lock:
            flight = self._flights.get(event_id)
            if flight is not None:
                return flight, False
            flight = self._flights[event_id] = Future()
            return flight, True

    def land(self, event_id: str, result: R) -> None:
        """End the flight of an event: all who joined it get `result`, and the next to join leads a new one."""
        self._end(event_id).set_result(result)

    def crash(self, event_id: str, error: BaseException) -> None:
        """End the flight of an event with an exception, which all who joined it raise."""
        self._end(event_id).set_exception(error)

    def under_way(self) -> "list[Future[R]]":
        """All flights that have not ended."""
        with self._lock:
            return list(self._flights.values())

    def _end(self, event_id: str) -> "Future[R]":
        with self._lock:
            return self._flights.pop(event_id)
