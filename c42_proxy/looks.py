"""Looks into the shared tier. What many requests look for at the same time is read in one operation.

To wake a thread that waits for the store costs more than what it reads. Under load, one operation reads many entries
(ADR 0019).
"""

import logging
from collections import deque
from collections.abc import Callable, Collection
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Protocol

from .errors import Overloaded
from .stores.contract import Entry, Read
from .threads import Threads, Timer

log = logging.getLogger(__name__)

LOOKS_AT_ONCE = 16
"""Threads that look into the shared tier, as many as the store in Redis uses at once. None of them waits for C42 or for
a slot, so a fresh entry is found in the shared tier however many fetches run and wait."""

READ_TOGETHER = 32
"""Entries that one operation reads at most: the first one waits for the last one."""

STUCK_SECONDS = 0.02
"""If no operation has begun for this long, the thread at work may hang (on a disk, say), so another one helps."""

Found = Callable[[], Entry | None]
"""Returns the entry that was found, or raises what `get` raises."""


class Readable(Protocol):
    """What is looked into: `stores.tiered.TieredStore`."""

    def get(self, event_id: str) -> Entry | None: ...

    def read(self, event_ids: Collection[str]) -> Read: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    event_id: str
    then: Callable[[Found], object]
    context: Context


class Looks:
    """Reads entries in the `threads`, which must queue. Thread-safe.

    One of them works through all looks: two would read fewer entries in each operation. Others help while it is stuck.
    """

    def __init__(self, store: Readable, threads: Threads, *, stuck_seconds: float = STUCK_SECONDS) -> None:
        self._store = store
        self._threads = threads
        self._stuck_seconds = stuck_seconds
        self._timer = Timer(name="c42-look-timer")
        self._line: deque[_Look] = deque()
        self._at_work = 0
        """Threads that work through the line."""
        self._begun = 0
        """Operations that have begun."""
        self._is_watched = False
        self._closed = False
        self._lock = Lock()

    def begin(self, event_id: str, then: Callable[[Found], object]) -> None:
        """Read an entry, and call `then` with what was found, for the same request. Raises Overloaded without a thread.

        `then` raises nothing, and does nothing that blocks, because other looks wait for it.
        """
        look = _Look(event_id, then, copy_context())
        with self._lock:
            if self._closed:
                raise RuntimeError("no look may begin any more")
            self._line.append(look)
            if self._at_work and (self._at_work == LOOKS_AT_ONCE or self._watch()):
                return
            try:
                self._add_thread()
            except Overloaded:
                # There is no thread at all.
                self._line.remove(look)
                raise

    def close(self) -> None:
        """Wait for the looks under way, and end the threads. No look may begin any more."""
        with self._lock:
            self._closed = True
        self._threads.close()
        self._timer.close()

    def _add_thread(self) -> None:
        """Raises Overloaded if the pool has no thread, and gets none."""
        # Without the context of the request that happens to need it.
        Context().run(self._threads.begin, self._work)
        self._at_work += 1

    def _work(self) -> None:
        while looks := self._next():
            for look, found in zip(looks, self._read(looks), strict=True):
                try:
                    look.context.run(look.then, found)
                except BaseException:
                    log.exception("work that should raise nothing has failed")

    def _next(self) -> list[_Look]:
        """What is read in the next operation; nothing if the thread's work is done."""
        with self._lock:
            looks = [self._line.popleft() for _ in range(min(len(self._line), READ_TOGETHER))]
            if looks:
                self._begun += 1
            else:
                self._at_work -= 1
            return looks

    def _read(self, looks: list[_Look]) -> list[Found]:
        if len(looks) > 1:
            event_ids = {look.event_id for look in looks}
            try:
                # In the trace, the operation belongs to the request that has waited longest.
                entries = looks[0].context.run(self._store.read, event_ids).entries
                return [partial(entries.get, look.event_id) for look in looks]
            except Overloaded:
                pass
            except BaseException:
                log.exception("entries cannot be read together")
        # Also if they cannot be read together: what makes one of them fail is no matter of the others.
        return [partial(self._store.get, look.event_id) for look in looks]

    def _watch(self) -> bool:
        """See to it that stuck threads are noticed. False if the system gives no thread for that."""
        if not self._is_watched:
            try:
                self._timer.later(self._stuck_seconds, self._help, self._begun)
            except Overloaded:
                return False
            self._is_watched = True
        return True

    def _help(self, begun: int) -> None:
        """Add a thread if no operation has begun since `begun` were counted."""
        with self._lock:
            self._is_watched = False
            if not self._line or self._closed or self._at_work == LOOKS_AT_ONCE:
                return
            if self._begun == begun:
                self._add_thread()
            self._watch()
