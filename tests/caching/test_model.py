"""The use case, its circuit breaker and its stores, driven at random, keep to the rules of `tests.caching.model`.

`C42_MODEL_EXAMPLES` says how many runs there are to be; beyond the usual number they differ each time.
"""

import json
import logging
import os
import tempfile
import unittest
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from c42_proxy.caching.circuit_breaker import CircuitBreaker
from c42_proxy.caching.freshness import Freshness
from c42_proxy.errors import (
    InvalidAnswer,
    RateLimited,
    StoreError,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from c42_proxy.events import Events
from c42_proxy.observability.metrics import Metrics
from c42_proxy.stores.contract import Entry, Lease, Read, Store
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.stores.sqlite import SqliteStore
from c42_proxy.stores.tiered import TieredStore
from c42_proxy.threads import Threads
from c42_proxy.upstream.combine import Combined
from c42_proxy.web.responses import cache_status

from .model import PROBE_SECONDS, Process, Rules

EXAMPLES = 200
START = 1_700_000_000.0
TTL = 252.0
ROOM = 1 << 26
PATIENCE = 600.0
"""In real seconds, however slow the machine: nobody waits for anybody here, and C42's answers take none."""

TICK = 2.0**-10
"""All times are multiples of it, so that no sum of them is rounded: who is late is late by the clock alone."""

STEPS = (TICK, 0.5, 1 - TICK, 1.0, 2.0, 5.0, 30.0, 251.0, 252.0, 600.0, 3600.0, 5 * 3600.0)
STEPS_BACK = (TICK, 0.5, 1.0, 1 + TICK, 3.0, 60.0, 252.0, 3600.0)
FETCHES_TAKE = (0.0, 0.0, 0.0, 0.25, 3.5, -0.5, -5.0, 260.0)
PROCESSES = (0, 1)

FAILURES: dict[str, Callable[[], UpstreamError]] = {
    "down": lambda: UpstreamUnavailable(500),
    "unreachable": lambda: UpstreamUnavailable(None),
    "silent": UpstreamTimeout,
    "nonsense": lambda: InvalidAnswer("nonsense", 200),
    "refuses": lambda: TokenRefused(401),
    "wait 0": lambda: RateLimited(0, 429),
    "wait 2": lambda: RateLimited(2, 429),
    "wait 300": lambda: RateLimited(300, 503),
    "wait 3600": lambda: RateLimited(3600, 429),
}


class Looks(Threads):
    """Threads that look into the shared store; a test can wait until they have."""

    def __init__(self) -> None:
        super().__init__(1, name="c42-look", queues=True)

    def settle(self) -> None:
        """One thread does all, in turn."""
        self.submit(lambda: None).result(PATIENCE)


class FaultyStore:
    """One process's way to the shared store, which works, breaks, or is read-only."""

    def __init__(self, store: Store, how: Callable[[], str]) -> None:
        self._store = store
        self._how = how
        self.failed = False
        self.written: list[tuple[str, Entry]] = []

    def get(self, event_id: str) -> Entry | None:
        return self._try("breaks").get(event_id)

    def read(self, event_ids: Collection[str], names: Collection[str] = ()) -> Read:
        return self._try("breaks").read(event_ids, names)

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        held = self._try("breaks", "is read-only").put(event_id, entry, now)
        if held:
            self.written.append((event_id, entry))
        return held

    def read_state(self, name: str) -> str | None:
        return self._try("breaks").read_state(name)

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        return self._try("breaks", "is read-only").change_state(name, change, lifetime)

    def lease(self, event_id: str) -> Lease | None:
        return self._try("breaks").lease(event_id)

    def erase(self, now: float) -> bool:
        return self._try("breaks", "is read-only").erase(now)

    def close(self) -> None:
        self._store.close()

    def _try(self, *faults: str) -> Store:
        if self._how() in faults:
            self.failed = True
            raise StoreError(f"the store {self._how()}")
        return self._store


class Upstream:
    """What C42 says: the next `fetch`."""

    fetch: Callable[[], Combined]

    def combined(self, _event_id: str, /) -> Combined:
        return self.fetch()


@dataclass
class Running:
    """A process: the real thing, and what the rules say that it knows."""

    events: Events
    upstream: "Upstream"
    breaker: CircuitBreaker
    store: FaultyStore
    looks: Looks
    knows: Process

    def close(self) -> None:
        self.events.close()
        self.store.close()


class CacheMachine(RuleBasedStateMachine):
    """Two processes on one store, a C42 with all its moods, and a clock that may be set back."""

    folder: ClassVar[Path]
    namespaces: ClassVar["count[int]"] = count()

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Running] = []

    @initialize(
        events=st.integers(3, 7),
        window=st.sampled_from((3600.0, 3600.0, 600.0, 0.0)),
        threshold=st.sampled_from((5, 3, 2, 1, 0)),
    )
    def start(self, events: int, window: float, threshold: int) -> None:
        self.now = START
        self.elapsed = 0.0
        self.events = [f"event{number}" for number in range(events)]
        self.gone: set[str] = set()
        self.mood = "well"
        self.store_is = "works"
        self.numbers = count(1)
        self.model = Rules(START, ttl=TTL, window=window, threshold=threshold)
        # One file for all runs: a process never closes its leases.
        self.namespace = str(next(self.namespaces))
        self.processes = [self.process() for _ in PROCESSES]
        self.model.processes = [running.knows for running in self.processes]

    def process(self) -> Running:
        def clock() -> float:
            return self.now

        memory = MemoryStore(ROOM)
        shared = SqliteStore(
            self.folder / "cache.sqlite3",
            namespace=self.namespace,
            max_bytes=ROOM,
            lifetime=TTL + self.model.window,
            clock=clock,
        )
        faulty = FaultyStore(shared, lambda: self.store_is)
        metrics = Metrics()
        tiered = TieredStore(memory, faulty, clock=clock, metrics=metrics, monotonic=lambda: self.elapsed)
        breaker = CircuitBreaker(
            tiered, clock=clock, threshold=self.model.threshold, probe_seconds=PROBE_SECONDS, metrics=metrics
        )
        upstream, looks = Upstream(), Looks()
        events = Events(
            *(upstream, tiered, breaker),
            freshness=Freshness(TTL, self.model.window),
            budget=PATIENCE,
            clock=clock,
            metrics=metrics,
            look_threads=looks,
        )
        return Running(events, upstream, breaker, faulty, looks, Process())

    def move(self, step: float) -> None:
        self.now += step
        self.elapsed += max(step, 0)
        self.model.time_is(self.now)

    def teardown(self) -> None:
        for running in self.processes:
            running.close()

    # What happens around the proxy

    @rule(step=st.sampled_from(STEPS))
    def time_passes(self, step: float) -> None:
        self.move(step)

    @rule(which=st.integers(0, 5), off=st.sampled_from((-TICK, 0.0, 0.0, TICK)))
    def time_passes_until_something_ends(self, which: int, off: float) -> None:
        ends = self.model.instants()
        if ends:
            self.move(max(ends[which % len(ends)] + off - self.now, 0))

    @rule(step=st.sampled_from(STEPS_BACK))
    def clock_is_set_back(self, step: float) -> None:
        self.move(-step)

    @rule(mood=st.sampled_from(("well", "well", "well", *FAILURES)))
    def c42_is(self, mood: str) -> None:
        self.mood = mood

    @rule(number=st.integers(0, 6))
    def event_comes_or_goes(self, number: int) -> None:
        self.gone ^= {self.events[number % len(self.events)]}

    @rule(how=st.sampled_from(("works", "works", "breaks", "is read-only")))
    def store(self, how: str) -> None:
        self.store_is = how

    @rule(number=st.sampled_from(PROCESSES))
    def restart(self, number: int) -> None:
        self.processes[number].close()
        self.processes[number] = self.process()
        self.model.processes = [running.knows for running in self.processes]

    # Requests

    @rule(process=st.sampled_from(PROCESSES), number=st.integers(0, 6), seconds=st.sampled_from(FETCHES_TAKE))
    def request(self, process: int, number: int, seconds: float) -> None:
        self.ask(self.processes[process], self.events[number % len(self.events)], seconds)

    @rule(number=st.integers(0, 6))
    def request_everywhere(self, number: int) -> None:
        for running in self.processes:
            self.ask(running, self.events[number % len(self.events)], 0)

    @rule(process=st.sampled_from(PROCESSES))
    def request_all(self, process: int) -> None:
        for event in self.events:
            self.ask(self.processes[process], event, 0)

    @rule(
        process=st.sampled_from(PROCESSES), number=st.integers(0, 6), mood=st.sampled_from(("well", "down", "refuses"))
    )
    def request_when_it_has_expired(self, process: int, number: int, mood: str) -> None:
        event = self.events[number % len(self.events)]
        for entry in self.model.said[event][-1:]:
            self.move(max(self.model.expiry(entry) - self.now, 0))
        self.mood = mood
        self.ask(self.processes[process], event, 0)

    @rule(process=st.sampled_from(PROCESSES), number=st.integers(0, 6), times=st.integers(2, 6))
    def request_while_it_fails(self, process: int, number: int, times: int) -> None:
        self.mood = "down"
        for _ in range(times):
            self.ask(self.processes[process], self.events[number % len(self.events)], 0)
            self.move(1)
        self.mood = "well"

    def ask(self, running: Running, event: str, seconds: float) -> None:
        """One request: before it, what the rules demand; after it, whether they were kept."""
        view = self.model.view(running.knows, event, store=self.store_is)
        began = self.now
        outcomes: list[Entry | UpstreamError] = []
        running.store.failed = False
        running.store.written.clear()

        def fetch() -> Combined:
            assert not view.forbidden, f"C42 was asked although {view.forbidden}"
            assert not outcomes, "C42 was asked twice"
            outcomes.append(self.c42_says(event, seconds))
            outcome = outcomes[0]
            if isinstance(outcome, RateLimited):
                # As the calls to C42 do (see `Combiner`), whatever comes of the fetch.
                running.breaker.begin_back_off(outcome)
            if isinstance(outcome, UpstreamError):
                raise outcome
            return Combined(outcome, outcome.status)

        running.upstream.fetch = fetch
        reply = running.events.reply(event)
        running.looks.settle()
        outcome = outcomes[0] if outcomes else None
        assert outcome is not None or not view.demanded, f"C42 was not asked: {cache_status(reply)}"
        kept = self.model.learn(running.knows, event, view, began, outcome)
        self.model.check(running.knows, event, view, reply, outcome=outcome, kept=kept)
        self.see_store(running, sure=view.sure)

    def c42_says(self, event: str, seconds: float) -> Entry | UpstreamError:
        """Each answer has a number of its own, so that none can be taken for another."""
        began = self.now
        self.move(seconds)
        if self.mood != "well":
            return FAILURES[self.mood]()
        if event in self.gone:
            return Entry(404, b"", began)
        answer = {"id": event, "title": str(next(self.numbers)), "names": []}
        return Entry(200, json.dumps(answer, separators=(",", ":")).encode(), began)

    def see_store(self, running: Running, *, sure: bool) -> None:
        """Where the store fails, it alone knows what it has taken; where it takes something again, it works again."""
        if not sure:
            for event, entry in running.store.written:
                self.model.written(event, entry)
        if running.store.failed:
            running.knows.doubt = True
            self.model.breaker_sure = False
        elif running.store.written:
            running.knows.doubt = False

    # After each step

    @invariant()
    def hits_are_fresh(self) -> None:
        """What a process would tell without asking anybody is fresh, and it tells what it must know."""
        for running in self.processes:
            for event in self.events:
                own = running.knows.own.get(event)
                reply = running.events.hit(event)
                if reply is not None:
                    status = self.model.check_hit(running.knows, event, own, reply)
                    assert cache_status(reply) == "; ".join(["c42-proxy", *status])
                else:
                    assert own is None or not self.model.fresh(own), "a fresh answer is forgotten"


