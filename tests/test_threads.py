"""Threads are few, come to their end, and where the system gives none, nothing is left that runs later."""

import gc
import resource
import sys
import threading
import time
import unittest
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import partial
from queue import SimpleQueue
from unittest.mock import patch

from c42_proxy.errors import Overloaded
from c42_proxy.threads import Threads, Timer, in_thread, result_within
from harness.processes import clean_environ, run

PATIENCE = 10.0
"""No test waits longer for another thread."""

NAME = "c42-of-the-test"

colour: ContextVar[str] = ContextVar("colour", default="none")


@contextmanager
def no_new_thread(after: int = 0) -> Iterator[None]:
    """The system gives `after` threads, and then none, as where a limit of its own is reached (EAGAIN)."""
    left = iter(range(after))
    start = threading.Thread.start

    def start_or_fail(thread: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    with patch.object(threading.Thread, "start", start_or_fail):
        yield


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process may open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The numbers below are those of standard input, output and error: whatever is closed meanwhile, nobody gets one.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def count() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


class ThreadsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)

    def pool(
        self,
        limit: int = 4,
        *,
        queues: bool = False,
        idle: float = PATIENCE,
        on_idle: Callable[[], None] = lambda: None,
    ) -> Threads:
        kind = {"queues": True} if queues else {}  # by default, it does not
        pool = self.enterContext(closing(Threads(limit, name=NAME, idle_seconds=idle, on_idle=on_idle, **kind)))
        self.addCleanup(self.gate.set)
        return pool

    def occupy(self, pool: Threads, number: int) -> list[Future[bool]]:
        """So many threads have work until the gate opens."""

        def work() -> bool:
            self.begun.release()
            return self.gate.wait(PATIENCE)

        outcomes = [pool.submit(work) for _ in range(number)]
        for _ in outcomes:
            self.assertTrue(self.begun.acquire(timeout=PATIENCE))
        return outcomes

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), give_up, what)
            time.sleep(0.001)


class WorkTest(ThreadsTest):
    def test_daemon(self) -> None:
        """Its threads do not keep the process from ending."""
        self.assertTrue(self.pool().submit(lambda: threading.current_thread().daemon).result(PATIENCE))

    def test_outcome(self) -> None:
        """What the work returns or raises, with its arguments, and what the request of the caller carries."""
        pool = self.pool()
        self.addCleanup(colour.reset, colour.set("green"))
        self.assertEqual(12, pool.submit(int, "c", base=16).result(PATIENCE))
        self.assertIsInstance(pool.submit(int, "x").exception(PATIENCE), ValueError)
        self.assertEqual("green", pool.submit(colour.get).result(PATIENCE))
        colour.set("red")
        self.assertEqual("red", pool.submit(colour.get).result(PATIENCE))

    def test_no_result(self) -> None:
        """Work without a result is done for the request of the caller, too; if it fails, the thread goes on."""
        pool = self.pool(1, queues=True)
        self.addCleanup(colour.reset, colour.set("green"))
        seen: list[str] = []
        pool.begin(lambda: seen.append(colour.get()))
        with self.assertLogs("c42_proxy.threads", "ERROR"):
            pool.begin(partial(int, "x"))
            pool.begin(sys.exit)
            self.assertEqual(0, pool.submit(int).result(PATIENCE))
        self.assertEqual(["green"], seen)
        self.assertEqual(1, count())

    def test_nothing_is_kept(self) -> None:
        """Neither work that has failed nor its outcome waits for the garbage collector, or for the next work."""
        gc.disable()
        self.addCleanup(gc.enable)

        class Work:
            def __call__(self) -> None:
                raise ValueError

        work = Work()
        outcome = self.pool().submit(work)
        self.assertIsInstance(outcome.exception(PATIENCE), ValueError)
        kept: list[weakref.ref[object]] = [weakref.ref(work), weakref.ref(outcome)]
        del work, outcome
        self.wait_until(lambda: [each() for each in kept] == [None, None], "objects that go")

    def test_both(self) -> None:
        """Two works that begin together run at the same time."""
        meeting = threading.Barrier(2, timeout=PATIENCE)
        one, other = self.pool(2).submit_both(meeting.wait, meeting.wait)
        self.assertEqual({0, 1}, {one.result(PATIENCE), other.result(PATIENCE)})

    def test_used_again(self) -> None:
        """A thread that has done its work does the next: no second one is started."""
        pool = self.pool()
        for _ in range(20):
            pool.submit(int).result(PATIENCE)
            # Its result is there a moment before the thread is idle.
            self.wait_until(lambda: len(pool._idle) == 1, "an idle thread")  # nothing else tells it
        self.assertEqual(1, count())

    def test_close(self) -> None:
        """To close it waits for the work under way and what waits, and ends the threads; nothing begins any more."""
        pool = self.pool(1, queues=True)
        (first,) = self.occupy(pool, 1)
        second = pool.submit(int)
        closing_ = in_thread(pool.close)
        self.gate.set()
        closing_.result(PATIENCE)
        self.assertEqual((True, True), (first.done(), second.done()))
        self.wait_until(lambda: count() == 0, "the end of the threads")
        with self.assertRaises(RuntimeError):
            pool.submit(int)


