"""What the drivers in this process share; and the base of those in which C42 is mocked, and the time is frozen."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from flask import Flask
from freezegun import freeze_time

from c42_proxy.app import Proxy, build
from c42_proxy.settings import Settings
from features.drivers import wires
from features.drivers.driver import START, TIME_ZONE, Driver, broken_clock
from features.drivers.network import forbid_connections

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Serve = Callable[[Proxy], "AbstractContextManager[WSGIApplication]"]


class InProcess(Driver):
    """The proxy in this process, as an app that `serve` gives. Its store is in memory, and its log lines are kept."""

    store = "memory"
    usual: ClassVar[dict[str, str]] = {"C42_CACHE_URL": "memory://"}
    """The settings where a scenario has none."""

    def __init__(self, serve: Serve) -> None:
        os.environ["TZ"] = TIME_ZONE
        time.tzset()
        self._serve = serve
        self._running = ExitStack()
        self._ops: dict[int, Flask] = {}
        """The operators' port of each proxy, by the id of its app."""
        self._lines = _Lines()
        log = logging.getLogger("c42_proxy")
        log.setLevel(logging.INFO)
        log.addHandler(self._lines)
        self._running.callback(log.removeHandler, self._lines)

    def begin(self) -> None:
        self.set_clock(START)
        self._lines.said.clear()

    @contextmanager
    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "Iterator[WSGIApplication]":
        checked = Settings.from_env({**self.usual, **settings})
        proxy = build(checked, clock=broken_clock if has_bug else self._seconds)
        with closing(proxy), self._serve(proxy) as served:
            self._ops[id(served)] = proxy.ops
            proxy.start()
            try:
                yield served
            finally:
                del self._ops[id(served)]

    def _seconds(self) -> float:
        return self.now.timestamp()

    def shown(self, proxy: "WSGIApplication", path: str) -> str:
        return self._ops[id(proxy)].test_client().get(path).text

    def output(self) -> str:
        return "\n".join(self._lines.said)

    def close(self) -> None:
        self._running.close()


class _Lines(logging.Handler):
    """What an operator reads; of a request's line, its cause, and in a line of its own how long C42 took."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "c42_ms"):
            self.said.append(f"INFO C42 took {record.c42_ms} ms")
        cause = f": {record.cause}" if hasattr(record, "cause") else ""
        self.said.append(f"{record.levelname} {record.getMessage()}{cause}")


class Mocked(InProcess):
    """C42 is mocked, and the time is frozen; whoever reaches for the network fails."""

    slack = 0.0

    def __init__(self, serve: Serve) -> None:
        super().__init__(serve)
        self._passing = Lock()
        forbid_connections()
        # The time is frozen once for all scenarios: freezing takes longer than a scenario. asyncio needs a clock that
        # goes on, and so does behave, which measures how long a scenario takes.
        # freezegun shows the real time to whatever `threading` or behave calls directly, except for datetimes.
        self._clock = self._running.enter_context(freeze_time(START, real_asyncio=True, ignore=["behave"]))

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def set_clock(self, now: datetime) -> None:
        self._clock.move_to(now)

    @property
    def waited(self) -> float:
        return self.now.timestamp()

    def wire(self, receive: wires.Receive) -> AbstractContextManager[str]:
        return wires.mocked(receive, lambda: self.now, self._pass_until)

    def _pass_until(self, moment: datetime) -> None:
        """Let time go on to a moment, unless somebody else has done so."""
        with self._passing:
            self.set_clock(max(moment, self.now))
