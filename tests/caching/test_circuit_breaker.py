"""When C42 must be left alone: while it told us to wait, and while it is down."""

import json
import re
import threading
import time
import unittest
from collections.abc import Callable
from contextlib import closing
from unittest.mock import patch

import responses
from pydantic import SecretStr
from requests import PreparedRequest

from c42_proxy.app import build
from c42_proxy.caching.circuit_breaker import STATE, CircuitBreaker
from c42_proxy.caching.reply import Failed, Reply
from c42_proxy.errors import (
    BackingOff,
    CircuitOpen,
    InvalidAnswer,
    NotAsked,
    RateLimited,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from c42_proxy.observability.metrics import Metrics
from c42_proxy.sandbox import shapes
from c42_proxy.settings import Settings
from c42_proxy.stores.contract import SharedStates
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.web.responses import cache_status

NOW = 1_700_000_000.0
PROBE_SECONDS = 8.0
PATIENCE = 5.0
API_URL = "https://c42.example/api/v2/"

Answer = tuple[int, dict[str, str], str]


class BreakerTest(unittest.TestCase):
    """A guard that takes C42 for down after three failures in a row."""

    def setUp(self) -> None:
        self.now = NOW
        self.store = MemoryStore(100_000)
        self.breaker = self.new_breaker()

    def new_breaker(self, threshold: int = 3, store: SharedStates | None = None) -> CircuitBreaker:
        return CircuitBreaker(
            store or self.store,
            clock=lambda: self.now,
            threshold=threshold,
            probe_seconds=PROBE_SECONDS,
            metrics=Metrics(),
        )

    def fails(self, *event_ids: str, error: UpstreamError | None = None, permitted_at: float | None = None) -> None:
        """Fetches that fail now; they were permitted just now, or at `permitted_at`."""
        since = self.now if permitted_at is None else permitted_at
        for event_id in event_ids:
            self.breaker.note_failure(event_id, error or UpstreamUnavailable(500), since)

    def told(self, breaker: CircuitBreaker | None = None) -> tuple[type[NotAsked], int | None] | None:
        """What a fetch is told that wants to begin: nothing, or why not, and when to try again."""
        try:
            (breaker or self.breaker).permit()
        except NotAsked as refusal:
            return type(refusal), refusal.retry_after
        return None

    def assert_permitted(self, breaker: CircuitBreaker | None = None) -> None:
        self.assertIsNone(self.told(breaker))

    def assert_refused(self, why: type[NotAsked], seconds: int, breaker: CircuitBreaker | None = None) -> None:
        self.assertEqual((why, seconds), self.told(breaker))


class WaitTest(BreakerTest):
    def wait(self, seconds: float) -> None:
        self.breaker.begin_back_off(RateLimited(seconds, 429))

    def test_keeps_to_the_longest(self) -> None:
        """A process keeps to the longest back-off that it knows, also where the store has lost it for a shorter one."""
        self.wait(30)
        self.store.change_state(STATE, lambda _before: None, 60)
        self.new_breaker().begin_back_off(RateLimited(10, 429))
        self.assert_refused(BackingOff, 30)

    def test_to_the_microsecond(self) -> None:
        """Nobody asks before the wait is over, and anybody from then on."""
        self.assert_permitted()
        self.wait(30)
        self.assert_refused(BackingOff, 30)
        self.now = NOW + 30 - 1e-6
        self.assert_refused(BackingOff, 1)
        self.now = NOW + 30
        self.assert_permitted()

    def test_longest_wins(self) -> None:
        """Of two waits the one that ends later holds, in whichever order they are told."""
        for first, second in ((30, 10), (10, 30)):
            with self.subTest(first=first, second=second):
                self.store = MemoryStore(100_000)
                self.breaker = self.new_breaker()
                self.wait(first)
                self.wait(second)
                self.assert_refused(BackingOff, 30)

    def test_an_old_wait_is_no_longer_the_longest(self) -> None:
        """A wait that nobody can believe any more, for the clock was set back, does not hide a new one."""
        self.wait(3600)
        self.now = NOW - 100
        self.wait(10)
        self.assert_refused(BackingOff, 10)
        self.now += 10
        self.assert_permitted()

    def test_clock_set_back(self) -> None:
        """A wait that begins more than a second ahead is void; less is skew between hosts."""
        self.wait(30)
        self.now = NOW - 1
        self.assert_refused(BackingOff, 31)
        self.now = NOW - 1.001
        self.assert_permitted()

    def test_longer_than_an_hour(self) -> None:
        """A note that speaks of more than an hour is none of ours, and void."""
        for seconds, held in ((3600.0, True), (3601.0, False)):
            with self.subTest(seconds=seconds):
                note = json.dumps({"wait": {"since": NOW, "until": NOW + seconds}})
                self.store.change_state(STATE, lambda _, note=note: note, 3600)  # type: ignore[misc]  # mypy infers no type for it
                self.assertEqual((BackingOff, 3600) if held else None, self.told(self.new_breaker()))

    def test_others_on_the_store(self) -> None:
        """What one is told, all who share the store keep to."""
        other = self.new_breaker()
        self.assert_permitted(other)
        self.wait(30)
        self.assert_refused(BackingOff, 30, other)
        with self.assertRaises(BackingOff):
            other.check_back_off()

    def test_store_that_forgets(self) -> None:
        """A process that knows of a wait keeps to it, whatever the store has forgotten since."""
        self.wait(30)
        self.store.change_state(STATE, lambda _: None, 0)
        self.assert_refused(BackingOff, 30)
        self.now = NOW + 30
        self.assert_permitted()

    def test_void_wait_hides_none(self) -> None:
        """A void wait in the store, however long, does not make this process forget the one that it was told."""
        self.wait(30)
        void = json.dumps({"wait": {"since": NOW + 1.5, "until": NOW + 300}})
        self.store.change_state(STATE, lambda _: void, 3600)
        self.assert_refused(BackingOff, 30)

    def test_success_does_not_end_it(self) -> None:
        """An answer that comes during a wait says nothing about the wait."""
        self.wait(30)
        self.fails("a", "b", "c")
        self.breaker.note_success()
        self.assert_refused(BackingOff, 30)

    def test_wait_before_pause(self) -> None:
        """A wish to wait is told rather than that C42 is down."""
        self.wait(30)
        self.fails("a", "b", "c")
        self.assert_refused(BackingOff, 30)


class DownTest(BreakerTest):
    def test_three_events(self) -> None:
        """Failures of three events in a row start a pause of five seconds, to the microsecond."""
        self.fails("a", "b")
        self.assert_permitted()
        self.fails("c")
        self.assert_refused(CircuitOpen, 5)
        self.now = NOW + 5 - 1e-6
        self.assert_refused(CircuitOpen, 1)
        self.now = NOW + 5
        self.assert_permitted()

    def test_an_event_counts_once(self) -> None:
        """However often an event fails, and whatever fails in between, it counts once."""
        self.fails("a", "a", "b", "a", "b", "b", "a")
        self.assert_permitted()
        self.fails("c")
        self.assert_refused(CircuitOpen, 5)

    def test_time_out_counts(self) -> None:
        """A time-out is a failure like any other."""
        self.fails("a", "b", "c", error=UpstreamTimeout())
        self.assert_refused(CircuitOpen, 5)

    def test_no_sign_of_being_down(self) -> None:
        """A refused token, nonsense and a wish to wait count for nothing, and against nothing."""
        self.fails("a", "b")
        for error in (TokenRefused(401), InvalidAnswer("nonsense", 200), RateLimited(0, 429)):
            self.fails("c", "d", "e", "f", error=error)
        self.assert_permitted()
        self.fails("c")
        self.assert_refused(CircuitOpen, 5)

    def test_success_clears_the_count(self) -> None:
        """After an answer, the count begins anew."""
        self.fails("a", "b")
        self.breaker.note_success()
        self.fails("c", "d")
        self.assert_permitted()
        self.fails("a")
        self.assert_refused(CircuitOpen, 5)

    def test_success_ends_no_back_off(self) -> None:
        """A fetch that succeeds after another one was asked to wait closes the breaker, and ends no back-off."""
        self.fails("a")
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.breaker.note_success()
        self.assert_refused(BackingOff, 30, self.new_breaker())

    def test_success_ends_the_pause(self) -> None:
        """An answer, also of a fetch that began before it, ends the pause for all."""
        self.fails("a", "b", "c")
        self.breaker.note_success()
        self.assert_permitted()
        self.assert_permitted()

    def test_failure_during_the_pause(self) -> None:
        """Fetches that were under way and fail during the pause do not prolong it."""
        self.fails("a", "b", "c")
        self.now = NOW + 3
        self.fails("d", "e")
        self.now = NOW + 5
        self.assert_permitted()

    def test_old_fetch_during_a_probe(self) -> None:
        """A fetch that began before the breaker opened, and fails late, neither ends a probe nor opens it again."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_permitted()
        for error in (UpstreamTimeout(), UpstreamUnavailable(500), TokenRefused(401), InvalidAnswer("nonsense", 200)):
            with self.subTest(error=error):
                self.fails("old", error=error, permitted_at=NOW + 4.999)
                self.assert_refused(CircuitOpen, 1)
        self.breaker.note_success()
        self.assert_permitted()

    def test_old_fetch_while_half_open(self) -> None:
        """The same before anybody probes: the next one may."""
        self.fails("a", "b", "c")
        self.now = NOW + 6
        self.fails("old", permitted_at=NOW - 4)
        self.assert_permitted()

    def test_one_trial_at_a_time(self) -> None:
        """After the pause one may try; the others are told to come again in a second."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_permitted()
        self.assert_refused(CircuitOpen, 1)
        self.assert_refused(CircuitOpen, 1, self.new_breaker())

    def test_trial_of_another_that_fails_meanwhile(self) -> None:
        """Who finds the pause over, but takes the trial only when another one has renewed it, is refused."""
        self.fails("a", "b", "c")
        self.now += 5
        self.assert_permitted()
        looks = 0

        def clock() -> float:
            nonlocal looks
            looks += 1
            if looks == 3:  # it has read that the pause is over, and looks at the time once more to take the trial
                self.fails("d")
            return self.now

        slow = CircuitBreaker(self.store, clock=clock, threshold=3, probe_seconds=PROBE_SECONDS, metrics=Metrics())
        self.assert_refused(CircuitOpen, 5, slow)
        self.assertGreaterEqual(looks, 3)
        self.now += 4.999
        self.assert_refused(CircuitOpen, 1)
        self.now += 0.001
        self.assert_permitted()

    def test_trial_succeeds(self) -> None:
        """A trial that succeeds ends the pause."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_permitted()
        self.breaker.note_success()
        self.assert_permitted()
        self.assert_permitted()

    def test_trial_fails(self) -> None:
        """A trial that fails renews the pause, counted from the failure; the next trial is on its own."""
        self.fails("a", "b", "c")
        for round_number in range(1, 4):
            self.now = NOW + 7 * round_number
            self.assert_permitted()
            self.now += 2
            self.fails(f"d{round_number}")
            self.assert_refused(CircuitOpen, 5)
            self.now += 4.9
            self.assert_refused(CircuitOpen, 1)

    def test_trial_of_the_event_that_failed_last(self) -> None:
        """A trial of the event that failed last renews nothing: the next one may try at once."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_permitted()
        self.fails("c")
        self.assert_permitted()
        self.assert_refused(CircuitOpen, 1)
        self.fails("b")
        self.assert_refused(CircuitOpen, 5)

    def test_trial_that_says_nothing(self) -> None:
        """A trial that ends in a refused token, nonsense or a broken off fetch lets the next one try at once."""
        for error in (TokenRefused(401), InvalidAnswer("nonsense", 200), BackingOff(0)):
            with self.subTest(error=error):
                self.store = MemoryStore(100_000)
                self.breaker = self.new_breaker()
                self.now = NOW
                self.fails("a", "b", "c")
                self.now = NOW + 5
                self.assert_permitted()
                self.breaker.note_failure("d", error, self.now)
                self.assert_permitted()
                self.assert_refused(CircuitOpen, 1)

    def test_trial_that_dies(self) -> None:
        """Where nobody hears of a trial again, another may try after twice the budget."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_permitted()
        self.now += PROBE_SECONDS - 0.001
        self.assert_refused(CircuitOpen, 1)
        self.now += 0.001
        self.assert_permitted()
        self.assert_refused(CircuitOpen, 1)

    def test_clock_set_back(self) -> None:
        """A pause, or a trial, that begins more than a second ahead holds nobody up."""
        self.fails("a", "b", "c")
        self.now = NOW - 1
        self.assert_refused(CircuitOpen, 6)
        self.now = NOW - 1.001
        self.assert_permitted()
        self.assert_permitted()

    def test_clock_set_back_during_probe(self) -> None:
        """A probe is one also where the clock was set back while it ran: its failure opens the breaker again."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        permitted_at = self.breaker.permit()
        self.now = NOW + 4.5
        self.fails("d", permitted_at=permitted_at)
        self.assert_refused(CircuitOpen, 5)
        self.now = NOW + 9.5
        self.assert_permitted()

    def test_trial_and_clock_set_back(self) -> None:
        """A trial that begins more than a second ahead does not keep the next one from trying."""
        self.fails("a", "b", "c")
        self.now = NOW + 20
        self.assert_permitted()
        self.now = NOW + 10
        self.assert_permitted()
        self.assert_refused(CircuitOpen, 1)

    def test_never(self) -> None:
        """With a threshold of 0 nothing is a sign of being down, and others on the store hear of no failure."""
        self.breaker = self.new_breaker(threshold=0)
        self.fails(*(f"event {number}" for number in range(100)))
        self.assert_permitted()
        self.assert_permitted(self.new_breaker())

    def test_never_whatever_others_think(self) -> None:
        """With a threshold of 0 a pause that others have noted, or we did before a restart, holds nobody up."""
        self.fails("a", "b", "c")
        careless = self.new_breaker(threshold=0)
        for self.now in (NOW, NOW + 5):
            for _ in range(2):
                self.assert_permitted(careless)

    def test_first_failure(self) -> None:
        """With a threshold of 1 the first failure is enough."""
        self.breaker = self.new_breaker(threshold=1)
        self.fails("a")
        self.assert_refused(CircuitOpen, 5)

    def test_shared(self) -> None:
        """Failures, pause, trial and success are everybody's who shares the store."""
        one, other = self.new_breaker(), self.new_breaker()
        for guard, event_id in ((one, "a"), (other, "b"), (one, "c")):
            guard.note_failure(event_id, UpstreamUnavailable(None), self.now)
        self.assert_refused(CircuitOpen, 5, one)
        self.assert_refused(CircuitOpen, 5, other)
        self.now = NOW + 5
        self.assert_permitted(other)
        self.assert_refused(CircuitOpen, 1, one)
        other.note_success()
        self.assert_permitted(one)


class DegradedTest(BreakerTest):
    """What `/readyz` says: the state that decides whether C42 is asked."""

    def test_well(self) -> None:
        """While C42 is well, there is nothing to say."""
        self.fails("a", "b")
        self.assertEqual([], self.breaker.degraded())

    def test_of_others(self) -> None:
        """A process names what only others have met: an open breaker, a back-off, a refused token."""
        self.fails("a", "b", "c")
        self.assertEqual(["c42-down"], self.new_breaker().degraded())
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.assertEqual(["told-to-wait", "c42-down"], self.new_breaker().degraded())
        self.now += 30
        self.assertEqual([], self.new_breaker().degraded())
        self.fails("a", error=TokenRefused(401))
        self.assertEqual(["token-refused"], self.new_breaker().degraded())

    def test_without_a_breaker(self) -> None:
        """A process that has no breaker names none, whatever others think of C42."""
        self.fails("a", "b", "c")
        self.assertEqual([], self.new_breaker(0).degraded())

    def test_token_accepted_again(self) -> None:
        """A refused token is named until C42 answers, also without a breaker."""
        for threshold in (3, 0):
            self.breaker = self.new_breaker(threshold)
            self.fails("a", "b", error=TokenRefused(403))
            self.assertEqual(["token-refused"], self.breaker.degraded())
            self.breaker.note_success()
            self.assertEqual([], self.breaker.degraded())

    def test_token_refused_is_noted_once(self) -> None:
        """However many fetches a refused token fails, the state is written once."""
        self.fails("a", error=TokenRefused(401))
        store = MemoryStore(100_000)
        store.change_state(STATE, lambda _before: self.store.read_state(STATE), 3600)
        self.breaker = self.new_breaker(store=store)
        with patch.object(store, "change_state", side_effect=AssertionError("written again")):
            self.fails("a", "b", error=TokenRefused(401))

    def test_clock_set_back(self) -> None:
        """After the clock was set back, an open breaker and a back-off are void here, too."""
        self.fails("a", "b", "c")
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.now = NOW - 1.001
        self.assertEqual([], self.breaker.degraded())
        self.assert_permitted()


class MetricsTest(BreakerTest):
    def test_until_when(self) -> None:
        """Operators see until when the breaker is open, and until when there is a back-off."""

        def shown(name: str) -> float:
            (line,) = (line for line in metrics.exposition().decode().splitlines() if line.startswith(f"{name} "))
            return float(line.rpartition(" ")[2])

        metrics = Metrics()
        self.breaker = CircuitBreaker(
            self.store, clock=lambda: self.now, threshold=1, probe_seconds=PROBE_SECONDS, metrics=metrics
        )
        self.fails("a")
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.assertEqual(NOW + 5, shown("c42_proxy_upstream_paused_until_timestamp_seconds"))
        self.assertEqual(NOW + 30, shown("c42_proxy_upstream_wait_until_timestamp_seconds"))
        self.breaker.note_success()
        self.assertEqual(0, shown("c42_proxy_upstream_paused_until_timestamp_seconds"))


class NoteTest(BreakerTest):
    def test_names_of_0_1(self) -> None:
        """The state is kept under the names that version 0.1 reads: both may run on one store."""
        self.fails("a", "b", "c")
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.now += 31
        self.assert_permitted()
        kept = json.loads(self.store.read_state("guard") or "")
        self.assertLessEqual({"wait", "pause", "trial", "failed"}, kept.keys())
        self.assertEqual({"since": NOW, "until": NOW + 5}, kept["pause"])

    def test_garbage(self) -> None:
        """A note that is not ours says nothing, and is replaced by the next that is."""
        span = {"since": NOW, "until": NOW + 30}
        notes: list[object] = [
            *([], {}, 7, None, "text", {"wait": 7}, {"pause": []}, {"failed": "abc"}, {"failed": [1, 2, 3]}),
            {"wait": {**span, "until": "2033"}},
            {"wait": {**span, "until": float("inf")}},
            {"wait": {**span, "since": float("nan")}},
            {"pause": {**span, "until": float("nan")}},
            {"pause": {"since": NOW}},
            {"token_refused": 1},
        ]
        for text in ("", "{", "\x00", *map(json.dumps, notes)):
            with self.subTest(note=text):
                self.store.change_state(STATE, lambda _, text=text: text, 3600)  # type: ignore[misc]  # mypy infers no type for it
                self.breaker = self.new_breaker()
                self.assertEqual([], self.breaker.degraded())
                self.assert_permitted()
                self.breaker.note_success()
                self.fails("a", "b")
                self.assert_permitted()
                self.fails("c")
                self.assert_refused(CircuitOpen, 5)

    def test_nothing_to_say(self) -> None:
        """While all is well there is no note."""
        self.breaker.note_success()
        self.fails("a", error=InvalidAnswer("nonsense", 200))
        self.assertIsNone(self.store.read_state(STATE))
        self.fails("a")
        self.assertIsNotNone(self.store.read_state(STATE))
        self.breaker.note_success()
        self.assertIsNone(self.store.read_state(STATE))


class FetchTest(BreakerTest):
    """The guard between real fetches and a C42 of which only the wire is faked."""

    def setUp(self) -> None:
        super().setUp()
        self.calls: list[str] = []
        self.event: Callable[[str], Answer] = lambda event_id: (
            200,
            {},
            json.dumps(shapes.page([shapes.event(event_id, "Tea")])),
        )
        self.page: Callable[[str], Answer] = lambda _: (200, {}, json.dumps(shapes.page([], count=0)))
        wire = self.enterContext(responses.RequestsMock(assert_all_requests_are_fired=False))
        wire.add_callback(responses.GET, re.compile(f"{API_URL}events/"), self.answer_event)
        wire.add_callback(responses.GET, re.compile(f"{API_URL}event-subscriptions/"), self.answer_page)
        settings = Settings(
            api_url=API_URL,
            api_token=SecretStr("token"),
            cache_url="memory://",
            breaker_threshold=3,
            stale_if_error=0,
            timeout=PATIENCE,
        )
        self.events = self.enterContext(closing(build(settings, clock=lambda: self.now, store=self.store))).events

    def answer_event(self, request: PreparedRequest) -> Answer:
        return self.event(str(request.url).rstrip("/").rpartition("/")[2])

    def answer_page(self, request: PreparedRequest) -> Answer:
        self.calls.append(str(request.url))
        return self.page(str(request.url))

    def limit(self, _: str, retry_after: str = "30") -> Answer:
        return 429, {"Retry-After": retry_after}, "{}"

    def full_page(self, event_id: str) -> Answer:
        people = [shapes.subscription(event_id, number, shapes.Person("A")) for number in range(100)]
        return 200, {}, json.dumps(shapes.page(people, count=300))

    def status(self, reply: Reply) -> int:
        return reply.problem.status if isinstance(reply, Failed) else reply.entry.status

    def test_noted_although_another_call_decides(self) -> None:
        """The subscriptions' wish to wait is kept to, although the event's 404 had answered before it came."""
        asked, answered = threading.Event(), threading.Event()

        def late(url: str) -> Answer:
            asked.set()
            self.assertTrue(answered.wait(PATIENCE))
            return self.limit(url)

        def gone(_: str) -> Answer:
            self.assertTrue(asked.wait(PATIENCE))
            return 404, {}, "{}"

        self.event, self.page = gone, late
        self.assertEqual(404, self.status(self.events.reply("tea")))
        self.assert_permitted()
        answered.set()
        end = time.monotonic() + PATIENCE
        while self.told() is None:
            self.assertLess(time.monotonic(), end, "the wait was not noted")
            time.sleep(0.005)
        self.assert_refused(BackingOff, 30)

    def test_capped_at_an_hour(self) -> None:
        """Whatever C42 says, nobody waits longer than an hour for it."""
        self.event = lambda url: self.limit(url, "7200")
        self.assertEqual(503, self.status(self.events.reply("tea")))
        self.now = NOW + 3600 - 0.001
        self.assert_refused(BackingOff, 1)
        self.now = NOW + 3600
        self.assert_permitted()

    def test_no_further_page(self) -> None:
        """A fetch under way asks for no further page after another one was told to wait."""

        answer = self.event

        def page(url: str) -> Answer:
            if "offset=0" in url and "tea" in url:
                # Both calls are made at once: the one for the tea itself may be still to come.
                self.event = lambda event_id: answer(event_id) if event_id == "tea" else self.limit(event_id)
                self.assertEqual(503, self.status(self.events.reply("coffee")))
                return self.full_page("tea")
            return self.full_page("coffee")

        self.page = page
        reply = self.events.reply("tea")
        assert isinstance(reply, Failed)
        self.assertIsInstance(reply.problem, BackingOff)
        self.assertEqual([], [url for url in self.calls if "tea" in url and "offset=0" not in url])
        self.assertEqual("c42-proxy; detail=told-to-wait", cache_status(reply))

    def test_no_further_page_after_another_process_was_told(self) -> None:
        """The same where it was another process that was told: it stands in the store."""
        elsewhere = self.new_breaker()

        def page(_url: str) -> Answer:
            elsewhere.begin_back_off(RateLimited(30, 429))
            return self.full_page("tea")

        self.page = page
        reply = self.events.reply("tea")
        assert isinstance(reply, Failed)
        self.assertIsInstance(reply.problem, BackingOff)
        self.assertEqual([], [url for url in self.calls if "offset" in url and "offset=0" not in url])
