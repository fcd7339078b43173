"""When C42 may not be asked: during a back-off, and while the circuit breaker is open."""

import json
import re
import threading
import time
import unittest
from collections.abc import Callable, Sequence
from contextlib import closing
from unittest.mock import patch

import responses
from pydantic import SecretStr
from requests import PreparedRequest

from c42_proxy.app import build
from c42_proxy.caching.circuit_breaker import BREAKER_NAME, CircuitBreaker
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
    """A breaker that opens after three failures in a row."""

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

    def fails(self, *event_ids: str, error: UpstreamError | None = None, allowed_at: float | None = None) -> None:
        """Fetches that fail now; they were allowed just now, or at `allowed_at`."""
        since = self.now if allowed_at is None else allowed_at
        for event_id in event_ids:
            self.breaker.note_failure(event_id, error or UpstreamUnavailable(500), since)

    def refusal(self, breaker: CircuitBreaker | None = None) -> tuple[type[NotAsked], int | None] | None:
        """Why a fetch may not begin now, and when to try again; None if it may begin."""
        try:
            breaker = breaker or self.breaker
            breaker.allow_fetch(breaker.read())
        except NotAsked as refusal:
            return type(refusal), refusal.retry_after
        return None

    def assert_allowed(self, breaker: CircuitBreaker | None = None) -> None:
        self.assertIsNone(self.refusal(breaker))

    def assert_refused(self, why: type[NotAsked], seconds: int, breaker: CircuitBreaker | None = None) -> None:
        self.assertEqual((why, seconds), self.refusal(breaker))


class BackOffTest(BreakerTest):
    def back_off(self, seconds: float) -> None:
        self.breaker.begin_back_off(RateLimited(seconds, 429))

    def test_keeps_to_the_longest(self) -> None:
        """A process keeps to the longest back-off that it knows, also where the store has lost it for a shorter one."""
        self.back_off(30)
        self.store.change_state(BREAKER_NAME, lambda _before: None, 60)
        self.new_breaker().begin_back_off(RateLimited(10, 429))
        self.assert_refused(BackingOff, 30)

    def test_to_the_microsecond(self) -> None:
        """Nobody may ask before the back-off is over, and anybody from then on."""
        self.assert_allowed()
        self.back_off(30)
        self.assert_refused(BackingOff, 30)
        self.now = NOW + 30 - 1e-6
        self.assert_refused(BackingOff, 1)
        self.now = NOW + 30
        self.assert_allowed()

    def test_longest_wins(self) -> None:
        """Of two back-offs the one that ends later counts, in whichever order C42 asks for them."""
        for first, second in ((30, 10), (10, 30)):
            with self.subTest(first=first, second=second):
                self.store = MemoryStore(100_000)
                self.breaker = self.new_breaker()
                self.back_off(first)
                self.back_off(second)
                self.assert_refused(BackingOff, 30)

    def test_a_void_back_off_is_not_the_longest(self) -> None:
        """A back-off that is void because the clock was set back does not hide a new one."""
        self.back_off(3600)
        self.now = NOW - 100
        self.back_off(10)
        self.assert_refused(BackingOff, 10)
        self.now += 10
        self.assert_allowed()

    def test_clock_set_back(self) -> None:
        """A back-off that begins more than a second ahead is void; less is skew between hosts."""
        self.back_off(30)
        self.now = NOW - 1
        self.assert_refused(BackingOff, 31)
        self.now = NOW - 1.001
        self.assert_allowed()

    def test_longer_than_an_hour(self) -> None:
        """A back-off of more than an hour is none of ours, and void."""
        for seconds, held in ((3600.0, True), (3601.0, False)):
            with self.subTest(seconds=seconds):
                state = json.dumps({"wait": {"since": NOW, "until": NOW + seconds}})
                self.store.change_state(BREAKER_NAME, lambda _, state=state: state, 3600)  # type: ignore[misc]  # mypy infers no type for it
                self.assertEqual((BackingOff, 3600) if held else None, self.refusal(self.new_breaker()))

    def test_others_on_the_store(self) -> None:
        """A back-off that one process is asked for is kept by all processes on the store."""
        other = self.new_breaker()
        self.assert_allowed(other)
        self.back_off(30)
        self.assert_refused(BackingOff, 30, other)
        with self.assertRaises(BackingOff):
            other.check_back_off()

    def test_store_that_forgets(self) -> None:
        """A process that knows of a back-off keeps to it, even if the store has lost it since."""
        self.back_off(30)
        self.store.change_state(BREAKER_NAME, lambda _: None, 0)
        self.assert_refused(BackingOff, 30)
        self.now = NOW + 30
        self.assert_allowed()

    def test_void_back_off_hides_none(self) -> None:
        """A void back-off in the store, however long, does not make this process forget the one that it knows."""
        self.back_off(30)
        void = json.dumps({"wait": {"since": NOW + 1.5, "until": NOW + 300}})
        self.store.change_state(BREAKER_NAME, lambda _: void, 3600)
        self.assert_refused(BackingOff, 30)

    def test_success_does_not_end_it(self) -> None:
        """A success during a back-off does not end the back-off."""
        self.back_off(30)
        self.fails("a", "b", "c")
        self.breaker.note_success(self.now)
        self.assert_refused(BackingOff, 30)

    def test_back_off_before_open_breaker(self) -> None:
        """If there is a back-off and the breaker is open, the back-off is the reason that is given."""
        self.back_off(30)
        self.fails("a", "b", "c")
        self.assert_refused(BackingOff, 30)


