"""A C42 whose events change all the time, that fails as it is told, and records every call.

No two of its answers are the same: each carries the version of the event and the number of the call (see `marks`).
"""

import asyncio
import itertools
import json
import random
import re
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import unquote

from .marks import Mark, name, title
from .record import Call, FaultKind, Outcome, Record, Version

PAGE = 100
FEW = {f"few-{number}": 1 + number % 5 for number in range(20)}
MANY = {"many-0": 150, "many-1": 250, "crowd-0": 1150}
FLICKERING = {f"flickering-{number}": 3 for number in range(5)}
"""These are deleted and come back."""
UNKNOWN = ["nobody-0", "nobody-1"]
CHANGES_A_SECOND = 12
FAILS_AT_TIMES = 0.2
"""The part of the calls that fails then: some pages of a long list, and the others must not be told without them."""

_ASKED = re.compile(rb"GET /api/v2/(?:events/([\w-]+)/|event-subscriptions/\?event_ids=(\S+?)&limit=100&offset=(\d+)) ")
_REFUSALS: dict[FaultKind, tuple[int, Outcome]] = {
    "C42 fails": (500, "failed"),
    "one event fails": (500, "failed"),
    "C42 says 429": (429, "told to wait"),
    "C42 says 503 and when": (503, "told to wait"),
    "C42 says 401": (401, "token refused"),
}
_REQUEST_ID = re.compile(rb"\r\nx-request-id: *(\S+)", re.IGNORECASE)


class C42:
    """On a free port of 127.0.0.1, in the running event loop. `slow` is how long it takes when it is slow."""

    def __init__(self, record: Callable[[Record], None], chance: random.Random, *, port: int, slow: float) -> None:
        self._record = record
        self._chance = chance
        self._port = port
        self._slow = slow
        self._numbers = itertools.count(1)
        self._versions: dict[str, Version] = {}
        self._fault: FaultKind | None = None
        self._struck = ""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        for event, size in {**FEW, **MANY, **FLICKERING}.items():
            self.add(event, size)

    async def listen(self) -> None:
        """Answer from now on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=4096)

    def refuse(self) -> None:
        """Close everything: who connects is refused, until the next `listen`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._connections:
            connection.transport.abort()

    def strike(self, fault: FaultKind | None, event: str = "") -> None:
        """Behave like this from now on, towards all events or towards one; None is well."""
        self._fault, self._struck = fault, event

    def add(self, event: str, size: int) -> None:
        """An event that was not there."""
        self._put(Version(event, 1, time.time(), size, gone=False))

    async def change_all_the_time(self) -> None:
        """Make new versions, until cancelled."""
        while True:
            await asyncio.sleep(self._chance.expovariate(CHANGES_A_SECOND))
            old = self._versions[self._chance.choice([*FEW, *MANY, *FLICKERING])]
            gone = old.event in FLICKERING and self._chance.random() < 0.5
            self._put(Version(old.event, old.number + 1, time.time(), old.size, gone=gone))

    def _put(self, version: Version) -> None:
        self._versions[version.event] = version
        self._record(version)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        used = False
        try:
            while await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer, used):
                used = True
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the proxy has closed, `refuse` has, or the run is over
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, used: bool
    ) -> bool:
        """Answer a call as it was when it came, and record it; whether the connection goes on."""
        received, number = time.time(), next(self._numbers)
        asked, request = _ASKED.match(head), _REQUEST_ID.search(head)
        if asked is None:
            raise ValueError(f"no call of C42's API: {head!r}")
        event = unquote((asked[1] or asked[2]).decode()).strip("[]")
        offset = None if asked[3] is None else int(asked[3])
        version = self._versions.get(event)
        fault = self._fault if self._struck in {"", event} else None
        slow = fault == "C42 is slow"
        left = await _leaves(reader, self._slow if slow else self._latency())
        status, outcome, body = self._said(fault, number, offset, event, version)
        wait = self._chance.randint(1, 3) if outcome == "told to wait" else 0
        begins = outcome != "cut" or self._chance.random() < 0.5
        if left:
            # `refuse` closes, too.
            outcome, begins = ("left" if self._server is not None else "cut"), False
        self._record(
            Call(
                number=number,
                request=request[1].decode() if request else "",
                event=event,
                offset=offset,
                received=received,
                ended=time.time(),
                outcome=outcome,
                status=status if begins else None,
                version=version.number if version and outcome in {"answered", "gone"} else None,
                wait=wait if begins else 0,
                used=used,
            )
        )
        if not begins:
            _reset(writer)
            return False
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", *([f"Retry-After: {wait}"] if wait else []), "", ""]
        is_cut = outcome == "cut"
        writer.write("\r\n".join(lines).encode() + (body[: len(body) // 2] if is_cut else body))
        await writer.drain()
        return not is_cut

    def _said(
        self, fault: FaultKind | None, number: int, offset: int | None, event: str, version: Version | None
    ) -> tuple[int, Outcome, bytes]:
        if fault == "C42 fails at times" and self._chance.random() < FAILS_AT_TIMES:
            fault = "C42 fails"
        if fault in _REFUSALS:
            return *_REFUSALS[fault], b"{}"
        if version is None or version.gone:
            status, data = self._absent(event, version, offset)
            return status, "gone", data
        body = _event(version, number) if offset is None else _page(version, number, offset)
        return 200, "cut" if fault == "C42 cuts" else "answered", body

    def _absent(self, event: str, version: Version | None, offset: int | None) -> tuple[int, bytes]:
        """C42 has three ways to say that there is no such event; with its subscriptions it has one."""
        form = 0 if version is None or offset is not None else version.number % 3
        if form == 0:
            return 404, b'{"error": {"status_code": 404, "message": "Not found.", "code": "not_found"}}'
        return 200, _data([] if form == 1 else [{"id": event, "permission": "removed"}], 2 - form)

    def _latency(self) -> float:
        return self._chance.uniform(0.2, 0.6) if self._chance.random() < 0.03 else self._chance.uniform(0.002, 0.02)


async def _leaves(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Whether the client closes within so many seconds: it sends nothing before it has its answer."""
    try:
        async with asyncio.timeout(seconds):
            await reader.read(1)
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST instead of a FIN."""
    with suppress(OSError):
        own: socket.socket = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _event(version: Version, number: int) -> bytes:
    text = title(version.event, Mark(version.number, number))
    return _data([{"id": version.event, "title": text, "permission": "subscribed_write"}], 1)


def _page(version: Version, number: int, offset: int) -> bytes:
    mark = Mark(version.number, number)
    found: list[dict[str, object]] = [
        {
            "id": f"{version.event}__{index}",
            "event_id": version.event,
            "permission": "subscribed_write",
            "subscriber": {"first_name": name(index, mark)},
        }
        for index in range(offset, min(offset + PAGE, version.size))
    ]
    return _data(found, version.size)


def _data(data: list[dict[str, object]], count: int) -> bytes:
    return json.dumps({"data": data, "meta_data": {"count": count}}).encode()