class LimitTest(ThreadsTest):
    def test_refused(self) -> None:
        """Beyond the limit, work is refused, and never done."""
        pool = self.pool(2)
        busy = self.occupy(pool, 2)
        done: list[int] = []
        with self.assertRaises(Overloaded):
            pool.submit(done.append, 1)
        self.gate.set()
        for outcome in busy:
            outcome.result(PATIENCE)
        self.wait_until(lambda: len(pool._idle) == 2, "two idle threads")  # nothing else tells it
        pool.submit(done.append, 2).result(PATIENCE)
        self.assertEqual([2], done)

    def test_both_or_none(self) -> None:
        """Where only one of two works has a thread, neither is begun."""
        pool = self.pool(2)
        self.occupy(pool, 1)
        done: list[int] = []
        with self.assertRaises(Overloaded):
            pool.submit_both(partial(done.append, 1), partial(done.append, 2))
        pool.submit(done.append, 3).result(PATIENCE)
        self.assertEqual([3], done)

    def test_queue(self) -> None:
        """In a pool that queues, work waits for a thread, in order."""
        pool = self.pool(2, queues=True)
        self.occupy(pool, 2)
        done: list[int] = []
        waiting = [pool.submit(done.append, number) for number in range(5)]
        self.assertEqual([], done)
        self.gate.set()
        for outcome in waiting:
            outcome.result(PATIENCE)
        self.assertEqual([0, 1, 2, 3, 4], sorted(done))
        self.assertLessEqual(count(), 2)


class NoThreadTest(ThreadsTest):
    def test_refused(self) -> None:
        """Where no thread can be started, work is refused, never done, and all is well when threads are there again."""
        pool, queueing = self.pool(), self.pool(queues=True)
        done: list[int] = []
        for each in (pool, queueing):
            with no_new_thread():
                self.assertRaises(Overloaded, each.submit, done.append, 1)
                self.assertRaises(Overloaded, each.begin, partial(done.append, 1))
            each.submit(done.append, 2).result(PATIENCE)
        self.assertEqual([2, 2], done)

    def test_both_or_none(self) -> None:
        """Where one thread can be started and no second one, neither of two works is begun."""
        pool = self.pool()
        done: list[int] = []
        with no_new_thread(after=1), self.assertRaises(Overloaded):
            pool.submit_both(partial(done.append, 1), partial(done.append, 2))
        pool.submit_both(partial(done.append, 3), partial(done.append, 4))[1].result(PATIENCE)
        self.wait_until(lambda: len(done) == 2, "both works")
        self.assertEqual([3, 4], sorted(done))

    def test_queue(self) -> None:
        """A pool that queues goes on with the threads that it has."""
        pool = self.pool(queues=True)
        self.occupy(pool, 1)
        with no_new_thread():
            waiting = pool.submit(int)
        self.gate.set()
        self.assertEqual(0, waiting.result(PATIENCE))

    def test_alone(self) -> None:
        """So it is with work that has a thread of its own."""
        with no_new_thread():
            self.assertRaises(Overloaded, in_thread, int)
            self.assertRaises(Overloaded, result_within, PATIENCE, int)
        self.assertEqual(0, result_within(PATIENCE, int))


