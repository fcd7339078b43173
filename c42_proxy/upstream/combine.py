"""One fetch: both calls to C42 at once, all pages of the list, then one answer, or the failure that decides."""

import json
import math
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from ..deadline import Deadline
from ..errors import Overloaded, Problem, RateLimited, UpstreamTimeout
from ..stores.contract import Entry
from ..threads import Threads
from .causes import FailureLines, timeout_at
from .client import C42Client, Page
from .pages import PageCall, SubscriptionList

R = TypeVar("R")

EVENT = -math.inf
"""In the place of an offset: before all pages."""


class BackOff(Protocol):
    """The back-off as a fetch under way uses it (see `caching.circuit_breaker.CircuitBreaker`)."""

    def check_back_off(self) -> None: ...
    def refresh_back_off(self) -> None: ...
    def begin_back_off(self, limited: RateLimited) -> None: ...


@dataclass(frozen=True, slots=True)
class Combined:
    """An event combined with its subscribers, and the status of the call that decided it."""

    entry: Entry
    upstream_status: int


@dataclass(slots=True)
class _Fetch:
    """One fetch under way. Each failure of a call is added here, also if nobody waits for the call any more.

    At the end of the fetch its failures are logged. What a call meets later is logged then, but for a time-out: when
    the fetch has ended, that only says that the call was broken off.
    """

    event_id: str
    deadline: Deadline
    lines: FailureLines
    failures: list[Problem] = field(default_factory=list)
    failed_offsets: list[float] = field(default_factory=list)
    """Where each page begins that has failed; EVENT for the event's call."""

    def result(self, call: "Future[R]") -> R:
        """The result of a call. Raises Problem.

        It waits until the deadline, because resolving a name has no time-out.
        """
        try:
            return call.result(timeout=0 if self.deadline.passed else self.deadline.remaining())
        except TimeoutError:
            # The call itself may say later where it was, or never: too late for the log.
            raise self.failed(timeout_at(self.deadline)) from None

    def failed(self, failure: Problem) -> Problem:
        """Add a failure, and return it."""
        self.failures.append(failure)
        if self.deadline.fetch_ended and not isinstance(failure, UpstreamTimeout):
            self.lines.failed([failure])
        return failure


class Combiner:
    """Asks C42 for an event and its subscribers. Thread-safe.

    `budget` is the number of seconds within which C42 must have answered everything. Each fetch uses two threads of
    `calls`, one for the event and one that reads the list, and up to PAGES_AT_ONCE of `pages`.
    """

    def __init__(
        self,
        client: C42Client,
        back_off: BackOff,
        *,
        calls: Threads,
        pages: Threads,
        budget: float,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._back_off = back_off
        self._calls = calls
        self._pages = pages
        self._budget = budget
        self._clock = clock
        self._lines = FailureLines()

    def combined(self, event_id: str) -> Combined:
        """The event with the first names of all its subscribers.

        Raises UpstreamError or NotAsked: of all failures, the one with the smallest `precedence`. A failure of the
        subscriptions waits for the event's call: if there is no such event, that is the answer.
        """
        fetched_at = self._clock()
        fetch = _Fetch(event_id, Deadline(self._budget), self._lines)
        event_call, names_call = self._calls.submit_both(
            partial(self._call, fetch, self._client.event), partial(self._names, fetch)
        )
        event = names = None
        try:
            with suppress(Problem):
                event = fetch.result(event_call)
            if event is not None and not event.exists:
                self._lines.answered()
                return Combined(Entry(404, b"", fetched_at), event.status)
            with suppress(Problem):
                names = fetch.result(names_call)
        finally:
            fetch.deadline.fetch_ended = True
            self._lines.failed(fetch.failures)
        if event is None or names is None:
            raise min(fetch.failures, key=lambda failure: failure.precedence)
        self._lines.answered()
        return Combined(Entry(200, _json(event_id, event.title, names), fetched_at), event.status)

    def _names(self, fetch: _Fetch) -> list[str]:
        """The first names of all subscribers, in C42's order, each subscription once. Raises Problem."""
        first = partial(self._call, fetch, self._client.subscriptions, 0)
        try:
            subscriptions = SubscriptionList(first, partial(self._begin_page, fetch)).read()
        except Problem as failure:
            # Failures of its calls are known already; that the list has no end is not.
            if failure not in fetch.failures:
                fetch.failed(failure)
            raise
        names: dict[str, str | None] = {}
        for subscription in subscriptions:
            names.setdefault(subscription.id, subscription.first_name)
        return [name for name in names.values() if name is not None]

    def _begin_page(self, fetch: _Fetch, offset: int) -> PageCall:
        try:
            return partial(fetch.result, self._pages.submit(self._later_page, fetch, offset))
        except Overloaded:
            # No thread is free: the thread that reads the list asks for this page itself.
            return partial(self._later_page, fetch, offset)

    def _later_page(self, fetch: _Fetch, offset: int) -> Page:
        """A page after the first. Raises Problem.

        It is not asked for if the event's call or a page before it has failed. It is if a page behind it has: the
        list may end with this page, and then that failure does not count.
        """
        if any(failed < offset for failed in fetch.failed_offsets):
            raise fetch.failures[0]
        return self._call(fetch, self._allowed_page, offset)

    def _allowed_page(self, event_id: str, offset: int, deadline: Deadline) -> Page:
        """A page. Raises BackingOff if C42 has asked somebody to wait since the fetch began.

        The first two calls are not checked again: `allow_fetch` has just allowed this fetch.
        """
        self._back_off.refresh_back_off()
        self._back_off.check_back_off()
        return self._client.subscriptions(event_id, offset, deadline)

    def _call(self, fetch: _Fetch, call: Callable[..., R], *args: int) -> R:
        """Make one call to C42, for the event or for the page at an offset, unless the fetch has ended already.

        Raises Problem.
        """
        if fetch.deadline.fetch_ended:
            raise UpstreamTimeout
        try:
            return call(fetch.event_id, *args, fetch.deadline)
        except Problem as failure:
            fetch.failed(failure)
            fetch.failed_offsets.extend(args or [EVENT])
            if isinstance(failure, RateLimited):
                # Whatever the other call says: the back-off is for all fetches.
                self._back_off.begin_back_off(failure)
            raise


def _json(event_id: str, title: str | None, names: list[str]) -> bytes:
    answer = {"id": event_id, "title": title, "names": names}
    return _encoder.encode(answer).encode()


# `json.dumps` would make a new encoder each time.
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
