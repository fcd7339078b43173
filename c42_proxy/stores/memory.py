"""A store in the memory of this process, bounded in bytes: the least recently used goes first."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

from cachetools import LRUCache

from ..observability.metrics import Metrics
from .contract import Entry

ENTRY_OVERHEAD = 1024
"""Bytes of Python objects around one body, with what hits keep of it: `tests/stores/test_memory.py` measures them."""

MAX_NOTES_LENGTH = 4_194_304


class MemoryStore:
    """Thread-safe. An entry counts as its body and `ENTRY_OVERHEAD`; one larger than `max_bytes` is not held."""

    def __init__(self, max_bytes: int, metrics: Metrics | None = None) -> None:
        self._entries: LRUCache[str, Entry] = LRUCache(max_bytes, getsizeof=_size)
        self._notes: LRUCache[str, str] = LRUCache(MAX_NOTES_LENGTH, getsizeof=_note_size)
        self._lock = Lock()
        self._metrics = metrics

    def get(self, event_id: str) -> Entry | None:
        with self._lock:
            return self._entries.get(event_id)

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        with self._lock:
            held = self._entries.get(event_id)
            if held is not None and held.is_newer_than(entry, now):
                return False
            if _size(entry) > self._entries.maxsize:
                self._entries.pop(event_id, None)
                return False
            self._entries[event_id] = entry
            if self._metrics is not None:
                self._metrics.memory_entries.set(len(self._entries))
                self._metrics.memory_bytes.set(self._entries.currsize)
            return True

    def read_note(self, name: str) -> str | None:
        with self._lock:
            return self._notes.get(name)

    def change_note(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:  # noqa: ARG002  # the least recently used goes first
        with self._lock:
            note = change(self._notes.get(name))
            if note is None or _note_size(note) > MAX_NOTES_LENGTH:
                self._notes.pop(name, None)
            else:
                self._notes[name] = note
            return note

    def lease(self, event_id: str) -> AbstractContextManager[None] | None:  # noqa: ARG002  # as the contract has it
        """Always granted: within a process there is one fetch an event already."""
        return nullcontext()

    def close(self) -> None:
        """Nothing is open."""


def _note_size(note: str) -> int:
    return len(note) + ENTRY_OVERHEAD


def _size(entry: Entry) -> int:
    return len(entry.body) + ENTRY_OVERHEAD
