"""What holds for every store, and for every store that several processes share."""

import dataclasses
import json
import tempfile
import threading
import time
import unittest
import unittest.mock
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c42_proxy.errors import Overloaded, StoreError
from c42_proxy.observability.metrics import Metrics
from c42_proxy.settings import Settings
from c42_proxy.stores.contract import Entry, Listed, Read, SharedStore, Store
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.stores.opening import default_file, open_shared
from c42_proxy.stores.records import fingerprint, from_bytes, to_bytes
from c42_proxy.stores.redis import RedisStore
from c42_proxy.stores.sqlite import SqliteStore
from c42_proxy.stores.tiered import TieredStore
from harness.needs import needs
from harness.redis_deployments import Deployment, Nodes, Watched
from tests.test_threads import no_descriptors, no_new_thread

from .neighbour import LIFETIME, NAMESPACE, NOW, Neighbour, entry

RECORD = to_bytes("a", entry("a"))

GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "an empty object": b"{}",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "bytes that are no text": b"\xff\xfe\x00",
    "a pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
    "the first half": RECORD[: len(RECORD) // 2],
    "with something behind it": RECORD + b" ",
    "with spaces in it": RECORD.replace(b":", b": "),
    "with a field too many": RECORD.replace(b'"status"', b'"more":1,"status"'),
    "with a field twice": RECORD.replace(b'"status":200', b'"status":200,"status":200'),
    "without a field": RECORD.replace(b'"status":200,', b""),
    "another event's": to_bytes("b", entry("b")),
    "another event's 404": to_bytes("b", Entry(404, b"", NOW)),
    "an answer of another event": RECORD.replace(b'"id":"a"', b'"id":"b"'),
    "a 200 without an answer": b'{"event_id":"a","status":200,"fetched_at":1700000000.0,"answer":null}',
    "a 404 with an answer": RECORD.replace(b"200", b"404"),
    "a status that is none of ours": RECORD.replace(b"200", b"500"),
    "a status as text": RECORD.replace(b"200", b'"200"'),
    "an instant as text": RECORD.replace(b"1700000000.0", b'"1700000000.0"'),
    "an instant that is no number": RECORD.replace(b"1700000000.0", b"NaN"),
    "an instant without end": RECORD.replace(b"1700000000.0", b"Infinity"),
    "an instant too large": RECORD.replace(b"1700000000.0", b"1e999"),
    "a title that is a number": RECORD.replace(b'"Coffee"', b"7"),
    "names that are none": RECORD.replace(b'"Michel"', b"null"),
    "half a character": RECORD.replace(b"Coffee", b"\\ud800"),
    "very deep": b"[" * 100_000,
}


class EntryTest(unittest.TestCase):
    def test_what_is_made_of_it(self) -> None:
        """What is prepared for hits is no part of an entry: not compared, not shown."""
        used = dataclasses.replace(entry("a"), shared_head=b"1", own_head=b"2", prepared_body=b"3", used=4.0)
        self.assertEqual(entry("a"), used)
        self.assertEqual(repr(entry("a")), repr(used))


def needed(value: Entry | None) -> bytes:
    assert value is not None
    return value.body


