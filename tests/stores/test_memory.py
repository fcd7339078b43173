"""The store in memory holds what fits, gives up what was used least, and never goes back in time."""

import re
import sys
import threading
import tracemalloc
import unittest
from functools import partial
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from c42_proxy.caching.freshness import Freshness
from c42_proxy.observability.metrics import Metrics
from c42_proxy.stores.contract import Entry
from c42_proxy.stores.memory import ENTRY_OVERHEAD, MemoryStore
from c42_proxy.web.responses import prepared

NOW = 1_700_000_000.0


def entry(body: bytes = b"", fetched_at: float = NOW) -> Entry:
    return Entry(200, body, fetched_at)


class BoundTest(unittest.TestCase):
    def store(self, entries: int) -> MemoryStore:
        """A store with room for so many entries with bodies of 100 bytes."""
        return MemoryStore(entries * (100 + ENTRY_OVERHEAD))

    def put(self, store: MemoryStore, *event_ids: str) -> None:
        for event_id in event_ids:
            self.assertTrue(store.put(event_id, entry(event_id[:1].encode() * 100), NOW))

    def held(self, store: MemoryStore, event_ids: str) -> str:
        return "".join(event_id for event_id in event_ids if store.get(event_id))

    def test_gives_what_it_was_given(self) -> None:
        """An entry comes back as it was put, for its own event alone."""
        store, mine = self.store(2), entry(b"mine")
        self.assertTrue(store.put("mine", mine, NOW))
        self.assertEqual(store.get("mine"), mine)
        self.assertIsNone(store.get("Mine"))

    def test_no_gap(self) -> None:
        """While an entry is replaced, a hit, which waits for nobody, finds the old one or the new one."""
        store, found = self.store(1), list[Entry | None]()
        self.put(store, "a")
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-6)
        replacing = threading.Thread(target=lambda: self.put(store, *["a"] * 10_000))
        replacing.start()
        while replacing.is_alive():
            found.append(store.get("a"))
        replacing.join()
        self.assertNotIn(None, found)

    def test_bodies_count(self) -> None:
        """As many entries are held as have room with their bodies and the overhead, and not one more."""
        store = self.store(3)
        self.put(store, "a", "b", "c")
        self.assertEqual(self.held(store, "abc"), "abc")
        self.put(store, "d")
        self.assertEqual(self.held(store, "abcd"), "bcd")

    def test_one_byte_too_many(self) -> None:
        """The bound is exact to the byte."""
        store = self.store(2)
        self.put(store, "a")
        self.assertTrue(store.put("b", entry(b"b" * 100), NOW))
        self.assertEqual(self.held(store, "ab"), "ab")
        self.assertTrue(store.put("b", entry(b"b" * 101), NOW))
        self.assertEqual(self.held(store, "ab"), "b")

    def test_a_large_one_takes_the_room_of_several(self) -> None:
        """A large entry makes as many others go as it needs room for, the least recently used first."""
        store = self.store(4)
        self.put(store, "a", "b", "c", "d")
        self.assertTrue(store.put("e", entry(b"e" * (2 * 100 + ENTRY_OVERHEAD)), NOW))
        self.assertEqual(self.held(store, "abcde"), "cde")

    def test_reading_counts_as_use(self) -> None:
        """An entry that was read stays longer than one that was written after it."""
        store = self.store(3)
        self.put(store, "a", "b", "c")
        store.get("a")
        self.put(store, "d")
        self.assertEqual(self.held(store, "abcd"), "acd")

    def test_writing_counts_as_use(self) -> None:
        """An entry that was written again stays longer than one that was written before that."""
        store = self.store(3)
        self.put(store, "a", "b", "c", "a", "d")
        self.assertEqual(self.held(store, "abcd"), "acd")

    def test_used_or_gone_since(self) -> None:
        """One that was next to go stays if it is used meanwhile; one that has gone meanwhile makes no room."""
        store = MemoryStore(40 * (100 + ENTRY_OVERHEAD), lifetime=10)
        self.put(store, *(f"{number}" for number in range(41)))
        store.get("1")
        self.put(store, "41", "42")
        store.put("4", entry(b"x" * 100, NOW - 10), NOW - 20)
        store.erase(NOW)
        self.put(store, "43", "44")
        gone = {"0", "2", "3", "4", "5"}
        self.assertEqual(gone, {f"{number}" for number in range(45) if not store.get(f"{number}")})

    @given(st.lists(st.tuples(st.sampled_from(["put", "get", "get", "remove"]), st.integers(0, 70)), max_size=300))
    @settings(deadline=None, derandomize=True)
    def test_order(self, uses: list[tuple[str, int]]) -> None:
        """Whatever is read, written and removed: those that stay are those that were used last."""
        store = MemoryStore(40 * (100 + ENTRY_OVERHEAD), lifetime=10)
        last: list[str] = []
        """Of the entries that should be held, the least recently used first."""
        self.put(store, *(last := [f"{number}" for number in range(40)]))
        for use, number in uses:
            event_id = f"{number}"
            if use == "remove" and event_id in last:
                store.put(event_id, entry(b"x" * 100, NOW - 10), NOW - 20)
                store.erase(NOW)
                last.remove(event_id)
            elif use == "put" or (use == "get" and event_id in last):
                last = [*(other for other in last if other != event_id), event_id][-40:]
                if use == "put":
                    self.put(store, event_id)
                else:
                    store.get(event_id)
        self.assertEqual(set(last), {f"{number}" for number in range(71) if store.get(f"{number}")})

    def test_look_up_of_an_unknown_event(self) -> None:
        """A look-up of an unknown event makes no entry go."""
        store = self.store(2)
        self.put(store, "a", "b")
        self.assertIsNone(store.get("c"))
        self.assertEqual(self.held(store, "ab"), "ab")

    def test_replacing_makes_no_other_go(self) -> None:
        """A full store takes a new entry of the same size for an event that it holds, and keeps the others."""
        store = self.store(3)
        self.put(store, "a", "b", "c", "a", "b", "c")
        self.assertEqual(self.held(store, "abc"), "abc")

    def test_too_large(self) -> None:
        """An entry larger than the whole store is not held, the old one for its event is gone, the others stay."""
        store = self.store(3)
        self.put(store, "a", "b")
        self.assertFalse(store.put("a", entry(b"x" * (3 * (100 + ENTRY_OVERHEAD))), NOW))
        self.assertEqual(self.held(store, "ab"), "b")

    def test_just_not_too_large(self) -> None:
        """An entry exactly as large as the store is held, alone."""
        store = self.store(2)
        self.put(store, "a")
        self.assertTrue(store.put("b", entry(b"x" * (200 + ENTRY_OVERHEAD)), NOW))
        self.assertEqual(self.held(store, "ab"), "b")
        self.assertFalse(store.put("c", entry(b"x" * (201 + ENTRY_OVERHEAD)), NOW))

    def test_no_room_at_all(self) -> None:
        """A store of one byte holds nothing, and says so."""
        store = MemoryStore(1)
        self.assertFalse(store.put("a", entry(), NOW))
        self.assertIsNone(store.get("a"))


