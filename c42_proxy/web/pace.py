"""Fetches begin one after the other, so that the event loop answers hits in between (ADR 0018)."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from threading import Lock

MAX_WAITING = 256
"""As many as may fetch at once. What comes beyond that begins without delay: it will wait for a slot, or be refused."""

AT_ONCE_SECONDS = 0.02
"""Work begins at once, in the thread that asks, if no other has done so for this long and the loop has none to begin.

Longer than a pass of a busy loop: while the loop stands still, work must wait for it.
"""

Work = Callable[[], object]


class Pace:
    """Begins what other threads ask for: work that comes alone at once, else one piece in two passes of the event loop.

    In each pass, the loop answers the hits that have come. It needs longer for a pass while many threads run, so
    fetches begin at the rate that it can bear. `monotonic` returns seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._monotonic = monotonic
        self._lock = Lock()
        self._waiting: deque[Work] = deque()
        self._loop_begins = False
        """Whether the loop begins what waits: until two passes after it has begun the last piece."""
        self._at_once_from = -math.inf
        self._closed = False

    def begin_soon(self, work: Work) -> None:
        """Begin `work`, which must not block, for the same request. Thread-safe."""
        if self._loop.is_closed():
            self.close()
        with self._lock:
            at_once = self._begins_at_once()
            tell_loop = not at_once and not self._loop_begins
            if not at_once:
                self._waiting.append(partial(copy_context().run, work))
                self._loop_begins = True
        if at_once:
            work()
        elif tell_loop:
            try:
                self._loop.call_soon_threadsafe(self._loop.call_soon, self._begin_in_loop)
            except RuntimeError:
                # The loop has been closed meanwhile.
                self.close()

    def close(self) -> None:
        """Called when the loop has ended: begin what waits, and from now on everything at once."""
        with self._lock:
            self._closed = True
        while work := self._next():
            work()

    def _begins_at_once(self) -> bool:
        if self._closed or len(self._waiting) >= MAX_WAITING:
            return True
        now = self._monotonic()
        if self._loop_begins or now < self._at_once_from:
            return False
        self._at_once_from = now + AT_ONCE_SECONDS
        return True

    def _begin_in_loop(self) -> None:
        if work := self._next():
            self._loop.call_soon(self._loop.call_soon, self._begin_in_loop)
            work()

    def _next(self) -> Work | None:
        """Work that waits. None if there is none: the loop is done."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._loop_begins = False
            return None