class Contract(unittest.TestCase):
    """The tests for every store. The classes below say which one."""

    store: Store

    def open(self, namespace: str = NAMESPACE) -> Store:
        raise NotImplementedError

    def setUp(self) -> None:
        self.now = NOW
        self.store = self.open()

    def let_pass(self, seconds: float) -> None:
        """Let time pass, for the store as for us."""
        self.now += seconds

    def kept(self) -> bytes:
        """All that the store has anywhere, as it is there."""
        raise NotImplementedError

    def put_over(self, held_at: float, offered_at: float) -> bool:
        """Whether an entry that was fetched at `offered_at` replaces one of `held_at`."""
        held, offered = entry("a", held_at, "held"), entry("a", offered_at, "offered")
        self.assertTrue(self.store.put("a", held, NOW))
        taken = self.store.put("a", offered, NOW)
        self.assertEqual(offered if taken else held, self.store.get("a"))
        return taken

    def test_gives_what_it_was_given(self) -> None:
        """An entry comes back byte for byte with its instant, for its own event alone."""
        given_entries = {
            "plain": entry("plain"),
            "A-_9" * 32: entry("A-_9" * 32, NOW + 1 / 3),
            "title": entry("title", title=None),
            "text": entry("text", title='Café "☕" \\ 日本\u2028 \x00 \U0001f600 </script>'),
            "large": entry("large", title="x" * 300_000),
            "gone": Entry(404, b"", NOW - 0.1),
        }
        for event_id, given_entry in given_entries.items():
            self.assertTrue(self.store.put(event_id, given_entry, NOW), event_id)
        for event_id, given_entry in given_entries.items():
            self.assertEqual(given_entry, self.store.get(event_id))
        self.assertIsNone(self.store.get("Plain"))
        self.assertIsNone(self.store.get("plai"))
        self.assertEqual({**given_entries, "plai": None}, self.store.read([*given_entries, "plai"]).entries)

    def test_read_together(self) -> None:
        """Entries and texts are read together as each by itself, also if they have the same names."""
        self.store.put("a", entry("a"), NOW)
        for name in ("a", "b"):
            self.store.change_state(name, lambda _held, name=name: f"text of {name}", 60)  # type: ignore[misc]  # mypy infers no type for it
        both = Read({"a": entry("a"), "b": None}, {"a": "text of a", "b": "text of b", "c": None})
        self.assertEqual(both, self.store.read(both.entries, both.texts))
        self.assertEqual(Read({}, {"b": "text of b"}), self.store.read((), ["b"]))
        self.assertEqual(Read({"a": entry("a")}, {}), self.store.read(["a"]))

    def test_newer_replaces_older(self) -> None:
        """An entry replaces one that was fetched before it, or at the same instant."""
        self.assertTrue(self.put_over(NOW - 10, NOW - 9.999))
        self.assertTrue(self.put_over(NOW - 5, NOW - 5))

    def test_older_never_replaces_newer(self) -> None:
        """An entry that was fetched earlier than the one that is held is not taken, and said not to be held."""
        self.assertFalse(self.put_over(NOW - 10, NOW - 10.001))
        self.assertFalse(self.put_over(NOW, NOW - 3600))

    def test_skew_of_a_second_is_believed(self) -> None:
        """An entry from up to a second ahead is not replaced by an older one."""
        self.assertFalse(self.put_over(NOW + 1, NOW))

    def test_the_far_future_is_not_believed(self) -> None:
        """An entry from more than a second ahead was written before a clock was set back: any other replaces it."""
        self.assertTrue(self.put_over(NOW + 1.001, NOW))
        self.assertTrue(self.put_over(NOW + 1_000_000, NOW - 100))

    def test_a_404_replaces_and_is_replaced(self) -> None:
        """The status has no say in which entry is newer."""
        self.assertTrue(self.store.put("a", entry("a", NOW - 2), NOW))
        self.assertTrue(self.store.put("a", Entry(404, b"", NOW - 1), NOW))
        self.assertFalse(self.store.put("a", entry("a", NOW - 2), NOW))
        self.assertTrue(self.store.put("a", entry("a", NOW), NOW))
        self.assertEqual(entry("a", NOW), self.store.get("a"))

    def test_notes(self) -> None:
        """A state text is what the last change made of it; None removes it."""
        seen: list[str | None] = []

        def to(text: str | None) -> Callable[[str | None], str | None]:
            def change(held: str | None) -> str | None:
                seen.append(held)
                return text

            return change

        self.assertIsNone(self.store.read_state("down"))
        for text in ("one ☕", "", "two", None, None):
            self.assertEqual(text, self.store.change_state("down", to(text), 60))
            self.assertEqual(text, self.store.read_state("down"))
        self.assertEqual([None, "one ☕", "", "two", None], seen)
        self.assertIsNone(self.store.read_state("Down"))

    def test_notes_are_no_entries(self) -> None:
        """A state text, an entry and a lease of the same name do not affect each other."""
        self.store.put("a", entry("a"), NOW)
        self.assertIsNone(self.store.read_state("a"))
        self.store.change_state("a", lambda _held: "note", 60)
        self.assertEqual(entry("a"), self.store.get("a"))
        lease = self.store.lease("a")
        assert lease is not None
        with lease:
            self.assertEqual("note", self.store.read_state("a"))
            self.assertEqual(entry("a"), self.store.get("a"))

    def test_a_change_that_fails(self) -> None:
        """An exception of a change comes through as it is; the text stays, and the next change finds nothing locked."""

        def change(_held: str | None) -> str | None:
            raise ZeroDivisionError

        self.store.change_state("a", lambda _held: "held", 60)
        with self.assertRaises(ZeroDivisionError):
            self.store.change_state("a", change, 60)
        self.assertEqual("held", self.store.read_state("a"))
        self.assertEqual("new", self.store.change_state("a", lambda _held: "new", 60))

    def test_no_change_is_lost(self) -> None:
        """Eight threads that count in one state text 25 times each come to 200."""

        def count(_thread: int) -> None:
            for _ in range(25):
                self.store.change_state("count", lambda held: str(int(held or 0) + 1), 60)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, range(8)))
        self.assertEqual("200", self.store.read_state("count"))

    def test_threads(self) -> None:
        """Eight threads that put and get the same events find entries of those events, and the newest at the end."""

        def work(thread: int) -> None:
            for number in range(25):
                event_id = f"event-{number % 3}"
                self.store.put(event_id, entry(event_id, NOW - number - thread / 10), NOW)
                self.assertIn(b'"id":"%s"' % event_id.encode(), needed(self.store.get(event_id)))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))
        for number in range(3):
            self.assertEqual(entry(f"event-{number}", NOW - number), self.store.get(f"event-{number}"))

    def test_erasure(self) -> None:
        """What nobody may be given any more leaves no trace, of an entry, its id, and a text; the rest stays."""
        others = [self.open(namespace) for namespace in (NAMESPACE, "m")]
        for store in others:
            store.put("gone-404", Entry(404, b"", NOW), NOW)
            store.put("gone", entry("gone", NOW, "Gone title"), NOW)
            store.change_state("gone-state", lambda _held: "Gone text", 3)
        self.let_pass(LIFETIME - 1)
        self.store.put("last", entry("last", NOW + 1, "Last title"), self.now)
        self.store.put("kept", entry("kept", self.now), self.now)
        self.store.change_state("kept-state", lambda _held: "Kept text", 3)
        for seconds, gone, stays in ((0, b"Gone text", b"Gone title"), (1, b"gone", b"Last"), (2, b"Kept", b'"kept"')):
            self.let_pass(seconds)
            for store in (*others, self.store):
                self.assertTrue(store.erase(self.now))
            kept = self.kept()
            self.assertFalse(gone in kept or gone.capitalize() in kept, gone)
            self.assertTrue(stays in kept, stays)
        self.assertIsNone(self.store.get("gone"))
        self.assertIsNotNone(self.store.get("kept"))
        self.assertIsNone(self.store.read_state("kept-state"))

    def test_nothing_to_erase(self) -> None:
        """Where there is nothing, nothing is left to do."""
        self.assertTrue(self.store.erase(self.now))

    def test_closed(self) -> None:
        """What is used after it was closed is opened again."""
        self.store.put("a", entry("a"), NOW)
        self.store.close()
        self.assertEqual(entry("a"), self.store.get("a"))

    def test_lease(self) -> None:
        """A lease is granted, one for another event as well, and again when it was left."""
        for _ in range(2):
            one, other = self.store.lease("a"), self.store.lease("b")
            assert one is not None
            assert other is not None
            with one, other:
                pass

    def test_what_is_raised_under_a_lease(self) -> None:
        """An exception under a lease comes through as it is, and the lease is given back."""
        for _ in range(2):
            lease = self.store.lease("a")
            assert lease is not None
            with self.assertRaises(ZeroDivisionError), lease:
                raise ZeroDivisionError