class AgeTest(unittest.TestCase):
    def put_over(self, held_at: float, offered_at: float, now: float) -> bool:
        """Whether an entry that was fetched at `offered_at` replaces one of `held_at`."""
        store = MemoryStore(100_000)
        self.assertTrue(store.put("a", entry(b"held", held_at), now))
        taken = store.put("a", entry(b"offered", offered_at), now)
        now_held = store.get("a")
        assert now_held is not None
        self.assertEqual(now_held.body, b"offered" if taken else b"held")
        return taken

    def test_newer_replaces_older(self) -> None:
        """An entry replaces one that was fetched before it, or at the same instant."""
        self.assertTrue(self.put_over(NOW - 10, NOW - 9.999, NOW))
        self.assertTrue(self.put_over(NOW - 10, NOW - 10, NOW))

    def test_older_never_replaces_newer(self) -> None:
        """An entry that was fetched earlier than the one that is held is not taken, and said not to be held."""
        self.assertFalse(self.put_over(NOW - 10, NOW - 10.001, NOW))
        self.assertFalse(self.put_over(NOW, NOW - 3600, NOW))

    def test_skew_of_a_second_is_believed(self) -> None:
        """An entry from up to a second ahead is believed, and not replaced by an older one."""
        self.assertFalse(self.put_over(NOW + 1, NOW, NOW))

    def test_the_far_future_is_not_believed(self) -> None:
        """An entry from more than a second ahead was written before a clock was set back: any other replaces it."""
        self.assertTrue(self.put_over(NOW + 1.001, NOW, NOW))
        self.assertTrue(self.put_over(NOW + 1_000_000, NOW - 100, NOW))

    def test_too_large_but_older(self) -> None:
        """An older entry that would not fit anyway leaves the newer one where it is."""
        store = MemoryStore(10_000)
        self.assertTrue(store.put("a", entry(b"held"), NOW))
        self.assertFalse(store.put("a", entry(b"x" * 10_000, NOW - 1), NOW))
        self.assertEqual(store.get("a"), entry(b"held"))

    def test_events_do_not_meet(self) -> None:
        """The age of one event's entry says nothing about another's."""
        store = MemoryStore(100_000)
        self.assertTrue(store.put("a", entry(fetched_at=NOW), NOW))
        self.assertTrue(store.put("b", entry(fetched_at=NOW - 100), NOW))


