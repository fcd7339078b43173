"""Work that is done in turn: by one thread, unless that is stuck."""

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

colour: ContextVar[str] = ContextVar("colour", default="none")


class InTurnTest(unittest.TestCase):
    def setUp(self) -> None:
        self.threads = self.enterContext(closing(InTurn(4, name="c42-of-the-test")))
        self.done: list[str] = []
        self.gate, self.begun = threading.Event(), threading.Event()
        self.addCleanup(self.gate.set)

    def work(self, name: str) -> Callable[[], None]:
        return lambda: self.done.append(f"{name} {threading.get_ident()}")

    def wait(self) -> None:
        self.begun.set()
        self.gate.wait(10 * PATIENCE)

    def occupy(self) -> None:
        """One thread has work until the gate opens."""
        self.threads.begin(self.wait)
        self.assertTrue(self.begun.wait(PATIENCE))

    def until_done(self, number: int) -> list[str]:
        """The names of the work that is done, when so much is."""
        ended = threading.Event()

        def look() -> None:
            if len(self.done) < number:
                self.threads.begin(look)
            else:
                ended.set()

        self.threads.begin(look)
        self.assertTrue(ended.wait(PATIENCE), self.done)
        return [name.split()[0] for name in self.done]

    def test_one_thread(self) -> None:
        """What is begun while a thread is at work is done by that thread, in turn."""
        go_on = threading.Event()

        def begin_others() -> None:
            for name in "abc":
                self.threads.begin(self.work(name))
            self.work("first")()
            go_on.set()

        self.threads.begin(begin_others)
        self.assertTrue(go_on.wait(PATIENCE))
        self.assertEqual(["first", "a", "b", "c"], self.until_done(4))
        self.assertEqual(1, len({name.split()[1] for name in self.done}))

    def test_busy(self) -> None:
        """A thread that is busy, but not stuck, needs no help (tried often: others may use the processor)."""
        for _ in range(20):
            threads, ended = self.threads_of_a_busy_time(5 * STUCK_SECONDS), threading.Event()
            self.threads.begin(ended.set)
            self.assertTrue(ended.wait(PATIENCE))
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

    def test_stuck(self) -> None:
        """What waits behind a thread that is stuck is done by another one, and so is what comes later."""
        self.occupy()
        self.threads.begin(self.work("a"))
        self.assertEqual(["a"], self.until_done(1))
        self.threads.begin(self.work("b"))
        self.assertEqual(["a", "b"], self.until_done(2))

    def test_all_stuck(self) -> None:
        """If those that help get stuck as well, more of them do, as many as the pool may have."""
        done = threading.Event()
        for work in (self.wait, self.wait, self.wait, done.set):
            self.threads.begin(work)
        self.assertTrue(done.wait(PATIENCE))

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

    def test_closed(self) -> None:
        """When it is closed, nobody looks for stuck threads any more."""
        self.occupy()
        self.threads.begin(self.work("a"))
        self.gate.set()
        self.until_done(1)
        self.threads.close()
        give_up = time.monotonic() + IDLE_SECONDS / 2
        while any(thread.name.startswith("c42-of-the-test") for thread in threading.enumerate()):
            self.assertLess(time.monotonic(), give_up)
            time.sleep(0.001)

    def test_bug(self) -> None:
        """Work that fails takes no other with it."""

        def fail() -> None:
            self.threads.begin(self.work("a"))
            raise SystemExit

        with self.assertLogs("c42_proxy.in_turn", "ERROR"):
            self.threads.begin(fail)
            self.assertEqual(["a"], self.until_done(1))

    def test_request(self) -> None:
        """Each work is done for the request of its caller."""
        seen: list[str] = []
        done = threading.Event()
        self.occupy()
        for name in ("green", "red"):
            token = colour.set(name)
            self.threads.begin(lambda: seen.append(colour.get()))
            colour.reset(token)
        self.threads.begin(done.set)
        self.assertTrue(done.wait(PATIENCE))
        self.assertEqual(["green", "red"], seen)

    def test_no_thread(self) -> None:
        """Without a thread, the work is refused and never done; that of a thread at work goes to that one."""
        with no_new_thread():
            self.assertRaises(Overloaded, self.threads.begin, self.work("never"))
        self.occupy()
        with no_new_thread():
            self.threads.begin(self.work("a"))
            self.threads.begin(self.work("b"))
        self.gate.set()
        self.assertEqual(["a", "b"], self.until_done(2))