class SharedContract(Contract):
    """The tests for a store that several processes share."""

    url: str
    freed_within: ClassVar[float]
    """Seconds after which a dead process's lease is free."""

    def open_shared(self, namespace: str = NAMESPACE) -> SharedStore:
        """The store itself, also where `open` puts something around it."""
        raise NotImplementedError

    def write_raw(self, key: str, record: bytes) -> None:
        """Put something at an event's place, past the store."""
        raise NotImplementedError

    def listed(self, namespace: str = NAMESPACE) -> list[Listed]:
        """All that is listed, a few at a time."""
        with (
            unittest.mock.patch("c42_proxy.stores.sqlite.LISTED_AT_ONCE", 3),
            unittest.mock.patch("c42_proxy.stores.redis.SCANNED_AT_ONCE", 4),
            unittest.mock.patch("c42_proxy.stores.redis.READ_AT_ONCE", 3),
        ):
            return list(self.open_shared(namespace).listed())

    def neighbour(self) -> Neighbour:
        return self.enterContext(Neighbour(self.url))

    def test_kept(self) -> None:
        """Whoever opens the store later finds what was put into it, state texts too."""
        self.store.put("a", entry("a"), NOW)
        self.store.change_state("wait", lambda _held: "until then", 60)
        later = self.open()
        self.assertEqual(entry("a"), later.get("a"))
        self.assertEqual("until then", later.read_state("wait"))

    def test_own_limits(self) -> None:
        """A process that lacks descriptors or threads neither takes a lease nor counts that as a failure of the store.

        Else it could fetch what another process fetches.
        """
        self.assertIsNotNone(self.store.lease("a"))
        for lacking in (no_descriptors, no_new_thread):
            store = self.open_shared()
            tiered = TieredStore(MemoryStore(10_000), store, clock=lambda: NOW, metrics=Metrics())
            with self.subTest(lacking=lacking.__name__), self.assertNoLogs("c42_proxy"):
                with lacking():
                    for use in (tiered.lease, tiered.get):
                        with suppress(Overloaded):
                            self.assertIsNone(use("a"))
                    self.assertTrue(tiered.put("b", entry("b"), NOW).in_memory)
                self.assertFalse(tiered.failed)
                self.assertIsNone(tiered.lease("a"))
                self.assertIsNotNone(tiered.lease(lacking.__name__))

    def test_namespaces(self) -> None:
        """Entries, state texts and leases of another namespace are not seen."""
        other = self.open("m")
        self.store.put("a", entry("a"), NOW)
        self.store.change_state("a", lambda _held: "note", 60)
        lease = self.store.lease("a")
        assert lease is not None
        with lease:
            self.assertIsNone(other.get("a"))
            self.assertIsNone(other.read_state("a"))
            other_lease = other.lease("a")
            assert other_lease is not None
            with other_lease:
                self.assertTrue(other.put("a", entry("a", NOW - 100), NOW))
        self.assertEqual(entry("a"), self.store.get("a"))

    def test_list(self) -> None:
        """All entries are listed, each once with the size of its body, the newest first."""
        self.assertEqual([], self.listed())
        ages = [0.5, 90, 3, 3, 3, 3, 3, 3000, 1, 7, 3800, 60, 2, 8]
        expected = []
        for number, age in enumerate(ages):
            given_entry = (
                Entry(404, b"", NOW - age) if number % 5 == 0 else entry(f"e{number}", NOW - age, "ö" * number)
            )
            self.assertTrue(self.store.put(f"e{number}", given_entry, NOW))
            expected.append(Listed(f"e{number}", given_entry.status, NOW - age, len(given_entry.body)))
        found = self.listed()
        self.assertEqual([NOW - age for age in sorted(ages)], [listed.fetched_at for listed in found])
        self.assertCountEqual(expected, found)

    def test_list_of_ours_alone(self) -> None:
        """State texts and leases are not listed, nor what is of another namespace or was not written by us."""
        self.store.put("a", entry("a"), NOW)
        for namespace in ("m", "nn", "o"):
            self.open(namespace).put("b", entry("b"), NOW)
        self.store.change_state("c", lambda _held: "note", 60)
        lease = self.store.lease("d")
        assert lease is not None
        with lease:
            self.assertEqual(["a"], [listed.event_id for listed in self.listed()])
        for number, record in enumerate(GARBAGE.values()):
            self.write_raw(f"garbage-{number}", record)
        self.assertEqual(["a"], [listed.event_id for listed in self.listed()])
        self.assertEqual(["b"], [listed.event_id for listed in self.listed("m")])

    def test_garbage(self) -> None:
        """What we cannot have written is a miss, and gives way to an entry however old."""
        self.store.put("b", entry("b"), NOW)
        for what, record in GARBAGE.items():
            with self.subTest(what):
                self.write_raw("a", record)
                self.assertIsNone(self.open().get("a"))
                self.assertEqual({"a": None, "b": entry("b")}, self.open().read(["a", "b"]).entries)
                self.assertTrue(self.store.put("a", entry("a", NOW - 3000), NOW))
                self.assertEqual(entry("a", NOW - 3000), self.store.get("a"))

    def test_bodies_that_are_no_answers(self) -> None:
        """A body that the proxy does not make is not found, and gives way to one that it makes."""
        for body in (b"", b"x", b"{}", b'{"id":"b","title":null,"names":[]}', b'{"id": "a","title":null,"names":[]}'):
            self.open().put("a", Entry(200, body, NOW), NOW)
            self.assertIsNone(self.open().get("a"), body)
            self.assertTrue(self.open().put("a", entry("a", NOW - 3000), NOW))
            self.assertEqual(entry("a", NOW - 3000), self.open().get("a"))

    def test_one_lease(self) -> None:
        """Of many threads at several objects for one store, exactly one gets the lease."""
        stores = [self.open() for _ in range(4)]
        start = threading.Barrier(20)

        def take(number: int) -> object:
            start.wait(10)
            return stores[number % 4].lease("a")

        with ThreadPoolExecutor(20) as threads:
            leases = [lease for lease in threads.map(take, range(20)) if lease]
        self.assertEqual(1, len(leases))
        self.assertIsNone(self.store.lease("a"))
        with leases[0]:  # type: ignore[attr-defined]  # as the contract has it
            pass
        self.assertIsNotNone(self.store.lease("a"))

    def test_another_process(self) -> None:
        """Another process sees our entries, we see its; it has no lease while we hold it, and has it then."""
        neighbour = self.neighbour()
        self.store.put("a", entry("a"), NOW)
        self.assertIs(True, neighbour.ask("get", "a"))
        self.assertIs(True, neighbour.ask("put", "b"))
        self.assertEqual(entry("b"), self.store.get("b"))
        lease = self.store.lease("a")
        assert lease is not None
        with lease:
            self.assertIs(False, neighbour.ask("lease", "a"))
            self.assertIs(True, neighbour.ask("lease", "b"))
        self.assertIsNone(self.store.lease("b"))
        self.assertIs(True, neighbour.ask("lease", "a"))
        self.assertIs(True, neighbour.ask("release", "b"))
        self.assertIsNotNone(self.store.lease("b"))

    def test_a_holder_dies(self) -> None:
        """The lease of a process that is killed (kill -9) is free in time, though it was renewed up to then."""
        neighbour = self.neighbour()
        self.assertIs(True, neighbour.ask("lease", "a"))
        self.assertIsNone(self.store.lease("a"))
        neighbour.kill()
        killed = time.monotonic()
        while self.store.lease("a") is None:
            self.assertLess(time.monotonic(), killed + 5)
            time.sleep(0.01)
        self.assertLess(time.monotonic(), killed + self.freed_within)

    def test_processes_lose_no_change(self) -> None:
        """Two other processes and this one count in one state text 100 times each, and come to 300."""
        neighbours = [self.neighbour(), self.neighbour()]
        for neighbour in neighbours:
            neighbour.ask("get", "ready")
        for neighbour in neighbours:
            neighbour.tell("count", "number", 100)
        for _ in range(100):
            self.store.change_state("number", lambda held: str(int(held or 0) + 1), 60)
        for neighbour in neighbours:
            neighbour.answer()
        self.assertEqual("300", self.store.read_state("number"))


