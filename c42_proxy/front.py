"""The ASGI front for gunicorn: events without a thread for each request; everything else is lent to the Flask app.

What it says is what the Flask app would say, made by the same functions. A hit's headers are made once for each entry.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask, Response

from .app import EVENTS
from .cache import Reply
from .events import Events
from .routes import EVENT_ID, PREFIX, answer, internal_error

FLASK_THREADS = 16
"""For what is refused, redirected or wrong: nothing that the Flask app is lent waits for C42."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_EVENT = re.compile(f"{PREFIX}({EVENT_ID})/")


class Front:
    """An ASGI application (asgi.readthedocs.io, HTTP 2.3 and newer) around the Flask app and its events."""

    def __init__(self, app: Flask) -> None:
        self._events: Events = app.extensions[EVENTS]
        self._flask = WSGIMiddleware(app, workers=FLASK_THREADS)  # type: ignore[arg-type]  # Flask is a WSGI app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        event = _EVENT.fullmatch(scope["path"])
        if event is None or scope["method"] not in {"GET", "HEAD"}:
            await self._flask(scope, receive, send)  # type: ignore[arg-type]  # a2wsgi has stricter types than ASGI
            return
        event_id = event[1]
        if_none_match = _header(scope, b"if-none-match")
        try:
            reply = self._events.hit(event_id) or await self._wait(event_id)
            start, body = _ready(event_id, reply, if_none_match)
        except Exception as error:  # noqa: BLE001  # as Flask's handler for all that is not foreseen
            start, body = _rendered(internal_error(error))
        await send(start)
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _wait(self, event_id: str) -> Reply:
        """The reply of Flask, awaited without a thread."""
        pending = self._events.ask(event_id)
        await asyncio.wait([asyncio.wrap_future(pending.flight)], timeout=pending.patience)
        return pending.reply()


def _header(scope: Scope, wanted: bytes) -> str | None:
    values = [value for name, value in scope["headers"] if name == wanted]
    return b",".join(values).decode("latin-1") if values else None


def _ready(event_id: str, reply: Reply, if_none_match: str | None) -> tuple[Message, bytes]:
    """The start of the response and its body."""
    if reply.expiry is None or if_none_match is not None or isinstance(reply.result, Exception):
        return _rendered(answer(event_id, reply, if_none_match))
    kept = reply.result.ready
    if "headers" not in kept:
        start, kept["body"] = _rendered(answer(event_id, reply, None))
        kept["status"] = start["status"]
        kept["headers"] = [header for header in start["headers"] if header[0] != b"cache-status"]
    status = (b"cache-status", reply.cache_status.encode())
    return {"type": "http.response.start", "status": kept["status"], "headers": [*kept["headers"], status]}, kept[
        "body"
    ]


def _rendered(response: Response) -> tuple[Message, bytes]:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.headers.items()]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}, response.get_data()
