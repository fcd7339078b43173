"""One fetch: both calls to C42 at once, all pages of the list, and one answer, or the failure that decides."""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeVar

from ..deadline import Deadline
from ..errors import InvalidAnswer, NotAsked, Problem, RateLimited, TokenRefused, UpstreamError, UpstreamTimeout
from ..stores.contract import Entry
from ..threads import Threads
from .client import PAGE_LIMIT, C42Client, Page

log = logging.getLogger(__name__)

PAGES_AT_ONCE = 8
MAX_PAGES = 1000
CALLS_OF_A_FETCH = 2 + PAGES_AT_ONCE
"""Threads of one fetch at most: one for the event, one that walks through the list, and those of its pages."""

R = TypeVar("R")


class BackOff(Protocol):
    """What a fetch under way needs to know of the back-off (see `caching.circuit_breaker.CircuitBreaker`)."""

    def check_back_off(self) -> None: ...
    def refresh_back_off(self) -> None: ...
    def begin_back_off(self, limited: RateLimited) -> None: ...


@dataclass(frozen=True, slots=True)
class Combined:
    """What C42 says of an event and its subscribers, and the status of the call that decided it."""

    entry: Entry
    upstream_status: int


@dataclass(slots=True)
class _Fetch:
    """One fetch under way. Each call notes its own failure here, whoever waits for the call or does not."""

    event_id: str
    deadline: Deadline
    failures: list[Problem] = field(default_factory=list)
    decided: bool = False

    def result(self, call: "Future[R | None]") -> R | None:
        """What a call came to, before the deadline: name resolution, for one, has no time-out. None if it failed."""
        try:
            return call.result(timeout=0 if self.deadline.passed else self.deadline.remaining())
        except TimeoutError:
            self.failures.append(UpstreamTimeout())
            return None


class Combiner:
    """Asks C42 for an event and its subscribers. Thread-safe.

    `budget` is the number of seconds within which C42 must have answered everything. `threads` are for the calls.
    """

    def __init__(
        self,
        client: C42Client,
        back_off: BackOff,
        *,
        threads: Threads,
        budget: float,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._back_off = back_off
        self._threads = threads
        self._budget = budget
        self._clock = clock

    def combined(self, event_id: str) -> Combined:
        """The event with the first names of all its subscribers.

        Raises UpstreamError or NotAsked: of all failures, the one with the lowest precedence. A failure of the
        subscriptions waits for the event's call: where there is no such event, that is the answer.
        """
        fetched_at = self._clock()
        fetch = _Fetch(event_id, Deadline(self._budget))
        event_call = self._threads.start(self._call, fetch, self._client.event)
        names_call = self._threads.start(self._names, fetch)
        try:
            event = fetch.result(event_call)
            if event is not None and not event.exists:
                return Combined(Entry(404, b"", fetched_at), event.status)
            names = fetch.result(names_call)
        finally:
            fetch.decided = True
        if event is None or names is None:
            raise min(fetch.failures, key=lambda failure: failure.precedence)
        return Combined(Entry(200, _json(event_id, event.title, names), fetched_at), event.status)

    def _names(self, fetch: _Fetch) -> list[str] | None:
        """The first names of all subscribers, in C42's order, each subscription once. None if a page failed."""
        names: dict[str, str | None] = {}
        for page in self._pages(fetch):
            if page is None:
                return None
            for subscription in page.subscriptions:
                # The list may have moved between two pages: the same subscription can come twice.
                names.setdefault(subscription.id, subscription.first_name)
        return [name for name in names.values() if name is not None]

    def _pages(self, fetch: _Fetch) -> Iterator[Page | None]:
        """The pages of the list up to its end: the first, then those that it announces. None for a page that failed."""
        page = None if fetch.decided else self._call(fetch, self._client.subscriptions, 0)
        yield page
        if page is None or not page.subscriptions:
            return
        count = page.count
        size = received = len(page.subscriptions)
        # C42 may give fewer on a page than we ask for: what it gave tells where the next one begins. The count may be
        # wrong, too: then there is nothing there, and asking for one page at a time finds out at the least cost.
        at_once = PAGES_AT_ONCE if size == PAGE_LIMIT else 1
        announced = range(size, min(count or 0, PAGE_LIMIT * MAX_PAGES + 1), size)
        offsets = iter(announced[: MAX_PAGES - 1])
        in_flight: deque[Future[Page | None]] = deque()
        while True:
            for offset in islice(offsets, at_once - len(in_flight)):
                in_flight.append(self._threads.start(self._later_page, fetch, offset))
            if not in_flight:
                break
            page = fetch.result(in_flight.popleft())
            if page is None:
                # Another page may fail in a way that goes before this one's.
                for call in in_flight:
                    fetch.result(call)
            yield page
            if page is None or not page.subscriptions:
                return
            received += len(page.subscriptions)
        # Without a count, or with one that the list has outgrown, a full page may have another one behind it.
        asked = 1 + len(announced)
        while asked > MAX_PAGES or (len(page.subscriptions) == PAGE_LIMIT and (count is None or received > count)):
            if asked >= MAX_PAGES:
                fetch.failures.append(
                    InvalidAnswer(f"its list of subscriptions does not end within {MAX_PAGES} pages", 200)
                )
                yield None
                return
            page = self._later_page(fetch, asked * size)
            yield page
            if page is None:
                return
            received += len(page.subscriptions)
            asked += 1

    def _later_page(self, fetch: _Fetch, offset: int) -> Page | None:
        """A page after the first; None where it failed, or where nothing can come of the fetch any more."""
        if fetch.failures or fetch.decided:
            return None
        try:
            self._back_off.refresh_back_off()
        except NotAsked as refusal:
            fetch.failures.append(refusal)
            return None
        return self._call(fetch, self._client.subscriptions, offset)

    def _call(self, fetch: _Fetch, call: Callable[..., R], *args: object) -> R | None:
        """One call to C42, unless there is a back-off; None where it failed, which is noted."""
        try:
            self._back_off.check_back_off()
            return call(fetch.event_id, *args, fetch.deadline)
        except (UpstreamError, NotAsked) as failure:
            fetch.failures.append(failure)
            if isinstance(failure, RateLimited):
                # Whatever comes of this fetch, and whatever the other call says.
                self._back_off.begin_back_off(failure)
            if isinstance(failure, TokenRefused):
                log.error("C42 refuses our token", extra={"upstream_status": failure.upstream_status})
            return None


def _json(event_id: str, title: str | None, names: list[str]) -> bytes:
    answer = {"id": event_id, "title": title, "names": names}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
