"""Searches begin one after the other, so that the event loop answers hits in between (ADR 0018)."""

import asyncio
from weakref import WeakKeyDictionary

MAX_WAITING = 256
"""As many as may fetch at once. A search beyond that begins without delay: it will wait for a slot, or be refused."""


class Pace:
    """Lets the searches of one event loop begin, one in two passes of the loop.

    In each pass, the loop answers the hits that have come. It needs longer for a pass while many threads run, so
    searches begin at the rate that it can bear.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._is_busy = False

    async def may_begin(self, event_id: str) -> None:
        """Wait until the search for an event may begin. Those who ask for the same event may begin together."""
        if not self._is_busy:
            self._is_busy = True
            self._begin_next_soon()
        elif event_id in self._waiting or len(self._waiting) < MAX_WAITING:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(event_id, []).append(waiter)
            await waiter

    def _begin_next_soon(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._begin_next)

    def _begin_next(self) -> None:
        self._is_busy = bool(self._waiting)
        if self._is_busy:
            for waiter in self._waiting.pop(next(iter(self._waiting))):
                if not waiter.done():
                    waiter.set_result(None)
            self._begin_next_soon()


_paces: WeakKeyDictionary[asyncio.AbstractEventLoop, Pace] = WeakKeyDictionary()


def pace() -> Pace:
    """The pace of the running event loop."""
    return _paces.setdefault(asyncio.get_running_loop(), Pace())
