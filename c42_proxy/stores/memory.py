"""A store in the memory of this process, bounded in bytes: the least recently used entry is dropped first."""

import math
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from heapq import nsmallest
from itertools import count
from threading import Lock

from cachetools import Cache, LRUCache

from ..observability.metrics import Metrics
from .contract import Entry, Lease, Read, is_ahead

ENTRY_OVERHEAD = 768
"""Bytes of Python objects around one body, at most: `tests/stores/test_memory.py` measures it. It is without the part
of its head that entries share: there are at most two of those for each second of an entry's lifetime."""

MAX_STATES_LENGTH = 4_194_304

ERASED_AT_ONCE = 1000
"""Entries checked while holding the lock; `put` waits for it."""

LISTED_PART = 4
"""Of so many entries, one is listed as least recently used: the list is made anew when it is used up."""

Prepare = Callable[[str, Entry], tuple[bytes, bytes, bytes]]
"""Makes the response for a fresh entry: the part of its head that many entries share, the other part, and its body."""


@dataclass(frozen=True, slots=True)
class State:
    text: str
    since: float
    lifetime: float


class MemoryStore:
    """Thread-safe. An entry counts as its body and `ENTRY_OVERHEAD`; one larger than `max_bytes` is not kept. A 404
    counts as the body that is prepared for it.

    With `prepare`, the prepared response is kept with the entry; a hit only sends it. Entries older than `lifetime`
    seconds are erased. `clock` returns the seconds since the epoch.
    """

    def __init__(
        self,
        max_bytes: int,
        metrics: Metrics | None = None,
        prepare: Prepare | None = None,
        *,
        lifetime: float = math.inf,
        clock: Callable[[], float] = lambda: time.time(),  # noqa: PLW0108  # a test may replace time.time later
    ) -> None:
        # Not in the order of their use, as in an LRUCache or an OrderedDict: to move its entry, a hit would touch
        # several places in memory that the processor's caches have no room for (ADR 0019).
        self._entries: dict[str, Entry] = {}
        # Python reuses the memory of floats at once, but not that of integers.
        self._uses = count(0.0)
        self._least_used: list[tuple[float, str]] = []
        """The least recently used entries when the list was made, each with its `used`; the very least is the last."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._states: LRUCache[str, State] = LRUCache(MAX_STATES_LENGTH, getsizeof=_state_size)
        self._lock = Lock()
        self._metrics = metrics
        self._prepare = prepare
        self._lifetime = lifetime
        self._clock = clock

    def get(self, event_id: str) -> Entry | None:
        # Without the lock: a hit waits for nothing.
        entry = self._entries.get(event_id)
        if entry is not None:
            entry.used = next(self._uses)
        return entry

    def read(self, event_ids: Collection[str], names: Collection[str] = ()) -> Read:
        return Read(
            {event_id: self.get(event_id) for event_id in event_ids}, {name: self.read_state(name) for name in names}
        )

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        if self._prepare is not None and entry.shared_head is None:
            entry = Entry(entry.status, entry.body, entry.fetched_at, *self._prepare(event_id, entry))
        with self._lock:
            kept = self._entries.get(event_id)
            if kept is not None and kept.is_newer_than(entry, now):
                return False
            fits = _size(entry) <= self._max_bytes
            if kept is not None and not fits:
                self._drop(event_id)
            if fits:
                entry.used = next(self._uses)
                # In one step: a hit, which does not wait for the lock, finds the old entry or the new one.
                self._entries[event_id] = entry
                self._bytes += _size(entry) - (0 if kept is None else _size(kept))
                while self._bytes > self._max_bytes:
                    self._drop(self._least_recently_used())
            self._measure()
            return fits

    def read_state(self, name: str) -> str | None:
        with self._lock:
            return self._text(name)

    def state(self, name: str) -> State | None:
        """The text of that name with its times: a new object after each change."""
        with self._lock:
            return self._states.get(name)

    def state_with_seconds(self, name: str) -> tuple[str, float] | None:
        """A text and the rest of its lifetime; None if there is none, or if its lifetime is over."""
        with self._lock:
            state = self._states.get(name)
            now = self._clock()
            if state is None or _is_too_old(state.since, state.lifetime, now):
                return None
            return state.text, state.since + state.lifetime - now

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        with self._lock:
            text = change(self._text(name))
            self._put_text(name, text, lifetime)
            return text

    def put_state(
        self, name: str, text: str | None, lifetime: float, *, unless: Callable[[State | None], bool] = lambda _: False
    ) -> str | None:
        """As `change_state`, whatever the text was before. `unless(state)` says whether that one stays.

        It is called while no other thread can change the text, and must not use this store.
        """
        with self._lock:
            if unless(self._states.get(name)):
                return self._text(name)
            self._put_text(name, text, lifetime)
            return text

    def lease(self, event_id: str) -> Lease | None:  # noqa: ARG002  # as the contract has it
        """Always granted: single-flight already allows one fetch per event in a process."""
        return nullcontext()

    def erase(self, now: float) -> bool:
        with self._lock:
            event_ids = list(self._entries)
        for start in range(0, len(event_ids), ERASED_AT_ONCE):
            with self._lock:
                for event_id in event_ids[start : start + ERASED_AT_ONCE]:
                    entry = self._entries.get(event_id)
                    if entry is not None and _is_too_old(entry.fetched_at, self._lifetime, now):
                        self._drop(event_id)
        with self._lock:
            self._measure()
            for name in [name for name in self._states if self._is_state_too_old(name, now)]:
                del self._states[name]
        return True

    def close(self) -> None:
        """Nothing is open."""

    def _least_recently_used(self) -> str:
        while True:
            while self._least_used:
                used, event_id = self._least_used.pop()
                entry = self._entries.get(event_id)
                # All others were used later: what has been used since then, and what was not listed.
                if entry is not None and entry.used == used:
                    return event_id
            uses = ((entry.used, event_id) for event_id, entry in self._entries.items())
            self._least_used = nsmallest(1 + len(self._entries) // LISTED_PART, uses)[::-1]

    def _drop(self, event_id: str) -> None:
        self._bytes -= _size(self._entries.pop(event_id))

    def _text(self, name: str) -> str | None:
        state = self._states.get(name)
        return None if state is None else state.text

    def _put_text(self, name: str, text: str | None, lifetime: float) -> None:
        state = None if text is None else State(text, self._clock(), lifetime)
        if state is None or _state_size(state) > MAX_STATES_LENGTH:
            self._states.pop(name, None)
        else:
            self._states[name] = state

    def _is_state_too_old(self, name: str, now: float) -> bool:
        state = Cache.__getitem__(self._states, name)
        return _is_too_old(state.since, state.lifetime, now)

    def _measure(self) -> None:
        if self._metrics is not None:
            self._metrics.memory_entries.set(len(self._entries))
            self._metrics.memory_bytes.set(self._bytes)


def _is_too_old(since: float, lifetime: float, now: float) -> bool:
    return now >= since + lifetime or is_ahead(since, now)


def _state_size(state: State) -> int:
    return len(state.text) + ENTRY_OVERHEAD


def _size(entry: Entry) -> int:
    return len(entry.prepared_body or entry.body) + ENTRY_OVERHEAD
