"""A fresh answer, else a new one, else an expired one: the rules of reuse, on the injected clock."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ..errors import Busy, NotAsked, Problem, RecentFailure, UpstreamError, UpstreamTimeout
from ..observability.metrics import Metrics
from ..stores.contract import CLOCK_SKEW, Entry, Store
from .circuit_breaker import Guard
from .shared_state import EventNotes
from .single_flight import Flights, Turns

POLL_SECONDS = 0.02
MAX_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Fetched:
    """A new answer of C42, and the status of the call that decided it."""

    entry: Entry
    upstream_status: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What is to be told of an event, and how it came about.

    `result` is C42's answer, or why there is none. `expiry` is the instant (seconds since the epoch) up to which
    anybody may reuse the answer; None where nobody may. `cache_status` is the header of RFC 9211.
    """

    result: Entry | Problem
    expiry: float | None
    cache_status: str
    outcome: Literal["hit", "miss", "stale", "collapsed", "error"]
    upstream_seconds: float | None = None
    """How long C42 took, where it was asked for this."""


@dataclass(frozen=True, slots=True)
class Wait:
    """One client's wait for a flight: `patience` seconds at most. `reply` tells what came of it, if anything did."""

    flight: "Future[_Outcome]"
    patience: float
    reply: Callable[[], Reply]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a flight came to, for all who waited for it.

    `held` is what was remembered before. `forward` says why C42 was asked, and is None where it was not; `elsewhere`
    means that another process asked it.
    """

    result: Entry | Problem
    held: Entry | None = None
    forward: str | None = None
    upstream_status: int | None = None
    stored: bool = False
    elsewhere: bool = False
    upstream_seconds: float | None = None


class Cache:
    """Reuses an answer while `now < fetched_at + ttl`. Reading does not prolong that.

    `memory` is this process's own tier, `shared` that of all who share a store. Hits look at `memory` alone. Where an
    answer cannot be had, one that expired less than `stale_if_error` seconds ago is told. `budget` is the number of
    seconds that a fetch may take; nobody waits longer than twice that.
    """

    def __init__(
        self,
        memory: Store,
        shared: Store,
        guard: Guard,
        *,
        metrics: Metrics,
        clock: Callable[[], float],
        ttl: float,
        stale_if_error: float,
        budget: float,
    ) -> None:
        self._memory = memory
        self._shared = shared
        self._guard = guard
        self._notes = EventNotes(shared, clock)
        self._clock = clock
        self._ttl = ttl
        self._stale_if_error = stale_if_error
        self._budget = budget
        self._flights: Flights[_Outcome] = Flights()
        self._turns = Turns(metrics)

    def hit(self, event_id: str) -> Reply | None:
        """The fresh answer for an event, where this process has one."""
        held = self._memory.get(event_id)
        now = self._clock()
        return self._hit(held, now) if held is not None and self._is_fresh(held, now) else None

    def ask(self, event_id: str, fetch: Callable[[], Fetched]) -> "Wait":
        """What is under way for an event; `fetch`, which may raise UpstreamError, where nothing was."""
        try:
            flight, own = self._flights.join(event_id, partial(self._fly, event_id, fetch))
        except Busy as busy:
            flight, own = Future(), True
            flight.set_result(_Outcome(busy, self._memory.get(event_id)))

        def told() -> Reply:
            if not flight.done():
                held = self._memory.get(event_id)
                return self._told(_Outcome(UpstreamTimeout(), held, self._forward(held)), collapsed=not own)
            outcome = flight.result()
            return self._told(outcome, collapsed=outcome.elsewhere or (outcome.forward is not None and not own))

        return Wait(flight, 2 * self._budget, told)

    def reply(self, event_id: str, fetch: Callable[[], Fetched]) -> Reply:
        """The answer for an event: a fresh one, or else what `ask` comes to."""
        found = self.hit(event_id)
        if found is not None:
            return found
        pending = self.ask(event_id, fetch)
        wait([pending.flight], pending.patience)
        return pending.reply()

    def close(self) -> None:
        """Wait for the flights under way, and end their threads."""
        self._flights.close()

    def _fly(self, event_id: str, fetch: Callable[[], Fetched]) -> _Outcome:
        """Look into the shared tier; if need be, ask C42, as the only one who does."""
        held = self._look_up(event_id)
        if held is not None and self._is_fresh(held, self._clock()):
            return _Outcome(held)
        forward = self._forward(held)
        try:
            with self._lease(event_id) as waited:
                held = self._look_up(event_id)
                found = self._found(event_id, held, waited)
                if found is not None:
                    return self._elsewhere(found, held, forward) if waited else _Outcome(found, held)
                with self._turns.turn(self._budget):
                    self._guard.permit()
                    return self._fetch(event_id, held, fetch)
        except NotAsked as problem:
            return _Outcome(problem, held)
        except UpstreamTimeout as problem:
            return _Outcome(problem, held, forward=forward, elsewhere=True)

    def _fetch(self, event_id: str, held: Entry | None, fetch: Callable[[], Fetched]) -> _Outcome:
        forward = self._forward(held)
        start = time.perf_counter()
        try:
            fetched = fetch()
        except UpstreamError as error:
            seconds = time.perf_counter() - start
            self._guard.note_failure(event_id, error)
            self._notes.leave_failure(event_id, error)
            return _Outcome(error, held, forward, error.upstream_status, upstream_seconds=seconds)
        except NotAsked as told_elsewhere:
            self._guard.note_failure(event_id, told_elsewhere)
            raise
        seconds = time.perf_counter() - start
        self._guard.note_success()
        now = self._clock()
        stored = self._keep(event_id, fetched.entry, held, now)
        return _Outcome(fetched.entry, held, forward, fetched.upstream_status, stored, upstream_seconds=seconds)

    @contextmanager
    def _lease(self, event_id: str) -> Iterator[bool]:
        """The right to fetch, over all who share the store; tells whether we had to wait for it.

        Raises UpstreamTimeout where it could not be had while any client still waits.
        """
        give_up = time.monotonic() + 2 * self._budget
        waited = False
        pause = POLL_SECONDS
        while (lease := self._shared.lease(event_id)) is None:
            waited = True
            if time.monotonic() >= give_up:
                raise UpstreamTimeout
            # Neither a byte-range lock nor a key of Redis tells its waiters when it is free.
            time.sleep(pause)
            pause = min(1.5 * pause, MAX_POLL_SECONDS)
        with lease:
            yield waited

    def _look_up(self, event_id: str) -> Entry | None:
        """The newest entry of both tiers; one of the shared tier is in memory from now on."""
        now = self._clock()
        shared = self._shared.get(event_id)
        if shared is not None and not self._is_ahead(shared, now):
            self._memory.put(event_id, shared, now)
        own = self._memory.get(event_id)
        return shared if own is None or self._is_ahead(own, now) else own

    def _keep(self, event_id: str, entry: Entry, held: Entry | None, now: float) -> bool:
        """Store an answer, if it is one to be stored; whether it was."""
        fresh = self._is_fresh(entry, now)
        # A 404 that comes too late for anything else must still take the place of what would be told as stale.
        replaces = entry.status == 404 and held is not None
        in_memory = (fresh or replaces) and self._memory.put(event_id, entry, now)
        in_shared = (fresh or replaces) and self._shared.put(event_id, entry, now)
        if not (in_shared and fresh):
            self._notes.leave_answer(event_id, entry)
        return fresh and (in_shared or in_memory)

    def _found(self, event_id: str, held: Entry | None, waited: bool) -> Entry | RecentFailure | None:
        """What the one who had the lease before has left: an answer, or how it failed."""
        if held is not None and self._is_fresh(held, self._clock()):
            return held
        return (self._notes.answer(event_id) if waited else None) or self._notes.failure(event_id)

    def _elsewhere(self, result: Entry | Problem, held: Entry | None, forward: str) -> _Outcome:
        """What another process asked C42 for, while this one waited."""
        status = result.upstream_status if isinstance(result, RecentFailure) else None
        if isinstance(result, Entry) and result.status == 200:
            status = 200
        return _Outcome(result, held, forward, status, elsewhere=True)

    def _told(self, outcome: _Outcome, *, collapsed: bool) -> Reply:
        """The reply to one of the clients that waited for a flight."""
        now = self._clock()
        result, forward = outcome.result, outcome.forward
        seconds = None if collapsed else outcome.upstream_seconds
        why = _why(outcome, collapsed)
        if isinstance(result, Problem):
            stale = self._stale(outcome, now)
            return stale or Reply(result, None, _cache_status(*why), "error", seconds)
        if forward is None and self._is_fresh(result, now):
            return self._hit(result, now)
        how: Literal["collapsed", "miss"] = "collapsed" if collapsed else "miss"
        if not self._is_fresh(result, now):
            return Reply(result, None, _cache_status(*why, "detail=past-expiry"), how, seconds)
        return Reply(result, self._expiry(result), _cache_status(*why), how, seconds)

    def _hit(self, entry: Entry, now: float) -> Reply:
        expiry = self._expiry(entry)
        return Reply(entry, expiry, f"c42-proxy; hit; ttl={math.floor(expiry - now)}", "hit")

    def _stale(self, outcome: _Outcome, now: float) -> Reply | None:
        """The expired answer that is told instead of a failure, if there is one, and it may be."""
        held, problem = outcome.held, outcome.result
        if held is None or held.status != 200 or self._is_ahead(held, now):
            return None
        ttl = self._expiry(held) - now
        if not (isinstance(problem, Problem) and problem.may_be_hidden and -ttl < self._stale_if_error):
            return None
        if outcome.forward is None:
            return Reply(held, None, _cache_status("hit", f"ttl={math.floor(ttl)}", "detail=stale-if-error"), "stale")
        forward_status = _forward_status(outcome.upstream_status)
        cache_status = _cache_status("fwd=stale", forward_status, "detail=stale-if-error")
        return Reply(held, None, cache_status, "stale", outcome.upstream_seconds)

    def _forward(self, held: Entry | None) -> str:
        return "fwd=uri-miss" if held is None else "fwd=stale"

    def _is_fresh(self, entry: Entry, now: float) -> bool:
        return not self._is_ahead(entry, now) and now < self._expiry(entry)

    def _is_ahead(self, entry: Entry, now: float) -> bool:
        """Whether the clock was set back since: nobody can tell how old this is."""
        return entry.fetched_at > now + CLOCK_SKEW

    def _expiry(self, entry: Entry) -> float:
        return entry.fetched_at + self._ttl


def _why(outcome: _Outcome, collapsed: bool) -> list[str | None]:
    problem = outcome.result
    return [
        outcome.forward,
        "stored" if outcome.stored and not collapsed else None,
        "collapsed" if collapsed else None,
        _forward_status(outcome.upstream_status),
        f"detail={problem.reason}" if isinstance(problem, NotAsked) and outcome.forward is None else None,
    ]


def _forward_status(upstream_status: int | None) -> str | None:
    return None if upstream_status is None else f"fwd-status={upstream_status}"


def _cache_status(*parameters: str | None) -> str:
    return "; ".join(["c42-proxy", *filter(None, parameters)])
