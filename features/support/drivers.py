"""What tells the features: the proxy in this process, alone or behind its front, or for real (see `live.py`)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from flask import Flask
from freezegun import freeze_time

from c42_proxy import create_app
from c42_proxy.settings import Settings
from c42_proxy.web.asgi import Front
from features.support import wires
from features.support.asgi import AsWsgi
from features.support.network import forbid_connections

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

START = datetime(2016, 10, 21, 15, 0, 0, tzinfo=UTC)
"""When each scenario begins."""


class Driver(Protocol):
    """Runs the proxy of one scenario after the other. `store` is what its processes share."""

    store: str

    @property
    def now(self) -> datetime: ...

    def set_clock(self, now: datetime) -> None:
        """Let time jump, for the proxy, for C42 and for the scenario."""
        ...

    def wire(self, receive: wires.Receive) -> AbstractContextManager[str]:
        """Let the proxy reach C42; gives the address of its host."""
        ...

    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "AbstractContextManager[WSGIApplication]":
        """The proxy as an app sees it, with these settings."""
        ...

    def output(self) -> str:
        """What the proxy has said so far, where it says it elsewhere than in this process."""
        ...

    def close(self) -> None:
        """End all that runs."""
        ...


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

    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "AbstractContextManager[WSGIApplication]":
        checked = Settings.from_env({**settings, "C42_CACHE_URL": "memory://"})
        return self._serve(create_app(checked, clock=broken_clock) if has_bug else create_app(checked))

    def output(self) -> str:
        return ""

    def close(self) -> None:
        self._running.close()


@contextmanager
def _flask(app: Flask) -> "Iterator[WSGIApplication]":
    yield app


def flask() -> InProcess:
    """As under a WSGI server."""
    return InProcess(_flask)


def front() -> InProcess:
    """Through the ASGI front."""
    return InProcess(lambda app: closing(AsWsgi(Front(app))))


def broken_clock() -> float:
    """A bug of the proxy, wherever it looks at the time."""
    raise ZeroDivisionError("an inner detail")


def pass_time(driver: Driver, duration: timedelta) -> None:
    """Let time go on, or (negative) set the clock back."""
    driver.set_clock(driver.now + duration)
