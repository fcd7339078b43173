"""Work that is done in turn: by one thread, unless that is stuck."""

import logging
import threading
import time
import unittest
from collections.abc import Callable
from contextlib import closing
from contextvars import ContextVar

from c42_proxy.errors import Overloaded
from c42_proxy.in_turn import STUCK_SECONDS, InTurn
from c42_proxy.threads import IDLE_SECONDS
from tests.test_threads import no_new_thread

PATIENCE = 5.0
LIMIT = 3
NAME = "c42-of-the-test"

colour: ContextVar[str] = ContextVar("colour", default="none")


class WithThreads(unittest.TestCase):
    stuck_seconds = STUCK_SECONDS

    def setUp(self) -> None:
        self.threads = self.enterContext(closing(InTurn(LIMIT, name=NAME, stuck_seconds=self.stuck_seconds)))
        self.done: list[tuple[str, int]] = []
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)

    def work(self, name: str) -> Callable[[], None]:
        return lambda: self.done.append((name, threading.get_ident()))

    def occupy(self) -> None:
        """One thread has work until the gate opens."""
        begun = threading.Event()

        def wait() -> None:
            begun.set()
            self.gate.wait(10 * PATIENCE)

        self.threads.begin(wait)
        self.assertTrue(begun.wait(PATIENCE))

    def until_done(self, number: int) -> list[str]:
        """The names of the work that is done, when so much is."""
        self.wait_until(lambda: len(self.done) >= number)
        return [name for name, _thread in self.done]

    def wait_until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        give_up = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), give_up)
            time.sleep(0.001)


class InTurnTest(WithThreads):
    # Else a machine that is busy would look like a thread that is stuck.
    stuck_seconds = 10 * PATIENCE

    def test_one_thread(self) -> None:
        """What is begun while a thread is at work is done by that thread, in turn."""
        self.occupy()
        for name in "abc":
            self.threads.begin(self.work(name))
        self.gate.set()
        self.assertEqual(["a", "b", "c"], self.until_done(3))
        self.assertEqual(1, len({thread for _name, thread in self.done}))

    def test_request(self) -> None:
        """Each work is done for the request of its caller."""
        seen: list[str] = []
        self.occupy()
        for name in ("green", "red"):
            token = colour.set(name)
            self.threads.begin(lambda: seen.append(colour.get()))
            colour.reset(token)
        self.gate.set()
        self.wait_until(lambda: len(seen) == 2)
        self.assertEqual(["green", "red"], seen)

    def test_bug(self) -> None:
        """Work that fails takes no other with it, and its line in the log belongs to no request."""
        requests: list[str] = []

        class Handler(logging.Handler):
            def emit(self, _record: logging.LogRecord) -> None:
                requests.append(colour.get())

        def fail() -> None:
            self.threads.begin(self.work("a"))
            raise SystemExit

        log, handler = logging.getLogger("c42_proxy.in_turn"), Handler()
        self.addCleanup(colour.reset, colour.set("green"))
        with self.assertLogs(log, "ERROR"):
            log.addHandler(handler)
            self.threads.begin(fail)
            self.assertEqual(["a"], self.until_done(1))
        self.assertEqual(["none"], requests)

    def test_no_thread(self) -> None:
        """Without a thread, the work is refused and never done; that of a thread at work goes to that one."""
        with no_new_thread():
            self.assertRaises(Overloaded, self.threads.begin, self.work("never"))
        self.occupy()
        with no_new_thread():
            for name in "abcd":
                self.threads.begin(self.work(name))
            self.assertLess(len(self.threads._waiting), LIMIT)
        self.gate.set()
        self.assertEqual(["a", "b", "c", "d"], self.until_done(4))


class StuckTest(WithThreads):
    def test_stuck(self) -> None:
        """What waits behind a thread that is stuck is done by another one, and so is what comes later."""
        self.occupy()
        self.threads.begin(self.work("a"))
        self.assertEqual(["a"], self.until_done(1))
        self.threads.begin(self.work("b"))
        self.assertEqual(["a", "b"], self.until_done(2))

    def test_all_stuck(self) -> None:
        """If those that help get stuck as well, more of them do, up to the limit. Then the work waits, once."""
        for _ in range(LIMIT - 1):
            self.threads.begin(lambda: self.gate.wait(10 * PATIENCE))
        self.threads.begin(self.work("a"))
        self.assertEqual(["a"], self.until_done(1))
        self.occupy()
        for name in "bcd":
            self.threads.begin(self.work(name))
            # The time in which a thread too many would come.
            time.sleep(2 * STUCK_SECONDS)
        self.assertEqual(LIMIT, sum(thread.name == NAME for thread in threading.enumerate()))
        self.assertEqual(0, len(self.threads._waiting))
        self.gate.set()
        self.until_done(4)

    def test_busy(self) -> None:
        """A thread that is busy, but not stuck, needs no help (tried often: others may use the processor)."""
        for _ in range(20):
            threads = self.threads_of_a_busy_time(5 * STUCK_SECONDS)
            if len(threads) == 1:
                return
        self.fail(f"{threads}")

    def threads_of_a_busy_time(self, seconds: float) -> set[int]:
        """The threads that work while there is always more to do."""
        seen: set[int] = set()
        until, left = time.monotonic() + seconds, threading.Semaphore(0)

        def work() -> None:
            seen.add(threading.get_ident())
            if time.monotonic() < until:
                self.threads.begin(work)
            else:
                left.release()

        for _ in range(3):
            self.threads.begin(work)
        for _ in range(3):
            self.assertTrue(left.acquire(timeout=PATIENCE))
        return seen

    def test_idle(self) -> None:
        """Work that comes when there is no other is not taken for stuck (tried often, as above)."""
        for _ in range(20):
            began = time.monotonic()
            for _ in range(5):
                done = threading.Event()
                self.threads.begin(done.set)
                self.assertTrue(done.wait(PATIENCE))
            if time.monotonic() - began < STUCK_SECONDS:
                return
        self.fail("each waited")

    def test_closing(self) -> None:
        """While it waits for what is under way, nothing more may begin, and no thread helps."""
        failed: list[object] = []
        self.addCleanup(setattr, threading, "excepthook", threading.excepthook)
        threading.excepthook = failed.append
        self.occupy()
        self.threads.begin(self.work("a"))
        closing_ = threading.Thread(target=self.threads.close)
        closing_.start()
        self.wait_until(lambda: self.threads._closed)
        self.assertRaises(RuntimeError, self.threads.begin, self.work("b"))
        # The time in which a thread would try to help.
        time.sleep(2 * STUCK_SECONDS)
        self.gate.set()
        closing_.join(PATIENCE)
        self.assertEqual((["a"], []), (self.until_done(1), failed))

    def test_closed(self) -> None:
        """When it is closed, nobody looks for stuck threads any more, and nothing may begin."""
        self.occupy()
        self.threads.begin(self.work("a"))
        self.gate.set()
        self.until_done(1)
        self.threads.close()
        self.wait_until(lambda: not any(each.name.startswith(NAME) for each in threading.enumerate()), IDLE_SECONDS / 2)
        self.assertRaises(RuntimeError, self.threads.begin, self.work("b"))