class OpenTest(BreakerTest):
    def test_three_events(self) -> None:
        """Failures of three events in a row open the breaker for five seconds, to the microsecond."""
        self.fails("a", "b")
        self.assert_allowed()
        self.fails("c")
        self.assert_refused(CircuitOpen, 5)
        self.now = NOW + 5 - 1e-6
        self.assert_refused(CircuitOpen, 1)
        self.now = NOW + 5
        self.assert_allowed()

    def test_an_event_counts_once(self) -> None:
        """However often an event fails, and whatever fails in between, it counts once."""
        self.fails("a", "a", "b", "a", "b", "b", "a")
        self.assert_allowed()
        self.fails("c")
        self.assert_refused(CircuitOpen, 5)

    def test_time_out_counts(self) -> None:
        """A time-out is a failure like any other."""
        self.fails("a", "b", "c", error=UpstreamTimeout())
        self.assert_refused(CircuitOpen, 5)

    def test_no_sign_of_being_down(self) -> None:
        """A refused token, an invalid answer and a 429 neither count as failures nor reset the count."""
        self.fails("a", "b")
        for error in (TokenRefused(401), InvalidAnswer("nonsense", 200), RateLimited(0, 429)):
            self.fails("c", "d", "e", "f", error=error)
        self.assert_allowed()
        self.fails("c")
        self.assert_refused(CircuitOpen, 5)

    def test_failures_and_clock_set_back(self) -> None:
        """If the clock is set back while it is open, the next failure opens it again."""
        self.fails("a", "b", "c")
        self.now = NOW - 3600
        self.assert_allowed()
        self.fails("d")
        self.assert_refused(CircuitOpen, 5)

    def test_success_clears_the_count(self) -> None:
        """After a success, the count begins anew."""
        self.fails("a", "b")
        self.breaker.note_success(self.now)
        self.fails("c", "d")
        self.assert_allowed()
        self.fails("a")
        self.assert_refused(CircuitOpen, 5)

    def test_success_ends_no_back_off(self) -> None:
        """A fetch that succeeds after another one was asked to wait closes the breaker, and ends no back-off."""
        self.fails("a")
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.breaker.note_success(self.now)
        self.assert_refused(BackingOff, 30, self.new_breaker())

    def test_success_closes(self) -> None:
        """A success, also of a fetch that began before the breaker opened, closes it; what fails then counts."""
        for at in (NOW, NOW + 2, NOW + 5):
            with self.subTest(at=at):
                self.store = MemoryStore(100_000)
                self.breaker = self.new_breaker()
                self.now = NOW
                self.fails("a", "b", "c")
                self.now = at
                self.breaker.note_success(NOW - 1)
                self.assert_allowed()
                self.assert_allowed()
                self.fails("d", "e", "f")
                self.assert_refused(CircuitOpen, 5)

    def test_failure_while_open(self) -> None:
        """Fetches that were under way and fail while the breaker is open do not keep it open for longer."""
        self.fails("a", "b", "c")
        self.now = NOW + 3
        self.fails("d", "e")
        self.now = NOW + 5
        self.assert_allowed()

    def test_old_fetch_during_a_probe(self) -> None:
        """A fetch that began before the breaker opened, and fails late, neither ends a probe nor opens it again."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_allowed()
        for error in (UpstreamTimeout(), UpstreamUnavailable(500), TokenRefused(401), InvalidAnswer("nonsense", 200)):
            with self.subTest(error=error):
                self.fails("old", error=error, allowed_at=NOW + 4.999)
                self.assert_refused(CircuitOpen, 1)
        self.breaker.note_success(self.now)
        self.assert_allowed()

    def test_old_success_during_a_probe(self) -> None:
        """A fetch that began before the breaker opened, and succeeds late, does not end a probe."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_allowed()
        self.breaker.note_success(NOW + 4.999)
        self.assert_refused(CircuitOpen, 1)
        self.fails("d")
        self.assert_refused(CircuitOpen, 5)
        self.now += 5 + PROBE_SECONDS
        self.assert_allowed()
        self.now += PROBE_SECONDS
        self.breaker.note_success(NOW + 4.999)
        self.assert_allowed()
        self.assert_allowed()

    def test_old_fetches_after_a_probe(self) -> None:
        """When a probe has closed the breaker, fetches that began before it opened do not open it again. Others do."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.breaker.note_success(self.breaker.allow_fetch(self.breaker.read()))
        self.fails("d", "e", "f", error=UpstreamTimeout(), allowed_at=NOW + 4.999)
        self.assert_allowed()
        self.fails("g", "h")
        self.breaker.note_success(self.now)
        self.fails("d", "e", "f", allowed_at=NOW + 4.999)
        self.assert_allowed()
        self.fails("d", "e", "f", allowed_at=NOW + 5)
        self.assert_refused(CircuitOpen, 5)

    def test_old_fetches_and_clock_set_back(self) -> None:
        """After the clock was set back, no fetch is taken for an old one."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.breaker.note_success(self.breaker.allow_fetch(self.breaker.read()))
        self.now = NOW - 1.001
        self.fails("d", "e", "f")
        self.assert_refused(CircuitOpen, 5)

    def test_old_fetch_while_half_open(self) -> None:
        """The same before any probe has begun: the next fetch may probe."""
        self.fails("a", "b", "c")
        self.now = NOW + 6
        self.fails("old", allowed_at=NOW - 4)
        self.assert_allowed()

    def test_one_probe_at_a_time(self) -> None:
        """While half-open, one fetch may probe; the others are refused, and may try again in a second."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_allowed()
        self.assert_refused(CircuitOpen, 1)
        self.assert_refused(CircuitOpen, 1, self.new_breaker())

    def test_check_begins_no_probe(self) -> None:
        """Whether C42 may be asked can be found out without a probe."""
        for self.now in (NOW, NOW + 5):
            self.breaker.check(self.breaker.read())
            self.breaker.check(self.breaker.read())
            self.assert_allowed()
            self.fails("a", "b", "c")
            self.assertRaises(CircuitOpen, self.breaker.check, self.breaker.read())
        self.now = NOW + 10
        self.assert_allowed()
        with self.assertRaises(CircuitOpen) as refused:
            self.breaker.check(self.breaker.read())
        self.assertEqual(1, refused.exception.retry_after)

    def test_probe_of_another_process_fails_meanwhile(self) -> None:
        """A fetch that finds the breaker half-open is refused if it is open again by the time that the probe begins."""
        self.fails("a", "b", "c")
        self.now += 5
        self.assert_allowed()
        looks = 0

        def clock() -> float:
            nonlocal looks
            looks += 1
            if looks == 3:  # it has read that the breaker is half-open, and looks at the time again to begin its probe
                self.fails("d")
            return self.now

        slow = CircuitBreaker(self.store, clock=clock, threshold=3, probe_seconds=PROBE_SECONDS, metrics=Metrics())
        self.assert_refused(CircuitOpen, 5, slow)
        self.assertGreaterEqual(looks, 3)
        self.now += 4.999
        self.assert_refused(CircuitOpen, 1)
        self.now += 0.001
        self.assert_allowed()

    def test_probe_succeeds(self) -> None:
        """A probe that succeeds closes the breaker."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_allowed()
        self.breaker.note_success(self.now)
        self.assert_allowed()
        self.assert_allowed()

    def test_probe_fails(self) -> None:
        """A probe that fails opens the breaker again, for five seconds from the failure; then one fetch may probe."""
        self.fails("a", "b", "c")
        for round_number in range(1, 4):
            self.now = NOW + 7 * round_number
            self.assert_allowed()
            self.now += 2
            self.fails(f"d{round_number}")
            self.assert_refused(CircuitOpen, 5)
            self.now += 4.9
            self.assert_refused(CircuitOpen, 1)

    def test_probe_of_the_event_that_failed_last(self) -> None:
        """A failed probe of the event that failed last does not open it: the next fetch may probe at once."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_allowed()
        self.fails("c")
        self.assert_allowed()
        self.assert_refused(CircuitOpen, 1)
        self.fails("b")
        self.assert_refused(CircuitOpen, 5)

    def test_probe_without_a_verdict(self) -> None:
        """After a probe that ends in a refused token, an invalid answer or a back-off, another may begin at once."""
        for error in (TokenRefused(401), InvalidAnswer("nonsense", 200), BackingOff(0)):
            with self.subTest(error=error):
                self.store = MemoryStore(100_000)
                self.breaker = self.new_breaker()
                self.now = NOW
                self.fails("a", "b", "c")
                self.now = NOW + 5
                self.assert_allowed()
                self.breaker.note_failure("d", error, self.now)
                self.assert_allowed()
                self.assert_refused(CircuitOpen, 1)

    def test_probe_that_dies(self) -> None:
        """If a probe never ends, another one may begin after twice the budget."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        self.assert_allowed()
        self.now += PROBE_SECONDS - 0.001
        self.assert_refused(CircuitOpen, 1)
        self.now += 0.001
        self.assert_allowed()
        self.assert_refused(CircuitOpen, 1)

    def test_clock_set_back(self) -> None:
        """An open breaker is void if it opened more than a second ahead."""
        self.fails("a", "b", "c")
        self.now = NOW - 1
        self.assert_refused(CircuitOpen, 6)
        self.now = NOW - 1.001
        self.assert_allowed()
        self.assert_allowed()

    def test_clock_set_back_during_probe(self) -> None:
        """A probe is one also where the clock was set back while it ran: its failure opens the breaker again."""
        self.fails("a", "b", "c")
        self.now = NOW + 5
        allowed_at = self.breaker.allow_fetch(self.breaker.read())
        self.now = NOW + 4.5
        self.fails("d", allowed_at=allowed_at)
        self.assert_refused(CircuitOpen, 5)
        self.now = NOW + 9.5
        self.assert_allowed()

    def test_probe_and_clock_set_back(self) -> None:
        """A probe that began more than a second ahead does not keep the next one from beginning."""
        self.fails("a", "b", "c")
        self.now = NOW + 20
        self.assert_allowed()
        self.now = NOW + 10
        self.assert_allowed()
        self.assert_refused(CircuitOpen, 1)

    def test_never(self) -> None:
        """With a threshold of 0 no failure counts, here or for others on the store."""
        self.breaker = self.new_breaker(threshold=0)
        self.fails(*(f"event {number}" for number in range(100)))
        self.assert_allowed()
        self.assert_allowed(self.new_breaker())

    def test_never_whatever_others_think(self) -> None:
        """With a threshold of 0 the state of an open breaker, which others have left, is ignored, and not logged."""
        self.fails("a", "b", "c")
        careless = self.new_breaker(threshold=0)
        with self.assertNoLogs("c42_proxy.caching.circuit_breaker", "INFO"):
            for self.now in (NOW, NOW + 5):
                for _ in range(2):
                    self.assert_allowed(careless)

    def test_first_failure(self) -> None:
        """With a threshold of 1 the first failure is enough."""
        self.breaker = self.new_breaker(threshold=1)
        self.fails("a")
        self.assert_refused(CircuitOpen, 5)

    def test_shared(self) -> None:
        """All processes on the store share failures, the open breaker, the probe and its success."""
        one, other = self.new_breaker(), self.new_breaker()
        for breaker, event_id in ((one, "a"), (other, "b"), (one, "c")):
            breaker.note_failure(event_id, UpstreamUnavailable(None), self.now)
        self.assert_refused(CircuitOpen, 5, one)
        self.assert_refused(CircuitOpen, 5, other)
        self.now = NOW + 5
        self.assert_allowed(other)
        self.assert_refused(CircuitOpen, 1, one)
        other.note_success(self.now)
        self.assert_allowed(one)


