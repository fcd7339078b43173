"""A shared store that fails costs one warning, and is taken back."""

import itertools
import threading
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

from c42_proxy.errors import Overloaded, PartlyRead, StoreError, StoreNotReached
from c42_proxy.observability.metrics import Metrics
from c42_proxy.stores.contract import Entry, Lease, Read
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.stores.tiered import RETRY_SECONDS, UNSHARED, TieredStore

from .neighbour import NOW, entry

LOGGER = "c42_proxy.stores.tiered"
USES = ("get", "put", "read_state", "change_state", "lease")
READING, WRITING, LEASING = {"get", "read_state"}, {"put", "change_state"}, {"lease"}


class Shared(MemoryStore):
    """A store in which the uses named in `broken` fail, and which counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(1_000_000)
        self.broken: set[str] = set()
        self.error = StoreError
        self.asked: list[str] = []
        self.granted: Lease | None = nullcontext()
        self.erased = True

    def _asked(self, use: str) -> None:
        self.asked.append(use)
        if use in self.broken:
            raise self.error(f"{use} is broken")

    def get(self, event_id: str) -> Entry | None:
        self._asked("get")
        return super().get(event_id)

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        self._asked("put")
        return super().put(event_id, entry, now)

    def read_state(self, name: str) -> str | None:
        self._asked("read_state")
        return super().read_state(name)

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        self._asked("change_state")
        return super().change_state(name, change, lifetime)

    def lease(self, event_id: str) -> Lease | None:  # noqa: ARG002  # as the contract has it
        self._asked("lease")
        return self.granted

    def erase(self, now: float) -> bool:
        self._asked("erase")
        return super().erase(now) and self.erased


class TieredTest(unittest.TestCase):
    def setUp(self) -> None:
        self.seconds = 100.0
        self.now = NOW
        self.shared = Shared()
        self.memory = MemoryStore(1_000_000, clock=lambda: self.now)
        self.metrics = Metrics()
        self.store = TieredStore(
            self.memory, self.shared, clock=lambda: NOW, metrics=self.metrics, monotonic=lambda: self.seconds
        )

    def use(self, *names: str) -> list[str]:
        """Use the store in these ways, and tell which of them came to the shared one."""
        self.shared.asked.clear()
        for name in names:
            match name:
                case "get":
                    self.store.get("a")
                case "put":
                    self.assertTrue(self.store.put("a", entry("a"), NOW).shared)
                case "read_state":
                    self.store.read_state("n")
                case "change_state":
                    self.assertEqual("x", self.store.change_state("n", lambda _held: "x", 60))
                case "lease":
                    self.assertIsNotNone(self.store.lease("a"))
        return self.shared.asked

    def breaks(self, *uses: str) -> None:
        """From now on these uses of the shared store fail, and no others."""
        self.shared.broken = set(uses)


class WorkingTest(TieredTest):
    def test_uses_the_shared_one(self) -> None:
        """As long as all works, the shared store answers."""
        self.assertEqual(list(USES), self.use(*USES))
        self.assertFalse(self.store.failed)
        self.shared.put("b", entry("b"), NOW)
        self.assertEqual(entry("b"), self.store.get("b"))

    def test_many(self) -> None:
        """Of many events, too, the newest entry of both tiers is found, and is in memory from then on."""
        for event_id, mine, theirs in (("a", 0, -1), ("b", -1, 0), ("c", None, 0), ("d", 0, None)):
            for store, since in ((self.memory, mine), (self.shared, theirs)):
                if since is not None:
                    store.put(event_id, entry(event_id, NOW + since), NOW)
        newest = {event_id: entry(event_id, NOW) for event_id in "abcd"}
        self.assertEqual({**newest, "e": None}, self.store.read("abcde").entries)
        self.assertEqual({**newest, "e": None}, self.memory.read("abcde").entries)
        self.breaks("get")
        with self.assertLogs(LOGGER):
            self.assertEqual({**newest, "e": None}, self.store.read("abcde").entries)
        self.assertTrue(self.store.failed)
        alone = TieredStore(self.memory, None, clock=lambda: NOW, metrics=self.metrics)
        self.assertEqual({"a": newest["a"], "e": None}, alone.read("ae").entries)

    def test_one_operation(self) -> None:
        """Entries and texts are read from the shared tier in one operation."""
        with patch.object(self.shared, "read", wraps=self.shared.read) as read:
            self.store.read(["a", "b"], ["n", "m"])
        read.assert_called_once_with(["a", "b"], ["n", "m"])

    def test_texts_with_entries(self) -> None:
        """Texts that are read with an entry are what `read_state` gives: others' texts are kept for a failure, too."""
        self.use("put")
        self.shared.change_state("n", lambda _held: "theirs", 60)
        both = Read({"a": entry("a")}, {"n": "theirs", "m": None})
        self.assertEqual(both, self.store.read(["a"], ["n", "m"]))
        self.breaks(*READING)
        with self.assertLogs(LOGGER):
            self.assertEqual(both, self.store.read(["a"], ["n", "m"]))
        self.assertTrue(self.store.failed)

    def test_read_meanwhile(self) -> None:
        """A text that was read counts, whatever another thread has read meanwhile: nobody knows which one is newer."""

        def read(*_keys: object) -> Read:
            self.memory.put_state("n", "another", 60)
            return Read({}, {"n": "theirs"})

        with patch.object(self.shared, "read", read):
            self.assertEqual("theirs", self.store.read_state("n"))
        self.assertEqual("theirs", self.memory.read_state("n"))

    def test_no_lease(self) -> None:
        """While another process has the lease, this process does not get it either."""
        self.shared.granted = None
        self.assertIsNone(self.store.lease("a"))
        self.assertFalse(self.store.failed)

    def test_what_is_newer_elsewhere(self) -> None:
        """An entry older than that of the shared tier is not shared, and is not the one that is found from then on."""
        self.shared.put("a", entry("a", NOW), NOW)
        self.assertFalse(self.store.put("a", entry("a", NOW - 1), NOW).shared)
        self.assertEqual(entry("a", NOW), self.store.get("a"))

    def test_erased(self) -> None:
        """Whether all is erased: by the shared tier, if there is one, and not if that fails."""
        self.assertTrue(self.store.erase())
        self.shared.erased = False
        self.assertFalse(self.store.erase())
        self.breaks("erase")
        with self.assertLogs(LOGGER):
            self.assertFalse(self.store.erase())
        alone = TieredStore(self.memory, None, clock=lambda: NOW, metrics=self.metrics)
        self.assertTrue(alone.erase())

    def test_remembers_for_a_failure(self) -> None:
        """Entries and state texts that this process put, and texts that it read, outlive the shared store."""
        self.use("put", "change_state")
        self.shared.change_state("theirs", lambda _held: "y", 60)
        self.store.read_state("theirs")
        self.breaks(*USES)
        with self.assertLogs(LOGGER):
            self.assertEqual(entry("a"), self.store.get("a"))
        self.assertEqual("x", self.store.read_state("n"))
        self.assertEqual("y", self.store.read_state("theirs"))
        self.assertEqual("xz", self.store.change_state("n", lambda held: f"{held}z", 60))
        self.assertEqual("xz", self.store.read_state("n"))

    def test_what_a_change_raises(self) -> None:
        """An error of a change is no failure of the store."""

        def change(_held: str | None) -> str | None:
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            self.store.change_state("n", change, 60)
        self.assertFalse(self.store.failed)


