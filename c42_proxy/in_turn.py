"""Threads of which one works at a time: for a store that can do one thing at a time anyway.

Several threads wake each other, and each waits for Python's lock. In the SQLite file, that takes a quarter of
the time of a hit (ADR 0019).
"""

import logging
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from threading import Lock

from .errors import Overloaded
from .threads import Threads, Timer

log = logging.getLogger(__name__)

STUCK_SECONDS = 0.02
"""If no work has begun for this long, the thread at work may hang (on a disk, say), so another one helps."""


class InTurn(Threads):
    """What is given to `begin` is done by one thread, and by more of them, up to `limit`, while that is stuck."""

    def __init__(self, limit: int, *, name: str, stuck_seconds: float = STUCK_SECONDS) -> None:
        super().__init__(limit, name=name, queues=True)
        self._stuck_seconds = stuck_seconds
        self._in_line: deque[Callable[[], object]] = deque()
        self._at_work = 0
        """Threads that work through the line."""
        self._begun = 0
        """How much work has left the line."""
        self._is_watched = False
        self._timer = Timer(name=f"{name}-timer")
        self._line_changes = Lock()

    def begin(self, work: Callable[[], object]) -> None:
        """As `Threads.begin`."""
        task = partial(copy_context().run, work)
        with self._line_changes:
            if self._closed:
                raise RuntimeError("no work may begin any more")
            self._in_line.append(task)
            if self._at_work == self._limit or (self._at_work and self._watch()):
                return
            try:
                self._add_thread()
            except Overloaded:
                # There is no thread at all.
                self._in_line.remove(task)
                raise

    def close(self) -> None:
        super().close()
        self._timer.close()

    def _add_thread(self) -> None:
        """Raises Overloaded if the pool has no thread, and gets none."""
        # Without the context of the request that happens to need it.
        self._give(self._work_in_turn)
        self._at_work += 1

    def _work_in_turn(self) -> None:
        while (task := self._next_in_line()) is not None:
            try:
                task()
            except BaseException:
                log.exception("work that should raise nothing has failed")

    def _next_in_line(self) -> Callable[[], object] | None:
        with self._line_changes:
            if not self._in_line:
                self._at_work -= 1
                return None
            self._begun += 1
            return self._in_line.popleft()

    def _watch(self) -> bool:
        """See to it that a stuck thread is noticed. False if the system gives no thread for that."""
        if not self._is_watched:
            try:
                self._timer.later(self._stuck_seconds, self._help, self._begun)
            except Overloaded:
                return False
            self._is_watched = True
        return True

    def _help(self, begun: int) -> None:
        """Add a thread if none has begun anything since `begun` was counted."""
        with self._line_changes:
            self._is_watched = False
            if not self._in_line or self._closed or self._at_work == self._limit:
                return
            if self._begun == begun:
                self._add_thread()
            self._watch()
