"""The ASGI entry point, for gunicorn: answers events without a thread for each request.

All other requests go to the Flask app. Both make responses with the same functions; the head of a hit is made once for
each entry.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, cast
from urllib.parse import quote

from flask import Flask

from ..caching.reply import Fetched, Hit, Reply, SearchResult, StaleIfError
from ..errors import Overloaded
from ..events import Events
from ..observability import correlation
from ..observability.logs import are_logged, log_request
from ..observability.metrics import Metrics
from ..threads import Threads
from .a2wsgi_threads import middleware
from .cors import Cors, Header
from .pace import Pace
from .responses import cache_status, date, failure_response, header_lines, response_to, stale_head
from .routes import EVENT_ID, PREFIX, has_encoded_slash, internal_error, is_host, known_hosts

FLASK_THREADS = 16
"""For requests that are refused or redirected: no request of the Flask app waits for C42 here."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Search = Future[SearchResult]
Asgi = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

Headers = Sequence[tuple[bytes, bytes]]
"""The names are in lower case."""
AnswerAtOnce = Callable[[bytes, bytes, Headers], bytes | None]
"""Called with method, target and headers of a request of HTTP/1.1. Returns the whole answer, or None if the app must be
called."""

SEND_WHOLE = "c42_proxy.send_whole"
"""The name of our worker's extension to ASGI."""

_EVENT = re.compile(f"{PREFIX}({EVENT_ID})/")
_EVENT_TARGET = re.compile(_EVENT.pattern.encode())


