"""The ASGI front for gunicorn: events without a thread for each request; everything else is lent to the Flask app.

What it says is what the Flask app would say, made by the same functions. A hit's headers are made once for each entry.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from a2wsgi.asgi_typing import ASGIApp
from flask import Flask, Response

from . import correlation
from .app import EVENTS, METRICS
from .cache import Reply
from .errors import Problem
from .events import Events
from .logs import hits_are_logged, log_request
from .metrics import Metrics
from .routes import EVENT_ID, PREFIX, answer, internal_error, is_unchanged
from .stores import Entry

FLASK_THREADS = 16
"""For what is refused, redirected or wrong: nothing that the Flask app is lent waits for C42."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_EVENT = re.compile(f"{PREFIX}({EVENT_ID})/")


def lend(app: Flask, threads: int) -> Asgi:
    """A WSGI app as an ASGI app, in a bounded pool of threads."""
    lent: ASGIApp = WSGIMiddleware(app, workers=threads)  # type: ignore[arg-type]  # Flask is a WSGI app
    return cast("Asgi", lent)


class Front:
    """An ASGI application (asgi.readthedocs.io, HTTP 2.3 and newer) around the Flask app and its events."""

    def __init__(self, app: Flask) -> None:
        self._events: Events = app.extensions[EVENTS]
        self._metrics: Metrics = app.extensions[METRICS]
        self._flask = lend(app, FLASK_THREADS)
        self._logs_hits = hits_are_logged()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        event = _EVENT.fullmatch(scope["path"])
        if event is None or scope["method"] not in {"GET", "HEAD"}:
            await self._flask(scope, receive, send)
            return
        began = time.perf_counter()
        event_id = event[1]
        request_id, if_none_match, traceparent = _sent(scope)
        try:
            reply = self._events.hit(event_id)
            if reply is None:
                correlation.begin(request_id, traceparent)
                reply = await self._wait(event_id)
            start, body = _response(event_id, reply, request_id, if_none_match)
            outcome, upstream_seconds = reply.outcome, reply.upstream_seconds
        except Exception as error:  # noqa: BLE001  # as Flask's handler for all that is not foreseen
            correlation.begin(request_id, traceparent)
            start, body = _rendered(internal_error(error), request_id)
            outcome, upstream_seconds = "error", None
        await send(start)
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        self._metrics.request(outcome, start["status"]).inc()
        if outcome != "hit" or self._logs_hits:
            log_request(
                method=scope["method"],
                path=scope["path"],
                status=start["status"],
                outcome=outcome,
                seconds=time.perf_counter() - began,
                upstream_seconds=upstream_seconds,
                request_id=request_id,
            )

    async def _wait(self, event_id: str) -> Reply:
        """The reply of Flask, awaited without a thread."""
        pending = self._events.ask(event_id)
        await asyncio.wait([asyncio.wrap_future(pending.flight)], timeout=pending.patience)
        return pending.reply()


@dataclass(frozen=True, slots=True)
class _Template:
    """A hit's answer but for `Cache-Status` and the request's id."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def _response(event_id: str, reply: Reply, request_id: str, if_none_match: str | None) -> tuple[Message, bytes]:
    """The start of the response, and its body."""
    if reply.outcome != "hit" or isinstance(reply.result, Problem):
        return _rendered(answer(event_id, reply, if_none_match), request_id)
    template = _template(event_id, reply, reply.result, if_none_match)
    headers = [
        *template.headers,
        (b"cache-status", reply.cache_status.encode()),
        (b"x-request-id", request_id.encode()),
    ]
    return {"type": "http.response.start", "status": template.status, "headers": headers}, template.body


def _template(event_id: str, reply: Reply, entry: Entry, if_none_match: str | None) -> _Template:
    kept = entry.ready
    if not kept:
        whole, unchanged = answer(event_id, reply, None), answer(event_id, reply, "*")
        kept |= {"etag": whole.get_etag()[0], "unchanged": _as_template(unchanged), "whole": _as_template(whole)}
    is_known = if_none_match is not None and kept["etag"] and is_unchanged(if_none_match, kept["etag"])
    template: _Template = kept["unchanged" if is_known else "whole"]
    return template


def _as_template(response: Response) -> _Template:
    headers = [(name, value) for name, value in _pairs(response) if name != b"cache-status"]
    return _Template(response.status_code, headers, response.get_data())


def _rendered(response: Response, request_id: str) -> tuple[Message, bytes]:
    headers = [*_pairs(response), (b"x-request-id", request_id.encode())]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}, response.get_data()


def _pairs(response: Response) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in response.headers.items()]


def _sent(scope: Scope) -> tuple[str, str | None, str | None]:
    """The request's id, `If-None-Match` and `traceparent`."""
    request_id = if_none_match = traceparent = None
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            request_id = value.decode("latin-1")
        elif name == b"if-none-match":
            tags = value.decode("latin-1")
            if_none_match = tags if if_none_match is None else f"{if_none_match},{tags}"
        elif name == b"traceparent":
            traceparent = value.decode("latin-1")
    return correlation.request_id(request_id), if_none_match, traceparent
