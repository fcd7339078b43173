"""The ASGI front for gunicorn: events without a thread for each request; everything else is lent to the Flask app.

What it says is what the Flask app would say, made by the same functions. A hit's headers are made once for each entry.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from http import HTTPStatus
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
Header = tuple[bytes, bytes]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

SEND_WHOLE = "c42_proxy.send_whole"
"""The name of our worker's extension to ASGI."""
ABOUT_A_BODY = {b"content-type", b"content-length"}

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
            elif if_none_match is None and not self._logs_hits and self._sent_whole(scope, event_id, reply, request_id):
                return
            start, body = _response(event_id, reply, request_id, if_none_match)
            outcome, upstream_seconds = reply.outcome, reply.upstream_seconds
        except Exception as error:  # noqa: BLE001  # as Flask's handler for all that is not foreseen
            correlation.begin(request_id, traceparent)
            response = internal_error(error)
            start, body = _start(response.status_code, _pairs(response), request_id), response.get_data()
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

    def _sent_whole(self, scope: Scope, event_id: str, reply: Reply, request_id: str) -> bool:
        """Whether our worker took the answer as the bytes that it is (see `worker.LastRequestProtocol`)."""
        send_whole = scope.get("extensions", {}).get(SEND_WHOLE)
        if send_whole is None or isinstance(reply.result, Problem):
            return False
        head, body = _made_once(event_id, reply, reply.result)
        own = f"cache-status: {reply.cache_status}\r\nx-request-id: {request_id}\r\n"
        if not send_whole(scope, head + own.encode(), b"" if scope["method"] == "HEAD" else body):
            return False
        self._metrics.request("hit", reply.result.status).inc()
        return True

    async def _wait(self, event_id: str) -> Reply:
        """The reply of Flask, awaited without a thread."""
        pending = self._events.ask(event_id)
        loop = asyncio.get_running_loop()
        landed = loop.create_future()

        def wake() -> None:
            if not landed.done():
                landed.set_result(None)

        def land(_flight: object) -> None:
            # Where the loop has ended, nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(wake)

        pending.flight.add_done_callback(land)
        give_up = loop.call_later(pending.patience, wake)
        try:
            await landed
        finally:
            give_up.cancel()
        return pending.reply()


def _response(event_id: str, reply: Reply, request_id: str, if_none_match: str | None) -> tuple[Message, bytes]:
    """The start of the response, and its body."""
    if reply.outcome != "hit" or isinstance(reply.result, Problem):
        response = answer(event_id, reply, if_none_match)
        return _start(response.status_code, _pairs(response), request_id), response.get_data()
    head, body = _made_once(event_id, reply, reply.result)
    _status_line, *lines, _end = head.split(b"\r\n")
    headers = [_parted(line) for line in (*lines, f"cache-status: {reply.cache_status}".encode())]
    if if_none_match is not None and _is_known(headers, if_none_match):
        return _start(304, [header for header in headers if header[0] not in ABOUT_A_BODY], request_id), b""
    return _start(reply.result.status, headers, request_id), body


def _made_once(event_id: str, reply: Reply, entry: Entry) -> tuple[bytes, bytes]:
    """A hit's head as it is sent, but for `Cache-Status` and the request's id; and its body. Kept with the entry."""
    kept = entry.ready
    if not kept:
        response = answer(event_id, reply, None)
        status = HTTPStatus(response.status_code)
        headers = [b"%b: %b\r\n" % pair for pair in _pairs(response) if pair[0] != b"cache-status"]
        kept["head"] = b"HTTP/1.1 %d %b\r\n%b" % (status, status.phrase.encode(), b"".join(headers))
        kept["body"] = entry.body or response.get_data()
    return kept["head"], kept["body"]


def _parted(line: bytes) -> Header:
    name, _, value = line.partition(b": ")
    return name, value


def _is_known(headers: Sequence[Header], if_none_match: str) -> bool:
    etag = dict(headers).get(b"etag")
    return etag is not None and is_unchanged(if_none_match, etag.decode().strip('"'))


def _start(status: int, headers: Sequence[Header], request_id: str) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [*headers, (b"x-request-id", request_id.encode())],
    }


def _pairs(response: Response) -> list[Header]:
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
