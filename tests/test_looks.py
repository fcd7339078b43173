"""Looks into the shared tier: what comes while a thread looks is read together, and a stuck thread gets help."""

import logging
import threading
import time
import unittest
from collections.abc import Callable, Collection
from contextlib import closing
from contextvars import ContextVar

from c42_proxy.errors import Overloaded
from c42_proxy.looks import LOOKS_AT_ONCE, READ_TOGETHER, STUCK_SECONDS, Found, Looks
from c42_proxy.stores.contract import Entry, Read
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.threads import IDLE_SECONDS, Threads
from tests.stores.neighbour import NOW, entry
from tests.test_threads import no_new_thread

PATIENCE = 5.0
NAME = "c42-of-the-test"
LOGGER = "c42_proxy.looks"

colour: ContextVar[str] = ContextVar("colour", default="none")


class Recorded(MemoryStore):
    """Has an entry for each event of one letter, and records which events were read together, for whom."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self.reads: list[tuple[str, list[str]]] = []
        self.fails: set[str] = set()
        self.error: type[BaseException] = ZeroDivisionError
        for letter in "abcd":
            self.put(letter, entry(letter), NOW)

    def get(self, event_id: str) -> Entry | None:
        self.reads.append((colour.get(), [event_id]))
        if event_id in self.fails:
            raise self.error
        return super().get(event_id)

    def read(self, event_ids: Collection[str], names: Collection[str] = ()) -> Read:
        self.reads.append((colour.get(), sorted(event_ids)))
        if self.fails & set(event_ids):
            raise self.error
        return Read({event_id: MemoryStore.get(self, event_id) for event_id in event_ids}, dict.fromkeys(names))


class WithLooks(unittest.TestCase):
    stuck_seconds = STUCK_SECONDS

    def setUp(self) -> None:
        self.store = Recorded()
        self.looks = self.new_looks()
        self.done: list[tuple[str, Entry | None, str, int]] = []
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)

    def new_looks(self) -> Looks:
        self.threads = Threads(LOOKS_AT_ONCE, name=NAME, queues=True)
        return self.enterContext(closing(Looks(self.store, self.threads, stuck_seconds=self.stuck_seconds)))

    def look(self, *event_ids: str) -> None:
        for event_id in event_ids:
            self.looks.begin(event_id, self.then(event_id))

    def then(self, event_id: str) -> Callable[[Found], None]:
        return lambda found: self.done.append((event_id, found(), colour.get(), threading.get_ident()))

    def occupy(self) -> None:
        """One thread has work until the gate opens."""
        begun = threading.Event()

        def wait(_found: Found) -> None:
            begun.set()
            self.gate.wait(10 * PATIENCE)

        self.looks.begin("gate", wait)
        self.assertTrue(begun.wait(PATIENCE))

    def until_done(self, number: int) -> list[str]:
        """The events that have been looked for, when so many have."""
        self.wait_until(lambda: len(self.done) >= number)
        return [event_id for event_id, *_ in self.done]

    def wait_until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        give_up = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), give_up)
            time.sleep(0.001)  # a pause between two looks at what real threads have done


class TogetherTest(WithLooks):
    # Else a machine that is busy would look like a thread that is stuck.
    stuck_seconds = 10 * PATIENCE

    def test_alone(self) -> None:
        """A look that comes alone reads one entry, and tells what it is, or that there is none."""
        self.look("a")
        self.until_done(1)
        self.look("missing")
        self.until_done(2)
        self.assertEqual([("a", entry("a")), ("missing", None)], [done[:2] for done in self.done])
        self.assertEqual([("none", ["a"]), ("none", ["missing"])], self.store.reads)

    def test_together(self) -> None:
        """What comes while a thread looks is read by that thread together, each event once, and told in order."""
        self.occupy()
        self.look("a", "b", "missing", "a")
        self.gate.set()
        self.assertEqual(["a", "b", "missing", "a"], self.until_done(4))
        self.assertEqual([entry("a"), entry("b"), None, entry("a")], [done[1] for done in self.done])
        self.assertEqual(["a", "b", "missing"], self.store.reads[-1][1])
        self.assertEqual(1, len({thread for *_, thread in self.done}))

    def test_so_many(self) -> None:
        """One operation reads no more than a bounded number of entries."""
        self.occupy()
        events = [f"event {number}" for number in range(2 * READ_TOGETHER + 1)]
        self.look(*events)
        self.gate.set()
        self.assertEqual(events, self.until_done(len(events)))
        self.assertEqual([READ_TOGETHER, READ_TOGETHER, 1], [len(read) for _, read in self.store.reads])

    def test_request(self) -> None:
        """Each look goes on for its own request; the operation belongs to the request that has waited longest."""
        self.occupy()
        for name in ("green", "red"):
            token = colour.set(name)
            self.look("a", "b")
            colour.reset(token)
        self.gate.set()
        self.until_done(4)
        self.assertEqual(["green", "green", "red", "red"], [done[2] for done in self.done])
        self.assertEqual([("green", ["a", "b"])], self.store.reads)

    def test_one_fails(self) -> None:
        """What makes the reading of one entry fail is no matter of those that were read with it."""
        told: list[BaseException] = []

        def then(found: Found) -> None:
            try:
                found()
            except BaseException as error:  # noqa: BLE001  # the test looks at it
                told.append(error)

        self.store.fails.add("b")

        for error, is_logged in ((ZeroDivisionError, True), (SystemExit, True), (Overloaded, False)):
            self.store.error = error
            self.done.clear()
            with self.subTest(error.__name__), self.assertLogs(LOGGER) if is_logged else self.assertNoLogs(LOGGER):
                self.gate.clear()
                self.occupy()
                self.look("a")
                self.looks.begin("b", then)
                self.look("c")
                self.gate.set()
                self.assertEqual(["a", "c"], self.until_done(2))
                self.assertEqual([entry("a"), entry("c")], [done[1] for done in self.done])
                self.assertIsInstance(told.pop(), error)

    def test_bug(self) -> None:
        """A bug in what follows a look takes no other look with it. Its line in the log belongs to no request."""
        requests: list[str] = []

        class Handler(logging.Handler):
            def emit(self, _record: logging.LogRecord) -> None:
                requests.append(colour.get())

        def fail(_found: Found) -> None:
            self.look("a")
            raise SystemExit

        log, handler = logging.getLogger(LOGGER), Handler()
        self.addCleanup(colour.reset, colour.set("green"))
        with self.assertLogs(log, "ERROR"):
            log.addHandler(handler)
            self.looks.begin("b", fail)
            self.assertEqual(["a"], self.until_done(1))
        self.assertEqual(["none"], requests)

    def test_no_thread(self) -> None:
        """Without a thread, a look is refused and never done. While a thread is at work, that one does it."""
        with no_new_thread():
            self.assertRaises(Overloaded, self.look, "d")
        self.occupy()
        events = [f"event {number}" for number in range(3 * LOOKS_AT_ONCE)]
        with no_new_thread():
            self.look(*events)
            # A look that cannot be watched asks for a thread, up to the limit.
            self.assertLess(len(self.threads._waiting), LOOKS_AT_ONCE)
        self.gate.set()
        self.assertEqual(events, self.until_done(len(events)))


class StuckTest(WithLooks):
    def test_stuck(self) -> None:
        """What waits behind a thread that is stuck is looked for by another one, and so is what comes later."""
        self.occupy()
        self.look("a")
        self.assertEqual(["a"], self.until_done(1))
        self.look("b", "c", "d")
        self.assertLessEqual(len(self.looks._timer._due), 1)
        self.assertEqual(["a", "b", "c", "d"], self.until_done(4))

    def test_all_stuck(self) -> None:
        """If those that help get stuck as well, more of them do, up to the limit. Then looks wait, once each."""
        for _ in range(LOOKS_AT_ONCE - 1):
            self.occupy()
        self.look("a")
        self.assertEqual(["a"], self.until_done(1))
        self.occupy()
        for event_id in "bcd":
            self.look(event_id)
            # In this time a thread too many would come. It is real: `Looks` counts by the timer of a real thread.
            time.sleep(2 * STUCK_SECONDS)
        self.assertEqual(LOOKS_AT_ONCE, sum(thread.name == NAME for thread in threading.enumerate()))
        self.assertEqual(0, len(self.threads._waiting))
        self.gate.set()
        self.assertEqual({"a", "b", "c", "d"}, set(self.until_done(4)))

    def test_busy(self) -> None:
        """Threads that are busy, but not stuck, need no help (tried often: others may use the processor)."""
        for _ in range(10):
            self.be_busy(20 * STUCK_SECONDS)
            number = sum(thread.name == NAME for thread in threading.enumerate())
            if number == 1:
                return
            self.looks.close()
            self.looks = self.new_looks()
        self.fail(f"{number} threads")

    def be_busy(self, seconds: float) -> None:
        """All this time, there is always more to do."""
        until, left = time.monotonic() + seconds, threading.Semaphore(0)

        def then(_found: Found) -> None:
            if time.monotonic() < until:
                self.looks.begin("a", then)
            else:
                left.release()

        for _ in range(3):
            self.looks.begin("a", then)
        for _ in range(3):
            self.assertTrue(left.acquire(timeout=PATIENCE))

    def test_idle(self) -> None:
        """Looks that come when there is no other are not taken for stuck (tried often, as above)."""
        for _ in range(20):
            began = time.monotonic()
            for _ in range(5):
                done = threading.Event()
                self.looks.begin("a", lambda _found, done=done: done.set())  # type: ignore[misc]  # mypy cannot infer it
                self.assertTrue(done.wait(PATIENCE))
            if time.monotonic() - began < STUCK_SECONDS:
                return
        self.fail("each waited")

    def test_closing(self) -> None:
        """While it waits for what is under way, no thread helps; when it is closed, no look may begin."""
        failed: list[object] = []
        self.addCleanup(setattr, threading, "excepthook", threading.excepthook)
        threading.excepthook = failed.append
        self.occupy()
        self.look("a")
        closing_ = threading.Thread(target=self.looks.close)
        closing_.start()
        self.wait_until(lambda: self.looks._closed)
        self.assertRaises(RuntimeError, self.look, "b")
        # In this time a thread would try to help. It is real, as above.
        time.sleep(2 * STUCK_SECONDS)
        self.gate.set()
        closing_.join(PATIENCE)
        self.assertEqual((["a"], []), (self.until_done(1), failed))
        self.assertRaises(RuntimeError, self.look, "b")
        self.wait_until(lambda: not any(each.name.startswith(NAME) for each in threading.enumerate()), IDLE_SECONDS / 2)
