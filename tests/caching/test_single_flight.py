"""Within one process an event is fetched once at a time, and only so many events at once."""

import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from c42_proxy.caching.single_flight import Flights, Turns
from c42_proxy.errors import Busy
from c42_proxy.observability.metrics import Metrics

PATIENCE = 5.0
"""No test waits longer for another thread."""


class FlightsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.flights: Flights[str] = self.enterContext(closing(Flights()))
        self.landing = threading.Event()
        self.addCleanup(self.landing.set)

    def fly(self) -> str:
        self.assertTrue(self.landing.wait(PATIENCE))
        return "landed"

    def not_twice(self) -> str:
        raise AssertionError("begun a second time")

    def test_joined(self) -> None:
        """Who comes while an event is fetched waits for that very fetch, and is told that it is not theirs."""
        first, own = self.flights.join("tea", self.fly)
        self.assertTrue(own)
        for _ in range(3):
            self.assertEqual((first, False), self.flights.join("tea", self.not_twice))
        self.landing.set()
        self.assertEqual("landed", first.result(PATIENCE))

    def test_events_apart(self) -> None:
        """One event does not wait for another."""
        self.flights.join("tea", self.fly)
        coffee, own = self.flights.join("coffee", lambda: "coffee")
        self.assertTrue(own)
        self.assertEqual("coffee", coffee.result(PATIENCE))

    def test_failure_is_shared(self) -> None:
        """A failure is told to all who waited, and leaves no flight behind."""

        def crash() -> str:
            self.fly()
            raise Busy

        flights = [self.flights.join("tea", crash)[0] for _ in range(3)]
        self.landing.set()
        for flight in flights:
            self.assertIsInstance(flight.exception(PATIENCE), Busy)
        self.assertEqual("again", self.flights.join("tea", lambda: "again")[0].result(PATIENCE))

    def test_begun_anew(self) -> None:
        """After a flight has ended, the next one to ask begins another."""
        self.landing.set()
        self.flights.join("tea", self.fly)[0].result(PATIENCE)
        again, own = self.flights.join("tea", lambda: "again")
        self.assertEqual(("again", True), (again.result(PATIENCE), own))

    def test_giving_up(self) -> None:
        """Who gives up does not end the flight."""
        flight, _ = self.flights.join("tea", self.fly)
        with self.assertRaises(TimeoutError):
            flight.result(0)
        self.landing.set()
        self.assertEqual("landed", flight.result(PATIENCE))


class TurnsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.others = self.enterContext(ThreadPoolExecutor(4))
        self.held = self.enterContext(ExitStack())

    def hold(self, turns: Turns, number: int) -> None:
        for _ in range(number):
            self.held.enter_context(turns.turn(0))

    def take(self, turns: Turns, patience: float = PATIENCE) -> str:
        with turns.turn(patience):
            return "had a turn"

    def test_at_once(self) -> None:
        """As many as may have a turn at once have one without waiting; one more waits in vain."""
        turns = Turns(Metrics(), at_once=3, waiting=1)
        self.hold(turns, 3)
        with self.assertRaises(Busy):
            self.take(turns, 0.01)

    def test_given_back(self) -> None:
        """A turn that has ended, well or not, is the next one's."""
        turns = Turns(Metrics(), at_once=1, waiting=0)
        for _ in range(2):
            with self.assertRaises(ZeroDivisionError), turns.turn(0):
                raise ZeroDivisionError
        self.assertEqual("had a turn", self.take(turns, 0))

    def test_waited_for(self) -> None:
        """Who waits has a turn as soon as somebody gives one back."""
        turns = Turns(Metrics(), at_once=1, waiting=2)
        self.hold(turns, 1)
        waiting = [self.others.submit(self.take, turns) for _ in range(2)]
        self.held.close()
        self.assertEqual(["had a turn"] * 2, [one.result(PATIENCE) for one in waiting])

    def test_too_many_waiting(self) -> None:
        """Beyond those who may wait, one is sent away at once, and only that one."""
        turns = Turns(Metrics(), at_once=1, waiting=2)
        self.hold(turns, 1)
        ended = threading.Semaphore(0)
        waiting = [self.others.submit(self.take, turns) for _ in range(3)]
        for one in waiting:
            one.add_done_callback(lambda _: ended.release())
        self.assertTrue(ended.acquire(timeout=PATIENCE))
        self.assertEqual([Busy], [type(one.exception()) for one in waiting if one.done()])
        self.held.close()
        self.assertEqual(2, sum(one.exception(PATIENCE) is None for one in waiting))

    def test_place_given_back(self) -> None:
        """Who waited in vain, or had a turn, takes no place among the waiting any more."""
        turns = Turns(Metrics(), at_once=1, waiting=1)
        self.hold(turns, 1)
        for _ in range(3):
            with self.assertRaises(Busy):
                self.take(turns, 0.001)
        waiting = self.others.submit(self.take, turns)
        self.held.close()
        self.assertEqual("had a turn", waiting.result(PATIENCE))

    def test_what_the_client_is_told(self) -> None:
        """Being busy is a 503 with `Retry-After: 1`, and no reason to hide a copy that has expired."""
        busy = Busy()
        self.assertEqual((503, 1, True), (busy.status, busy.retry_after, busy.may_be_hidden))
