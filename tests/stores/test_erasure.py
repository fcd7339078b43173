"""The thread that erases: it begins when it is started, goes on whatever happens, and ends when it is closed."""

import multiprocessing
import threading
import unittest
from contextlib import closing
from unittest.mock import patch

from c42_proxy.errors import StoreError
from c42_proxy.observability.metrics import Metrics
from c42_proxy.stores.erasure import ERASE_SECONDS, RETRY_SECONDS, Eraser
from c42_proxy.stores.memory import ENTRY_OVERHEAD, MemoryStore
from c42_proxy.stores.tiered import READ_STATE_SECONDS, TieredStore

from .neighbour import LIFETIME, NOW, entry

PATIENCE = 10.0


class EraserTest(unittest.TestCase):
    def test_in_time(self) -> None:
        """What is over is erased within a minute, also where it was read at the last moment and once in vain."""
        self.assertLess(READ_STATE_SECONDS + ERASE_SECONDS + RETRY_SECONDS, 60)

    def test_step(self) -> None:
        """Where something is left, it is tried again soon; what is no failure of the store is logged."""
        for left, seconds in ((True, ERASE_SECONDS), (False, RETRY_SECONDS)):
            self.assertEqual(seconds, Eraser(lambda left=left: left).step())  # type: ignore[misc]  # no lambda is typed
        with self.assertLogs("c42_proxy.stores.erasure", "ERROR"):
            self.assertEqual(RETRY_SECONDS, Eraser(lambda: 1 // 0 == 0).step())

    def test_thread(self) -> None:
        """It erases at once, in one thread however often it is started; the thread ends when it is closed."""
        erased = threading.Semaphore(0)

        def erase() -> bool:
            erased.release()
            return True

        before = set(threading.enumerate())
        with closing(Eraser(erase)) as eraser:
            for _ in range(3):
                eraser.start()
            self.assertTrue(erased.acquire(timeout=PATIENCE))
            self.assertFalse(erased.acquire(blocking=False))
            (thread,) = set(threading.enumerate()) - before
            self.assertTrue(thread.daemon, "it would keep the process from ending")
        self.assertFalse(thread.is_alive())

    def test_no_thread(self) -> None:
        """If the system gives no thread, this is logged once, and a later call starts the thread."""
        erased = threading.Semaphore(0)

        def erase() -> bool:
            erased.release()
            return True

        with closing(Eraser(erase)) as eraser:
            with (
                patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")),
                self.assertLogs("c42_proxy.stores", "WARNING") as logged,
            ):
                for _ in range(3):
                    eraser.start()
            self.assertEqual(1, len(logged.records))
            eraser.start()
            self.assertTrue(erased.acquire(timeout=PATIENCE))

    def test_never_begun(self) -> None:
        """An eraser that was never started can be closed, and starts no thread afterwards."""
        eraser = Eraser(lambda: True)
        eraser.close()
        before = set(threading.enumerate())
        eraser.start()
        self.assertEqual(set(), set(threading.enumerate()) - before)

    def test_after_a_fork(self) -> None:
        """In a child it begins anew."""
        fork = multiprocessing.get_context("fork")
        erased = fork.Semaphore(0)

        def erase() -> bool:
            erased.release()
            return True

        with closing(Eraser(erase)) as eraser:
            eraser.start()
            self.assertTrue(erased.acquire(timeout=PATIENCE))

            def child() -> None:
                with closing(eraser):
                    eraser.start()
                    assert erased.acquire(timeout=PATIENCE)

            process = fork.Process(target=child)
            process.start()
            process.join(PATIENCE)
            self.assertEqual(0, process.exitcode)


class TieredErasureTest(unittest.TestCase):
    class Shared(MemoryStore):
        answers: list[bool]

        def erase(self, _now: float) -> bool:
            if not self.answers:
                raise StoreError("it is gone")
            return self.answers.pop()

    def setUp(self) -> None:
        self.now = NOW
        self.metrics = Metrics()
        self.memory = MemoryStore(1_000_000, self.metrics, lifetime=LIFETIME, clock=lambda: self.now)

    def tiered(self, shared: MemoryStore | None) -> TieredStore:
        return TieredStore(self.memory, shared, clock=lambda: self.now, metrics=self.metrics)

    def test_memory_alone(self) -> None:
        """Where nothing is shared, memory is all that there is; what is counted goes down."""
        tiered = self.tiered(None)
        tiered.put("a", entry("a"), NOW)
        self.now = NOW + LIFETIME
        self.assertTrue(tiered.erase())
        self.assertIsNone(tiered.from_memory("a"))
        self.assertIn(b"c42_proxy_memory_entries 0.0", self.metrics.exposition())

    def test_shared(self) -> None:
        """What is left in the shared tier, or cannot be erased there, is left; in memory it is gone."""
        shared = self.Shared(1_000_000)
        shared.answers = [False, True]
        tiered = self.tiered(shared)
        tiered.put("a", entry("a"), NOW)
        self.now = NOW + LIFETIME
        self.assertTrue(tiered.erase())
        self.assertFalse(tiered.erase())
        with self.assertLogs("c42_proxy.stores", "WARNING"):
            self.assertFalse(tiered.erase())
        self.assertIsNone(tiered.from_memory("a"))

    def test_texts_that_were_read(self) -> None:
        """A text of the shared tier stays in memory for a while, and no longer."""
        shared = MemoryStore(1_000_000)
        shared.change_state("a", lambda _held: "x", 3600)
        self.assertEqual("x", self.tiered(shared).read_state("a"))
        self.assertEqual("x", self.memory.read_state("a"))
        self.memory.erase(NOW + READ_STATE_SECONDS - 1)
        self.assertEqual("x", self.memory.read_state("a"))
        self.memory.erase(NOW + READ_STATE_SECONDS)
        self.assertIsNone(self.memory.read_state("a"))

    def test_erasing_does_not_count_as_use(self) -> None:
        """The look at what is to be erased uses no entry: the least recently used one goes first, as before."""
        memory = MemoryStore(2 * (100 + ENTRY_OVERHEAD), lifetime=LIFETIME, clock=lambda: NOW)
        memory.put("a", entry("a"), NOW)
        memory.put("b", entry("b"), NOW)
        memory.get("a")
        memory.erase(NOW)
        memory.put("c", entry("c"), NOW)
        self.assertIsNone(memory.get("b"))
        self.assertIsNotNone(memory.get("a"))

    def test_a_clock_set_back(self) -> None:
        """What comes from the future is of no use to anybody."""
        self.memory.put("a", entry("a", NOW + 1.1), NOW)
        self.memory.put("b", entry("b", NOW + 1), NOW)
        self.memory.change_state("a", lambda _held: "x", 60)
        self.memory.erase(NOW)
        self.assertEqual((None, entry("b", NOW + 1)), (self.memory.get("a"), self.memory.get("b")))
        self.memory.erase(NOW - 2)
        self.assertIsNone(self.memory.read_state("a"))
