"""What the drivers share that run a proxy as it is, in processes of its own: a C42 on a socket, and a preloaded clock.

A scenario may have processes that other scenarios have had: its events have ids of their own, and it begins when all
that the others have brought about is over.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from werkzeug.test import Client

from features.drivers import wires
from features.drivers.asking import asked_at
from features.drivers.clock import Clock
from features.drivers.driver import START, TIME_ZONE, Driver
from features.support.fake_c42 import Answer, Failure
from features.support.world import PATH
from harness.processes import Process, clean_environ, free_port
from harness.wire import EVENT_ID, Behaviour, Connection, Wire, answer, asked, event, page

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

SLACK_SECONDS = 1.0
START_SECONDS = 60.0
"""For one program, or for the whole stack, on a busy machine."""
PAUSE = timedelta(hours=2)
"""Between two scenarios: longer than an answer is kept, and longer than C42 may ask to wait."""
BETWEEN = EVENT_ID
"""An event of no scenario. It is asked for between two, while C42 is well: failures in a row end there."""
PLACE = "C42_CACHE_URL"
"""The setting of a scenario in which proxies remember answers in one place."""
SHOWN_BYTES = 20_000
"""How much of what a program has said is shown where a scenario fails."""
KEPT = 2
"""So many combinations of settings keep their processes: the usual one, and the last other."""

Start = Callable[[dict[str, str]], AbstractContextManager[tuple[Process, int]]]
"""Starts the proxy in an environment, and ends it; gives its process, and the port at which it answers."""


class Processes(Driver):
    """Starts a proxy for each combination of settings."""

    slack = SLACK_SECONDS

    def __init__(self, store: str, start: Start, *, monotonic: bool = False) -> None:
        self.store = store
        self._start = start
        self._behaviour: Behaviour
        self._kept: dict[frozenset[tuple[str, str]], tuple[ExitStack, Process, int]] = {}
        self._latest = START - PAUSE
        self._said_before: dict[Process, int] = {}
        self.notes: dict[str, None] = {}
        """What is worth knowing of the processes besides the rules that they keep."""
        self._used: int | None = None
        """Where the processes answer that the last scenario had, and others will have."""
        with ExitStack() as running:
            self._clock = running.enter_context(closing(Clock(monotonic=monotonic)))
            # At a port that no connection takes while the wire listens anew.
            self._wire = running.enter_context(Wire(self._received, port=free_port()))
            self._running = running.pop_all()

    @property
    def now(self) -> datetime:
        return self._clock.now

    def begin(self) -> None:
        if self._used is not None:
            # C42 is well for the processes of the scenario before, at a moment when it may be asked and that none sees.
            self._pause()
            with suppress(AssertionError):
                Client(asked_at(self._used)).get(f"{PATH}{BETWEEN}/")
            self._used = None
        self._pause()
        self._said_before = {process: process.said for _, process, _ in self._kept.values()}

    def _pause(self) -> None:
        self.set_clock(self._latest.replace(microsecond=0) + PAUSE)

    def set_clock(self, now: datetime) -> None:
        self._clock.set(now)
        self._latest = max(now, self._latest)

    @property
    def waited(self) -> float:
        return time.monotonic()

    @contextmanager
    def wire(self, receive: wires.Receive) -> Iterator[str]:
        def received(path: str, headers: Mapping[str, str]) -> Answer:
            said = receive(path, headers)
            if said is Failure.SILENT:
                self._clock.go_on()
            return said

        self._behaviour = wires.behaviour(received)
        try:
            yield self._wire.url.removesuffix("/api/v2/")
        finally:
            # A connection that is kept for the next scenario might break there, and its request be sent once more.
            self._wire.refuse()
            self._wire.listen()

    @contextmanager
    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "Iterator[WSGIApplication]":
        assert not has_bug, "no bug can be planted in other processes"
        settings = self.as_they_have_them(settings)
        with ExitStack() as scenario:
            if PLACE in settings:
                port = self._port_in_place(settings, scenario)
            else:
                _process, port = self._kept_with(settings)
                self._used = port
            self._clock.stop()
            yield asked_at(port)
            self._clock.go_on()

    def as_they_have_them(self, settings: dict[str, str]) -> dict[str, str]:
        """C42's address is the same for all scenarios: the processes that they share have it from their start on."""
        return {**settings, "C42_API_URL": self._wire.url}

    def output(self) -> str:
        processes = [process for _, process, _ in self._kept.values()]
        starts = [max(self._said_before.get(process, 0), process.said - SHOWN_BYTES) for process in processes]
        return "".join(process.output(start) for process, start in zip(processes, starts, strict=True))

    def close(self) -> None:
        for running, _, _ in self._kept.values():
            running.close()
        self._kept.clear()
        self._running.close()

    def _port_in_place(self, settings: dict[str, str], scenario: ExitStack) -> int:
        """Of a proxy that no other scenario has."""
        _process, port = scenario.enter_context(self._start_with(settings))
        return port

    def _kept_with(self, settings: dict[str, str]) -> tuple[Process, int]:
        key = frozenset(settings.items())
        if key in self._kept and not self._kept[key][1].is_running:
            self.notes[f"It ended by itself ({self._kept[key][1].ending}), and was started again."] = None
        if key not in self._kept or not self._kept[key][1].is_running:
            while len(self._kept) >= KEPT or key in self._kept:
                self._kept.pop(key if key in self._kept else next(reversed(self._kept)))[0].close()
            with ExitStack() as running:
                process, port = running.enter_context(self._start_with(settings))
                self._kept[key] = running.pop_all(), process, port
        return self._kept[key][1:]

    def _start_with(self, settings: dict[str, str]) -> AbstractContextManager[tuple[Process, int]]:
        return self._start(clean_environ(**self._clock.variables, TZ=TIME_ZONE, **settings))

    def _received(self, path: str, connection: Connection) -> None:
        event_id, offset = asked(path)
        if event_id != BETWEEN:
            self._behaviour(path, connection)
        else:
            connection.send(answer(page([], count=0) if offset is not None else event(), "200 OK", "Connection: close"))
            connection.close()