class IdleTest(ThreadsTest):
    def test_end(self) -> None:
        """Threads that have nothing to do end, each tells it, and new ones do the next work."""
        ended = threading.Semaphore(0)
        pool = self.pool(idle=0.01, on_idle=ended.release)
        busy = self.occupy(pool, 3)
        self.gate.set()
        for _ in busy:
            self.assertTrue(ended.acquire(timeout=PATIENCE))
        self.wait_until(lambda: count() == 0, "no thread")
        self.assertEqual(0, pool.submit(int).result(PATIENCE))

    def test_end_that_fails(self) -> None:
        """A thread whose `on_idle` fails leaves its place to another one."""
        with self.assertLogs("c42_proxy.threads", "ERROR"):
            pool = self.pool(1, idle=0.001, on_idle=self.fail)
            for _ in range(2):
                self.assertEqual(0, pool.submit(int).result(PATIENCE))
                self.wait_until(lambda: count() == 0, "no thread")

    def test_last_two(self) -> None:
        """Of two threads that are idle for equally long, one stays."""
        ending = threading.Semaphore(0)

        def on_idle() -> None:
            ending.release()
            self.gate.wait(PATIENCE)

        pool = self.pool(queues=True, idle=0.05, on_idle=on_idle)
        both = threading.Barrier(2)
        for outcome in [pool.submit(both.wait, PATIENCE) for _ in range(2)]:
            outcome.result(PATIENCE)
        self.assertTrue(ending.acquire(timeout=PATIENCE))
        # The time in which the other one would end.
        self.assertFalse(ending.acquire(timeout=0.1))
        with no_new_thread():
            self.assertEqual(0, pool.submit(int).result(PATIENCE))

    def test_last_one(self) -> None:
        """A pool that queues keeps its last thread for the time when no other can be started."""
        pool = self.pool(queues=True, idle=0.01)
        self.occupy(pool, 3)
        self.gate.set()
        self.wait_until(lambda: count() == 1, "one thread")
        with no_new_thread():
            self.assertEqual(0, pool.submit(int).result(PATIENCE))

    def test_work_at_the_last_moment(self) -> None:
        """A thread that got work in the instant in which it would have ended does not end."""
        self.assertFalse(self.pool()._may_end(SimpleQueue()))  # only chance would meet that instant

    def test_the_last_used_is_the_next(self) -> None:
        """Work that one thread can do keeps no other from its end."""
        pool = self.pool(8, idle=0.1)
        self.occupy(pool, 4)
        self.gate.set()

        def one_is_left() -> bool:
            pool.submit(int).result(PATIENCE)
            return count() == 1

        self.wait_until(one_is_left, "one thread")


class TimerTest(ThreadsTest):
    def timer(self, idle: float = PATIENCE) -> Timer:
        return self.enterContext(closing(Timer(name=NAME, idle_seconds=idle)))

    def test_in_order(self) -> None:
        """What is due first is begun first, for the request of its caller, and nothing is begun before its time."""
        timer = self.timer()
        done: list[tuple[str, bool]] = []
        ended = threading.Event()
        began = time.monotonic()

        def note(seconds: float) -> None:
            done.append((colour.get(), time.monotonic() >= began + seconds))

        for seconds in (0.03, 0.01, 0.02):
            token = colour.set(f"due after {seconds} s")
            timer.later(seconds, note, seconds)
            colour.reset(token)
        timer.later(0.04, ended.set)
        self.assertTrue(ended.wait(PATIENCE))
        self.assertEqual([(f"due after {seconds} s", True) for seconds in (0.01, 0.02, 0.03)], done)
        self.assertEqual(1, count())

    def test_at_once(self) -> None:
        """What is due now is begun now."""
        timer = self.timer()
        took = []
        for _ in range(3):
            began, ended = time.monotonic(), threading.Event()
            timer.later(0, ended.set)
            self.assertTrue(ended.wait(PATIENCE))
            took.append(time.monotonic() - began)
        self.assertLess(min(took), 0.5)

    def test_no_thread(self) -> None:
        """Where its thread cannot be started, nothing is begun, now or later."""
        timer = self.timer()
        done: list[int] = []
        with no_new_thread():
            self.assertRaises(Overloaded, timer.later, 0, done.append, 1)
        ended = threading.Event()
        timer.later(0, ended.set)
        self.assertTrue(ended.wait(PATIENCE))
        self.assertEqual([], done)

    def test_close(self) -> None:
        """To close it ends its thread, whatever was still to come."""
        timer = self.timer(idle=2 * PATIENCE)
        timer.later(PATIENCE, self.fail)
        timer.close()
        self.wait_until(lambda: count() == 0, "no thread")

    def test_idle(self) -> None:
        """Its thread ends when there is nothing to do, and another begins the next work."""
        timer = self.timer(idle=0.001)
        timer.later(0, int)
        self.wait_until(lambda: count() == 0, "no thread")
        ended = threading.Event()
        timer.later(0, ended.set)
        self.assertTrue(ended.wait(PATIENCE))


class EndTest(unittest.TestCase):
    def test_at_once(self) -> None:
        """The process ends, whatever its threads wait for, and what it has logged last is written."""
        code = """
import logging.handlers, threading
from c42_proxy.threads import end_at_once
threading.Thread(target=threading.Event().wait).start()
logging.getLogger().addHandler(logging.handlers.MemoryHandler(9, target=logging.StreamHandler()))
logging.warning("the end")
end_at_once()
"""
        ended = run(sys.executable, "-c", code, environ=clean_environ())
        self.assertEqual((0, "the end\n"), (ended.returncode, ended.stderr))


if __name__ == "__main__":
    unittest.main()
