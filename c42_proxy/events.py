"""The use case: an event with its subscribers. START HERE: the life of a request, from top to bottom.

A request is answered from memory, or it joins a flight: the one search for the event's answer in this process. `_look`
runs in a look thread; `_take_turn`, `_lead` and `_fetch` run in the thread of a slot. Between the two, a flight waits
without a thread.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeGuard

from .caching.circuit_breaker import CircuitBreaker
from .caching.freshness import Freshness
from .caching.lease import Attempts
from .caching.limits import ConcurrencyLimit
from .caching.reply import FlightResult, Forward, Hit, Reply, reply_of
from .caching.shared_state import EventState
from .caching.single_flight import SingleFlight
from .errors import NotAsked, Overloaded, RepeatedFailure, UpstreamError, UpstreamTimeout
from .observability.metrics import Metrics
from .stores.contract import Entry
from .stores.tiered import TieredStore
from .threads import Threads, Timer
from .upstream.combine import Combined

LOOKS_AT_ONCE = 16
"""Threads that look into the shared tier, as many as the store in Redis uses at once. None of them waits for C42 or for
a slot, so a fresh entry is found there however many fetches run and wait."""


class Upstream(Protocol):
    """Where answers come from: `upstream.combine.Combiner`."""

    def combined(self, event_id: str) -> Combined:
        """Ask C42. Raises UpstreamError or NotAsked."""
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits for a flight, which it leads or has joined; `patience` is in seconds."""

    event_id: str
    flight: "Future[FlightResult]"
    leads: bool
    patience: float


class _Flight:
    """What the steps of a flight know of it. Only a miss has the attributes that `become_miss` sets.

    `cached` is the entry that was not fresh; `waited` says whether somebody else had the lease first.
    """

    def __init__(self, event_id: str) -> None:
        self.event_id = event_id
        self.is_miss = False

    def become_miss(self, cached: Entry | None, budget: float) -> None:
        """It was admitted by the limit, and waits for its turn and for the lease."""
        self.is_miss = True
        self.cached = cached
        self.forward = Forward.because_of(cached)
        self.turn_ends = time.monotonic() + budget
        self.attempts = Attempts(patience=2 * budget)
        self.waited = False


Step = Callable[[_Flight], FlightResult | None]
"""The flight's result, or None where another step follows, in another thread or later."""


