"""The use case: an event with its subscribers. START HERE: the life of a request, from top to bottom.

A request is answered from memory, or it waits for the one search for the event's answer in this process. `_look`,
`_refused_or_miss` and `_look_beside` run in a look thread; `_with_slot`, `_with_lease` and `_fetch` run in the thread
of a slot. Between the two, a search waits without a thread.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeGuard

from .caching.circuit_breaker import BREAKER_NAME, CircuitBreaker
from .caching.freshness import Freshness
from .caching.lease import Attempts
from .caching.limits import ConcurrencyLimit
from .caching.refusals import Refusals
from .caching.reply import Forward, Hit, Reply, SearchResult, StaleIfError, reply_of
from .caching.shared_state import FetchOutcomes, answer_name, failure_name
from .caching.single_flight import SingleFlight
from .errors import NotAsked, Overloaded, RepeatedFailure, UpstreamError, UpstreamTimeout
from .looks import LOOKS_AT_ONCE, Found, Looks
from .observability import tracing
from .observability.metrics import Metrics
from .stores.contract import Entry
from .stores.tiered import TieredStore
from .threads import Threads, Timer, may_wait
from .upstream.combine import Combined


class Upstream(Protocol):
    """The source of answers: `upstream.combine.Combiner`."""

    def combined(self, event_id: str) -> Combined:
        """Ask C42. Raises UpstreamError or NotAsked."""
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits for a search, which it has begun or shares; `patience` is in seconds."""

    event_id: str
    search: "Future[SearchResult]"
    leads: bool
    patience: float


Begin = Callable[[Callable[[], None]], None]
"""Begins what it is called with, now or soon, in any thread."""


def at_once(work: Callable[[], None]) -> None:
    """Begin `work` now."""
    work()


class _Search:
    """The state of a search between its steps. Only a miss has the attributes that `become_miss` sets.

    `since` is when it began, by the clock. `cached` is the entry that was not fresh; `waited` says whether another
    process had the lease first.
    """

    def __init__(self, event_id: str, since: float, begin_fetch: Begin = at_once) -> None:
        self.event_id = event_id
        self.since = since
        self.begin_fetch = begin_fetch
        self.is_miss = False

    def become_miss(self, cached: Entry | None, budget: float) -> None:
        """The limit has admitted the search. From now on it waits for a slot, then for the lease."""
        self.is_miss = True
        self.cached = cached
        self.forward = Forward.because_of(cached)
        self.slot_deadline = time.monotonic() + budget
        self.attempts = Attempts(patience=2 * budget)
        self.waited = False


Step = Callable[..., SearchResult | None]
"""Called with the search and, if a look comes before it, with what that has found. Returns the search's result, or None
if another step follows, in another thread or later."""


