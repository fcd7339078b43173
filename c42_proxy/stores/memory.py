"""A store in the memory of this process, bounded in bytes: the least recently used goes first."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import Lock

from cachetools import LRUCache

from ..observability.metrics import Metrics
from .contract import Entry

ENTRY_OVERHEAD = 1024
"""Bytes of Python objects around one body, and what is prepared for hits: `tests/stores/test_memory.py` measures it."""

MAX_STATES_LENGTH = 4_194_304

Prepare = Callable[[str, Entry], tuple[bytes, bytes]]
"""Head and body of the response that an event's entry is while it is fresh."""


class MemoryStore:
    """Thread-safe. An entry counts as its body and `ENTRY_OVERHEAD`; one larger than `max_bytes` is not kept.

    With `prepare`, an entry is kept with what that makes of it: hits need nothing but to send it.
    """

    def __init__(self, max_bytes: int, metrics: Metrics | None = None, prepare: Prepare | None = None) -> None:
        self._entries: LRUCache[str, Entry] = LRUCache(max_bytes, getsizeof=_size)
        self._states: LRUCache[str, str] = LRUCache(MAX_STATES_LENGTH, getsizeof=_state_size)
        self._lock = Lock()
        self._metrics = metrics
        self._prepare = prepare

    def get(self, event_id: str) -> Entry | None:
        with self._lock:
            return self._entries.get(event_id)

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        if self._prepare is not None and entry.prepared is None:
            entry = replace(entry, prepared=self._prepare(event_id, entry))
        with self._lock:
            kept = self._entries.get(event_id)
            if kept is not None and kept.is_newer_than(entry, now):
                return False
            if _size(entry) > self._entries.maxsize:
                self._entries.pop(event_id, None)
                return False
            self._entries[event_id] = entry
            if self._metrics is not None:
                self._metrics.memory_entries.set(len(self._entries))
                self._metrics.memory_bytes.set(self._entries.currsize)
            return True

    def read_state(self, name: str) -> str | None:
        with self._lock:
            return self._states.get(name)

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:  # noqa: ARG002  # the least recently used goes first
        with self._lock:
            text = change(self._states.get(name))
            if text is None or _state_size(text) > MAX_STATES_LENGTH:
                self._states.pop(name, None)
            else:
                self._states[name] = text
            return text

    def lease(self, event_id: str) -> AbstractContextManager[None] | None:  # noqa: ARG002  # as the contract has it
        """Always granted: within a process there is one fetch an event already."""
        return nullcontext()

    def close(self) -> None:
        """Nothing is open."""


def _state_size(text: str) -> int:
    return len(text) + ENTRY_OVERHEAD


def _size(entry: Entry) -> int:
    return len(entry.body) + ENTRY_OVERHEAD
