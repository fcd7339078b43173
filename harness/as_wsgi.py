"""An ASGI app as the WSGI app that test clients know, without a server between them."""

import asyncio
from collections.abc import Callable, Iterable
from threading import Thread
from typing import TYPE_CHECKING, Any, ParamSpec
from urllib.parse import quote

from c42_proxy.web.asgi import SEND_WHOLE, AnswerAtOnce, Asgi, Scope

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ANSWER_SECONDS = 20

P = ParamSpec("P")


class AsWsgi:
    """Runs the ASGI app in an event loop of its own; callable from any number of threads.

    With `whole`, it takes an answer as the bytes that it is, and at once if the app has it, like our worker; else in
    ASGI's messages alone.
    """

    def __init__(self, app: Asgi, *, whole: bool = True) -> None:
        self._app = app
        self._whole = whole
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def in_loop(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call something in the thread of the event loop, and wait for its end."""

        async def do() -> None:
            work(*args, **kwargs)

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(ANSWER_SECONDS)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """One request, as a server would hand it over (asgi.readthedocs.io, HTTP connection scope)."""
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        def send_whole(_scope: Any, head: bytes, body: bytes) -> bool:
            status_line, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
            headers = [tuple(line.split(b": ", 1)) for line in lines]
            messages.extend([{"status": int(status_line.split()[1]), "headers": headers}, {"body": body}])
            return True

        scope = _scope(environ)
        if self._whole:
            scope["extensions"] = {SEND_WHOLE: send_whole}

        async def answer() -> None:
            of_app = getattr(self._app, "answer_at_once_for", None) if self._whole else None
            answer_at_once: AnswerAtOnce | None = None if of_app is None else of_app(scope)
            whole = answer_at_once and answer_at_once(scope["method"].encode(), _target(scope), scope["headers"])
            if whole:
                head, _, body = whole.partition(b"\r\n\r\n")
                send_whole(scope, head, body)
            else:
                await self._app(scope, receive, send)

        asyncio.run_coroutine_threadsafe(answer(), self._loop).result(ANSWER_SECONDS)
        start, *bodies = messages
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        start_response(f"{start['status']} -", headers)
        return [body["body"] for body in bodies]


def _target(scope: Scope) -> bytes:
    """The target as a client sends it."""
    query: bytes = scope["query_string"]
    target: bytes = quote(scope["raw_path"], safe="/%").encode()
    return target + b"?" + query if query else target


def _scope(environ: "WSGIEnvironment") -> dict[str, Any]:
    path = environ["PATH_INFO"].encode("latin-1")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": environ["REQUEST_METHOD"],
        "scheme": "http",
        "path": path.decode(errors="replace"),
        "raw_path": path,
        "query_string": environ["QUERY_STRING"].encode("latin-1"),
        "root_path": "",
        "headers": [
            (name.removeprefix("HTTP_").replace("_", "-").lower().encode(), value.encode("latin-1"))
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