class Events:
    """Answers what an event is called and who comes. Thread-safe.

    `budget` is the number of seconds that a fetch may take; no request waits longer than twice that.
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
    ) -> None:
        self._upstream = upstream
        self._store = store
        self._breaker = breaker
        self._freshness = freshness
        self._budget = budget
        self._clock = clock
        self._single_flight: SingleFlight[FlightResult] = SingleFlight()
        self._threads = Threads(LOOKS_AT_ONCE, name="c42-look", queues=True)
        self._timer = Timer(name="c42-timer")
        self._limit = ConcurrencyLimit(metrics, self._timer)
        self._event_state = EventState(store, clock)

    def reply(self, event_id: str) -> Reply:
        """The event with the first names of all its subscribers, or why there is no answer. Waits for it."""
        hit = self.hit(event_id)
        if hit is not None:
            return hit
        pending = self.join(event_id)
        wait([pending.flight], pending.patience)
        return self.reply_to(pending)

    def hit(self, event_id: str) -> Hit | None:
        """Fresh in memory? Then that is the reply: no thread, no store and no other request has a say."""
        entry = self._store.in_memory(event_id)
        now = self._clock()
        if entry is None or not self._freshness.is_fresh(entry, now):
            return None
        return Hit.of(entry, self._freshness, now)

    def join(self, event_id: str) -> Pending:
        """Under way? Then the request joins that flight. Else it leads a new one, which goes on in other threads."""
        flight, leads = self._single_flight.join(event_id)
        if leads:
            self._do(self._begin, _Flight(event_id))
        return Pending(event_id, flight, leads, patience=2 * self._budget)

    def reply_to(self, pending: Pending) -> Reply:
        """The reply to a request that has waited: what its flight came to, or that it took too long."""
        if pending.flight.done():
            flown = pending.flight.result()
        else:
            cached = self._store.in_memory(pending.event_id)
            flown = FlightResult(UpstreamTimeout(), cached, Forward.because_of(cached))
        return reply_of(flown, leads=pending.leads, freshness=self._freshness, now=self._clock())

    def close(self) -> None:
        """Wait for the flights under way, and end their threads. Nothing may be asked any more."""
        wait(self._single_flight.under_way())
        self._threads.close()
        self._limit.close()
        self._timer.close()

    def _do(self, step: Step, flight: _Flight) -> None:
        """Do one step: it lands the flight, or arranges the next step. A client that goes away stops no flight."""
        try:
            result = step(flight)
        except Overloaded as overloaded:
            result = FlightResult(overloaded, self._store.in_memory(flight.event_id))
        except BaseException as bug:  # noqa: BLE001  # the requests that wait raise it
            self._end(flight)
            self._single_flight.crash(flight.event_id, bug)
            return
        if result is not None:
            self._end(flight)
            self._single_flight.land(flight.event_id, result)

    def _end(self, flight: _Flight) -> None:
        if flight.is_miss:
            self._limit.leave()

    def _begin(self, flight: _Flight) -> None:
        """A thread looks into the shared tier: it may hang."""
        self._threads.submit(self._do, self._look, flight)

    def _look(self, flight: _Flight) -> FlightResult | None:
        """Fresh in the shared tier? If not, this is a miss, and the limit of this process must admit it."""
        cached = self._store.get(flight.event_id)
        if self._is_fresh(cached):
            return FlightResult(cached)
        self._limit.admit()
        flight.become_miss(cached, self._budget)
        self._wait_for_turn(flight)
        return None

    def _wait_for_turn(self, flight: _Flight) -> None:
        """The limit of this process comes first: while this event waits for its turn, others may have its lease."""
        self._limit.begin(
            partial(self._do, self._take_turn, flight),
            partial(self._do, self._miss_turn, flight),
            patience=flight.turn_ends - time.monotonic(),
        )

    def _take_turn(self, flight: _Flight) -> FlightResult | None:
        """The lease: over all processes that share the store, one fetches."""
        began = time.monotonic()
        lease = self._store.lease(flight.event_id)
        if lease is not None:
            with lease:
                return self._lead(flight.event_id, flight.forward, waited=flight.waited)
        # Somebody else has it. Meanwhile, the others of this process may have the turn.
        pause = flight.attempts.pause_after(time.monotonic() - began)
        if pause is None:
            return FlightResult(UpstreamTimeout(), flight.cached, flight.forward, elsewhere=True)
        flight.waited = True
        self._timer.later(pause, self._do, self._wait_for_turn, flight)
        return None

    def _miss_turn(self, flight: _Flight) -> None:
        """No turn came in time. Another process may have fetched the event meanwhile."""
        self._threads.submit(self._do, self._look_again, flight)

    def _look_again(self, flight: _Flight) -> FlightResult:
        cached = self._store.get(flight.event_id)
        return FlightResult(cached if self._is_fresh(cached) else Overloaded(), cached)

    def _lead(self, event_id: str, forward: Forward, *, waited: bool) -> FlightResult:
        """What the holder of the lease comes to; `waited` says whether somebody else had it first."""
        # Look again: whoever had the lease before has left an answer, or how it failed.
        cached = self._store.get(event_id)
        found = cached if self._is_fresh(cached) else self._left_by_others(event_id, waited=waited)
        if found is not None and waited:
            return FlightResult(found, cached, forward, _status_elsewhere(found), elsewhere=True)
        if found is not None:
            return FlightResult(found, cached)
        try:
            # May C42 be asked, by what all know of it?
            permitted_at = self._breaker.permit()
            return self._fetch(event_id, cached, permitted_at)
        except NotAsked as refusal:
            return FlightResult(refusal, cached)

    def _fetch(self, event_id: str, cached: Entry | None, permitted_at: float) -> FlightResult:
        """Fetch and store. Raises NotAsked where a back-off begins in the middle of it."""
        forward = Forward.because_of(cached)
        start = time.perf_counter()
        try:
            combined = self._upstream.combined(event_id)
        except UpstreamError as failure:
            seconds = time.perf_counter() - start
            self._breaker.note_failure(event_id, failure, permitted_at)
            self._event_state.leave_failure(event_id, failure)
            return FlightResult(failure, cached, forward, failure.upstream_status, upstream_seconds=seconds)
        except NotAsked as refusal:
            self._breaker.note_failure(event_id, refusal, permitted_at)
            raise
        seconds = time.perf_counter() - start
        self._breaker.note_success()
        entry, stored = self._keep(event_id, combined.entry, cached)
        return FlightResult(entry, cached, forward, combined.upstream_status, stored, upstream_seconds=seconds)

    def _keep(self, event_id: str, entry: Entry, cached: Entry | None) -> tuple[Entry, bool]:
        """Store a fetched entry, if it may be; the entry as it is kept, and whether it was stored."""
        now = self._clock()
        fresh = self._freshness.is_fresh(entry, now)
        # A 404 that arrives past its expiry must still replace an entry that might be served stale.
        if not fresh and not (entry.status == 404 and cached is not None):
            self._event_state.leave_answer(event_id, entry)
            return entry, False
        kept = self._store.put(event_id, entry, now)
        if not (fresh and kept.shared):
            self._event_state.leave_answer(event_id, entry)
        return kept.entry, fresh and (kept.in_memory or kept.shared)

    def _left_by_others(self, event_id: str, *, waited: bool) -> Entry | RepeatedFailure | None:
        """What the process that had the lease before has left beside the store."""
        answer = self._event_state.answer(event_id) if waited else None
        return answer or self._event_state.failure(event_id)

    def _is_fresh(self, entry: Entry | None) -> TypeGuard[Entry]:
        return entry is not None and self._freshness.is_fresh(entry, self._clock())


def _status_elsewhere(found: Entry | RepeatedFailure) -> int | None:
    """The status with which C42 answered another process; for a 404 it is not known: a deleted event answers 200."""
    if isinstance(found, RepeatedFailure):
        return found.upstream_status
    return 200 if found.status == 200 else None