def kept_in(memory: MemoryStore) -> bytes:
    return repr([*memory._entries.items(), *memory._states.items()]).encode()


class MemoryContractTest(Contract):
    memory: MemoryStore | None = None

    def open(self, namespace: str = NAMESPACE) -> Store:  # noqa: ARG002  # nobody shares it
        self.memory = self.memory or MemoryStore(10_000_000, lifetime=LIFETIME, clock=lambda: self.now)
        return self.memory

    def kept(self) -> bytes:
        assert self.memory is not None
        return kept_in(self.memory)


class SqliteContractTest(SharedContract):
    freed_within = 0.2

    def setUp(self) -> None:
        self.url = self.enterContext(tempfile.TemporaryDirectory()) + "/cache.sqlite3"
        super().setUp()

    def open(self, namespace: str = NAMESPACE) -> Store:
        return self.open_shared(namespace)

    def open_shared(self, namespace: str = NAMESPACE) -> SharedStore:
        store = SqliteStore(
            Path(self.url), namespace=namespace, max_bytes=1 << 26, lifetime=LIFETIME, clock=lambda: self.now
        )
        self.addCleanup(store.close)
        return store

    def kept(self) -> bytes:
        return b"".join(file.read_bytes() for file in Path(self.url).parent.iterdir())

    def write_raw(self, key: str, record: bytes) -> None:
        store = self.open_shared()
        store.get(key)
        assert isinstance(store, SqliteStore)
        assert store._connection is not None
        store._connection.execute("REPLACE INTO entries_1 VALUES (?, ?, ?)", (f"{NAMESPACE}:{key}", NOW, record))


