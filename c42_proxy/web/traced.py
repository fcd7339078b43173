"""The spans of requests: around the two entry points, and only if spans are on."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..observability.otel import RequestSpan, Spans
from .asgi import SEND_WHOLE, AsgiApp, Message, Receive, Scope, Send
from .routes import EVENT_ID, PREFIX

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
SHOWN = {"cache-status": "c42_proxy.cache_status", "x-request-id": "c42_proxy.request_id"}
"""The headers of an answer that are in the span of its request."""

_EVENT = re.compile(f"{PREFIX}{EVENT_ID}/")


class TracedAsgi:
    """The ASGI app with a span around each request, hits too."""

    def __init__(self, app: AsgiApp, spans: Spans) -> None:
        self._app = app
        self._spans = spans
        self.cors_headers = app.cors_headers

    def answer_at_once_for(self, _scope: Scope) -> None:
        """None: each request has a span."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # As the app, which takes the last one.
        sent = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
        with _begun(self._spans, scope["method"], scope["path"], sent[-1] if sent else None) as span:
            others = [header for header in scope["headers"] if header[0] != b"traceparent"]
            scope["headers"] = [*others, (b"traceparent", span.traceparent.encode())]
            extensions = scope.get("extensions") or {}
            send_whole: Callable[[Scope, bytes, bytes], bool] | None = extensions.get(SEND_WHOLE)

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note(span, message["status"], ((n.decode(), v.decode("latin-1")) for n, v in message["headers"]))
                await send(message)

            def send_whole_noted(scope: Scope, head: bytes, body: bytes) -> bool:
                status_line, *lines = head.decode("latin-1").removesuffix("\r\n").split("\r\n")
                headers = (line.partition(": ") for line in lines)
                _note(span, int(status_line.split(" ")[1]), ((name, value) for name, _, value in headers))
                return send_whole is not None and send_whole(scope, head, body)

            if send_whole is not None:
                # The same `scope`: our worker compares it. Its extensions belong to the connection.
                scope["extensions"] = {**extensions, SEND_WHOLE: send_whole_noted}
            await self._app(scope, receive, send_noted)


class TracedWsgi:
    """The Flask app with a span around each request that does not come through the ASGI app."""

    def __init__(self, app: "WSGIApplication", spans: Spans) -> None:
        self._app = app
        self._spans = spans

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if "asgi.scope" in environ:
            return self._app(environ, start_response)
        path = environ.get("PATH_INFO", "")
        with _begun(self._spans, environ["REQUEST_METHOD"], path, environ.get("HTTP_TRACEPARENT")) as span:
            environ["HTTP_TRACEPARENT"] = span.traceparent

            def start_noted(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
                _note(span, int(status[:3]), headers)
                return start_response(status, headers, *exc_info)

            return self._app(environ, start_noted)


def _begun(spans: Spans, method: str, path: str, traceparent: str | None) -> "AbstractContextManager[RequestSpan]":
    """The span by OpenTelemetry's conventions for HTTP. Of the path it has no more than an event's id."""
    attributes = {"http.request.method": method if method in METHODS else "_OTHER"}
    name = method if method in METHODS else "HTTP"
    if _EVENT.fullmatch(path):
        route = f"{PREFIX}{{event_id}}/"
        name = f"{name} {route}"
        attributes |= {"http.route": route, "url.path": path}
    return spans.request(name, traceparent, attributes)


def _note(span: RequestSpan, status: int, headers: Iterable[tuple[str, str]]) -> None:
    span.answered(status, {SHOWN[name.lower()]: value for name, value in headers if name.lower() in SHOWN})
