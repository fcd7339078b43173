"""Single-flight: within one process, one fetch for all requests that ask for an event at the same time."""

from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

R = TypeVar("R")


class SingleFlight(Generic[R]):
    """The searches under way, one for each event. The leader of a search must `finish` or `fail` it. Thread-safe."""

    def __init__(self) -> None:
        self._searches: dict[str, Future[R]] = {}
        self._lock = Lock()

    def coalesce(self, event_id: str) -> tuple[Future[R], bool]:
        """The search of an event, and whether the caller leads it, because there was none."""
        with self._lock:
            search = self._searches.get(event_id)
            if search is not None:
                return search, False
            search = self._searches[event_id] = Future()
            return search, True

    def finish(self, event_id: str, result: R) -> None:
        """End the search of an event: all who share it get `result`, and the next to ask leads a new one."""
        self._end(event_id).set_result(result)

    def fail(self, event_id: str, error: BaseException) -> None:
        """End the search of an event with an exception, which all who share it raise."""
        self._end(event_id).set_exception(error)

    def under_way(self) -> "list[Future[R]]":
        """All searches that have not ended."""
        with self._lock:
            return list(self._searches.values())

    def _end(self, event_id: str) -> "Future[R]":
        with self._lock:
            return self._searches.pop(event_id)