@needs("redis-server")
class RedisContractTest(SharedContract):
    """A Redis that Sentinels name. One at an address of its own is tried in `test_redis.py`."""

    freed_within = 1.3
    deployment: ClassVar[type[Deployment]] = Watched
    redis: ClassVar[Deployment]

    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = cls.enterClassContext(cls.deployment())

    def setUp(self) -> None:
        self.url = self.redis.url
        self.redis.command("FLUSHALL")
        super().setUp()

    def open(self, namespace: str = NAMESPACE) -> Store:
        return self.open_shared(namespace)

    def open_shared(self, namespace: str = NAMESPACE) -> SharedStore:
        store = RedisStore(self.url, namespace=namespace, lifetime=LIFETIME)
        self.addCleanup(store.close)
        return store

    def let_pass(self, seconds: float) -> None:
        """Redis goes by its own clock: bring the end of each key nearer instead."""
        super().let_pass(seconds)
        for key in self.keys():
            left = int(self.redis.command("PTTL", key)[1:-2]) - round(1000 * seconds)
            self.redis.command("PEXPIRE", key, str(left))

    def kept(self) -> bytes:
        return b"".join(key + self.redis.command("GET", key) for key in self.keys())

    def keys(self) -> list[bytes]:
        return self.redis.command("KEYS", "*").split(b"\r\n")[2::2]

    def write_raw(self, key: str, record: bytes) -> None:
        self.redis.command("SET", f"c42-proxy:{NAMESPACE}:event:{key}", record)


