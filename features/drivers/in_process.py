"""What the drivers in this process share: C42 is mocked, and the time is frozen."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING

from freezegun import freeze_time

from c42_proxy.app import Proxy, build
from c42_proxy.settings import Settings
from features.drivers import wires
from features.drivers.driver import START, TIME_ZONE, Driver, broken_clock
from features.drivers.network import forbid_connections

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class InProcess(Driver):
    """The proxy in this process, C42 mocked, the time frozen; whoever reaches for the network fails."""

    store = "memory"
    slack = 0.0

    def __init__(self, serve: "Callable[[Proxy], AbstractContextManager[WSGIApplication]]") -> None:
        self._serve = serve
        self._running = ExitStack()
        self._passing = Lock()
        forbid_connections()
        os.environ["TZ"] = TIME_ZONE
        time.tzset()
        # The time is frozen once for all scenarios: freezing takes longer than a scenario. asyncio needs a clock that
        # goes on, and so does behave, which measures how long a scenario takes.
        self._clock = self._running.enter_context(freeze_time(START, real_asyncio=True, ignore=["behave"]))

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def begin(self) -> None:
        self.set_clock(START)

    def set_clock(self, now: datetime) -> None:
        self._clock.move_to(now)

    @property
    def waited(self) -> float:
        return self.now.timestamp()

    def wire(self, receive: wires.Receive) -> AbstractContextManager[str]:
        return wires.mocked(receive, lambda: self.now, self._pass_until)

    @contextmanager
    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "Iterator[WSGIApplication]":
        checked = Settings.from_env({"C42_CACHE_URL": "memory://", **settings})
        # freezegun shows the real time to whatever `threading` or behave calls directly, except for datetimes.
        proxy = build(checked, clock=broken_clock if has_bug else self._seconds)
        with closing(proxy), self._serve(proxy) as served:
            proxy.start()
            yield served

    def _seconds(self) -> float:
        return self.now.timestamp()

    def _pass_until(self, moment: datetime) -> None:
        """Let time go on to a moment, unless somebody else has done so."""
        with self._passing:
            self.set_clock(max(moment, self.now))

    def output(self) -> str:
        return ""

    def close(self) -> None:
        self._running.close()
