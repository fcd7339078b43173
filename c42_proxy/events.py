"""The use case: an event with its subscribers, from the cache, or fetched from C42 and combined. START READING HERE."""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

from .caching.cache import Cache, Fetched, Reply, Wait
from .caching.circuit_breaker import Guard
from .caching.single_flight import FETCHES_AT_ONCE
from .errors import (
    InvalidAnswer,
    NotAsked,
    Problem,
    RateLimited,
    Superseded,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
)
from .stores.contract import Entry
from .upstream.client import C42, PAGE_LIMIT, Event, Page
from .upstream.transport import Deadline

log = logging.getLogger(__name__)

PAGES_AT_ONCE = 8
MAX_PAGES = 1000
CALLS_AT_ONCE = FETCHES_AT_ONCE * (2 + PAGES_AT_ONCE)
"""Threads at most: each fetch has one for the event, one that walks through the list, and those of its pages."""

R = TypeVar("R")


class Events:
    """Answers what an event is called and who comes. Thread-safe.

    `budget` is the number of seconds within which C42 must have answered everything.
    """

    def __init__(self, c42: C42, cache: Cache, guard: Guard, *, budget: float, clock: Callable[[], float]) -> None:
        self._c42 = c42
        self._cache = cache
        self._guard = guard
        self._budget = budget
        self._clock = clock
        self._calls = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="c42-call")

    def reply(self, event_id: str) -> Reply:
        """The event with the first names of all its subscribers, or why there is no answer."""
        return self._cache.reply(event_id, lambda: self._fetch(event_id))

    def hit(self, event_id: str) -> Reply | None:
        """The same where no time is needed for it: a fresh answer in this process's memory."""
        return self._cache.hit(event_id)

    def ask(self, event_id: str) -> Wait:
        """The same for those who wait without a thread."""
        return self._cache.ask(event_id, lambda: self._fetch(event_id))

    def close(self) -> None:
        """Wait for the fetches under way, and end their threads: nothing may be asked any more."""
        self._cache.close()
        self._calls.shutdown()

    def _fetch(self, event_id: str) -> Fetched:
        """Ask C42 for the event and its subscribers at the same time. Raises UpstreamError or NotAsked."""
        fetched_at = self._clock()
        fetch = _Fetch(event_id, Deadline(self._budget))
        event_call = self._start(self._ask, fetch, self._c42.event)
        names_call = self._start(self._first_names, fetch)
        try:
            # A failure of the other call waits for this one: where there is no such event, that is the answer.
            event = _result(event_call, fetch)
            if isinstance(event, Event) and not event.exists:
                return Fetched(Entry(404, b"", fetched_at), event.status)
            names = _result(names_call, fetch)
        finally:
            fetch.decided = True
        if isinstance(event, Problem) or isinstance(names, Problem):
            raise min(fetch.failures, key=lambda failure: failure.precedence)
        return Fetched(Entry(200, _combined(event_id, event.title, names), fetched_at), event.status)

    def _first_names(self, fetch: "_Fetch") -> list[str]:
        """The first names of all subscribers, in C42's order, each subscription once."""
        if fetch.decided:
            raise Superseded
        names: dict[str, str | None] = {}
        for page in self._pages(fetch):
            for subscription in page.subscriptions:
                # The list may have moved between two pages: the same subscription can come twice.
                names.setdefault(subscription.id, subscription.first_name)
        return [name for name in names.values() if name is not None]

    def _pages(self, fetch: "_Fetch") -> Iterator[Page]:
        """The pages of an event's subscriptions up to the end of the list: the first, then those that it announces."""
        page = self._ask(fetch, self._c42.subscriptions, 0)
        yield page
        count = page.count
        size = received = len(page.subscriptions)
        if size == 0:
            return
        # C42 may give fewer on a page than we ask for: what it gave tells where the next one begins. The count may be
        # wrong, too: then there is nothing there, and asking for one page at a time finds out at the least cost.
        at_once = PAGES_AT_ONCE if size == PAGE_LIMIT else 1
        announced = range(size, min(count or 0, PAGE_LIMIT * MAX_PAGES + 1), size)
        offsets = iter(announced[: MAX_PAGES - 1])
        in_flight: deque[Future[Page]] = deque()
        while True:
            for offset in islice(offsets, at_once - len(in_flight)):
                in_flight.append(self._start(self._later_page, fetch, offset))
            if not in_flight:
                break
            result = _result(in_flight.popleft(), fetch)
            if isinstance(result, Problem):
                # Another page may fail in a way that goes before this one's.
                for call in in_flight:
                    _result(call, fetch)
                raise result
            page = result
            yield page
            if not page.subscriptions:
                return
            received += len(page.subscriptions)
        # Without a count, or with one that the list has outgrown, a full page may have another one behind it.
        asked = 1 + len(announced)
        while asked > MAX_PAGES or (len(page.subscriptions) == PAGE_LIMIT and (count is None or received > count)):
            if asked >= MAX_PAGES:
                raise InvalidAnswer(f"its list of subscriptions does not end within {MAX_PAGES} pages", 200)
            page = self._later_page(fetch, asked * size)
            yield page
            received += len(page.subscriptions)
            asked += 1

    def _later_page(self, fetch: "_Fetch", offset: int) -> Page:
        """A page after the first, which is asked for only while the answer may still come to something."""
        if fetch.failures or fetch.decided:
            raise Superseded
        self._guard.look_again()
        return self._ask(fetch, self._c42.subscriptions, offset)

    def _ask(self, fetch: "_Fetch", call: Callable[..., R], *args: object) -> R:
        """One call to C42, unless we know that it wants us to wait; raises UpstreamError or ToldToWait."""
        try:
            self._guard.check_wait()
            return call(fetch.event_id, *args, fetch.deadline)
        except RateLimited as limited:
            fetch.failures.append(limited)
            # Whatever comes of this fetch, and whatever the other call says.
            self._guard.note_wait(limited)
            raise
        except (UpstreamError, NotAsked) as failure:
            fetch.failures.append(failure)
            if isinstance(failure, TokenRefused):
                log.error("C42 refuses our token", extra={"upstream_status": failure.upstream_status})
            raise

    def _start(self, call: Callable[..., R], /, *args: object) -> Future[R]:
        return self._calls.submit(copy_context().run, call, *args)


class _Fetch:
    """One fetch under way. `failures` are those of its calls, told at once: nobody may wait for the call itself."""

    def __init__(self, event_id: str, deadline: Deadline) -> None:
        self.event_id = event_id
        self.deadline = deadline
        self.failures: list[UpstreamError | NotAsked] = []
        self.decided = False


def _result(call: Future[R], fetch: _Fetch) -> R | Problem:
    """What a call came to, in time: name resolution, for one, knows no time-out of its own."""
    try:
        return call.result(timeout=0 if fetch.deadline.passed else fetch.deadline.remaining())
    except TimeoutError:
        fetch.failures.append(late := UpstreamTimeout())
        return late
    except (UpstreamError, NotAsked) as failure:
        fetch.failures.append(failure)
        return failure


def _combined(event_id: str, title: str | None, names: list[str]) -> bytes:
    answer = {"id": event_id, "title": title, "names": names}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