class Tiered:
    """A tiered store as the contract sees one: what is kept is what all who share it find."""

    def __init__(self, shared: Store, clock: Callable[[], float]) -> None:
        self.memory = MemoryStore(10_000_000, lifetime=LIFETIME, clock=clock)
        self._tiered = TieredStore(self.memory, shared, clock=clock, metrics=Metrics())
        self.get = self._tiered.get
        self.read = self._tiered.read
        self.read_state = self._tiered.read_state
        self.change_state = self._tiered.change_state
        self.lease = self._tiered.lease
        self.close = shared.close

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        return self._tiered.put(event_id, entry, now).shared

    def erase(self, _now: float) -> bool:
        return self._tiered.erase()


class Tiers:
    """What the tests of tiered stores have in common."""

    now: float

    def tiered(self, shared: Store) -> Tiered:
        tiered = Tiered(shared, lambda: self.now)
        self._fronts = [*getattr(self, "_fronts", []), tiered.memory]
        return tiered

    def kept_in_front(self) -> bytes:
        return b"".join(kept_in(memory) for memory in self._fronts)


class TieredMemoryContractTest(Tiers, MemoryContractTest):
    def open(self, namespace: str = NAMESPACE) -> Store:
        return self.tiered(super().open(namespace))

    def kept(self) -> bytes:
        return super().kept() + self.kept_in_front()