class ModelTest(unittest.TestCase):
    def setUp(self) -> None:
        # Each failure of a store is logged, and there are many.
        logging.disable(logging.WARNING)
        self.addCleanup(logging.disable, logging.NOTSET)

    def test_rules(self) -> None:
        """Whatever happens in whatever order, the rules are kept."""
        examples = int(os.environ.get("C42_MODEL_EXAMPLES", EXAMPLES))
        with tempfile.TemporaryDirectory() as name:

            class Machine(CacheMachine):
                folder = Path(name)

            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=40,
                    derandomize=examples == EXAMPLES,
                    database=None,
                    deadline=None,
                    suppress_health_check=[HealthCheck.too_slow],
                ),
            )

    def test_end_of_a_lifetime(self) -> None:
        """What is asked for as its lifetime ends is not found, and stays so if the clock is set back a moment later."""
        for window, mood, seconds in ((3600.0, "down", -0.5), (3600.0, "well", -0.5), (0.0, "down", 0.0)):
            with self.subTest(window=window, mood=mood), tempfile.TemporaryDirectory() as name:
                machine = CacheMachine()
                self.addCleanup(machine.teardown)
                machine.folder = Path(name)  # type: ignore[misc]  # this machine's own
                machine.start(events=3, window=window, threshold=5)
                machine.request_all(process=0)
                machine.time_passes(TTL + window)
                machine.c42_is(mood)
                machine.request(number=0, process=1, seconds=seconds)
                machine.clock_is_set_back(TICK)
                machine.hits_are_fresh()
