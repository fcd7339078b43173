"""A C42 whose events change all the time, that fails as it is told, and records every call.

No two of its answers are the same: each carries the version of the event and the number of the call (see `marks`).
"""

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from c42_proxy.sandbox import shapes
from harness.wire import PAGE, Connection, Wire, answer, asked

from .marks import Mark, name, title
from .record import Call, FaultKind, Outcome, Record, Version

FEW = {f"few-{number}": 1 + number % 5 for number in range(20)}
MANY = {"many-0": 150, "many-1": 250, "crowd-0": 1150}
FLICKERING = {f"flickering-{number}": 3 for number in range(5)}
"""These are deleted and come back."""
UNKNOWN = ["nobody-0", "nobody-1"]
CHANGES_A_SECOND = 12
FAILS_AT_TIMES = 0.2
"""The part of the calls that fails then: some pages of a long list, and the others must not be told without them."""

_REFUSALS: dict[FaultKind, tuple[int, Outcome]] = {
    "C42 fails": (500, "failed"),
    "one event fails": (500, "failed"),
    "C42 says 429": (429, "told to wait"),
    "C42 says 503 and when": (503, "told to wait"),
    "C42 says 401": (401, "token refused"),
}


class C42(Wire):
    """On a port of 127.0.0.1. `slow` is how long it takes when it is slow."""

    def __init__(self, record: Callable[[Record], None], chance: random.Random, *, port: int, slow: float) -> None:
        super().__init__(self._behave, port=port)
        self._record = record
        self._chance = chance
        self._slow = slow
        self._numbers = itertools.count(1)
        self._versions: dict[str, Version] = {}
        self._versions_lock = threading.Lock()
        self._fault: FaultKind | None = None
        self._struck = ""
        self.keeps_connections = True
        """Whether connections stay open after an answer, for further calls."""
        for event, size in {**FEW, **MANY, **FLICKERING}.items():
            self.add(event, size)

    def strike(self, fault: FaultKind | None, event: str = "") -> None:
        """Behave like this from now on, towards all events or towards one; None is well."""
        self._fault, self._struck = fault, event

    def add(self, event: str, size: int) -> None:
        """An event that was not there."""
        self._put(event, 1, size, gone=False)

    async def change_all_the_time(self) -> None:
        """Make new versions, until cancelled."""
        while True:
            await asyncio.sleep(self._chance.expovariate(CHANGES_A_SECOND))
            old = self._versions[self._chance.choice([*FEW, *MANY, *FLICKERING])]
            gone = old.event in FLICKERING and self._chance.random() < 0.5
            self._put(old.event, old.number + 1, old.size, gone=gone)

    def _put(self, event: str, number: int, size: int, *, gone: bool) -> None:
        with self._versions_lock:
            version = self._versions[event] = Version(event, number, time.time(), size, gone)
        self._record(version)

    def _behave(self, path: str, connection: Connection) -> None:
        """Answer a call from the state at the moment when it came, and record it."""
        event, offset = asked(path)
        with self._versions_lock:
            received, number, version = time.time(), next(self._numbers), self._versions.get(event)
        fault = self._fault if self._struck in {"", event} else None
        left = connection.leaves(self._slow if fault == "C42 is slow" else self._latency())
        status, outcome, said = self._said(fault, number, offset, event, version)
        wait = self._chance.randint(1, 3) if outcome == "told to wait" else 0
        begins = outcome != "cut" or self._chance.random() < 0.5
        if left:
            outcome, begins = ("cut" if connection.is_over else "left"), False
        self._record(
            Call(
                number=number,
                request=connection.header("X-Request-ID") or "",
                event=event,
                offset=offset,
                received=received,
                ended=time.time(),
                outcome=outcome,
                status=status if begins else None,
                version=version.number if version and outcome in {"answered", "gone"} else None,
                wait=wait if begins else 0,
                used=connection.requests > 1,
            )
        )
        if not begins:
            connection.reset()
            return
        body = shapes.encoded(said)
        headers = ["Content-Type: application/json", *([f"Retry-After: {wait}"] if wait else [])]
        keeps = self.keeps_connections
        headers += [] if keeps else ["Connection: close"]
        whole = answer(body, f"{status} {HTTPStatus(status).phrase}", *headers)
        if outcome == "cut":
            connection.send(whole[: -len(body) // 2])
            connection.close()
        else:
            connection.send(whole)
            if not keeps:
                connection.close()

    def _said(
        self, fault: FaultKind | None, number: int, offset: int | None, event: str, version: Version | None
    ) -> tuple[int, Outcome, object]:
        if fault == "C42 fails at times" and self._chance.random() < FAILS_AT_TIMES:
            fault = "C42 fails"
        if fault in _REFUSALS:
            return *_REFUSALS[fault], {}
        if version is None or version.gone:
            status, said = _absent(event, version, offset)
            return status, "gone", said
        said = _event(version, number) if offset is None else _page(version, number, offset)
        return 200, "cut" if fault == "C42 cuts" else "answered", said

    def _latency(self) -> float:
        return self._chance.uniform(0.2, 0.6) if self._chance.random() < 0.03 else self._chance.uniform(0.002, 0.02)


def _absent(event: str, version: Version | None, offset: int | None) -> tuple[int, object]:
    """C42 has three ways to say that there is no such event; with its subscriptions it has one."""
    form = 0 if version is None or offset is not None else version.number % 3
    if form == 0:
        return 404, shapes.error(404, "Not found.")
    found = [] if form == 1 else [shapes.removed(event)]
    return 200, shapes.page(found, count=len(found))


def _event(version: Version, number: int) -> object:
    text = title(version.event, Mark(version.number, number))
    return shapes.page([shapes.event(version.event, text)], count=1)


def _page(version: Version, number: int, offset: int) -> object:
    mark = Mark(version.number, number)
    found = [
        shapes.subscription(version.event, index, shapes.Person(name(index, mark)))
        for index in range(offset, min(offset + PAGE, version.size))
    ]
    return shapes.page(found, count=version.size, offset=offset)
