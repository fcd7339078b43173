"""A C42 for the benchmarks: it knows every event, each call takes exactly as long as it is told, without a thread.

The sandbox has a thread for each call, so the sixteenth client of a slow C42 would already wait for a core of it.
An event's id tells its size: `250-anything` has 250 subscribers. ASGI, to be run by uvicorn on its own.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs
from urllib.request import urlopen

from c42_proxy.sandbox.events import Person, Sample, sample
from harness.processes import clean_environ, free_port

from .processes import PYTHON, Server

TOKEN = "bench-token"  # noqa: S105  # no secret: it opens nothing
TITLE = "Drink a cup of coffee with C42 Team"
PLACEHOLDER = "the-event"
PAGE = 100


class StandIn:
    """The running stand-in, and what can be done to it."""

    def __init__(self, core: int) -> None:
        port = free_port()
        command = [PYTHON, "-m", "uvicorn", "tools.bench.c42:app", "--port", str(port), "--loop", "uvloop"]
        command += ["--http", "httptools", "--no-access-log", "--log-level", "warning", "--backlog", "4096"]
        command += ["--timeout-keep-alive", "600"]
        self.server = Server(command, port=port, cores=str(core), environ=clean_environ(), ready_path="/calls")
        self.variables = {
            "C42_API_URL": self.server.url("/api/v2/"),
            "C42_API_TOKEN": TOKEN,
        }

    def takes(self, seconds: float) -> None:
        """How long each call takes from now on; the count of calls begins again."""
        self._control(f"/latency?{seconds}")

    def calls(self) -> dict[str, int]:
        """How often it was asked for an event, and for a page of subscriptions, since the last `takes`."""
        calls: dict[str, int] = json.loads(self._control("/calls"))
        return calls

    def _control(self, path: str) -> bytes:
        with urlopen(self.server.url(path), timeout=10) as answer:  # noqa: S310  # our own address
            body: bytes = answer.read()
            return body


_latency = 0.0
_calls = {"events": 0, "subscriptions": 0}

Scope = MutableMapping[str, Any]


async def app(scope: Scope, _receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """The two calls of the C42 API, and the control beside them."""
    global _latency  # noqa: PLW0603  # all that this program is about
    if scope["type"] != "http":
        return
    path: str = scope["path"]
    body = b"{}"
    if path.startswith("/api/v2/events/"):
        _calls["events"] += 1
        await asyncio.sleep(_latency)
        body = _event(path.split("/")[4])
    elif path == "/api/v2/event-subscriptions/":
        _calls["subscriptions"] += 1
        await asyncio.sleep(_latency)
        query = parse_qs(scope["query_string"].decode())
        body = _subscriptions(query["event_ids"][0].strip("[]"), int(query["offset"][0]), int(query["limit"][0]))
    elif path == "/latency":
        _latency = float(scope["query_string"])
        _calls.update(events=0, subscriptions=0)
    elif path == "/calls":
        body = json.dumps(_calls).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _event(event_id: str) -> bytes:
    return _event_template(_size(event_id)).replace(PLACEHOLDER.encode(), event_id.encode())


def _subscriptions(event_id: str, offset: int, limit: int) -> bytes:
    template = _page_template(_size(event_id), offset, limit)
    return template.replace(PLACEHOLDER.encode(), event_id.encode())


def _size(event_id: str) -> int:
    return int(event_id.partition("-")[0])


@lru_cache
def _sample(size: int) -> Sample:
    return sample(PLACEHOLDER, TITLE, [Person(f"Michel {number}", "de Vries") for number in range(size)])


@lru_cache
def _event_template(size: int) -> bytes:
    return json.dumps({"data": [_sample(size).event], "meta_data": {"count": 1}}).encode()


@lru_cache(1000)
def _page_template(size: int, offset: int, limit: int) -> bytes:
    everyone = _sample(size).subscriptions
    meta = {"count": len(everyone), "offset": offset, "sync_token": 1}
    return json.dumps({"data": everyone[offset : offset + limit], "meta_data": meta}).encode()
