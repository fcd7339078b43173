"""What the drivers in this process share: C42 is mocked, and the time is frozen."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flask import Flask
from freezegun import freeze_time

from c42_proxy import create_app
from c42_proxy.settings import Settings
from features.drivers import wires
from features.drivers.driver import START, broken_clock
from features.drivers.network import forbid_connections
from harness.apps import running

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class InProcess:
    """The proxy in this process, C42 mocked, the time frozen; whoever reaches for the network fails."""

    store = "memory"

    def __init__(self, serve: "Callable[[Flask], AbstractContextManager[WSGIApplication]]") -> None:
        self._serve = serve
        self._running = ExitStack()
        forbid_connections()
        # Frozen once for all: it takes longer than a scenario. asyncio needs a clock that goes on.
        self._clock = self._running.enter_context(freeze_time(START, real_asyncio=True))

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def set_clock(self, now: datetime) -> None:
        self._clock.move_to(now)

    def wire(self, receive: wires.Receive) -> AbstractContextManager[str]:
        return wires.mocked(receive)

    @contextmanager
    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "Iterator[WSGIApplication]":
        checked = Settings.from_env({**settings, "C42_CACHE_URL": "memory://"})
        app = create_app(checked, clock=broken_clock) if has_bug else create_app(checked)
        with running(app), self._serve(app) as served:
            yield served

    def output(self) -> str:
        return ""

    def close(self) -> None:
        self._running.close()