class TieredSqliteContractTest(Tiers, SqliteContractTest):
    def open(self, namespace: str = NAMESPACE) -> Store:
        return self.tiered(super().open(namespace))

    def kept(self) -> bytes:
        return super().kept() + self.kept_in_front()


@needs("redis-server")
class TieredClusterContractTest(Tiers, RedisContractTest):
    deployment = Nodes

    def keys(self) -> list[bytes]:
        assert isinstance(self.redis, Nodes)
        return [key for node in self.redis.nodes for key in node.command("KEYS", "*").split(b"\r\n")[2::2]]

    def open_shared(self, namespace: str = NAMESPACE) -> SharedStore:
        store = super().open_shared(namespace)
        # To begin with a cluster takes so much that four stores in one busy process could be too late.
        store.get("begin")
        return store

    def open(self, namespace: str = NAMESPACE) -> Store:
        return self.tiered(super().open(namespace))

    def kept(self) -> bytes:
        return super().kept() + self.kept_in_front()


class RecordsTest(unittest.TestCase):
    @given(st.binary(max_size=200))
    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    def test_any_bytes(self, record: bytes) -> None:
        """Bytes of any kind are no entry, and no error."""
        self.assertIsNone(from_bytes("a", record))

    @given(st.data())
    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    def test_a_byte_changed(self, data: st.DataObject) -> None:
        """A record with one byte changed is a miss, or else exactly what we write for the entry that it gives."""
        place = data.draw(st.integers(0, len(RECORD) - 1))
        record = RECORD[:place] + bytes([data.draw(st.integers(0, 255))]) + RECORD[place + 1 :]
        read = from_bytes("a", record)
        if read is not None:
            self.assertEqual(record, to_bytes("a", read))
            self.assertEqual("a", json.loads(read.body)["id"])

    @given(
        st.text("AZaz09_-", min_size=1, max_size=128),
        st.none() | st.text(st.characters(codec="utf-8")),
        st.lists(st.text(st.characters(codec="utf-8"))),
        st.floats(allow_nan=False, allow_infinity=False),
    )
    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    def test_every_answer(self, event_id: str, title: str | None, names: list[str], fetched_at: float) -> None:
        """Every answer that we can give comes back as it was."""
        answer = {"id": event_id, "title": title, "names": names}
        body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
        written = Entry(200, body, fetched_at)
        self.assertEqual(written, from_bytes(event_id, to_bytes(event_id, written)))

    def test_no_bytes(self) -> None:
        """What a database may give in place of bytes is no entry."""
        for value in (None, 1, 1.5, RECORD.decode(), ["x"]):
            self.assertIsNone(from_bytes("a", value))

    def test_fingerprint(self) -> None:
        """It differs by C42's address and by the token, and is the same each time."""
        self.assertEqual(fingerprint("https://a/", "t"), fingerprint("https://a/", "t"))
        prints = {fingerprint(*words) for words in (("a", "b"), ("a", "c"), ("b", "b"), ("ab", ""), ("", "ab"))}
        self.assertEqual(5, len(prints))

    def test_fingerprint_is_kept(self) -> None:
        """An update that changes no format finds what was there before: sixteen digits, and always the same."""
        self.assertEqual("68ffed3a435d2761", fingerprint("https://c42.example/api/v2/", "token"))

    def test_fingerprint_of_a_format(self) -> None:
        """It differs by the version of the format."""
        before = fingerprint("a", "b")
        with unittest.mock.patch("c42_proxy.stores.records.FORMAT", 2):
            self.assertNotEqual(before, fingerprint("a", "b"))


