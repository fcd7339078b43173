"""Fetches begin one after the other, so that the event loop answers hits in between (ADR 0018)."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Lock

MAX_WAITING = 256
"""As many as may fetch at once. What comes beyond that begins without delay: it will wait for a slot, or be refused."""

Work = Callable[[], object]


class Pace:
    """Begins in an event loop what other threads ask for: at most one piece of work in two passes of the loop.

    In each pass, the loop answers the hits that have come. It needs longer for a pass while many threads run, so
    fetches begin at the rate that it can bear.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Work] = deque()
        self._turn = Lock()
        """Taken from when work begins until two passes later."""
        self._closed = False

    def begin_soon(self, work: Work) -> None:
        """Begin `work`, which must not block, for the same request. Thread-safe."""
        if self._turn.acquire(blocking=False):
            work()
            then = self._begin_later
        elif len(self._waiting) >= MAX_WAITING:
            work()
            return
        else:
            self._waiting.append(partial(copy_context().run, work))
            then = self._begin_unless_busy
        # RuntimeError: the loop is closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(then)
            if not self._closed:
                return
        self._begin_all()

    def close(self) -> None:
        """Called when the loop has ended: begin what waits, and from now on everything at once."""
        self._closed = True
        self._begin_all()

    def _begin_unless_busy(self) -> None:
        """If the lock was released before the work was queued, that work would never begin."""
        if self._turn.acquire(blocking=False):
            self._begin_in_turn()

    def _begin_in_turn(self) -> None:
        if self._begin_next():
            self._begin_later()
        else:
            self._turn.release()

    def _begin_later(self) -> None:
        self._loop.call_soon(self._loop.call_soon, self._begin_in_turn)

    def _begin_all(self) -> None:
        while self._begin_next():
            pass

    def _begin_next(self) -> bool:
        """Begin one piece of work. Returns whether there was one."""
        try:
            work = self._waiting.popleft()
        except IndexError:
            return False
        work()
        return True