class DegradedTest(BreakerTest):
    """What `/readyz` says: the state that decides whether C42 is asked."""

    def test_well(self) -> None:
        """While no back-off, open breaker or refused token is known, nothing is named."""
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
        self.assertEqual(["c42-down"], self.new_breaker(1).degraded())
        self.assertEqual([], self.new_breaker(0).degraded())

    def test_token_accepted_again(self) -> None:
        """A refused token is named until C42 answers, also without a breaker."""
        for threshold, later in ((3, 0), (3, 0.001), (0, 1)):
            self.breaker = self.new_breaker(threshold)
            self.fails("a", "b", error=TokenRefused(403))
            self.breaker.note_success(self.now - 0.001)
            self.assertEqual(["token-refused"], self.breaker.degraded(), "a fetch that began before says nothing of it")
            self.now += later
            self.breaker.note_success(self.now)
            self.assertEqual([], self.breaker.degraded())

    def test_token_and_clock_set_back(self) -> None:
        """A success ends it also if the clock was set back since."""
        self.fails("a", error=TokenRefused(403))
        self.now -= 1.001
        self.breaker.note_success(self.now)
        self.assertEqual([], self.breaker.degraded())

    def test_token_refused_is_noted_once(self) -> None:
        """However many fetches a refused token fails, the state is written once."""
        self.fails("a", error=TokenRefused(401))
        store = MemoryStore(100_000)
        store.change_state(BREAKER_NAME, lambda _before: self.store.read_state(BREAKER_NAME), 3600)
        self.breaker = self.new_breaker(store=store)
        with patch.object(store, "change_state", side_effect=AssertionError("written again")):
            self.fails("a", "b", error=TokenRefused(401))

    def test_clock_set_back(self) -> None:
        """After the clock was set back, an open breaker and a back-off are void here, too."""
        self.fails("a", "b", "c")
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.now = NOW - 1.001
        self.assertEqual([], self.breaker.degraded())
        self.assert_allowed()


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
        self.breaker.note_success(self.now)
        self.assertEqual(0, shown("c42_proxy_upstream_paused_until_timestamp_seconds"))


