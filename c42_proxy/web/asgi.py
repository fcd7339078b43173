"""The ASGI front for gunicorn: events without a thread for each request; everything else is lent to the Flask app.

What it says is what the Flask app would say, made by the same functions. A hit's headers are made once for each entry.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from flask import Flask

from ..caching.cache import Reply
from ..errors import Problem
from ..events import Events
from ..observability import correlation
from ..observability.logs import hits_are_logged, log_request
from ..observability.metrics import Metrics
from ..stores.contract import Entry
from .responses import Answer, answer, entry_answer
from .routes import EVENT_ID, EVENTS, METRICS, PREFIX, internal_error

FLASK_THREADS = 16
"""For what is refused, redirected or wrong: nothing that the Flask app is lent waits for C42."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

SEND_WHOLE = "c42_proxy.send_whole"
"""The name of our worker's extension to ASGI."""

_EVENT = re.compile(f"{PREFIX}({EVENT_ID})/")


class Lent:
    """A WSGI app as an ASGI app, in a bounded pool of threads."""

    def __init__(self, app: Flask, threads: int) -> None:
        self._middleware = WSGIMiddleware(app, workers=threads)  # type: ignore[arg-type]  # Flask is a WSGI app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Its own types for ASGI are narrower than ours.
        await cast("Asgi", self._middleware)(scope, receive, send)

    def close(self) -> None:
        """End the threads."""
        self._middleware.executor.shutdown()


class Front:
    """An ASGI application (asgi.readthedocs.io, HTTP 2.3 and newer) around the Flask app and its events."""

    def __init__(self, app: Flask) -> None:
        self._events: Events = app.extensions[EVENTS]
        self._metrics: Metrics = app.extensions[METRICS]
        self._flask = Lent(app, FLASK_THREADS)
        self._logs_hits = hits_are_logged()

    def close(self) -> None:
        """End the threads of the Flask app here; the app itself stays as it is."""
        self._flask.close()

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
            status, head, body = _written(event_id, reply, if_none_match)
            outcome, upstream_seconds = reply.outcome, reply.upstream_seconds
        except Exception as error:  # noqa: BLE001  # as Flask's handler for all that is not foreseen
            correlation.begin(request_id, traceparent)
            status, head, body = _bytes_of(internal_error(error))
            outcome, upstream_seconds = "error", None
        head += b"x-request-id: %b\r\n" % request_id.encode()
        if scope["method"] == "HEAD":
            body = b""
        send_whole = scope.get("extensions", {}).get(SEND_WHOLE)
        if send_whole is None or not send_whole(scope, head, body):
            await send(_start(status, head))
            await send({"type": "http.response.body", "body": body})
        self._metrics.request(outcome, status).inc()
        if outcome != "hit" or self._logs_hits:
            log_request(
                method=scope["method"],
                path=scope["path"],
                status=status,
                outcome=outcome,
                seconds=time.perf_counter() - began,
                upstream_seconds=upstream_seconds,
                request_id=request_id,
            )

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


def _written(event_id: str, reply: Reply, if_none_match: str | None) -> tuple[int, bytes, bytes]:
    """The status, head and body of an answer as they are sent, but for the request's id."""
    entry = reply.result
    if isinstance(entry, Problem) or reply.expiry is None or if_none_match is not None:
        return _bytes_of(answer(event_id, reply).unless_known(if_none_match))
    head, body = entry.ready or _made_ready(event_id, entry, reply.expiry)
    return entry.status, head + b"cache-status: %b\r\n" % reply.cache_status.encode(), body


def _made_ready(event_id: str, entry: Entry, expiry: float) -> tuple[bytes, bytes]:
    """Head and body as all are sent them who may reuse the entry, made once for it."""
    _status, head, body = _bytes_of(entry_answer(event_id, entry, expiry))
    entry.keep_ready(head, body)
    return head, body


def _bytes_of(told: Answer) -> tuple[int, bytes, bytes]:
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in told.headers)
    head = f"HTTP/1.1 {told.status.value} {told.status.phrase}\r\n{lines}"
    return told.status.value, head.encode("latin-1"), told.body


def _start(status: int, head: bytes) -> Message:
    """The same as a message of ASGI, for servers that know nothing else."""
    _status_line, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    return {"type": "http.response.start", "status": status, "headers": headers}


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