class OpeningTest(unittest.TestCase):
    def settings(self, **values: object) -> Settings:
        return Settings.model_validate({"api_token": "secret", **values})

    def open(self, **values: object) -> SharedStore:
        store = open_shared(self.settings(**values), lambda: NOW)
        assert store is not None
        self.addCleanup(store.close)
        return store

    def test_memory(self) -> None:
        """With memory:// nothing is shared."""
        self.assertIsNone(open_shared(self.settings(cache_url="memory://"), lambda: NOW))

    def test_sqlite(self) -> None:
        """Three slashes make a path from here, four one from the root; nothing is opened yet."""
        for url, path in (
            ("sqlite:///x/c.db", Path.cwd() / "x/c.db"),
            ("sqlite:////x/c.db", Path("/x/c.db")),
        ):
            store = self.open(cache_url=url)
            assert isinstance(store, SqliteStore)
            self.assertEqual(path, store._path)
            self.assertFalse(path.parent.exists())

    def test_redis(self) -> None:
        """A Redis that is not there is no reason not to start; the connection is encrypted with rediss://."""
        for url in ("redis://u:p@127.0.0.1:1/3", "rediss://127.0.0.1:1"):
            self.assertIsInstance(self.open(cache_url=url), RedisStore)
            with self.assertRaises(StoreError):
                self.open(cache_url=url).get("a")

    def test_default(self) -> None:
        """Without a setting it is a file in the user's cache folder, wherever that is."""
        for environ, file in (
            ({"HOME": "/h"}, "/h/.cache/c42_proxy/cache.sqlite3"),
            ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/c42_proxy/cache.sqlite3"),
            ({"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache/c42_proxy/cache.sqlite3"),
            ({"HOME": "/h", "XDG_CACHE_HOME": "x"}, "/h/.cache/c42_proxy/cache.sqlite3"),
        ):
            with unittest.mock.patch.dict("os.environ", environ, clear=True):
                self.assertEqual(Path(file), default_file())
                store = self.open()
            assert isinstance(store, SqliteStore)
            self.assertEqual(Path(file), store._path)

    def test_no_home(self) -> None:
        """A user without a home has the root for one."""
        with (
            unittest.mock.patch.dict("os.environ", {}, clear=True),
            unittest.mock.patch("pwd.getpwuid", side_effect=KeyError),
        ):
            self.assertEqual(Path("/.cache/c42_proxy/cache.sqlite3"), default_file())

    def test_what_is_shared(self) -> None:
        """Two proxies share a file, unless they differ in their C42 or their token; the token is not in it."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder}/cache.sqlite3"
        self.open(cache_url=url).put("a", entry("a"), NOW)
        self.assertEqual(entry("a"), self.open(cache_url=url).get("a"))
        self.assertIsNone(self.open(cache_url=url, api_token="other").get("a"))
        self.assertIsNone(self.open(cache_url=url, api_url="https://other.example/").get("a"))
        for file in folder.iterdir():
            self.assertNotIn(b"secret", file.read_bytes())

    def test_lifetime(self) -> None:
        """What is kept is kept for as long as it may be served: while fresh, and stale after that."""
        store = self.open(cache_url="sqlite:///x/c.db", cache_ttl=10, stale_if_error=5)
        assert isinstance(store, SqliteStore)
        self.assertEqual(15, store._lifetime)


# What only names the tests for others to take over is no test itself.
del Contract, SharedContract