class OwnLimitsTest(TieredTest):
    def test_not_reached(self) -> None:
        """A process that lacks threads or descriptors gets no lease and no entry, and no store is called failing."""
        self.shared.error = StoreNotReached
        self.breaks(*USES)
        with self.assertNoLogs(LOGGER):
            for use in (self.store.get, self.store.read, self.store.lease):
                with self.assertRaises(Overloaded):
                    use("a")
            with self.assertRaises(Overloaded):
                self.store.read("a", ["n"])
            # What a fetch leaves at its end stays in memory.
            self.assertEqual(["put", "change_state", "read_state"], self.use("put", "change_state", "read_state"))
            self.assertEqual("x", self.store.read_state("n"))
            self.assertEqual({"n": "x"}, self.store.read((), ["n"]).texts)
        self.assertFalse(self.store.failed)
        self.assertIn(b"c42_proxy_store_failures_total 0.0", self.metrics.exposition())
        self.breaks()
        self.assertIsNotNone(self.store.lease("a"))


class FailingTest(TieredTest):
    def test_one_warning(self) -> None:
        """However much is asked, and however often it is tried again: one warning, and one line when it is back."""
        self.breaks(*USES)
        with self.assertLogs(LOGGER, "INFO") as logs:
            for _ in range(10):
                self.use(*USES)
                self.seconds += 1
            self.assertEqual(["WARNING"], [record.levelname for record in logs.records])
            self.assertIn("get is broken", logs.output[0])
            self.breaks()
            self.seconds += RETRY_SECONDS
            self.use(*USES)
            self.assertEqual(["WARNING", "INFO"], [record.levelname for record in logs.records])
            self.use(*USES)
        self.assertEqual(2, len(logs.records))
        self.assertFalse(self.store.failed)

    def test_every_use_goes_on(self) -> None:
        """Whatever fails, the call that meets it is answered by what is here."""
        for use in USES:
            with self.subTest(use):
                self.setUp()
                self.breaks(use)
                with self.assertLogs(LOGGER, "WARNING"):
                    self.assertEqual([use], self.use(use))
                self.assertTrue(self.store.failed)
                self.assertEqual([], self.use(use))

    def test_unreadable(self) -> None:
        """A store that cannot be read is left alone altogether, until it can be."""
        self.breaks(*READING)
        with self.assertLogs(LOGGER, "INFO"):
            self.assertEqual(["get"], self.use(*USES))
            self.seconds += RETRY_SECONDS - 0.001
            self.assertEqual([], self.use(*USES))
            self.seconds += 0.001
            self.assertEqual(["get"], self.use("lease", "put", *USES))
            self.breaks()
            self.seconds += RETRY_SECONDS
            # The text that was changed meanwhile is shared when it is read.
            self.assertEqual([*USES[:3], "change_state", *USES[3:]], self.use(*USES))

    def test_unwritable(self) -> None:
        """A store that is full is still read, and still has its leases; it is written again when that works."""
        self.breaks(*WRITING)
        with self.assertLogs(LOGGER, "INFO") as logs:
            self.assertEqual(["put", "get", "lease"], self.use("put", "get", "lease", "change_state", "put"))
            self.seconds += RETRY_SECONDS
            self.assertEqual(["get", "lease", "put"], self.use("get", "lease", "put", "change_state"))
            self.assertTrue(self.store.failed)
            self.breaks()
            self.seconds += RETRY_SECONDS
            self.assertEqual(["get", "put", "change_state"], self.use("get", "put", "change_state"))
        self.assertEqual(2, len(logs.records), logs.output)

    def test_readable_first(self) -> None:
        """A store that can be read again, but not yet written, is not yet taken for one that works."""
        self.breaks(*READING, *WRITING)
        with self.assertLogs(LOGGER, "INFO") as logs:
            self.assertEqual(["put", "get"], self.use("put", "get"))
            self.breaks(*WRITING)
            self.seconds += RETRY_SECONDS
            self.assertEqual(["get", "put", "get", "lease"], self.use("get", "put", "get", "put", "lease"))
            self.assertEqual(1, len(logs.records), logs.output)
            self.assertTrue(self.store.failed)

    def test_notes_of_others(self) -> None:
        """What others have written is kept for half a minute after it was read, should the shared tier fail."""
        self.shared.change_state("n", lambda _held: "theirs", 60)
        self.assertEqual("theirs", self.store.read_state("n"))
        self.breaks(*READING)
        with self.assertLogs(LOGGER):
            for seconds, text in ((29.9, "theirs"), (30.1, None)):
                self.memory.erase(NOW + seconds)
                self.assertEqual(text, self.store.read_state("n"))

    def test_notes_of_an_unwritable_store(self) -> None:
        """While state texts cannot be changed in the shared tier, those in memory count: they are newer."""
        self.store.change_state("n", lambda _held: "old", 60)
        self.breaks(*WRITING)
        with self.assertLogs(LOGGER):
            self.store.change_state("n", lambda held: f"{held} and new", 60)
        self.assertEqual("old and new", self.store.read_state("n"))
        with patch.object(self.shared, "read", wraps=self.shared.read) as read:
            self.assertEqual({"n": "old and new"}, self.store.read(["a"], ["n"]).texts)
            read.assert_called_once_with(["a"], ())
            self.assertEqual({"n": "old and new"}, self.store.read((), ["n"]).texts)
            read.assert_called_once()

    def test_notes_of_a_store_that_becomes_unwritable(self) -> None:
        """The same from the moment on when it fails, also for a text that has been read by then."""
        self.breaks(*READING)
        with self.assertLogs(LOGGER):
            self.use("get")
            for name in ("first", "second"):
                self.store.change_state(name, lambda _held: "mine", 60)
                self.shared.put_state(name, None if name == "first" else "theirs", 60)
            self.breaks(*WRITING)
            self.seconds += RETRY_SECONDS
            # To share the first one fails.
            self.assertEqual(dict.fromkeys(("first", "second"), "mine"), self.store.read((), ["first", "second"]).texts)

    def test_notes_of_a_failing_store(self) -> None:
        """What was written while the shared tier failed is shared when it works again, unless others wrote."""
        self.breaks(*READING)
        with self.assertLogs(LOGGER, "INFO"):
            self.use("get")
            for name in ("failure", "back-off", "changed", "both"):
                self.store.change_state(name, lambda _held: "mine", 60)
            self.breaks()
            for name in ("back-off", "both"):
                self.shared.change_state(name, lambda _held: "theirs", 60)
            self.seconds += RETRY_SECONDS
            self.assertEqual({"failure": "mine"}, self.store.read(["a"], ["failure"]).texts)
            self.assertEqual("mine", self.shared.read_state("failure"))
            shared = self.shared.state_with_seconds("failure")
            assert shared is not None
            self.assertTrue(50 < shared[1] <= 60, "it is kept for as long as before")
            self.assertEqual("theirs", self.store.read_state("back-off"))
            self.assertEqual("mine and more", self.store.change_state("changed", lambda held: f"{held} and more", 60))
            self.assertEqual("theirs and more", self.store.change_state("both", lambda held: f"{held} and more", 60))
        self.shared.change_state("failure", lambda _held: None, 60)
        self.assertIsNone(self.store.read_state("failure"), "it was shared once")

    def test_notes_that_others_replace(self) -> None:
        """A text that could not be shared is dropped once others have written, also if theirs goes later."""
        self.breaks(*READING)
        with self.assertLogs(LOGGER, "INFO"):
            self.use("get")
            self.store.change_state("failure", lambda _held: "mine", 60)
            self.breaks()
            self.shared.change_state("failure", lambda _held: "theirs", 60)
            self.seconds += RETRY_SECONDS
            self.assertEqual("theirs", self.store.read_state("failure"))
        self.shared.change_state("failure", lambda _held: None, 60)
        self.assertIsNone(self.store.read_state("failure"))
        self.assertIsNone(self.shared.read_state("failure"))

    def test_fails_after_a_text_was_read(self) -> None:
        """Another thread has changed a text in memory, because the shared tier fails: what was read before is older."""
        for broken, theirs in itertools.product((READING, WRITING), ("theirs", None)):
            with self.subTest(broken=broken, theirs=theirs):
                self.setUp()
                self.shared.put_state("n", theirs, 60)

                def read(event_ids: list[str], names: list[str], broken: set[str] = broken) -> Read:
                    found = MemoryStore.read(self.shared, event_ids, names)
                    self.breaks(*broken)
                    if broken == READING:
                        self.use("get")
                    self.store.change_state("n", lambda _held: "mine", 60)
                    return found

                with self.assertLogs(LOGGER), patch.object(self.shared, "read", read):
                    self.assertEqual("mine", self.store.read_state("n"))
                self.assertEqual("mine", self.memory.read_state("n"))
                self.assertEqual("mine", self.memory.read_state(UNSHARED + "n"), "it may be shared later")
                self.breaks()
                self.seconds += RETRY_SECONDS
                with self.assertLogs(LOGGER, "INFO"):
                    self.use("get", "put")
                self.assertEqual(theirs or "mine", self.store.read_state("n"))

    def test_fails_for_others(self) -> None:
        """A text that was read counts, and is kept, if a part of the store or another thread's read fails meanwhile."""
        found = Read({}, {"n": "theirs"})

        def part_fails(*_keys: object) -> Read:
            raise PartlyRead(StoreError("a node is broken"), found)

        def other_fails(*_keys: object) -> Read:
            self.use("get")
            return found

        def other_cannot_write(*_keys: object) -> Read:
            self.store.put("a", entry("a"), NOW)
            return found

        for read, broken in ((part_fails, READING), (other_fails, READING), (other_cannot_write, WRITING)):
            with self.subTest(read.__name__):
                self.setUp()
                self.store.change_state("n", lambda _held: "old", 60)
                self.breaks(*broken)
                with self.assertLogs(LOGGER), patch.object(self.shared, "read", read):
                    self.assertEqual({"n": "theirs"}, self.store.read((), ["n"]).texts)
                self.assertTrue(self.store.failed)
                self.assertEqual("theirs", self.store.read_state("n"))

    def test_unshared_after_a_text_was_changed(self) -> None:
        """What another thread could not share, just after a text was changed, may be shared later."""
        put_state = self.memory.put_state

        def then_fails(name: str, *args: Any, **options: Any) -> str | None:
            kept = put_state(name, *args, **options)
            if not self.shared.broken:
                self.breaks(*WRITING)
                self.store.put("a", entry("a"), NOW)
                self.store.change_state("n", lambda _held: "newer", 60)
            return kept

        with self.assertLogs(LOGGER), patch.object(self.memory, "put_state", then_fails):
            self.assertIsNone(self.store.change_state("n", lambda _held: None, 60))
        self.assertEqual("newer", self.memory.read_state(UNSHARED + "n"))

    def test_fails_after_a_text_was_changed(self) -> None:
        """The same for a text that was written a moment before: what another thread has changed since is newer."""

        def change(name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
            text = MemoryStore.change_state(self.shared, name, change, lifetime)
            self.breaks(*WRITING)
            self.store.put("a", entry("a"), NOW)
            self.store.change_state("n", lambda _held: "newer", 60)
            return text

        with self.assertLogs(LOGGER), patch.object(self.shared, "change_state", change):
            self.assertEqual("mine", self.store.change_state("n", lambda _held: "mine", 60))
            self.assertEqual("newer", self.store.read_state("n"))
        self.assertEqual("newer", self.memory.read_state(UNSHARED + "n"), "it may be shared later")

    def test_notes_that_are_over(self) -> None:
        """A text whose lifetime has ended while the shared tier failed is not shared."""
        self.breaks(*READING)
        with self.assertLogs(LOGGER, "INFO"):
            self.use("get")
            self.store.change_state("failure", lambda _held: "mine", 1)
            self.breaks()
            self.seconds += RETRY_SECONDS
            self.now += 1
            self.assertIsNone(self.store.read_state("failure"))
            self.assertEqual({"failure": None}, self.store.read(["a"], ["failure"]).texts)
        self.assertIsNone(self.shared.read_state("failure"))

    def test_no_leases(self) -> None:
        """If leases alone fail, entries and state texts are still shared."""
        self.breaks("lease")
        with self.assertLogs(LOGGER):
            self.assertEqual(["lease", "get", "put"], self.use("lease", "get", "put", "lease"))

    def test_one_tries_again(self) -> None:
        """When the time has come, one caller tries the store that hangs; the others do not wait for it."""
        self.breaks("get")
        with self.assertLogs(LOGGER, "INFO"):
            self.use("get")
            self.seconds += RETRY_SECONDS
            tried, go_on = threading.Event(), threading.Event()

            def hang(use: str) -> None:
                self.shared.asked.append(use)
                tried.set()
                go_on.wait(1)

            self.shared._asked = hang  # type: ignore[method-assign]  # as a store that hangs
            self.shared.asked.clear()
            with ThreadPoolExecutor(1) as threads:
                one = threads.submit(self.store.get, "a")
                self.assertTrue(tried.wait(10))
                for _ in range(10):
                    self.store.get("a")
                    self.store.put("a", entry("a"), NOW)
                self.assertEqual(["get"], self.shared.asked)
                go_on.set()
                one.result(10)
            self.assertFalse(self.store.failed)

    def test_left_alone_for_two_seconds(self) -> None:
        """A store that failed is tried again after two seconds, and not before."""
        self.breaks("lease")
        with self.assertLogs(LOGGER):
            self.use("lease")
        self.seconds += 1.999
        self.assertEqual([], self.use("lease"))
        self.seconds += 0.001
        self.assertEqual(["lease"], self.use("lease"))

    def test_what_did_not_fail(self) -> None:
        """Trying what did not fail does not make a store that failed one that works."""
        self.breaks("put")
        with self.assertLogs(LOGGER, "INFO") as logs:
            self.use("put", "lease", "get")
        self.assertTrue(self.store.failed)
        self.assertEqual(1, len(logs.records), logs.output)

    def test_metrics(self) -> None:
        """Operators see each failure counted, and whether the store works: it does until it fails, and again after."""

        def told() -> tuple[str, str]:
            lines = dict(line.split(" ") for line in self.metrics.exposition().decode().splitlines() if line[0] != "#")
            return lines["c42_proxy_store_up"], lines["c42_proxy_store_failures_total"]

        self.assertEqual(("1.0", "0.0"), told())
        self.breaks("get")
        with self.assertLogs(LOGGER, "INFO"):
            self.use("get", "get")
            self.assertEqual(("0.0", "1.0"), told())
            self.seconds += RETRY_SECONDS
            self.use("get")
            self.assertEqual(("0.0", "2.0"), told())
            self.breaks()
            self.seconds += RETRY_SECONDS
            self.use("get")
        self.assertEqual(("1.0", "2.0"), told())

    def test_many_fail_at_once(self) -> None:
        """Many callers that meet the failure together make one warning."""
        start = threading.Barrier(20)

        def fail(use: str) -> None:
            start.wait(10)
            raise StoreError(f"{use} is broken")

        self.shared._asked = fail  # type: ignore[method-assign]  # all of them are in it before the first one fails
        with self.assertLogs(LOGGER) as logs, ThreadPoolExecutor(20) as threads:
            list(threads.map(self.store.get, ["a"] * 20))
        self.assertEqual(1, len(logs.records))


del TieredTest
