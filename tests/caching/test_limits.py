"""So many fetches at once in a process, so many that wait, and no more."""

import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from c42_proxy.caching.limits import FETCHES_AT_ONCE, MAX_WAITING, ConcurrencyLimit
from c42_proxy.errors import Overloaded
from c42_proxy.observability.metrics import Metrics

PATIENCE = 5.0
"""No test waits longer for another thread."""


class ConcurrencyLimitTest(unittest.TestCase):
    def setUp(self) -> None:
        self.others = self.enterContext(ThreadPoolExecutor(4))
        self.held = self.enterContext(ExitStack())

    def hold(self, limit: ConcurrencyLimit, number: int) -> None:
        for _ in range(number):
            self.held.enter_context(limit.slot(0))

    def take(self, limit: ConcurrencyLimit, patience: float = PATIENCE) -> str:
        with limit.slot(patience):
            return "had a slot"

    def test_of_a_process(self) -> None:
        """A process fetches 256 events at a time, and lets 1,000 wait."""
        self.assertEqual((256, 1000), (FETCHES_AT_ONCE, MAX_WAITING))

    def test_at_once(self) -> None:
        """As many as may have a slot at once have one without waiting; one more waits in vain."""
        limit = ConcurrencyLimit(Metrics(), at_once=3, waiting=1)
        self.hold(limit, 3)
        with self.assertRaises(Overloaded):
            self.take(limit, 0.01)

    def test_given_back(self) -> None:
        """A slot that has ended, well or not, is the next one's."""
        limit = ConcurrencyLimit(Metrics(), at_once=1, waiting=0)
        for _ in range(2):
            with self.assertRaises(ZeroDivisionError), limit.slot(0):
                raise ZeroDivisionError
        self.assertEqual("had a slot", self.take(limit, 0))

    def test_waited_for(self) -> None:
        """Who waits has a slot as soon as somebody gives one back."""
        limit = ConcurrencyLimit(Metrics(), at_once=1, waiting=2)
        self.hold(limit, 1)
        waiting = [self.others.submit(self.take, limit) for _ in range(2)]
        self.held.close()
        self.assertEqual(["had a slot"] * 2, [one.result(PATIENCE) for one in waiting])

    def test_too_many_waiting(self) -> None:
        """Beyond those who may wait, one is sent away at once, and only that one."""
        limit = ConcurrencyLimit(Metrics(), at_once=1, waiting=2)
        self.hold(limit, 1)
        ended = threading.Semaphore(0)
        waiting = [self.others.submit(self.take, limit, 10 * PATIENCE) for _ in range(3)]
        for one in waiting:
            one.add_done_callback(lambda _: ended.release())
        self.assertTrue(ended.acquire(timeout=PATIENCE))
        self.assertEqual([Overloaded], [type(one.exception()) for one in waiting if one.done()])
        self.held.close()
        self.assertEqual(2, sum(one.exception(PATIENCE) is None for one in waiting))

    def test_place_given_back(self) -> None:
        """Who waited in vain, or had a slot, takes no place among the waiting any more."""
        limit = ConcurrencyLimit(Metrics(), at_once=1, waiting=1)
        self.hold(limit, 1)
        for _ in range(3):
            with self.assertRaises(Overloaded):
                self.take(limit, 0.001)
        waiting = self.others.submit(self.take, limit)
        self.held.close()
        self.assertEqual("had a slot", waiting.result(PATIENCE))

    def test_what_the_client_is_told(self) -> None:
        """Overload is a 503 with `Retry-After: 1`, and no reason to hide a copy that has expired."""
        overloaded = Overloaded()
        self.assertEqual((503, 1, True), (overloaded.status, overloaded.retry_after, overloaded.allows_stale))