class LateStore(MemoryStore):
    """Others do something between a read of the state and its end."""

    meanwhile: Sequence[Callable[[], None]] = ()

    def read_state(self, name: str) -> str | None:
        text = super().read_state(name)
        todo, self.meanwhile = self.meanwhile, ()
        for each in todo:
            each()
        return text


class LinesTest(BreakerTest):
    def test_each_change(self) -> None:
        """Each change is one line, in every process that learns of it."""
        other = self.new_breaker()
        with self.assertLogs("c42_proxy.caching.circuit_breaker", "INFO") as logs:
            for _ in range(2):
                self.fails("a", "b", "c")
            self.now += 5
            self.assert_allowed()
            self.fails("d")
            self.assert_refused(CircuitOpen, 5)
            self.now += 5
            self.assert_allowed()
            self.refusal(other)
            for _ in range(2):
                self.breaker.note_success(self.now)
                other.degraded()
        said = [record.getMessage().partition(":")[0].removeprefix("the circuit breaker ") for record in logs.records]
        opened_twice = ["has opened", "is half-open", "has opened", "is half-open"]
        self.assertEqual([*opened_twice, "is half-open", "has closed", "has closed"], said)
        levels = [record.levelname for record in logs.records]
        self.assertEqual(["WARNING", "INFO", "WARNING", "INFO", "INFO", "INFO", "INFO"], levels)

    def test_read_before_a_change(self) -> None:
        """A state that was read before another thread told a newer one is not told."""
        store = LateStore(100_000)
        self.breaker = self.new_breaker(1, store)
        store.meanwhile = [lambda: self.fails("a")]
        with self.assertLogs("c42_proxy.caching.circuit_breaker", "INFO") as logs:
            self.breaker.degraded()
        self.assertEqual(1, len(logs.output), logs.output)

    def test_read_for_it_before_a_change(self) -> None:
        """Nor is it if it was read for the breaker, together with something else."""
        self.breaker = self.new_breaker(1)
        state_of = self.breaker.before_read()
        text = self.store.read_state(BREAKER_NAME)
        with self.assertLogs("c42_proxy.caching.circuit_breaker", "INFO") as logs:
            self.fails("a")
            self.breaker.allow_fetch(state_of(text))
        self.assertEqual(1, len(logs.output), logs.output)


