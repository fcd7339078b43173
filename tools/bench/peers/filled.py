"""The proxy with `BENCH_CACHED` events in its memory, each answered once, before it takes its first request.

They come the way that all entries come: from the shared store, which is here one that knows every event.
"""

import asyncio
import os
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any

from c42_proxy.app import build
from c42_proxy.settings import Settings
from c42_proxy.stores.contract import Entry, Lease, Read
from c42_proxy.web.asgi import Asgi

CACHED = int(os.environ["BENCH_CACHED"])
AT_ONCE = 64
BODY_BYTES = 96


class EveryEvent:
    """A store (see `c42_proxy.stores.Store`) that holds an answer for each id, all of one size."""

    def __init__(self) -> None:
        self._now = time.time()

    def get(self, event_id: str) -> Entry | None:
        body = b'{"id":"%b","title":"Drink a cup of coffee with C42 Team","names":["' % event_id.encode()
        return Entry(200, body.ljust(BODY_BYTES - 3, b"x") + b'"]}', self._now)

    def read(self, event_ids: Collection[str], names: Collection[str] = ()) -> Read:
        return Read({event_id: self.get(event_id) for event_id in event_ids}, dict.fromkeys(names))

    def put(self, event_id: str, entry: Entry, now: float) -> bool:  # noqa: ARG002  # the contract's
        return False

    def read_state(self, name: str) -> str | None:  # noqa: ARG002  # the contract's
        return None

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:  # noqa: ARG002  # the contract's
        return None

    def lease(self, event_id: str) -> Lease | None:  # noqa: ARG002  # the contract's
        return nullcontext()

    def erase(self, now: float) -> bool:  # noqa: ARG002  # the contract's
        return True

    def close(self) -> None:
        pass


async def _fill(app: Asgi) -> None:
    async def answer_some(first: int) -> None:
        for number in range(first, CACHED, AT_ONCE):
            path = f"/events-with-subscriptions/1-{number}/"
            scope = {"type": "http", "http_version": "1.0", "method": "GET", "path": path, "headers": []}
            await app(scope, _nothing, _nobody)

    await asyncio.gather(*map(answer_some, range(AT_ONCE)))


async def _nothing() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def _nobody(_message: object) -> None:
    return None


def app() -> Asgi:
    """For gunicorn's `module:app()`, called in the worker."""
    asgi = build(Settings.from_env(), store=EveryEvent()).asgi
    asyncio.run(_fill(asgi))
    return asgi
