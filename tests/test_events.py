"""The rules of reuse at their boundaries: what is fresh, what a failure leads to, and which request waits for which."""

import json
import math
import threading
import time
import unittest
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from statistics import median
from typing import NoReturn
from unittest.mock import call, patch

from c42_proxy.caching.circuit_breaker import CircuitBreaker
from c42_proxy.caching.freshness import Freshness
from c42_proxy.caching.limits import FETCHES_AT_ONCE, MAX_WAITING
from c42_proxy.caching.refusals import Refusals
from c42_proxy.caching.reply import Failed, Reply, SearchResult, StaleIfError
from c42_proxy.caching.shared_state import FetchOutcomes, Span
from c42_proxy.errors import (
    BackingOff,
    Cause,
    InvalidAnswer,
    Overloaded,
    Problem,
    RateLimited,
    RepeatedFailure,
    StoreNotReached,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from c42_proxy.events import Events, Pending
from c42_proxy.looks import STUCK_SECONDS
from c42_proxy.observability.metrics import Metrics
from c42_proxy.stores.contract import Entry, Lease, Read, Store
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.stores.tiered import TieredStore
from c42_proxy.threads import IDLE_SECONDS, Threads, in_thread, may_wait
from c42_proxy.upstream.combine import Combined
from c42_proxy.web.responses import cache_status, expiry_of
from harness.processes import until
from tests.test_threads import no_new_thread

NOW = 1_700_000_000.0
TTL = 252.0
STALE = 3600.0
BUDGET = 20.0
PATIENCE = 10.0
"""No test waits longer for another thread."""

Fetch = Callable[[], Combined]


class Script:
    """The upstream: what C42 says of each event, as the test wrote it."""

    def __init__(self) -> None:
        self.fetches: dict[str, Fetch] = {}

    def combined(self, event_id: str) -> Combined:
        return self.fetches[event_id]()


class Process:
    """A whole process; each request brings along what C42 says if it is asked for it."""

    def __init__(self, events: Events, script: Script) -> None:
        self.start = events.start
        self.hit = events.hit
        self.reply_for = events.reply_for
        self.close = events.close
        self.refused = events._refusals._refusals
        self._events = events
        self._script = script
        self._searches: dict[str, Future[SearchResult]] = {}

    def ask(self, event_id: str, fetch: Fetch) -> Pending:
        """Join the search for an event; where there is none, `fetch` is what C42 says."""
        self._say(event_id, fetch)
        pending = self._events.coalesce(event_id)
        self._searches[event_id] = pending.search
        return pending

    def reply(self, event_id: str, fetch: Fetch) -> Reply:
        self._say(event_id, fetch)
        return self._events.reply(event_id)

    def _say(self, event_id: str, fetch: Fetch) -> None:
        search = self._searches.get(event_id)
        if search is None or search.done():
            self._script.fetches[event_id] = fetch


class LeasingStore(MemoryStore):
    """What several processes share: a lease excludes, as it does with the stores that are files or servers."""

    def __init__(self, max_bytes: int = 1 << 24) -> None:
        super().__init__(max_bytes)
        self.refused = threading.Event()
        self.times_asked = 0
        self.uses: list[str] = []
        self.hangs: threading.Event | None = None
        self.states_hang: threading.Event | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        """Done in each read, and when a lease is refused."""
        self._leases: set[str] = set()
        self._leasing = threading.Lock()

    def get(self, event_id: str) -> Entry | None:
        self.uses.append("get")
        if self.hangs is not None:
            self.hangs.wait(PATIENCE)
        self.meanwhile()
        return super().get(event_id)

    def read_state(self, name: str) -> str | None:
        self.uses.append("read_state")
        if self.states_hang is not None:
            self.states_hang.wait(PATIENCE)
        return super().read_state(name)

    def lease(self, event_id: str) -> Lease | None:
        with self._leasing:
            self.times_asked += 1
            if event_id in self._leases:
                self.meanwhile()
                self.refused.set()
                return None
            self._leases.add(event_id)
        return self._leave(event_id)

    @contextmanager  # type: ignore[arg-type]  # a generator, as it must be
    def _leave(self, event_id: str) -> Lease:  # type: ignore[misc]  # the same
        try:
            yield
        finally:
            with self._leasing:
                self._leases.discard(event_id)


class Fails(threading.Event):
    """Waits for nothing, and fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002  # as an event has it
        raise self._error


class NoThreads(Threads):
    """The system gives none but to those that may block, which look themselves."""

    def __init__(self) -> None:
        super().__init__(0, name="c42-look")


class UntouchableStore:
    """Whoever uses it fails."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"the shared store was used: {name}")


def result_of(reply: Reply) -> Entry | Problem:
    return reply.problem if isinstance(reply, Failed) else reply.entry


class EventsTest(unittest.TestCase):
    """Processes behind which C42 says what each test says; the clock stands still at `now`."""

    def setUp(self) -> None:
        self.now = NOW
        self.asked = 0
        self.counting = threading.Lock()
        self.memory = MemoryStore(1 << 24)
        self.shared = LeasingStore()
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.process = self.new_process()

    def clock(self) -> float:
        return self.now

    def new_process(
        self,
        *,
        memory: MemoryStore | None = None,
        shared: Store | None = None,
        ttl: float = TTL,
        stale_if_error: float = STALE,
        budget: float = BUDGET,
        look_threads: Threads | None = None,
    ) -> Process:
        """One process; with a memory of its own, it is another one."""
        self.metrics = metrics = Metrics()
        store = TieredStore(memory or self.memory, shared or self.shared, clock=self.clock, metrics=metrics)
        self.breaker = CircuitBreaker(store, clock=self.clock, threshold=5, probe_seconds=2 * budget, metrics=metrics)
        script = Script()
        events = Events(
            *(script, store, self.breaker),
            freshness=Freshness(ttl, stale_if_error),
            budget=budget,
            clock=self.clock,
            metrics=metrics,
            look_threads=look_threads,
        )
        # Cleanups run from the last to the first: `close` waits for what waits for the gate.
        self.addCleanup(events.close)
        self.addCleanup(self.gate.set)
        return Process(events, script)

    def another(self, *, budget: float = BUDGET) -> Process:
        return self.new_process(memory=MemoryStore(1 << 24), budget=budget)

    def count(self) -> None:
        with self.counting:
            self.asked += 1

    def says(self, body: bytes = b"tea", status: int = 200, seconds: float = 0) -> Fetch:
        """C42 answers, after `seconds` on the clock."""

        def fetch() -> Combined:
            self.count()
            begun = self.now
            self.now += seconds
            return Combined(Entry(404, b"", begun) if status == 404 else Entry(200, body, begun), status)

        return fetch

    def fails(self, error: UpstreamError | None = None) -> Fetch:
        def fetch() -> Combined:
            self.count()
            raise error or UpstreamUnavailable(500)

        return fetch

    def after_gate(self, fetch: Fetch) -> Fetch:
        """The fetch begins, and goes on when the gate opens."""

        def gated() -> Combined:
            self.begun.release()
            self.assertTrue(self.gate.wait(PATIENCE))
            return fetch()

        return gated

    def ask(self, fetch: Fetch | None = None, *, process: Process | None = None, event_id: str = "tea") -> Reply:
        return (process or self.process).reply(event_id, fetch or self.says())

    def hold(self, fetched_at: float, body: bytes = b"held", status: int = 200) -> None:
        """The shared store holds an entry for the event."""
        entry = Entry(404, b"", fetched_at) if status == 404 else Entry(200, body, fetched_at)
        self.assertTrue(self.shared.put("tea", entry, fetched_at))

    def end(self, pending: Pending) -> Reply:
        wait([pending.search], PATIENCE)
        self.assertTrue(pending.search.done())
        return self.process.reply_for(pending)

    def assert_told(self, reply: Reply, body: bytes | type[Problem], expected: str) -> None:
        """An answer with that body, or that problem, and how it came about."""
        result = result_of(reply)
        self.assertEqual(body, type(result) if isinstance(result, Problem) else result.body)
        self.assertEqual(f"c42-proxy; {expected}", cache_status(reply))

    def assert_asked(self, times: int) -> None:
        self.assertEqual(times, self.asked)


class CloseTest(EventsTest):
    def test_no_thread_is_left(self) -> None:
        """Whatever has been fetched and waited for, all threads end when the process closes its events."""
        before = set(threading.enumerate())
        lease = self.shared.lease("tea")
        assert lease is not None
        with lease:
            pending = self.process.ask("tea", self.says())
            self.assertTrue(self.shared.refused.wait(PATIENCE))
        self.end(pending)
        threads = set(threading.enumerate()) - before
        self.assertEqual({"c42-look", "c42-fetch", "c42-timer"}, {thread.name for thread in threads})
        self.process.close()
        for thread in threads:
            # Much sooner than a thread that is idle ends by itself.
            thread.join(IDLE_SECONDS / 2)
        self.assertEqual([], [thread.name for thread in threads if thread.is_alive()])

    def test_searches_end_first(self) -> None:
        """A request that waits for another process has its answer before its process has closed its events."""
        lease = self.shared.lease("tea")
        assert lease is not None
        with lease:
            pending = self.process.ask("tea", self.says())
            self.assertTrue(self.shared.refused.wait(PATIENCE))
            closed = in_thread(self.process.close)
            self.assertFalse(pending.search.done())
        closed.result(PATIENCE)
        self.assertTrue(pending.search.done())
        self.assert_told(self.end(pending), b"tea", "fwd=uri-miss; stored; fwd-status=200")


class FreshTest(EventsTest):
    def test_to_the_microsecond(self) -> None:
        """An answer is reused one microsecond before its instant, and asked for again at it."""
        self.ask()
        self.now = NOW + TTL - 1e-6
        self.assert_told(self.ask(), b"tea", "hit; ttl=0")
        self.now = NOW + TTL
        self.assert_told(self.ask(self.says(b"new")), b"new", "fwd=stale; stored; fwd-status=200")

    def test_reading_does_not_prolong(self) -> None:
        """However often it is read, it expires at the same instant."""
        for second in range(0, 252, 9):
            self.now = NOW + second
            self.assertEqual(NOW + TTL, expiry_of(self.ask()))
        self.assert_asked(1)
        self.now = NOW + TTL
        self.ask()
        self.assert_asked(2)

    def test_counted_from_the_question(self) -> None:
        """The time that C42 took counts."""
        reply = self.ask(self.says(seconds=3))
        self.assertEqual((NOW + 3, NOW + TTL), (self.now, expiry_of(reply)))
        self.assert_told(self.ask(), b"tea", "hit; ttl=249")

    def test_not_found(self) -> None:
        """A 404 is reused for as long as an answer."""
        self.assert_told(self.ask(self.says(status=404)), b"", "fwd=uri-miss; stored; fwd-status=404")
        self.now = NOW + TTL - 1e-6
        self.assert_told(self.ask(), b"", "hit; ttl=0")
        self.now = NOW + TTL
        self.assert_told(self.ask(), b"tea", "fwd=stale; stored; fwd-status=200")

    def test_skew_between_hosts(self) -> None:
        """An entry from up to a second ahead is fresh."""
        self.hold(NOW + 1)
        self.assert_told(self.ask(), b"held", "hit; ttl=253")
        self.assert_asked(0)

    def test_from_the_future(self) -> None:
        """An entry from more than a second ahead is asked for again and replaced, in both tiers."""
        self.ask(self.says(b"future"))
        self.now = NOW - 1.001
        self.ask(self.says(b"now"))
        self.assert_asked(2)
        for store in (self.memory, self.shared):
            self.assertEqual(Entry(200, b"now", NOW - 1.001), store.get("tea"))
        self.now = NOW
        self.assert_told(self.ask(), b"now", "hit; ttl=250")

    def test_future_is_not_served_stale(self) -> None:
        """Nobody knows how old an entry from more than a second ahead is: the failure is reported instead of it."""
        self.hold(NOW + 1.001)
        self.assertIsInstance(result_of(self.ask(self.fails())), UpstreamUnavailable)

    def test_never_back(self) -> None:
        """A slow answer does not replace one that was asked for later, but the requests that waited for it get it."""

        def overtaken() -> Combined:
            fetched = self.says(b"slow", seconds=2)()
            for store in (self.memory, self.shared):
                store.put("tea", Entry(200, b"quick", NOW + 1), self.now)
            return fetched

        self.assert_told(self.ask(overtaken), b"slow", "fwd=uri-miss; fwd-status=200")
        self.assert_told(self.ask(), b"quick", "hit; ttl=251")

    def test_newest_of_both_tiers(self) -> None:
        """An entry of the shared tier that is older than this process's own changes nothing."""
        self.ask(self.says(b"own"))
        self.shared = LeasingStore()
        self.process = self.new_process()
        self.hold(NOW - 10, b"older")
        self.now = NOW + TTL
        self.assert_told(self.ask(self.fails()), b"own", "fwd=stale; fwd-status=500; detail=stale-if-error")


class TiersTest(EventsTest):
    def test_promoted(self) -> None:
        """An entry that is found in the shared tier is a hit, and in memory from then on."""
        self.hold(NOW - 100)
        self.assert_told(self.ask(), b"held", "hit; ttl=152")
        self.assertEqual(Entry(200, b"held", NOW - 100), self.memory.get("tea"))
        self.assert_asked(0)

    def test_promoted_expired(self) -> None:
        """An expired entry is taken to memory, too: the store may be gone when it is needed."""
        self.hold(NOW - 300)
        self.ask(self.fails())
        self.assertEqual(Entry(200, b"held", NOW - 300), self.memory.get("tea"))

    def test_hit_takes_no_notice_of_the_store(self) -> None:
        """A hit in memory does not touch the shared store: it may hang."""
        self.memory.put("tea", Entry(200, b"tea", NOW), NOW)
        process = self.new_process(shared=UntouchableStore())
        self.assert_told(self.ask(process=process), b"tea", "hit; ttl=252")
        self.assertIsNotNone(process.hit("tea"))

    def test_hit_takes_no_notice_of_a_fetch(self) -> None:
        """A hit waits neither for another event's fetch nor for one of its own event."""
        self.process.ask("coffee", self.after_gate(self.says()))
        self.process.ask("tea", self.after_gate(self.says()))
        self.memory.put("tea", Entry(200, b"tea", NOW), NOW)
        self.assert_told(self.ask(), b"tea", "hit; ttl=252")

    def test_read_together(self) -> None:
        """What decides whether C42 may be asked is read in one operation, with the lease together with the entry."""
        with patch.object(self.shared, "read", wraps=self.shared.read) as read:
            self.ask()
        # The second time after the fetch: whether its success changes anything.
        self.assertEqual([call(("tea",), ("failure:tea", "guard")), call((), ("guard",))], read.mock_calls)
        self.now = NOW + TTL
        self.breaker.begin_back_off(RateLimited(30, 429))
        with patch.object(self.shared, "read", wraps=self.shared.read) as read:
            self.assert_told(self.ask(), b"tea", "hit; ttl=0; detail=stale-if-error")
        read.assert_called_once_with((), ("failure:tea", "guard"))
        self.assert_asked(1)

    def test_breaker_that_opens_meanwhile(self) -> None:
        """What was read of the breaker before another thread told that it has opened is not told as news."""
        read = self.shared.read

        def late(event_ids: Collection[str], names: Collection[str] = ()) -> Read:
            found = read(event_ids, names)
            patched.stop()
            for number in range(5):
                self.breaker.note_failure(f"{number}", UpstreamUnavailable(500), self.now)
            return found

        patched = patch.object(self.shared, "read", late)
        patched.start()

        with self.assertLogs("c42_proxy.caching.circuit_breaker", "INFO") as logs:
            self.ask(self.fails(InvalidAnswer(Cause.TOO_LONG, 200)))
        self.assertEqual(1, len(logs.output), logs.output)

    def test_no_hit(self) -> None:
        """What is not fresh in memory is no hit."""
        self.assertIsNone(self.process.hit("tea"))
        self.hold(NOW)
        self.assertIsNone(self.process.hit("tea"))
        self.ask()
        self.now = NOW + TTL
        self.assertIsNone(self.process.hit("tea"))

    def test_another_process(self) -> None:
        """What one process has fetched, another need not ask for."""
        self.ask()
        self.now = NOW + 100
        self.assert_told(self.ask(process=self.another()), b"tea", "hit; ttl=152")
        self.assert_asked(1)


class PastExpiryTest(EventsTest):
    def setUp(self) -> None:
        super().setUp()
        self.process = self.new_process(ttl=1)

    def test_shared_by_all_who_waited(self) -> None:
        """A result that comes after its expiry is given to all who waited, with no expiry, and is not stored."""
        fetch = self.after_gate(self.says(seconds=1))
        waiting = [self.process.ask("tea", fetch) for _ in range(3)]
        self.gate.set()
        replies = [self.end(pending) for pending in waiting]
        self.assert_told(replies[0], b"tea", "fwd=uri-miss; fwd-status=200; detail=past-expiry")
        for reply in replies[1:]:
            self.assert_told(reply, b"tea", "fwd=uri-miss; collapsed; fwd-status=200; detail=past-expiry")
        self.assertEqual([None] * 3, [expiry_of(reply) for reply in replies])
        self.assertEqual([None, None], [store.get("tea") for store in (self.memory, self.shared)])
        self.ask()
        self.assert_asked(2)

    def test_leaves_the_cached_entry(self) -> None:
        """A result that comes after its expiry does not replace an entry that may still be served stale."""
        self.hold(NOW - 10)
        self.ask(self.says(seconds=1))
        self.assertEqual(
            [Entry(200, b"held", NOW - 10)] * 2, [store.get("tea") for store in (self.memory, self.shared)]
        )

    def test_just_in_time(self) -> None:
        """A result that comes a moment before its expiry is stored."""
        reply = self.ask(self.says(seconds=0.999))
        self.assert_told(reply, b"tea", "fwd=uri-miss; stored; fwd-status=200")
        self.assertEqual(NOW + 1, expiry_of(reply))

    def test_clock_set_back_meanwhile(self) -> None:
        """If the clock was set back meanwhile, nobody knows how old the result is: it is not stored either."""
        reply = self.ask(self.says(seconds=-2))
        self.assert_told(reply, b"tea", "fwd=uri-miss; fwd-status=200; detail=past-expiry")
        self.assertIsNone(expiry_of(reply))


class WaitingTest(EventsTest):
    def ask_thrice(self, fetch: Fetch) -> list[Reply]:
        waiting = [self.process.ask("tea", self.after_gate(fetch)) for _ in range(3)]
        self.gate.set()
        return [self.end(pending) for pending in waiting]

    def test_collapsed(self) -> None:
        """Requests that wait get the same answer with the same expiry, marked as collapsed."""
        first, *others = self.ask_thrice(self.says())
        self.assert_told(first, b"tea", "fwd=uri-miss; stored; fwd-status=200")
        for reply in others:
            self.assert_told(reply, b"tea", "fwd=uri-miss; collapsed; fwd-status=200")
            self.assertEqual((result_of(first), expiry_of(first)), (result_of(reply), expiry_of(reply)))
        self.assert_asked(1)

    def test_collapsed_at_expiry(self) -> None:
        """The same where an answer has expired."""
        self.ask()
        self.now = NOW + TTL
        first, *others = self.ask_thrice(self.says(status=404))
        self.assert_told(first, b"", "fwd=stale; stored; fwd-status=404")
        for reply in others:
            self.assert_told(reply, b"", "fwd=stale; collapsed; fwd-status=404")

    def test_failure_collapsed(self) -> None:
        """Requests that wait get the same failure, and do not begin another fetch."""
        first, *others = self.ask_thrice(self.fails())
        self.assert_told(first, UpstreamUnavailable, "fwd=uri-miss; fwd-status=500")
        for reply in others:
            self.assert_told(reply, UpstreamUnavailable, "fwd=uri-miss; collapsed; fwd-status=500")
        self.assert_asked(1)

    def test_failure_without_a_status(self) -> None:
        """If no status came from C42, the reply names none."""
        self.assert_told(self.ask(self.fails(UpstreamTimeout())), UpstreamTimeout, "fwd=uri-miss")

    def test_not_asked(self) -> None:
        """If C42 was not asked, no reply says that it was, or that the request was collapsed."""
        self.breaker.begin_back_off(RateLimited(30, 429))
        for reply in self.ask_thrice(self.says()):
            self.assert_told(reply, BackingOff, "detail=told-to-wait")
        self.assert_asked(0)

    def test_bug(self) -> None:
        """An exception that is none of ours reaches all who waited; the next one asks anew."""

        def bug() -> Combined:
            raise ZeroDivisionError

        waiting = [self.process.ask("tea", self.after_gate(bug)) for _ in range(2)]
        self.gate.set()
        for pending in waiting:
            with self.assertRaises(ZeroDivisionError):
                self.end(pending)
        self.assert_told(self.ask(), b"tea", "fwd=uri-miss; stored; fwd-status=200")
        # Both searches have made room. Else it would show only after more than a thousand bugs.
        self.assertEqual(FETCHES_AT_ONCE + MAX_WAITING, self.process._events._limit._may_come)


class GivingUpTest(EventsTest):
    def setUp(self) -> None:
        super().setUp()
        self.process = self.new_process(budget=0.05)

    def give_up(self, fetch: Fetch) -> Reply:
        begun = time.monotonic()
        reply = self.ask(fetch)
        self.assertLess(0.09, time.monotonic() - begun)
        self.assertLess(time.monotonic() - begun, PATIENCE / 2)
        return reply

    def test_twice_the_budget(self) -> None:
        """Nobody waits longer than twice the budget; the fetch goes on, and its answer is remembered."""
        reply = self.give_up(self.after_gate(self.says()))
        self.assert_told(reply, UpstreamTimeout, "fwd=uri-miss")
        under_way = self.process.ask("tea", self.says(b"not asked for"))
        self.assertEqual(2 * 0.05, under_way.patience)
        self.gate.set()
        self.assert_told(self.end(under_way), b"tea", "fwd=uri-miss; collapsed; fwd-status=200")
        self.assert_told(self.ask(), b"tea", "hit; ttl=252")
        self.assert_asked(1)

    def test_expired_answer_instead(self) -> None:
        """A request that gives up gets an expired answer, also one that only the shared tier had."""
        self.hold(NOW - 300)
        self.assert_told(self.give_up(self.after_gate(self.says())), b"held", "fwd=stale; detail=stale-if-error")

    def test_fresh_answer_instead(self) -> None:
        """It gets a fresh answer that was remembered meanwhile, but not a 404: the event may exist by now."""
        pending = self.process.ask("tea", self.after_gate(self.says()))
        self.assertTrue(self.begun.acquire(timeout=PATIENCE))
        for kept, result in ((Entry(200, b"newer", NOW), b"newer"), (Entry(404, b"", NOW), UpstreamTimeout)):
            with self.subTest(status=kept.status):
                self.memory.put("tea", kept, NOW)
                reply = self.process.reply_for(pending)
                given = result_of(reply)
                self.assertEqual(result, type(given) if isinstance(given, Problem) else given.body)

    def test_lease_that_is_never_left(self) -> None:
        """If another process never releases its lease, the request fails, and C42 is not asked."""
        lease = self.shared.lease("tea")
        assert lease is not None
        with lease:
            reply = self.give_up(self.says())
        self.assertIsInstance(result_of(reply), UpstreamTimeout)
        self.assertLess(self.shared.times_asked, 30, "a store is not to be asked without a pause")
        self.assertGreater(self.shared.times_asked, 2, "it must learn soon that the lease is free")
        # The search gives up at the same moment, and knows a little more.
        self.assertIn(cache_status(reply), {"c42-proxy; fwd=uri-miss", "c42-proxy; fwd=uri-miss; collapsed"})
        self.assert_asked(0)

    def test_search_in_vain(self) -> None:
        """A search that waits in vain for the lease of another process ends in a time-out, marked as collapsed."""
        lease = self.shared.lease("tea")
        assert lease is not None
        with lease:
            late = self.process.ask("tea", self.says())
            self.assert_told(self.end(late), UpstreamTimeout, "fwd=uri-miss; collapsed")

    def test_found_at_last(self) -> None:
        """A search that waits in vain for the lease finds what another process has left meanwhile, a 404 too."""
        for status, body, handled in ((200, b"new", "; fwd-status=200"), (404, b"", "")):
            self.shared = LeasingStore()
            self.hold(NOW - 300)
            newer = Entry(status, body, NOW)  # type: ignore[arg-type]  # one of both
            lease = self.shared.lease("tea")
            assert lease is not None
            with self.subTest(status), lease:

                def leave(newer: Entry = newer) -> None:
                    if self.shared.refused.is_set():
                        self.shared.put("tea", newer, NOW)

                self.shared.meanwhile = leave
                late = self.another(budget=0.05).ask("tea", self.says())
                self.assert_told(self.end(late), body, f"fwd=stale; collapsed{handled}")
        self.assert_asked(0)

    def test_expired_answer_instead_of_a_lease(self) -> None:
        """Requests that wait in vain for another process get an expired answer, also if their search gave up."""
        self.hold(NOW - 300)
        lease = self.shared.lease("tea")
        assert lease is not None
        with lease:
            late = self.process.ask("tea", self.says())
            self.assert_told(self.give_up(self.says()), b"held", "fwd=stale; detail=stale-if-error")
            self.assert_told(self.end(late), b"held", "fwd=stale; detail=stale-if-error")
        self.assert_asked(0)


class AnotherProcessTest(EventsTest):
    """A second process that shares the store is fetching, or was."""

    def two(self, fetch: Fetch) -> tuple[Reply, Reply]:
        """The replies of two processes; the second is asked while the first one fetches."""
        first = self.another().ask("tea", self.after_gate(fetch))
        self.assertTrue(self.begun.acquire(timeout=PATIENCE))
        second = self.process.ask("tea", self.says(b"asked again"))
        self.assertTrue(self.shared.refused.wait(PATIENCE))
        self.gate.set()
        return self.end(first), self.end(second)

    def test_result_is_used(self) -> None:
        """One asks C42, the other waits for its answer."""
        first, second = self.two(self.says())
        self.assert_told(first, b"tea", "fwd=uri-miss; stored; fwd-status=200")
        self.assert_told(second, b"tea", "fwd=uri-miss; collapsed; fwd-status=200")
        self.assertEqual(expiry_of(first), expiry_of(second))
        self.assert_asked(1)

    def test_only_the_entry_is_read(self) -> None:
        """The other one needs nothing else from the shared tier, however many wait."""
        lease = self.shared.lease("tea")
        assert lease is not None
        with lease:
            pending = self.process.ask("tea", self.says())
            self.assertTrue(self.shared.refused.wait(PATIENCE))
            self.hold(NOW)
            self.shared.uses.clear()
        self.assert_told(self.end(pending), b"held", "fwd=uri-miss; collapsed; fwd-status=200")
        self.assertEqual(["get"], self.shared.uses)

    def test_not_found_is_shared(self) -> None:
        """Both reply that there is no such event; only the process that has fetched knows C42's status."""
        first, second = self.two(self.says(status=404))
        self.assert_told(first, b"", "fwd=uri-miss; stored; fwd-status=404")
        self.assert_told(second, b"", "fwd=uri-miss; collapsed")
        self.assert_asked(1)

    def test_too_large_for_the_store(self) -> None:
        """An answer that the store has no room for reaches the process that waits; the one that fetched stores it."""
        self.shared = LeasingStore(max_bytes=1)
        self.process = self.new_process()
        first, second = self.two(self.says())
        self.assert_told(first, b"tea", "fwd=uri-miss; stored; fwd-status=200")
        self.assert_told(second, b"tea", "fwd=uri-miss; collapsed; fwd-status=200")
        self.assertIsNone(self.shared.get("tea"))
        self.assert_asked(1)

    def test_garbage(self) -> None:
        """A state text with an answer that the store has not kept is believed only if it is one of ours."""
        good = {"span": {"since": NOW, "until": NOW + 1}, "status": 200, "body": "theirs", "fetched_at": NOW}
        forged: list[dict[str, object]] = [
            *({**good, "status": 500}, {**good, "body": None}, {**good, "fetched_at": str(NOW)}),
            *({**good, "span": {"since": NOW - 1, "until": NOW}}, {**good, "span": None}),
        ]
        for number, state in enumerate([good, *forged]):
            with self.subTest(state=state):
                lease = self.shared.lease(f"{number}")
                assert lease is not None
                self.shared.refused.clear()
                with lease:
                    pending = self.process.ask(f"{number}", self.says(b"ours"))
                    self.assertTrue(self.shared.refused.wait(PATIENCE))
                    text = json.dumps(state)
                    self.shared.change_state(f"handover:{number}", lambda _, text=text: text, 60)  # type: ignore[misc]  # mypy infers no type for it
                result = result_of(self.end(pending))
                assert isinstance(result, Entry)
                self.assertEqual(b"theirs" if state is good else b"ours", result.body)

    def test_result_is_used_at_expiry(self) -> None:
        """The same where an answer has expired."""
        self.hold(NOW - 300)
        _, second = self.two(self.says())
        self.assert_told(second, b"tea", "fwd=stale; collapsed; fwd-status=200")

    def test_failure_is_shared(self) -> None:
        """If the fetch of one process fails, the other one reports that failure and does not ask again."""
        first, second = self.two(self.fails())
        self.assert_told(first, UpstreamUnavailable, "fwd=uri-miss; fwd-status=500")
        self.assert_told(second, RepeatedFailure, "fwd=uri-miss; collapsed; fwd-status=500")
        self.assertEqual([502, 502], [result_of(reply).status for reply in (first, second)])
        self.assert_asked(1)

    def test_expired_answer_instead_of_a_shared_failure(self) -> None:
        """One fails, and both give the answer that has expired."""
        self.hold(NOW - 300)
        first, second = self.two(self.fails())
        self.assert_told(first, b"held", "fwd=stale; fwd-status=500; detail=stale-if-error")
        self.assert_told(second, b"held", "fwd=stale; fwd-status=500; detail=stale-if-error")

    def test_back_off_is_shared(self) -> None:
        """If C42 asks one process to wait, the other one backs off, too."""

        def limited() -> Combined:
            error = RateLimited(30, 429)
            self.breaker.begin_back_off(error)
            return self.fails(error)()

        first, second = self.two(limited)
        self.assert_told(first, RateLimited, "fwd=uri-miss; fwd-status=429")
        self.assert_told(second, BackingOff, "detail=told-to-wait")
        self.assert_asked(1)

    def test_late_result_is_shared(self) -> None:
        """An answer that comes after its expiry is given by both, stored by neither, and not asked for again."""
        first, second = self.two(self.says(seconds=252))
        self.assert_told(first, b"tea", "fwd=uri-miss; fwd-status=200; detail=past-expiry")
        self.assert_told(second, b"tea", "fwd=uri-miss; collapsed; fwd-status=200; detail=past-expiry")
        self.assertIsNone(self.shared.get("tea"))
        self.assert_asked(1)

    def test_back_off_of_no_time_is_shared(self) -> None:
        """A back-off that is over at once is still a failure that the other process shares, instead of asking C42."""
        first, second = self.two(self.fails(RateLimited(0, 429)))
        self.assert_told(first, RateLimited, "fwd=uri-miss; fwd-status=429")
        self.assert_told(second, RepeatedFailure, "fwd=uri-miss; collapsed; fwd-status=429")
        repeated = result_of(second)
        assert isinstance(repeated, RepeatedFailure)
        self.assertEqual((repeated.status, repeated.retry_after), (503, 1))
        self.assert_asked(1)

    def test_death_is_taken_over(self) -> None:
        """If the process that fetches dies, its lease ends, and the one that waits asks C42 itself."""
        lease = self.shared.lease("tea")
        assert lease is not None
        with lease:
            pending = self.process.ask("tea", self.says())
            self.assertTrue(self.shared.refused.wait(PATIENCE))
        self.assert_told(self.end(pending), b"tea", "fwd=uri-miss; stored; fwd-status=200")

    def test_bug_leaves_no_lease(self) -> None:
        """However a fetch ends, its lease ends with it."""

        def bug() -> Combined:
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            self.ask(bug)
        self.ask(self.fails())
        self.now += 1
        self.assert_told(self.ask(), b"tea", "fwd=uri-miss; stored; fwd-status=200")


class RecentFailureTest(EventsTest):
    def test_a_second(self) -> None:
        """What failed is not tried again within a second, to the microsecond, by any process."""
        self.ask(self.fails())
        self.now = NOW + 1 - 1e-6
        for process in (self.process, self.another()):
            reply = self.ask(process=process)
            self.assert_told(reply, RepeatedFailure, "detail=recent-failure")
            self.assertEqual(502, result_of(reply).status)
        self.now = NOW + 1
        self.assert_told(self.ask(), b"tea", "fwd=uri-miss; stored; fwd-status=200")

    def test_stale_copy_for_a_second(self) -> None:
        """A stale copy is served in its place for as long, and then C42 is asked."""
        self.hold(NOW - 300)
        self.assert_told(self.ask(self.fails()), b"held", "fwd=stale; fwd-status=500; detail=stale-if-error")
        self.now += 0.75
        self.assert_told(self.ask(), b"held", "hit; ttl=-49; detail=stale-if-error")
        self.now += 0.25
        self.assert_told(self.ask(), b"tea", "fwd=stale; stored; fwd-status=200")

    def test_stale_copy_without_the_store(self) -> None:
        """While a failure is repeated, one request reads the shared tier; the next ones get the stale copy at once."""
        self.hold(NOW - 300)
        self.ask(self.fails())
        repeated = "hit; ttl=-48; detail=stale-if-error"
        self.assert_told(self.ask(), b"held", repeated)
        self.shared.uses.clear()
        self.assert_told(self.ask(), b"held", repeated)
        self.assertEqual([], self.shared.uses)

    def test_other_events(self) -> None:
        """The failure of one event is not repeated for another."""
        self.ask(self.fails())
        self.assert_told(self.ask(event_id="coffee"), b"tea", "fwd=uri-miss; stored; fwd-status=200")

    def test_clock_set_back(self) -> None:
        """A failure that was left more than a second ahead is void."""
        for step, asked in ((1.0, 0), (1.001, 1)):
            with self.subTest(step=step):
                self.now = NOW
                self.process.reply(f"tea {step}", self.fails())
                self.asked = 0
                self.now = NOW - step
                self.process.reply(f"tea {step}", self.says())
                self.assert_asked(asked)

    def test_what_is_repeated(self) -> None:
        """The failure is repeated as it was: its status, its detail, and whether a stale copy may be served instead."""
        for error in (UpstreamTimeout(), TokenRefused(401), UpstreamUnavailable(500)):
            with self.subTest(error=error):
                event_id = str(error)
                self.shared.put(event_id, Entry(200, b"held", NOW - 300), NOW)
                self.ask(self.fails(error), event_id=event_id)
                repeated = result_of(self.ask(event_id=event_id))
                if error.allows_stale:
                    self.assertEqual(Entry(200, b"held", NOW - 300), repeated)
                else:
                    assert isinstance(repeated, RepeatedFailure)
                    self.assertEqual((error.status, error.detail), (repeated.status, repeated.detail))

    def test_name_of_0_1(self) -> None:
        """A failure is kept under the names that version 0.1 reads."""
        self.ask(self.fails(TokenRefused(401)))
        kept = json.loads(self.shared.read_state("failure:tea") or "")
        self.assertIs(False, kept["may_be_hidden"])

    def test_cause(self) -> None:
        """The cause is repeated, too, but only a phrase of the list: a text in the store may be anybody's."""
        self.ask(self.fails(UpstreamUnavailable(cause=Cause.RESET)))
        kept = self.shared.read_state("failure:tea") or ""
        for cause, expected in ((Cause.RESET, Cause.RESET), ("s3kr3t", "it failed a moment ago")):
            text = kept.replace(Cause.RESET, cause)
            self.shared.change_state("failure:tea", lambda _, text=text: text, 60)  # type: ignore[misc]  # mypy infers no type for it
            repeated = result_of(self.ask())
            assert isinstance(repeated, RepeatedFailure)
            self.assertEqual(expected, repeated.cause)

    def test_longest_span(self) -> None:
        """A span is believed up to an hour, and the millisecond by which its ends may have been rounded."""
        for seconds, believed in ((3600.001, True), (3600.0011, False)):
            self.assertIs(believed, Span(since=0, until=seconds).is_believable(1))

    def test_back_off(self) -> None:
        """A 429 for a second or longer is followed by the back-off; a shorter one is repeated like any failure."""
        for seconds, expected in ((0.999, "detail=recent-failure"), (1.0, "detail=told-to-wait")):

            def limited(error: RateLimited) -> Combined:
                self.breaker.begin_back_off(error)
                raise error

            with self.subTest(seconds=seconds):
                self.setUp()
                self.ask(partial(limited, RateLimited(seconds, 429)))
                self.assertEqual(f"c42-proxy; {expected}", cache_status(self.ask()))

    def test_garbage(self) -> None:
        """A state text that is none of ours is ignored."""
        good = {
            "span": {"since": NOW, "until": NOW + 1},
            "status": 502,
            "reason": "c42-unavailable",
            "detail": "d",
            "upstream_status": None,
            "may_be_hidden": True,
        }
        forged: list[object] = [
            *({}, [], 7, None, {**good, "status": 499}, {**good, "status": 600}, {**good, "status": "502"}),
            *(
                {**good, "detail": None},
                {**good, "reason": None},
                {**good, "span": {"since": NOW, "until": str(NOW + 1)}},
            ),
            {**good, "span": {"since": NOW, "until": NOW + 4000}},
            {**good, "span": {"since": float("nan"), "until": NOW + 1}},
        ]
        believed = [json.dumps({**good, "status": status}) for status in (500, 502, 599)]
        for number, text in enumerate(["", "{", *map(json.dumps, forged), *believed]):
            with self.subTest(state=text):
                self.asked = 0
                self.shared.change_state(f"failure:{number}", lambda _, text=text: text, 60)  # type: ignore[misc]  # mypy infers no type for it
                self.ask(event_id=str(number))
                self.assert_asked(0 if text in believed else 1)


class StaleTest(EventsTest):
    def test_window(self) -> None:
        """An expired answer is given up to its window's end, to the microsecond."""
        self.hold(NOW - TTL - STALE + 1e-6)
        reply = self.ask(self.fails())
        self.assert_told(reply, b"held", "fwd=stale; fwd-status=500; detail=stale-if-error")
        self.assertIsNone(expiry_of(reply))

    def test_window_end(self) -> None:
        """At its window's end it is given no more, whether C42 is asked or not."""
        self.hold(NOW - TTL - STALE)
        self.assertIsInstance(result_of(self.ask(self.fails())), UpstreamUnavailable)
        self.assertIsInstance(result_of(self.ask(self.fails())), RepeatedFailure)

    def test_never(self) -> None:
        """With a window of no length none is given, not even at the very instant."""
        self.hold(NOW - TTL)
        reply = self.ask(self.fails(), process=self.new_process(stale_if_error=0))
        self.assertIsInstance(result_of(reply), UpstreamUnavailable)

    def test_refused_token(self) -> None:
        """A refused token is never hidden."""
        self.hold(NOW - 300)
        self.assert_told(self.ask(self.fails(TokenRefused(403))), TokenRefused, "fwd=stale; fwd-status=403")

    def test_not_found_hides_it(self) -> None:
        """Once C42 has answered 404, no process serves an older answer any more."""
        other = self.another()
        self.ask(process=other)
        self.now = NOW + TTL
        self.ask(self.says(status=404))
        self.now = NOW + 2 * TTL
        for process in (self.process, other):
            self.assertIsInstance(result_of(self.ask(self.fails(), process=process)), Problem)

    def test_not_asked(self) -> None:
        """If C42 is not asked, the answer is marked as expired, and since when."""
        self.hold(NOW - TTL - 0.5)
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.assert_told(self.ask(), b"held", "hit; ttl=-1; detail=stale-if-error")

    def test_late_not_found(self) -> None:
        """A 404 that comes after its expiry still replaces an answer that has expired."""
        self.hold(NOW - 300)
        self.ask(self.says(status=404, seconds=252))
        self.now += 2
        self.assert_told(self.ask(self.fails()), UpstreamUnavailable, "fwd=stale; fwd-status=500")


class KnownRefusalTest(EventsTest):
    """The process knows that C42 may not be asked for the tea, and has a stale copy of it in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.hold(NOW - 300)
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.assert_stale()

    def assert_stale(self, seconds: int = 48) -> None:
        self.assert_told(self.ask(), b"held", f"hit; ttl=-{seconds}; detail=stale-if-error")

    def assert_soon(self, body: bytes | type[Problem], expected: str) -> None:
        """Within a second the reply is another one: a request has the process look beside, and a later one is told."""
        self.now = NOW + 1 - 1e-6
        self.assert_stale(49)
        self.now = NOW + 1
        self.assert_stale(49)

        def has_changed() -> bool:
            return not isinstance(self.ask(), StaleIfError)

        until(has_changed, "what others know is told", PATIENCE)
        self.assert_told(self.ask(), body, expected)
        self.assert_asked(0)

    def test_no_store(self) -> None:
        """For a second, no request uses the shared tier; then one request in a second has the process look beside."""
        self.shared.uses.clear()
        for _ in range(100):
            self.assert_stale()
        self.assertEqual([], self.shared.uses)
        for times, seconds in ((1, 1), (2, 2.25), (3, 4)):
            self.now = NOW + seconds
            for _ in range(100):
                self.assert_stale(math.ceil(48 + seconds))

            def has_looked(times: int = times) -> bool:
                self.ask()
                return len(self.shared.uses) == 3 * times

            until(has_looked, "the process has looked", PATIENCE)
            self.assertEqual(times * ["get", "read_state", "read_state"], self.shared.uses)

    def test_other_events(self) -> None:
        """For a stale copy of which it does not know that yet, the process reads three times, and asks for no lease."""
        self.shared.put("coffee", Entry(200, b"cold", NOW - 300), NOW)
        asked_for_lease = self.shared.times_asked
        self.shared.uses.clear()
        for seconds in (0, 29):
            self.now = NOW + seconds
            reply = self.ask(event_id="coffee")
            self.assert_told(reply, b"cold", f"hit; ttl=-{48 + seconds}; detail=stale-if-error")
        self.assertEqual(2 * ["get", "read_state", "read_state"], self.shared.uses)
        self.assertEqual(asked_for_lease, self.shared.times_asked)

    def test_other_events_while_the_breaker_is_open(self) -> None:
        """The same, until the breaker is half-open: then the search needs the lease, because it may be the probe."""
        self.now += 30
        for number in range(5):
            self.ask(self.fails(), event_id=f"event {number}")
        for seconds, times_asked in ((0, 0), (4.9, 0), (0.1, 1)):
            self.now += seconds
            event_id = f"coffee {seconds}"
            self.shared.put(event_id, Entry(200, b"cold", NOW - 300), NOW)
            asked_for_lease = self.shared.times_asked
            self.ask(event_id=event_id)
            self.assertEqual(asked_for_lease + times_asked, self.shared.times_asked)
        self.assert_asked(1 + 5)

    def test_nothing_else_to_give(self) -> None:
        """Without a stale copy, a request waits for what another process has begun to fetch before the back-off."""
        self.now += 30
        other = self.another()
        begun = other.ask("coffee", self.after_gate(self.says()))
        self.assertTrue(self.begun.acquire(timeout=PATIENCE))
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.assert_told(self.ask(), b"held", "hit; ttl=-78; detail=stale-if-error")
        self.shared.refused.clear()
        waiting = self.process.ask("coffee", self.says())
        self.assertTrue(self.shared.refused.wait(PATIENCE))
        self.gate.set()
        wait([begun.search], PATIENCE)
        self.assert_told(self.end(waiting), b"tea", "fwd=uri-miss; collapsed; fwd-status=200")

    def test_rarely_asked(self) -> None:
        """If no request has had the process look for a second, the next one finds out itself what others know."""
        process, other = self.process, self.another()
        self.ask(process=other)
        self.shared.put("tea", Entry(200, b"new", NOW - 1), NOW)
        self.now = NOW + 2
        self.assert_told(self.ask(process=process), b"new", "hit; ttl=249")
        self.now = NOW + 2.5
        self.assert_told(self.ask(process=other), b"new", "hit; ttl=248")
        self.assert_asked(0)

    def test_hanging_store(self) -> None:
        """A look that takes long delays no request."""
        self.shared.hangs = self.gate
        for self.now in (NOW + 1, NOW + 2, NOW + 20):
            self.assert_stale(math.floor(self.now - NOW) + 48)

    def test_looks_of_others(self) -> None:
        """While it is found out whether C42 may be asked, other events are found at once."""
        self.shared.put("coffee", Entry(200, b"cold", NOW - 300), NOW)
        for number in range(20):
            self.shared.put(f"milk {number}", Entry(200, b"fresh", NOW - 1), NOW)
        self.shared.states_hang = self.gate
        self.now += 1
        self.assert_stale(49)  # this one begins a look beside
        self.process.ask("coffee", self.says())
        until(lambda: self.shared.uses[-2:].count("read_state") == 2, "both are being found out", PATIENCE)
        took = []
        for number in range(20):
            began = time.monotonic()
            reply = self.ask(event_id=f"milk {number}")
            took.append(time.monotonic() - began)
            self.assert_told(reply, b"fresh", "hit; ttl=250")
        self.assertLess(median(took), STUCK_SECONDS / 2)

    def test_newer_meanwhile(self) -> None:
        """What comes while it is found out whether C42 may be asked wins over the stale copy from before."""
        self.shared.put("coffee", Entry(200, b"cold", NOW - 300), NOW)
        self.shared.states_hang = self.gate
        self.shared.uses.clear()
        pending = self.process.ask("coffee", self.says())
        until(lambda: self.shared.uses == ["get", "read_state"], "it is being found out", PATIENCE)
        self.memory.put("coffee", Entry(200, b"hot", NOW), NOW)
        self.gate.set()
        self.assertEqual(b"hot", getattr(result_of(self.end(pending)), "body", None))

    def test_since(self) -> None:
        """What is found out counts from when the search began: what happens meanwhile may be unknown."""
        self.shared.put("coffee", Entry(200, b"cold", NOW - 300), NOW)

        def pass_time() -> None:
            self.now += 0.5

        self.shared.meanwhile = pass_time
        self.ask(event_id="coffee")
        self.assertEqual(NOW, self.process.refused["coffee"].since)

    def test_no_thread(self) -> None:
        """If there is no thread for a look, the stale copy is served nevertheless, and the next request looks."""
        process = self.new_process(look_threads=NoThreads())
        self.ask(process=process)
        self.now += 1
        self.assert_told(self.ask(process=process), b"held", "hit; ttl=-49; detail=stale-if-error")
        self.shared.put("tea", Entry(200, b"new", NOW - 1), NOW)
        self.assert_told(self.ask(process=process), b"new", "hit; ttl=250")

    def test_bug(self) -> None:
        """A bug in a look beside is not hidden for long: a later request searches, and reports it."""

        def is_reported() -> bool:
            with suppress(ZeroDivisionError):
                self.ask()
                return False
            return True

        self.shared.hangs = Fails(ZeroDivisionError())
        self.now += 1
        self.assert_stale(49)
        until(is_reported, "the bug is reported", PATIENCE)

    def test_new_answer(self) -> None:
        """A fresh entry that another process has left wins."""
        self.shared.put("tea", Entry(200, b"new", NOW - 1), NOW)
        self.assert_soon(b"new", "hit; ttl=250")

    def test_not_found(self) -> None:
        """So does a 404, and it hides the stale copy for good."""
        self.shared.put("tea", Entry(404, b"", NOW - 1), NOW)
        self.assert_soon(b"", "hit; ttl=250")

    def test_expired_not_found(self) -> None:
        """So does a 404 that has expired meanwhile: there is no answer then."""
        self.shared.put("tea", Entry(404, b"", NOW - 290), NOW)
        self.assert_soon(BackingOff, "detail=told-to-wait")

    def test_refused_token(self) -> None:
        """So does a refused token, which is never hidden."""
        self.now = NOW + 1
        FetchOutcomes(self.shared, self.clock).leave_failure("tea", TokenRefused(401))
        self.now = NOW
        self.assert_soon(RepeatedFailure, "detail=recent-failure")

    def test_end(self) -> None:
        """C42 is asked from the end of the back-off on, to the microsecond."""
        self.now = NOW + 30 - 1e-6
        self.assert_stale(78)
        self.now = NOW + 30
        self.assert_told(self.ask(), b"tea", "fwd=stale; stored; fwd-status=200")

    def test_window(self) -> None:
        """A stale copy is served to the end of its window, and no longer."""
        self.process = self.new_process(memory=MemoryStore(1 << 24), stale_if_error=50)
        self.assert_stale()
        self.now = NOW + 2 - 1e-3
        self.assert_stale(50)
        self.now = NOW + 2
        self.assert_told(self.ask(), BackingOff, "detail=told-to-wait")

    def test_clock_set_back(self) -> None:
        """What was known is void if the clock is set back: C42 is asked."""
        self.now = NOW - 2
        self.assert_told(self.ask(), b"tea", "fwd=stale; stored; fwd-status=200")

    def open_and_close_breaker(self, process: Process) -> None:
        """After the back-off, failures open the breaker, and a fetch of `process` that began before them closes it."""
        self.now += 30
        early = process.ask("early", self.after_gate(self.says()))
        self.assertTrue(self.begun.acquire(timeout=PATIENCE))
        for number in range(5):
            self.ask(self.fails(), event_id=f"event {number}")
        self.assert_stale(78)
        self.gate.set()
        self.end(early)

    def test_closed_by_own_success(self) -> None:
        """If a fetch that began earlier shows that C42 answers, the breaker is closed, and C42 is asked at once."""
        self.open_and_close_breaker(self.process)
        self.assert_told(self.ask(), b"tea", "fwd=stale; stored; fwd-status=200")

    def test_closed_by_another_process(self) -> None:
        """If the breaker is closed by another process, C42 is asked within a second."""
        self.open_and_close_breaker(self.another())
        self.now += 1
        self.assert_stale(79)
        until(lambda: not isinstance(self.ask(), StaleIfError), "C42 is asked", PATIENCE)
        self.assert_told(self.ask(), b"tea", "hit; ttl=252")

    def test_overload(self) -> None:
        """An overload is not remembered: it says nothing of C42."""
        self.now += 30

        def overloaded() -> Combined:
            raise Overloaded

        self.assert_told(self.ask(overloaded), b"held", "hit; ttl=-78; detail=stale-if-error")
        self.assert_told(self.ask(), b"tea", "fwd=stale; stored; fwd-status=200")

    def test_looks_of_many(self) -> None:
        """Of all refused events 500 are looked at in a second; in the next one, what was left out comes first."""
        refusals = Refusals()

        def looked_at(numbers: range, now: float) -> list[int]:
            """Which of these events are looked at now."""
            found = []
            for number in numbers:
                refusal = refusals.get(f"event {number}", now)
                assert refusal is not None
                if refusals.claims_look(refusal, now):
                    refusals.end_look()
                    refusals.note(f"event {number}", BackingOff(30), now)
                    found.append(number)
            return found

        for number in range(502):
            refusals.note(f"event {number}", BackingOff(30), NOW)
        self.assertEqual(list(range(500)), looked_at(range(502), NOW + 1.5))
        self.assertEqual([], looked_at(range(502), NOW + 1.9))
        self.assertEqual([500, 501], looked_at(range(502), NOW + 2))

    def test_looks_that_have_ended(self) -> None:
        """A look that has ended makes place for another one, also if there was no thread for it."""
        self.shared.uses.clear()
        for number in range(1, 10):
            self.now = NOW + number
            self.ask()
            until(lambda number=number: len(self.shared.uses) == 3 * number, "the process has looked", PATIENCE)  # type: ignore[misc]  # mypy cannot infer it
        process = self.new_process(look_threads=NoThreads())
        self.ask(process=process)
        for _ in range(9):
            self.now += 1
            self.ask(process=process)
            self.shared.uses.clear()
            self.ask(process=process)
            self.assertEqual(["get", "read_state", "read_state"], self.shared.uses)

    def test_looks_under_way(self) -> None:
        """Eight looks are under way at a time, however slow the shared tier is: other requests need threads, too."""
        refusals = Refusals()
        for number in range(10):
            refusals.note(f"event {number}", BackingOff(30), NOW)
        due = [refusals.get(f"event {number}", NOW + 1) for number in range(10)]
        claimed = [refusal is not None and refusals.claims_look(refusal, NOW + 1) for refusal in due]
        self.assertEqual(8 * [True] + 2 * [False], claimed)
        refusals.end_look()
        for seconds, expected in ((1.05, [False, False]), (1.15, [True, False])):
            claimed = [refusal is not None and refusals.claims_look(refusal, NOW + seconds) for refusal in due[8:]]
            self.assertEqual(expected, claimed)

    def test_nothing_to_give(self) -> None:
        """What has no stale copy is not remembered: no request could be served with it."""
        self.ask(event_id="coffee")
        self.assertNotIn("coffee", self.process.refused)
        self.assertIn("tea", self.process.refused)

    def test_bound(self) -> None:
        """However many events are refused, the process knows it of so many and no more, and then forgets them."""
        refusals = Refusals()
        for number in range(100_000):
            refusals.note(f"event {number}", BackingOff(30), NOW)
        self.assertTrue(all(refusals.get(f"event {number}", NOW) for number in range(100_000)))
        refusals.note("one more", BackingOff(30), NOW)
        self.assertIsNotNone(refusals.get("one more", NOW))
        self.assertFalse(any(refusals.get(f"event {number}", NOW) for number in range(100_000)))


class AccountTest(EventsTest):
    """What a reply says of a fetch besides its result."""

    def test_how_long_c42_took(self) -> None:
        """The reply to the request that led the fetch says how long C42 took; a hit or a collapsed reply does not."""
        self.hold(NOW - 300)
        for reply in (self.ask(self.fails()), self.ask(self.fails(), event_id="coffee"), self.ask(event_id="milk")):
            assert reply.handling is not None
            assert reply.handling.upstream_seconds is not None
            self.assertTrue(0 <= reply.handling.upstream_seconds < PATIENCE, reply.handling)
        self.assertIsNone(self.ask(event_id="milk").handling)
        waiting = [self.process.ask("sugar", self.after_gate(self.says())) for _ in range(2)]
        self.gate.set()
        first, second = (self.end(pending) for pending in waiting)
        assert first.handling is not None
        assert second.handling is not None
        self.assertIsNotNone(first.handling.upstream_seconds)
        self.assertIsNone(second.handling.upstream_seconds)

    def test_outcome(self) -> None:
        """In a word: miss, hit, stale, error, or collapsed for those who waited."""
        waiting = [self.process.ask("tea", self.after_gate(self.says())) for _ in range(2)]
        self.gate.set()
        outcomes = [self.end(pending).outcome for pending in waiting]
        outcomes.append(self.ask().outcome)
        self.now = NOW + TTL
        outcomes += [self.ask(self.fails()).outcome, self.ask(self.fails(), event_id="coffee").outcome]
        self.assertEqual(["miss", "collapsed", "hit", "stale", "error"], outcomes)


class ProbeTest(EventsTest):
    def test_broken_off(self) -> None:
        """If a back-off breaks a probe off, the next fetch may probe."""
        for number in range(5):
            self.ask(self.fails(), event_id=f"event {number}")
        self.now += 5

        def back_off_meanwhile() -> Combined:
            raise BackingOff(1)

        self.assert_told(self.ask(back_off_meanwhile), BackingOff, "detail=told-to-wait")
        self.assert_told(self.ask(), b"tea", "fwd=uri-miss; stored; fwd-status=200")


class OverloadedTest(EventsTest):
    def test_so_many_and_no_more(self) -> None:
        """256 fetches run at once and 1,000 wait for a slot; one more is overloaded, or gets an expired answer."""
        fetch = self.after_gate(self.says())

        def ask(number: int) -> Pending:
            return self.process.ask(f"event {number}", fetch)

        waiting = [ask(number) for number in range(FETCHES_AT_ONCE)]
        for _ in waiting:
            self.assertTrue(self.begun.acquire(timeout=PATIENCE))
        waiting += [ask(FETCHES_AT_ONCE + number) for number in range(MAX_WAITING + 1)]
        wait([pending.search for pending in waiting], PATIENCE, FIRST_COMPLETED)
        (refused,) = (pending for pending in waiting if pending.search.done())
        self.assert_told(self.process.reply_for(refused), Overloaded, "detail=busy")
        self.hold(NOW - 300)
        self.assert_told(self.ask(), b"held", "hit; ttl=-48; detail=stale-if-error")
        # What is fresh in the shared tier is found nevertheless, by requests beyond all limits.
        self.shared.put("coffee", Entry(200, b"fresh", NOW - 100), NOW)
        self.assert_told(self.ask(event_id="coffee"), b"fresh", "hit; ttl=152")
        self.gate.set()
        told = {cache_status(self.end(pending)) for pending in waiting if pending is not refused}
        self.assertEqual({"c42-proxy; fwd=uri-miss; stored; fwd-status=200"}, told)
        self.assert_asked(FETCHES_AT_ONCE + MAX_WAITING)
        # All that have ended have made room.
        self.assert_told(self.ask(event_id="milk"), b"tea", "fwd=uri-miss; stored; fwd-status=200")

    def test_no_thread(self) -> None:
        """If no thread can be started, the fetch never runs, not even later; what is fresh is found in each tier."""
        self.hold(NOW - 100)
        self.assert_told(self.ask(), b"held", "hit; ttl=152")
        self.shared.put("milk", Entry(200, b"held", NOW - 100), NOW)
        with no_new_thread():
            self.assert_told(self.ask(), b"held", "hit; ttl=152")
            self.assert_told(self.ask(event_id="milk"), b"held", "hit; ttl=152")
            self.assert_told(self.ask(event_id="coffee"), Overloaded, "detail=busy")
            # A thread that may block looks itself, if there was never a look thread.
            new = self.another()
            self.assert_told(self.ask(event_id="milk", process=new), b"held", "hit; ttl=152")
            self.assert_told(self.ask(event_id="coffee", process=new), Overloaded, "detail=busy")
        self.assert_told(self.ask(event_id="coffee"), b"tea", "fwd=uri-miss; stored; fwd-status=200")
        self.assert_asked(1)

    def test_must_not_block(self) -> None:
        """A request in a thread that must not block, as that of the event loop, does not look there itself."""
        self.process = self.new_process(look_threads=NoThreads())
        self.hold(NOW)
        self.assert_told(self.end(self.process.ask("tea", self.says())), Overloaded, "detail=busy")

    def test_started(self) -> None:
        """A process that has started finds what is fresh in the shared tier without a new thread."""
        self.hold(NOW)
        self.process.start()
        with no_new_thread():
            self.assert_told(self.end(self.process.ask("tea", self.says())), b"held", "hit; ttl=252")

    def test_must_not_wait(self) -> None:
        """A request that must not wait for C42 gets what is fresh in any tier, or what it would get in an overload."""
        self.addCleanup(may_wait.reset, may_wait.set(False))
        self.shared.put("milk", Entry(200, b"held", NOW - 100), NOW)
        self.assert_told(self.ask(event_id="milk"), b"held", "hit; ttl=152")
        self.assert_told(self.ask(event_id="coffee"), Overloaded, "detail=busy")
        self.hold(NOW - 300)
        self.assert_told(self.ask(), b"held", "hit; ttl=-48; detail=stale-if-error")
        self.shared.hangs = Fails(StoreNotReached("no descriptor is free"))
        self.assert_told(self.ask(event_id="coffee"), Overloaded, "detail=busy")
        self.assert_told(self.ask(), b"held", "hit; ttl=-48; detail=stale-if-error")
        self.assert_asked(0)

    def wait_for_a_slot(self, *, budget: float = BUDGET) -> Pending:
        """The process fetches as much as it may, and the tea waits for a slot."""
        self.process = self.new_process(budget=budget)
        metrics, fetch = self.metrics, self.after_gate(self.says())
        for number in range(FETCHES_AT_ONCE):
            self.process.ask(f"event {number}", fetch)
        for _ in range(FETCHES_AT_ONCE):
            self.assertTrue(self.begun.acquire(timeout=PATIENCE))
        pending = self.process.ask("tea", self.says(b"asked again"))
        until(lambda: b"c42_proxy_fetches_waiting 1.0" in metrics.exposition(), "that it waits for a slot")
        return pending

    def test_no_lease_without_a_slot(self) -> None:
        """While an event waits for a slot, another process may fetch it; then that is the answer here, too."""
        pending = self.wait_for_a_slot()
        self.assert_told(self.ask(process=self.another()), b"tea", "fwd=uri-miss; stored; fwd-status=200")
        self.gate.set()
        self.assert_told(self.end(pending), b"tea", "hit; ttl=252")

    def test_found_after_waiting_in_vain(self) -> None:
        """A search that waits in vain for a slot finds what another process has put into the shared tier meanwhile."""
        pending = self.wait_for_a_slot(budget=0.5)
        self.hold(NOW - 100)
        # As long as the others have their slots.
        wait([pending.search], PATIENCE / 2)
        self.assert_told(self.process.reply_for(pending), b"held", "hit; ttl=152")

    def test_no_slot_while_another_process_has_the_lease(self) -> None:
        """However many events wait for another process, this one can fetch as much as ever."""
        with ExitStack() as elsewhere:
            waiting = []
            for number in range(FETCHES_AT_ONCE):
                lease = self.shared.lease(f"event {number}")
                assert lease is not None
                elsewhere.enter_context(lease)
                waiting.append(self.process.ask(f"event {number}", self.says()))
            until(lambda: self.shared.times_asked >= 3 * FETCHES_AT_ONCE, "that all wait for the other process")
            self.assert_told(self.ask(), b"tea", "fwd=uri-miss; stored; fwd-status=200")
        for pending in waiting:
            self.assert_told(self.end(pending), b"tea", "fwd=uri-miss; stored; fwd-status=200")


if __name__ == "__main__":
    unittest.main()