class Events:
    """Replies with an event and its subscribers. Thread-safe.

    `budget` is the number of seconds that a fetch may take; no request waits longer than twice that. A test may pass
    `look_threads` that it can wait for.
    """

    def __init__(
        self,
        upstream: Upstream,
        store: TieredStore,
        breaker: CircuitBreaker,
        *,
        freshness: Freshness,
        budget: float,
        clock: Callable[[], float],
        metrics: Metrics,
        look_threads: Threads | None = None,
    ) -> None:
        self._upstream = upstream
        self._store = store
        self._breaker = breaker
        self._freshness = freshness
        self._budget = budget
        self._clock = clock
        self._single_flight: SingleFlight[SearchResult] = SingleFlight()
        self._look_threads = look_threads or Threads(LOOKS_AT_ONCE, name="c42-look", queues=True)
        self._looks = Looks(store, self._look_threads)
        self._timer = Timer(name="c42-timer")
        self._limit = ConcurrencyLimit(metrics, self._timer)
        self._outcomes = FetchOutcomes(store, clock)
        self._refusals = Refusals()

    def start(self) -> None:
        """Start the first look thread, which stays: so what is fresh in the shared tier is found without a new thread.

        If the system gives none, each look tries again.
        """
        with suppress(Overloaded):
            self._look_threads.submit(lambda: None)

    def reply(self, event_id: str) -> Reply:
        """The event with the first names of all its subscribers, or why there is no answer. Waits for it."""
        reply = self.hit(event_id) or self.stale(event_id)
        if reply is not None:
            return reply
        if not may_wait.get():
            return self._reply_at_once(event_id)
        pending = self.coalesce(event_id, may_block=True)
        wait([pending.search], pending.patience)
        return self.reply_for(pending)

    def hit(self, event_id: str) -> Hit | None:
        """Fresh in memory? Then that is the reply: no thread, no shared store and no other request is involved."""
        entry = self._store.from_memory(event_id)
        now = self._clock()
        if entry is None or not self._freshness.is_fresh(entry, now):
            return None
        return Hit.of(entry, self._freshness, now)

    def stale(self, event_id: str) -> StaleIfError | None:
        """Is it known that C42 may not be asked, and is a stale copy in memory? That is the reply, as fast as a hit.

        At most once a second, or less often if many events are refused, a look thread finds out beside the requests
        whether others have left something newer.
        """
        now = self._clock()
        refusal = self._refusals.get(event_id, now)
        if refusal is None:
            return None
        entry = self._store.from_memory(event_id)
        if not self._is_stale(entry):
            return None
        if self._refusals.claims_look(refusal, now):
            try:
                self._looks.begin(event_id, partial(self._begin_look_beside, event_id, now))
            except Overloaded:
                # Without a thread, this answer is as good as it was a second ago. The next request searches.
                self._refusals.end_look()
                self._refusals.forget(event_id)
        return StaleIfError.of(entry, self._freshness, now, refusal.handling)

    def coalesce(self, event_id: str, *, may_block: bool = False, begin_fetch: Begin = at_once) -> Pending:
        """Is a search under way? Then the request joins it. Else it leads a new one, which goes on in other threads.

        If the system gives no thread, and the caller's `may_block`, the caller itself looks into the shared tier. A
        thread calls `begin_fetch` with what begins a fetch and does not block.
        """
        search, leads = self._single_flight.coalesce(event_id)
        if leads:
            self._do(self._begin_here if may_block else self._begin, _Search(event_id, self._clock(), begin_fetch))
        return Pending(event_id, search, leads, patience=2 * self._budget)

    def reply_for(self, pending: Pending) -> Reply:
        """The reply for a request that has waited: the result of its search, or that it took too long."""
        if pending.search.done():
            result = pending.search.result()
        else:
            cached = self._store.from_memory(pending.event_id)
            result = SearchResult(UpstreamTimeout(), cached, Forward.because_of(cached))
        return reply_of(result, leads=pending.leads, freshness=self._freshness, now=self._clock())

    def _reply_at_once(self, event_id: str) -> Reply:
        try:
            search = _Search(event_id, self._clock())
            found = self._look_again(search, partial(self._store.get, event_id))
        except Overloaded as overloaded:
            found = SearchResult(overloaded, self._store.from_memory(event_id))
        return reply_of(found, leads=True, freshness=self._freshness, now=self._clock())

    def close(self) -> None:
        """Wait for the searches under way, and end their threads. Nothing may be asked any more."""
        wait(self._single_flight.under_way())
        self._looks.close()
        self._limit.close()
        self._timer.close()

    def _do(self, step: Step, search: _Search, *found: Found) -> None:
        """Do one step: it ends the search, or arranges the next step. A client that goes away stops no search."""
        try:
            result = step(search, *found)
        except Overloaded as overloaded:
            result = SearchResult(overloaded, self._store.from_memory(search.event_id))
        except BaseException as bug:  # noqa: BLE001  # the requests that wait raise it
            self._end(search)
            self._single_flight.fail(search.event_id, bug)
            return
        if result is not None:
            self._end(search)
            self._single_flight.finish(search.event_id, result)

    def _end(self, search: _Search) -> None:
        if search.is_miss:
            self._limit.leave()

    def _begin(self, search: _Search) -> None:
        """Look into the shared tier in a thread, because the tier may hang."""
        self._looks.begin(search.event_id, partial(self._do, self._look, search))

    def _begin_here(self, search: _Search) -> SearchResult | None:
        """The same for a thread that may block: if the system gives no look thread, it looks itself."""
        try:
            self._begin(search)
        except Overloaded:
            return self._look(search, partial(self._store.get, search.event_id))
        return None

    def _look(self, search: _Search, found: Found) -> SearchResult | None:
        """Fresh in the shared tier? If not, this is a miss, unless it is already known that C42 may not be asked."""
        cached = found()
        if self._is_fresh(cached):
            return SearchResult(cached)
        if not (self._is_stale(cached) and self._breaker.last_refused()):
            self._miss(search, cached)
            return None
        # Most likely C42 still may not be asked. Then the stale copy needs neither a slot nor the lease. Another thread
        # finds out, so that other looks need not wait for that.
        next_step = partial(self._refused_or_miss, cached=cached)
        try:
            self._look_threads.begin(partial(self._do, next_step, search))
        except Overloaded:
            return next_step(search)
        return None

    def _refused_or_miss(self, search: _Search, cached: Entry) -> SearchResult | None:
        try:
            self._check_may_ask(search.event_id)
        except NotAsked as refusal:
            self._refusals.note(search.event_id, refusal, search.since)
            # Something newer may have come meanwhile.
            return SearchResult(refusal, self._store.from_memory(search.event_id) or cached)
        self._miss(search, cached)
        return None

    def _miss(self, search: _Search, cached: Entry | None) -> None:
        """It goes on where it may wait, if the limit of this process admits it."""
        self._limit.admit()
        search.become_miss(cached, self._budget)
        search.begin_fetch(partial(self._do, self._wait_for_slot, search))

    def _begin_look_beside(self, event_id: str, since: float, found: Found) -> None:
        """In another thread: requests that wait for their looks do not wait for this one."""
        try:
            self._look_threads.begin(partial(self._look_beside, event_id, since, found))
        except RuntimeError:
            # This process ends.
            self._refusals.end_look()

    def _look_beside(self, event_id: str, since: float, found: Found) -> None:
        """See what others have left: an answer, which the next request finds in memory, or that C42 may be asked."""
        try:
            found()
            self._check_may_ask(event_id)
        except NotAsked as refusal:
            self._refusals.note(event_id, refusal, since)
        except BaseException:
            # A bug: the next request searches, and reports it.
            self._refusals.forget(event_id)
            raise
        else:
            self._refusals.forget(event_id)
        finally:
            self._refusals.end_look()

    def _check_may_ask(self, event_id: str) -> None:
        """Raises NotAsked if, by the state that all processes share, C42 may not be asked for this event now."""
        state_of = self._breaker.before_read()
        its_failure = failure_name(event_id)
        texts = self._store.read((), (its_failure, BREAKER_NAME)).texts
        self._outcomes.check_failure(texts[its_failure])
        self._breaker.check(state_of(texts[BREAKER_NAME]))

    def _wait_for_slot(self, search: _Search) -> None:
        """The slot comes before the lease: while this event waits for a slot, another process may fetch it."""
        self._limit.begin(
            partial(self._do, self._with_slot, search),
            partial(self._do, self._no_slot_in_time, search),
            patience=search.slot_deadline - time.monotonic(),
        )

    def _with_slot(self, search: _Search) -> SearchResult | None:
        """Take the lease: of all processes that share the store, one fetches."""
        began = time.monotonic()
        lease = self._store.lease(search.event_id)
        if lease is not None:
            with lease, tracing.span("lease"):
                return self._with_lease(search.event_id, search.forward, waited=search.waited)
        # Another process has the lease. Meanwhile, another event of this process may use the slot.
        pause = search.attempts.pause_after(time.monotonic() - began)
        if pause is None:
            # Not what was found before: it may be seconds old, and this is for those who have joined the search since.
            cached = self._store.get(search.event_id)
            if self._is_fresh(cached):
                return _found_after_waiting(cached, cached, search.forward)
            return SearchResult(UpstreamTimeout(), cached, search.forward, elsewhere=True)
        search.waited = True
        self._timer.later(pause, self._do, self._wait_for_slot, search)
        return None

    def _no_slot_in_time(self, search: _Search) -> None:
        """Look once more: another process may have fetched the event meanwhile."""
        self._looks.begin(search.event_id, partial(self._do, self._look_again, search))

    def _look_again(self, _search: _Search, found: Found) -> SearchResult:
        cached = found()
        return SearchResult(cached if self._is_fresh(cached) else Overloaded(), cached)

    def _with_lease(self, event_id: str, forward: Forward, *, waited: bool) -> SearchResult:
        """Look again, then fetch; `waited` says whether another process had the lease first."""
        # An earlier fetch, of this process or another one, may have left an answer or a failure.
        since = self._clock()
        if waited:
            # Most likely, the process that had the lease has left an entry, and nothing else need be read.
            cached = self._store.get(event_id)
            if self._is_fresh(cached):
                return _found_after_waiting(cached, cached, forward)
        state_of = self._breaker.before_read()
        its_failure, its_answer = failure_name(event_id), answer_name(event_id)
        read = self._store.read((event_id,), (its_failure, BREAKER_NAME, *([its_answer] if waited else [])))
        cached, texts = read.entries[event_id], read.texts
        try:
            found = cached if self._is_fresh(cached) else self._outcomes.answer(texts.get(its_answer))
            if found is None:
                # May C42 be asked, by the state that all processes share?
                self._outcomes.check_failure(texts[its_failure])
                return self._fetch(event_id, cached, self._breaker.allow_fetch(state_of(texts[BREAKER_NAME])))
        except RepeatedFailure as failure:
            if self._is_stale(cached):
                self._refusals.note(event_id, failure, since)
            if waited:
                return SearchResult(failure, cached, forward, failure.upstream_status, elsewhere=True)
            return SearchResult(failure, cached)
        except NotAsked as refusal:
            if self._is_stale(cached):
                self._refusals.note(event_id, refusal, since)
            return SearchResult(refusal, cached)
        return _found_after_waiting(found, cached, forward) if waited else SearchResult(found, cached)

    def _fetch(self, event_id: str, cached: Entry | None, allowed_at: float) -> SearchResult:
        """Fetch and store. Raises NotAsked if a back-off begins meanwhile, or if threads or descriptors are lacking."""
        forward = Forward.because_of(cached)
        start = time.perf_counter()
        try:
            combined = self._upstream.combined(event_id)
        except UpstreamError as failure:
            seconds = time.perf_counter() - start
            self._breaker.note_failure(event_id, failure, allowed_at)
            self._outcomes.leave_failure(event_id, failure)
            return SearchResult(failure, cached, forward, failure.upstream_status, upstream_seconds=seconds)
        except NotAsked as refusal:
            self._breaker.note_failure(event_id, refusal, allowed_at)
            raise
        seconds = time.perf_counter() - start
        self._breaker.note_success(allowed_at)
        self._refusals.clear()
        entry, stored = self._keep(event_id, combined.entry, cached)
        return SearchResult(entry, cached, forward, combined.upstream_status, stored, upstream_seconds=seconds)

    def _keep(self, event_id: str, entry: Entry, cached: Entry | None) -> tuple[Entry, bool]:
        """Store a fetched entry if it may be stored. Returns the entry as it is kept, and whether it was stored."""
        now = self._clock()
        fresh = self._freshness.is_fresh(entry, now)
        # A 404 that arrives past its expiry must still replace an entry that might be served stale.
        if not fresh and not (entry.status == 404 and cached is not None):
            self._outcomes.leave_answer(event_id, entry)
            return entry, False
        kept = self._store.put(event_id, entry, now)
        if not (fresh and kept.shared):
            self._outcomes.leave_answer(event_id, entry)
        return kept.entry, fresh and (kept.in_memory or kept.shared)

    def _is_stale(self, entry: Entry | None) -> TypeGuard[Entry]:
        """Whether it may be served where C42 gives no answer."""
        return entry is not None and self._freshness.is_stale(entry, self._clock())

    def _is_fresh(self, entry: Entry | None) -> TypeGuard[Entry]:
        return entry is not None and self._freshness.is_fresh(entry, self._clock())


def _found_after_waiting(found: Entry, cached: Entry | None, forward: Forward) -> SearchResult:
    """Another process has asked C42 meanwhile."""
    # Unknown for a 404: C42 answers 404 for a missing event, but 200 for a deleted one.
    status = 200 if found.status == 200 else None
    return SearchResult(found, cached, forward, status, elsewhere=True)