class StateTest(BreakerTest):
    def test_names_of_0_1(self) -> None:
        """The state is kept under the names that version 0.1 reads: both may run on one store."""
        self.fails("a", "b", "c")
        self.breaker.begin_back_off(RateLimited(30, 429))
        self.now += 31
        self.assert_allowed()
        kept = json.loads(self.store.read_state("guard") or "")
        self.assertLessEqual({"wait", "pause", "trial", "failed"}, kept.keys())
        self.assertEqual({"since": NOW, "until": NOW + 5}, kept["pause"])

    def test_garbage(self) -> None:
        """A state that is not ours is ignored, and replaced by the next one of ours."""
        span = {"since": NOW, "until": NOW + 30}
        states: list[object] = [
            *([], {}, 7, None, "text", {"wait": 7}, {"pause": []}, {"failed": "abc"}, {"failed": [1, 2, 3]}),
            {"wait": {**span, "until": "2033"}},
            {"wait": {**span, "until": float("inf")}},
            {"wait": {**span, "since": float("nan")}},
            {"pause": {**span, "until": float("nan")}},
            {"pause": {"since": NOW}},
            {"refused_at": True},
            {"refused_at": float("nan")},
            {"ended": 7},
        ]
        for text in ("", "{", "\x00", *map(json.dumps, states)):
            with self.subTest(state=text):
                self.store.change_state(BREAKER_NAME, lambda _, text=text: text, 3600)  # type: ignore[misc]  # mypy infers no type for it
                self.breaker = self.new_breaker()
                self.assertEqual([], self.breaker.degraded())
                self.assert_allowed()
                self.breaker.note_success(self.now)
                self.fails("a", "b")
                self.assert_allowed()
                self.fails("c")
                self.assert_refused(CircuitOpen, 5)

    def test_nothing_to_say(self) -> None:
        """While there is nothing to share, the store holds no state."""
        self.breaker.note_success(self.now)
        self.fails("a", error=InvalidAnswer("nonsense", 200))
        self.assertIsNone(self.store.read_state(BREAKER_NAME))
        self.fails("a")
        self.assertIsNotNone(self.store.read_state(BREAKER_NAME))
        self.breaker.note_success(self.now)
        self.assertIsNone(self.store.read_state(BREAKER_NAME))


