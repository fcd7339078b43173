"""Turns at a store: a burst is no failure, and a failure is everybody's."""

import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from c42_proxy.errors import StoreError, StoreNotReached
from c42_proxy.stores.contract import STORE_SECONDS
from c42_proxy.stores.limit import StoreLimit
from harness.processes import until

PATIENCE = 5


class StoreLimitTest(unittest.TestCase):
    def test_not_reached(self) -> None:
        """That a process lacks something to reach the store is no failure of it: those who wait try for themselves."""
        limit = StoreLimit(1)
        with ThreadPoolExecutor(1) as pool:
            with self.assertRaises(StoreNotReached), limit:
                waiting = pool.submit(limit.__enter__)
                until(lambda: bool(limit._waiting), "that another thread waits")
                raise StoreNotReached("no descriptors")
            self.assertIsNone(waiting.result(PATIENCE))

    def test_burst(self) -> None:
        """Those who wait longer than one operation may take still get their turn, as long as others get on."""
        limit = StoreLimit(2)
        lock, inside, most = threading.Lock(), 0, 0

        def operation(_number: int) -> None:
            nonlocal inside, most
            with limit:
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.02)  # an operation takes its time
                with lock:
                    inside -= 1

        with ThreadPoolExecutor(60) as threads:
            started = time.monotonic()
            list(threads.map(operation, range(60)))
        self.assertGreater(time.monotonic() - started, 2 * STORE_SECONDS)
        self.assertEqual(most, 2)

    def test_long_burst(self) -> None:
        """A burst keeps nobody waiting for more than two seconds, however well the others get on."""
        limit = StoreLimit(1)

        def wait(_number: int) -> float | None:
            """Seconds until it failed; None if it got a slot."""
            started = time.monotonic()
            try:
                with limit:
                    time.sleep(0.1)  # an operation takes its time
            except StoreError:
                return time.monotonic() - started
            return None

        with ThreadPoolExecutor(40) as threads:
            sent_away = [seconds for seconds in threads.map(wait, range(40)) if seconds is not None]
        self.assertTrue(sent_away)
        self.assertTrue(all(2 <= seconds < 2.9 for seconds in sent_away), sent_away)

    def test_first_come_first_served(self) -> None:
        """A thread that comes back at once does not overtake those that wait, and they go in the order they came."""
        limit = StoreLimit(1)
        order: list[int] = []

        def waits(number: int) -> bool:
            return len(limit._waiting) == number

        def operation(number: int) -> None:
            with limit:
                order.append(number)

        with ThreadPoolExecutor(3) as threads:
            with limit:
                for number in range(3):
                    threads.submit(operation, number)
                    until(partial(waits, number + 1), "that it waits")
            operation(3)
        self.assertEqual([0, 1, 2, 3], order)

    def test_given_up(self) -> None:
        """Nothing is handed to those who have given up."""
        limit = StoreLimit(1)
        with limit, self.assertRaises(StoreError), limit:
            pass
        with limit:
            pass

    def test_its_own_time(self) -> None:
        """What may take longer is waited for for longer."""
        limit = StoreLimit(1, seconds=2 * STORE_SECONDS)
        with ThreadPoolExecutor(1) as threads:
            with limit:
                waiting = threads.submit(limit.__enter__)
                time.sleep(1.5 * STORE_SECONDS)  # the limit measures real time: it bounds real operations
            self.assertIsNone(waiting.exception(PATIENCE))

    def test_failure_is_everybodys(self) -> None:
        """When the store fails for one, those who wait behind fail at once, without a try and with the same text."""
        limit = StoreLimit(1)
        tried = []

        def operation(number: int) -> str | None:
            try:
                with limit:
                    tried.append(number)
                    time.sleep(0.1)  # so that the others are in the queue when it fails
                    raise StoreError("gone")
            except StoreError as exc:
                return str(exc)

        with ThreadPoolExecutor(50) as threads:
            started = time.monotonic()
            self.assertEqual({"gone"}, set(threads.map(operation, range(50))))
        self.assertLess(time.monotonic() - started, 2)
        self.assertLess(len(tried), 10)

    def test_no_progress(self) -> None:
        """Behind one who is stuck, nobody waits for long."""
        limit = StoreLimit(1)
        with limit, ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(limit.__enter__)
            self.assertIsInstance(waiting.exception(PATIENCE), StoreError)

    def test_works_again(self) -> None:
        """After a failure the next one tries."""
        limit = StoreLimit(1)
        with self.assertRaises(StoreError), limit:
            raise StoreError("gone")
        with limit:
            pass

    def test_other_errors(self) -> None:
        """An error that is no failure of the store does not fail the threads that wait."""
        limit = StoreLimit(1)
        with self.assertRaises(ZeroDivisionError), limit:
            raise ZeroDivisionError
        with limit:
            pass