class WsgiAsAsgi:
    """A WSGI app as an ASGI app, in a bounded pool of threads. It adds the `Date`, which a WSGI server would add.

    With `metrics`, it counts and logs the requests for which there is no thread; the app does so with the others.
    """

    def __init__(self, app: Flask, threads: int, cors: Cors, metrics: Metrics | None = None) -> None:
        self._cors = cors
        self._metrics = metrics
        self._threads = Threads(threads, name="c42-flask", queues=True)
        self._middleware = middleware(app, self._threads, threads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", date().encode())]
            await send(message)

        try:
            # The middleware's types for ASGI are narrower than ours.
            await cast("Asgi", self._middleware)(scope, receive, send_dated)
        except Overloaded as overloaded:
            sent = _request_headers(scope["headers"], scope["http_version"])
            request_id, *_ = sent or (correlation.request_id(None),)
            allowed = self._cors.headers(_origin(scope["headers"]))
            response = failure_response(overloaded).having(("X-Request-ID", request_id), *allowed)
            head, body = response.as_bytes()
            await send_dated(_start(response.status.value, head))
            await send_dated({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
            if self._metrics is not None:
                path = quote(scope["path"])
                _note(self._metrics, "error", response.status, request_id, method=scope["method"], path=path)

    def close(self) -> None:
        self._threads.close()


class ServersRefusals:
    """What the server refuses before there is a request. The app of the process counts and logs it."""

    note: ClassVar[Callable[[HTTPStatus, str], None]] = staticmethod(lambda _status, _request_id: None)
    """Called with the status and the request id."""


class AsgiApp:
    """The ASGI application (asgi.readthedocs.io, HTTP 2.3 and newer) in front of the Flask app.

    `before_miss` is called for each event that is not fresh in memory.
    """

    def __init__(
        self, flask: Flask, events: Events, metrics: Metrics, cors: Cors, *, before_miss: Callable[[], None]
    ) -> None:
        self._events = events
        self._metrics = metrics
        self._cors = cors
        self._before_miss = before_miss
        self._flask = WsgiAsAsgi(flask, FLASK_THREADS, cors, metrics)
        ServersRefusals.note = partial(_note, metrics, "refused")
        self._logs_hits, self._logs_stale = are_logged("hit"), are_logged("stale")
        self._waiting: dict[tuple[asyncio.AbstractEventLoop, Search], list[asyncio.Future[None]]] = {}
        """The requests that wait for a search, which other threads do."""
        self._paces: dict[asyncio.AbstractEventLoop, Pace] = {}

    def close(self) -> None:
        """Called when the event loops have ended. Fetches that still wait for one begin now."""
        for pace in self._paces.values():
            pace.close()
        self._flask.close()

    def cors_headers(self, scope: Scope) -> tuple[Header, ...]:
        """For an answer of the server itself, to what is no request."""
        return self._cors.headers(_origin(scope["headers"]))

    def answer_at_once_for(self, _scope: Scope) -> AnswerAtOnce | None:
        """The function that answers requests of a connection at once, for our worker; None if hits are logged."""
        return None if self._logs_hits else self._answer_at_once

    def _answer_at_once(self, method: bytes, target: bytes, headers: Headers) -> bytes | None:
        """A hit, or a stale answer while C42 may not be asked. As `__call__`, which answers all other requests."""
        try:
            return self._known_answer(method, target, headers)
        except Exception:  # noqa: BLE001  # a bug: `__call__` meets and reports it
            return None

    def _known_answer(self, method: bytes, target: bytes, headers: Headers) -> bytes | None:
        began = time.perf_counter()
        event = _EVENT_TARGET.fullmatch(target)
        sent = _request_headers(headers, "1.1")
        if event is None or sent is None or method not in {b"GET", b"HEAD"}:
            return None
        event_id = event[1].decode()
        request_id, if_none_match, traceparent = sent
        reply = self._events.hit(event_id) or self._events.stale(event_id)
        if reply is None:
            return None
        status, head, body = _status_head_body(event_id, reply, if_none_match, request_id)
        if self._cors.is_on:
            head += header_lines(self._cors.headers(_origin(headers)))
        self._metrics.request(reply.outcome, status).inc()
        if self._logs_stale and isinstance(reply, StaleIfError):
            # Not in the context of the connection: it would stay there.
            copy_context().run(
                self._log_stale,
                reply,
                traceparent,
                method=method.decode(),
                path=target.decode(),
                status=status,
                request_id=request_id,
                seconds=time.perf_counter() - began,
            )
        return b"".join((head, b"\r\n", b"" if method == b"HEAD" else body))

    def _log_stale(self, reply: Reply, traceparent: str | None, *, request_id: str, **line: Any) -> None:
        if traceparent is not None:
            correlation.begin(request_id, traceparent)
        _log(reply, request_id=request_id, **line)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        event = _EVENT.fullmatch(scope["path"])
        sent = _request_headers(scope["headers"], scope["http_version"])
        if (
            event is None
            or sent is None
            or scope["method"] not in {"GET", "HEAD"}
            or (b"%" in (raw_path := scope.get("raw_path") or b"") and has_encoded_slash(raw_path))
        ):
            await self._flask(scope, receive, send)
            return
        event_id = event[1]
        request_id, if_none_match, traceparent = sent
        is_at_once = False
        reply: Reply | None
        try:
            reply = self._events.hit(event_id) or self._events.stale(event_id)
            is_at_once = reply is not None
            if reply is None:
                correlation.begin(request_id, traceparent)
                self._before_miss()
                reply = await self._wait(event_id)
            status, head, body = _status_head_body(event_id, reply, if_none_match, request_id)
            outcome = reply.outcome
        except Exception as error:  # noqa: BLE001  # as Flask's handler for bugs
            correlation.begin(request_id, traceparent)
            response = internal_error(error).having(("X-Request-ID", request_id), ("Date", date()))
            status, (head, body) = response.status.value, response.as_bytes()
            reply, outcome = None, "error"
        if self._cors.is_on:
            head += header_lines(self._cors.headers(_origin(scope["headers"])))
        if scope["method"] == "HEAD":
            body = b""
        # Before the answer leaves: a client that has its answer finds it counted in /metrics.
        self._metrics.request(outcome, status).inc()
        send_whole = scope.get("extensions", {}).get(SEND_WHOLE)
        if send_whole is None or not send_whole(scope, head, body):
            await send(_start(status, head))
            await send({"type": "http.response.body", "body": body})
        if outcome != "hit" or self._logs_hits:
            seconds = time.perf_counter() - began
            if not is_at_once:
                self._metrics.took(outcome, seconds)
            elif traceparent is not None:
                correlation.begin(request_id, traceparent)
            method, path = scope["method"], scope["path"]
            _log(reply, method=method, path=path, status=status, request_id=request_id, seconds=seconds)

    async def _wait(self, event_id: str) -> Reply:
        """As `Events.reply`, but waiting needs no thread."""
        loop = asyncio.get_running_loop()
        pace = self._paces.get(loop) or self._new_pace(loop)
        pending = self._events.coalesce(event_id, begin_fetch=pace.begin_soon)
        ended = loop.create_future()
        key = loop, pending.search
        if key in self._waiting:
            self._waiting[key].append(ended)
        else:
            self._waiting[key] = [ended]
            pending.search.add_done_callback(partial(self._wake_soon, loop))
        give_up = loop.call_later(pending.patience, _wake, ended)
        try:
            await ended
        finally:
            give_up.cancel()
        return self._events.reply_for(pending)

    def _new_pace(self, loop: asyncio.AbstractEventLoop) -> Pace:
        """The pace of this loop. Those of loops that have ended are closed: nothing else begins what waits there."""
        for ended in [each for each in list(self._paces) if each.is_closed()]:
            self._paces.pop(ended).close()
        pace = self._paces[loop] = Pace(loop)
        return pace

    def _wake_soon(self, loop: asyncio.AbstractEventLoop, search: Search) -> None:
        """Wake all requests of an event loop that wait for a search: one call from another thread for all of them."""
        try:
            loop.call_soon_threadsafe(self._wake_all, loop, search)
        except RuntimeError:
            # The loop is closed, so no request waits any more.
            del self._waiting[loop, search]

    def _wake_all(self, loop: asyncio.AbstractEventLoop, search: Search) -> None:
        for ended in self._waiting.pop((loop, search)):
            _wake(ended)


def _wake(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _log(reply: Reply | None, *, method: str, path: str, status: int, request_id: str, seconds: float) -> None:
    """Log a request for an event; `reply` is None after a bug."""
    handling = None if reply is None else reply.handling
    log_request(
        method=method,
        path=path,
        status=status,
        outcome="error" if reply is None else reply.outcome,
        seconds=seconds,
        upstream_seconds=None if handling is None else handling.upstream_seconds,
        cause=None if handling is None else handling.cause,
        request_id=request_id,
    )


def _note(
    metrics: Metrics, outcome: str, status: HTTPStatus, request_id: str, *, method: str = "-", path: str = "-"
) -> None:
    """Count and log what no app has answered."""
    metrics.request(outcome, status.value).inc()
    metrics.took(outcome, 0)
    log_request(method=method, path=path, status=status.value, outcome=outcome, seconds=0, request_id=request_id)


def _status_head_body(
    event_id: str, reply: Reply, if_none_match: str | None, request_id: str
) -> tuple[int, bytes, bytes]:
    """A whole response. For a fresh entry, nearly all of it is already prepared; for a stale one, its head is known."""
    head = None
    if if_none_match is None and isinstance(reply, (Hit, Fetched)) and reply.expiry is not None:
        entry = reply.entry
        head, own_head, body = entry.shared_head, entry.own_head, entry.prepared_body
    elif isinstance(reply, StaleIfError):
        entry = reply.entry
        head, own_head, body = stale_head(len(entry.body)), b"", entry.body
    if head is not None:
        own = f"cache-status: {cache_status(reply)}\r\ndate: {date()}\r\nx-request-id: {request_id}\r\n"
        return entry.status, b"".join((head, own_head, own.encode())), body
    response = response_to(event_id, reply).unless_known(if_none_match)
    response = response.having(("X-Request-ID", request_id), ("Date", date()))
    return response.status.value, *response.as_bytes()


def _start(status: int, head: bytes) -> Message:
    """The head as a message of ASGI, for servers without our extension."""
    _status_line, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _origin(headers: Headers) -> str | None:
    """The request's `Origin`. Two of them are joined with a comma, which is in no list."""
    return ",".join(value.decode("latin-1") for name, value in headers if name == b"origin") or None


def _request_headers(headers: Headers, version: str) -> tuple[str, str | None, str | None] | None:
    """The request's id, `If-None-Match` and `traceparent`; None if `Host` is wrong."""
    request_id = if_none_match = traceparent = host = None
    for name, value in headers:
        if name == b"host":
            # Two Host headers are joined with a comma, which is no valid host.
            host = value if host is None else b"%b,%b" % (host, value)
        elif name == b"x-request-id":
            request_id = value.decode("latin-1")
        elif name == b"if-none-match":
            tags = value.decode("latin-1")
            if_none_match = tags if if_none_match is None else f"{if_none_match},{tags}"
        elif name == b"traceparent":
            traceparent = value.decode("latin-1")
    if host not in known_hosts and not is_host(host) and (host is not None or version == "1.1"):
        return None
    return correlation.request_id(request_id), if_none_match, traceparent