class FetchTest(BreakerTest):
    """The breaker between real fetches and a C42 of which only the wire is faked."""

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
        """A 429 for the subscriptions begins a back-off, although the event's 404 was the answer before it came."""
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
        self.assert_allowed()
        answered.set()
        end = time.monotonic() + PATIENCE
        while self.refusal() is None:
            self.assertLess(time.monotonic(), end, "the back-off was not noted")
            time.sleep(0.005)
        self.assert_refused(BackingOff, 30)

    def test_capped_at_an_hour(self) -> None:
        """Whatever C42 says, a back-off lasts an hour at most."""
        self.event = lambda url: self.limit(url, "7200")
        self.assertEqual(503, self.status(self.events.reply("tea")))
        self.now = NOW + 3600 - 0.001
        self.assert_refused(BackingOff, 1)
        self.now = NOW + 3600
        self.assert_allowed()

    def test_no_further_page(self) -> None:
        """A fetch under way asks for no further page after another fetch has begun a back-off."""

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

    def test_no_further_page_after_a_back_off_of_another_process(self) -> None:
        """The same if it was another process that began the back-off: the store tells of it."""
        elsewhere = self.new_breaker()

        def page(_url: str) -> Answer:
            elsewhere.begin_back_off(RateLimited(30, 429))
            return self.full_page("tea")

        self.page = page
        reply = self.events.reply("tea")
        assert isinstance(reply, Failed)
        self.assertIsInstance(reply.problem, BackingOff)
        self.assertEqual([], [url for url in self.calls if "offset" in url and "offset=0" not in url])
