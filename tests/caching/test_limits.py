"""So many fetches at once in a process, so many misses that wait, and no more."""

import sys
import threading
import unittest
from concurrent.futures import Future
from contextlib import closing
from contextvars import ContextVar
from functools import partial

from c42_proxy.caching.limits import FETCHES_AT_ONCE, MAX_WAITING, ConcurrencyLimit
from c42_proxy.errors import Overloaded
from c42_proxy.observability.metrics import Metrics
from c42_proxy.threads import Timer
from tests.test_threads import no_new_thread

PATIENCE = 5.0
"""No test waits longer for another thread."""

request: ContextVar[str] = ContextVar("request", default="none")


class ConcurrencyLimitTest(unittest.TestCase):
    def setUp(self) -> None:
        self.gate = threading.Event()
        self.metrics = Metrics()

    def limit(self, at_once: int, waiting: int = 10) -> ConcurrencyLimit:
        timer = self.enterContext(closing(Timer(name="c42-timer")))
        limit = self.enterContext(closing(ConcurrencyLimit(self.metrics, timer, at_once, waiting)))
        self.addCleanup(self.gate.set)
        return limit

    def begin(self, limit: ConcurrencyLimit, patience: float = PATIENCE, *, gated: bool = False) -> Future[str]:
        """Where it comes to: it had a slot, until the gate opens if it is gated, or it was too late."""
        outcome: Future[str] = Future()

        def work() -> None:
            if gated:
                begun.set()
                self.assertTrue(self.gate.wait(PATIENCE))
            outcome.set_result(f"had a slot for {request.get()}")

        begun = threading.Event()
        limit.begin(work, partial(outcome.set_result, "too late"), patience=patience)
        if gated:
            self.assertTrue(begun.wait(PATIENCE))
        return outcome

    def test_of_a_process(self) -> None:
        """A process fetches 256 events at a time, and lets 1,000 wait."""
        self.assertEqual((256, 1000), (FETCHES_AT_ONCE, MAX_WAITING))

    def test_at_once(self) -> None:
        """As many as may have a slot at once have one without waiting; one more waits in vain."""
        limit = self.limit(3)
        for _ in range(3):
            self.begin(limit, gated=True)
        self.assertEqual("too late", self.begin(limit, 0.01).result(PATIENCE))

    def test_given_back(self) -> None:
        """A slot that has ended is the next one's."""
        limit = self.limit(1)
        for _ in range(3):
            self.assertEqual("had a slot for none", self.begin(limit).result(PATIENCE))

    def test_given_back_at_any_moment(self) -> None:
        """A slot that has just ended is never refused, although its thread may not be free yet."""
        limit = self.limit(1)

        # Threads take turns as often as they can.
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-6)
        for _ in range(3000):
            self.begin(limit)

    def test_given_back_once(self) -> None:
        """However many fetches have ended, there are no more slots than before."""
        limit = self.limit(1)
        for _ in range(3):
            self.gate.clear()
            self.begin(limit, gated=True)
            self.assertEqual("too late", self.begin(limit, 0.001).result(PATIENCE))
            self.gate.set()
            self.assertEqual("had a slot for none", self.begin(limit).result(PATIENCE))

    def test_closed(self) -> None:
        """Where the limit is closed, no fetch begins any more."""
        limit = self.limit(1)
        limit.close()
        self.assertRaises(RuntimeError, self.begin, limit)

    def test_waited_for(self) -> None:
        """Those who wait have a slot as soon as one ends, in the order in which they came, each for its own request."""
        limit = self.limit(1)
        self.begin(limit, gated=True)
        done: list[str] = []
        waiting = []
        for name in ("tea", "coffee", "milk"):
            token = request.set(name)
            waiting.append(self.begin(limit))
            request.reset(token)
            waiting[-1].add_done_callback(lambda outcome: done.append(outcome.result()))
        self.assertEqual(3, self.waiting())
        self.gate.set()
        for outcome in waiting:
            outcome.result(PATIENCE)
        self.assertEqual([f"had a slot for {name}" for name in ("tea", "coffee", "milk")], done)
        self.assertEqual(0, self.waiting())

    def test_no_thread_while_waiting(self) -> None:
        """However many wait, they have one thread between them: the one that ends their waiting."""
        limit = self.limit(1, 100)
        self.begin(limit, gated=True)
        before = set(threading.enumerate())
        waiting = [self.begin(limit) for _ in range(100)]
        self.assertLessEqual(len(set(threading.enumerate()) - before), 1)
        self.gate.set()
        for outcome in waiting:
            self.assertEqual("had a slot for none", outcome.result(PATIENCE))

    def test_place_given_back(self) -> None:
        """A fetch that waited in vain for a slot gets none later, and is no longer counted among those that wait."""
        limit = self.limit(1)
        self.begin(limit, gated=True)
        for _ in range(3):
            self.assertEqual("too late", self.begin(limit, 0.001).result(PATIENCE))
        self.assertEqual(0, self.waiting())
        waiting = self.begin(limit)
        self.gate.set()
        self.assertEqual("had a slot for none", waiting.result(PATIENCE))

    def test_too_many(self) -> None:
        """Beyond those that may be fetched and may wait, a miss is sent away; one that is over makes room."""
        limit = self.limit(1, 2)
        for _ in range(3):
            limit.admit()
        self.assertRaises(Overloaded, limit.admit)
        limit.leave()
        limit.admit()
        self.assertRaises(Overloaded, limit.admit)

    def test_no_thread_for_a_fetch(self) -> None:
        """Where no thread can be started, nothing is begun, now or later, and the slot is free afterwards."""
        limit = self.limit(1)
        with no_new_thread():
            self.assertRaises(Overloaded, self.begin, limit)
        self.assertEqual("had a slot for none", self.begin(limit).result(PATIENCE))

    def test_no_thread_for_the_timer(self) -> None:
        """So it is with the thread without which nobody would end the waiting."""
        limit = self.limit(1)
        self.begin(limit, gated=True)
        with no_new_thread():
            self.assertRaises(Overloaded, self.begin, limit)
        self.assertEqual(0, self.waiting())

    def test_what_the_client_is_told(self) -> None:
        """Overload is a 503 with `Retry-After: 1`, and no reason to hide a copy that has expired."""
        overloaded = Overloaded()
        self.assertEqual((503, 1, True), (overloaded.status, overloaded.retry_after, overloaded.allows_stale))

    def waiting(self) -> int:
        """As the metric says."""
        lines = self.metrics.exposition().decode().splitlines()
        (line,) = (line for line in lines if line.startswith("c42_proxy_fetches_waiting "))
        return int(float(line.split()[1]))


if __name__ == "__main__":
    unittest.main()