class OverheadTest(unittest.TestCase):
    def overhead(self, status: Literal[200, 404], length: int) -> float:
        """The bytes around the body of one of 11,000 small entries, of events whose ids have that length."""
        count = 11_000  # the dictionary has just become larger
        make = partial(prepared, Freshness(252, 0))
        store = MemoryStore(count * 2 * ENTRY_OVERHEAD, prepare=make)
        bodies = 0
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _peak = tracemalloc.get_traced_memory()
        for number in range(count):
            held = Entry(status, f"body {number}".encode() if status == 200 else b"", NOW + number / 20_000)
            event_id = f"{number:0{length}}"
            bodies += len(make(event_id, held)[-1])
            store.put(event_id, held, held.fetched_at)
        after, _peak = tracemalloc.get_traced_memory()
        self.assertTrue(store.get("0" * length), "one of them went")
        return (after - before - bodies) / count

    def test_overhead_is_an_upper_bound(self) -> None:
        """Entries take no more memory than they count for, and those with ids as C42's at least two fifths of it."""
        cases: list[tuple[Literal[200, 404], int]] = [(200, 47), (200, 128), (404, 47), (404, 128)]
        for status, length in cases:
            with self.subTest(status=status, length=length):
                self.assertLessEqual(self.overhead(status, length), ENTRY_OVERHEAD, sys.version)
        self.assertGreaterEqual(self.overhead(200, 47), 0.4 * ENTRY_OVERHEAD, sys.version)

    def test_one_head_for_a_second(self) -> None:
        """All that expire in the same second have the same object as the first part of their heads, and no others."""
        make = partial(prepared, Freshness(252, 0))
        first, same, later = (
            make(each, entry(fetched_at=NOW + seconds))[0] for each, seconds in zip("abc", (0, 0.9, 1), strict=True)
        )
        self.assertIs(first, same)
        self.assertNotEqual(first, later)


class MeasureTest(unittest.TestCase):
    def test_measured(self) -> None:
        """The metrics say how many entries there are and how large they are, after each change."""
        metrics = Metrics()
        store = MemoryStore(10_000, metrics, lifetime=60, clock=lambda: NOW)

        def measured() -> list[bytes]:
            return re.findall(rb"c42_proxy_memory_(?:entries|bytes) ([0-9.]+)", metrics.exposition())

        store.put("a", entry(b"x" * 100), NOW)
        store.put("b", entry(b"x" * 200, NOW - 30), NOW)
        self.assertEqual([b"2.0", b"%d.0" % (300 + 2 * ENTRY_OVERHEAD)], measured())
        store.erase(NOW + 30)
        self.assertEqual([b"1.0", b"%d.0" % (100 + ENTRY_OVERHEAD)], measured())
        store.put("a", entry(b"x" * 10_000), NOW)
        self.assertEqual([b"0.0", b"0.0"], measured())

    def test_of_a_404(self) -> None:
        """A 404, which has no body, counts as the one that is prepared for it."""
        store = MemoryStore(len(b"no such event") + ENTRY_OVERHEAD, prepare=lambda *_: (b"", b"", b"no such event"))
        self.assertTrue(store.put("a", Entry(404, b"", NOW), NOW))
        self.assertTrue(store.put("b", Entry(404, b"", NOW), NOW))
        self.assertIsNone(store.get("a"))
        smaller = MemoryStore(len(b"no such even") + ENTRY_OVERHEAD, prepare=lambda *_: (b"", b"", b"no such event"))
        self.assertFalse(smaller.put("a", Entry(404, b"", NOW), NOW))


class NotesTest(unittest.TestCase):
    def test_too_long(self) -> None:
        """All state texts have 4 MiB, each with the overhead: a longer one is not kept, nor is its predecessor."""
        store = MemoryStore(1)
        longest = "x" * (4_194_304 - ENTRY_OVERHEAD)
        self.assertEqual(store.change_state("a", lambda _held: longest, 60), longest)
        self.assertEqual(store.read_state("a"), longest)
        self.assertEqual(store.change_state("a", lambda held: f"{held}x", 60), f"{longest}x")
        self.assertIsNone(store.read_state("a"))

    def test_least_recently_used(self) -> None:
        """If there is no room for all state texts, the one that was used least recently is dropped."""
        store = MemoryStore(1)
        half = "x" * (4_194_304 // 2 - ENTRY_OVERHEAD)
        for name in ("a", "b"):
            store.change_state(name, lambda _held: half, 60)
        self.assertEqual(store.read_state("a"), half)
        store.change_state("c", lambda _held: "", 60)
        self.assertEqual([store.read_state(name) is not None for name in "abc"], [True, False, True])
