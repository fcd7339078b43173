"""`-D driver=sockets`: the ASGI app in this process, C42 at a port of this machine, and real time.

What `asgi` mocks is real here: connections, time-outs and waiting. The clock that tells the proxy how old an answer is
stands still, until the scenario moves it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from c42_proxy.app import build
from c42_proxy.settings import Settings
from features.drivers import wires
from features.drivers.asgi import served
from features.drivers.driver import (
    BUDGET_SECONDS,
    SLACK_SECONDS,
    START,
    TIME_ZONE,
    USUAL_BUDGET_SECONDS,
    Driver,
    broken_clock,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Sockets(Driver):
    """The proxy in this process, with a clock of its own."""

    store = "memory"
    slack = SLACK_SECONDS * USUAL_BUDGET_SECONDS / BUDGET_SECONDS
    now = START

    def __init__(self) -> None:
        os.environ["TZ"] = TIME_ZONE
        time.tzset()

    def begin(self) -> None:
        self.set_clock(START)

    def set_clock(self, now: datetime) -> None:
        self.now = now

    @property
    def waited(self) -> float:
        return time.monotonic() * USUAL_BUDGET_SECONDS / BUDGET_SECONDS

    def wire(self, receive: wires.Receive) -> AbstractContextManager[str]:
        return wires.over_sockets(receive)

    @contextmanager
    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "Iterator[WSGIApplication]":
        defaults = {"C42_TIMEOUT": str(BUDGET_SECONDS), "C42_CACHE_URL": "memory://"}
        checked = Settings.from_env({**defaults, **settings})
        proxy = build(checked, clock=broken_clock if has_bug else lambda: self.now.timestamp())  # noqa: PLW0108  # `now` is another one later
        with closing(proxy), served(proxy) as app:
            proxy.start()
            yield app

    def output(self) -> str:
        return ""

    def close(self) -> None:
        pass
