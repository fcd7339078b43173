"""The only module that uses private names of uvicorn.

They are checked at the start (`uvicorn_check.py`). Without them, the worker runs uvicorn's own protocol and server: the
answers to valid requests are the same, but hits are much slower, a client that half-closes may get no answer, and a
graceful stop closes idle connections at once (`worker.http_and_server`).
"""

import asyncio
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server

from ..observability import correlation
from ..threads import end_at_once
from ..web.asgi import SEND_WHOLE, ServersRefusals
from ..web.cors import Header
from ..web.responses import date, problem
from .fast_path import FastPath

LAST_REQUEST_SECONDS = 0.5
LINGER_SECONDS = 1.0
"""How long a client may go on sending after its answer: a reset would take away an answer that it has not read."""

MAX_HEAD_BYTES = 65_536
HEAD_TOO_LONG = "The head is more than 64 KiB."
_END_OF_HEAD = b"\r\n\r\n"
_METHODS = (b"GET ", b"HEAD ")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STAND_IN = b"POST"


class ClientConnection(HttpToolsProtocol):
    """uvicorn's connection with limits on what a client may send. The parser is given one head at a time.

    - A head of more than `MAX_HEAD_BYTES` is refused before it is read to its end.
    - A body is not read. The connection ends with the answer, because the next bytes might be a body, or a request.
    - Any method is passed on, although the parser knows only some of them.
    - A client that closes its side once it has sent the request still gets the answer.
    - At a graceful stop, an idle connection is not closed at once, because a request may be on its way. A request that
      arrives within `LAST_REQUEST_SECONDS` is answered, with `Connection: close`.

    What the app can answer at once takes the fast path. uvicorn gets all other requests.
    """

    # Private names used here: `shutdown`, `send_400_response` and `on_headers_complete`, which uvicorn must call;
    # `transport`, `flow`, `scope`, `app`, `server`, `access_log`, `headers` (of the latest request, as far as they have
    # come), `on_response_complete`, which counts a request and arms the timeout of an idle connection, and `cycle`, the
    # latest request that uvicorn has, with its attributes used below.

    _ends = False
    _head_bytes = 0
    """Number of bytes of an unfinished head given to the parser."""
    _last = b""
    """Its last bytes, which may begin the blank line that ends the head."""
    _unfinished_method = b""
    _method: str | None = None
    """The real method, while the parser sees POST."""
    _is_between_heads = True
    _is_over = False
    """Whether nothing more is read from this client."""
    _is_half_closed = False
    _fast_path: FastPath | None = None
    _unwritten = b""
    """An answer of the fast path that waits for the next pass of the loop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop first."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn's type is narrower
        self._extensions: dict[Any, Any] = {SEND_WHOLE: self._send_whole}
        of_app = getattr(self.app, "answer_at_once_for", None)
        answer_at_once = None if of_app is None else of_app({"server": self.server})
        # uvicorn writes the lines of gunicorn's access log, if there is one.
        if answer_at_once is not None and not self.access_log:
            self._fast_path = FastPath(answer_at_once)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop last."""
        super().connection_lost(exc)
        # The cycle of references would leave the connection to the garbage collector.
        self._extensions = {}
        self._unwritten = b""
        if self._fast_path is not None:
            self._fast_path.close()
            self._fast_path = None

    def data_received(self, data: bytes) -> None:
        """Called by the loop for all bytes of the client."""
        if self._unwritten:
            self._write_answer()
        if (
            self._is_between_heads
            and data.startswith(_METHODS)
            and data.find(_END_OF_HEAD) == len(data) - len(_END_OF_HEAD)
            and len(data) <= MAX_HEAD_BYTES
        ):
            # Nearly all requests look like this.
            if self._answer_at_once(data):
                return
            earlier = self.cycle
            HttpToolsProtocol.data_received(self, data)
            if self._is_over or self.cycle.more_body:
                self._end_after(earlier)
        elif not self._is_over:
            self._cut(self._unfinished_method + data)
            self._is_between_heads = not (self._head_bytes or self._unfinished_method or self._is_over)

    def _answer_at_once(self, head: bytes) -> bool:
        """Send the answer that the app knows at once. False if there is none, so that uvicorn must take the request."""
        if self._fast_path is None or self._ends or not self._is_idle() or self.flow.write_paused:
            return False
        answer = self._fast_path.answer(head)
        if answer is None:
            return False
        # So that uvicorn's timeout of an idle connection does not close it now.
        HttpToolsProtocol.data_received(self, b"")
        # After the other reads of this pass: a write wakes up the client, which takes long. Several at a time wake it
        # up once.
        self._unwritten = answer
        asyncio.get_running_loop().call_soon(self._write_answer)
        return True

    def _write_answer(self) -> None:
        if self._unwritten:
            self.transport.write(self._unwritten)
            self._unwritten = b""
            self.on_response_complete()

    def _cut(self, data: bytes) -> None:
        """Give `data` to the parser, one head at a time."""
        self._unfinished_method = b""
        while data and not self._is_over:
            if not self._head_bytes:
                data = data.lstrip(b"\r\n")
                if not data.startswith(_METHODS):
                    data = self._with_known_method(data)
                    if not data:
                        return
            end = (self._last + data).find(_END_OF_HEAD)
            length = len(data) if end < 0 else end + len(_END_OF_HEAD) - len(self._last)
            earlier = self.cycle
            if self._head_bytes + length > MAX_HEAD_BYTES:
                # The part that is not too long may have the Origin.
                HttpToolsProtocol.data_received(self, data[: MAX_HEAD_BYTES - self._head_bytes])
                self._refuse(earlier, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HEAD_TOO_LONG)
                return
            if end < 0:
                self._head_bytes += length
                self._last = (self._last + data)[-len(_END_OF_HEAD) + 1 :]
            else:
                self._head_bytes, self._last = 0, b""
            HttpToolsProtocol.data_received(self, data[:length])
            if self._is_over or (self.cycle is not earlier and self.cycle.more_body):
                self._end_after(earlier)
            data = data[length:]

    def _end_after(self, earlier: Any) -> None:
        """Take no more requests, because the last request has a body or is not HTTP.

        `earlier` is the request before it.
        """
        if self._is_over:
            self._refuse(earlier, HTTPStatus.BAD_REQUEST, "This is not HTTP/1.1.")
        else:
            self._end_with(self.cycle)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio has this type, uvicorn None
        """Called by the loop when the client has closed its side: True keeps ours open for the answer."""
        self._write_answer()
        if self._is_idle() or not self.transport.can_write_eof():
            return False
        self._is_half_closed = True
        self.cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        """Called by uvicorn for each connection at a graceful stop, which would else cut off a request on its way."""
        if self._is_idle():
            self._ends = True
            asyncio.get_running_loop().call_later(LAST_REQUEST_SECONDS, self._end)
        else:
            super().shutdown()

    def on_headers_complete(self) -> None:
        """Called by the parser for each request."""
        super().on_headers_complete()
        # Without `scope`, the app does not learn that an answer can be sent whole, and uses ASGI's slower messages.
        self.scope["extensions"] = self._extensions
        if self._method is not None:
            self.scope["method"], self._method = self._method, None
        if self._ends:
            # Else the client would send another request on a connection that is about to be closed.
            self.cycle.keep_alive = False

    def send_400_response(self, _msg: str) -> None:
        """Called by uvicorn if the parser fails. `_end_after` sends the answer; it knows whose turn it is."""
        self._is_over = True

    def _with_known_method(self, data: bytes) -> bytes:
        """The same request with a method that the parser knows; b'' while the method may be incomplete."""
        token = _TOKEN.match(data)
        if token is not None and data[token.end() : token.end() + 1] == b" ":
            self._method = token[0].decode()
            return _STAND_IN + data[token.end() :]
        if token is not None and token.end() == len(data) <= MAX_HEAD_BYTES:
            self._unfinished_method = data
            return b""
        return data  # the parser will refuse it

    def _send_whole(self, scope: Any, head: bytes, body: bytes) -> bool:
        """Write the answer in one go; False if uvicorn must send it."""
        # Not bound to the request: the cycle of references would leave its objects to the garbage collector.
        cycle = self.cycle
        # Without one of these names, we would not know whether the bytes may be sent now, unchanged.
        if (
            cycle.scope is not scope  # a pipelined request waits behind this one
            or cycle.disconnected
            or cycle.response_started
            or self.access_log
            or self.flow.write_paused
        ):
            return False
        self.transport.write(b"".join((head, b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)))
        # Without these, uvicorn would answer again with a 500, or never take the next request.
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        self.on_response_complete()
        return True

    def _refuse(self, earlier: Any, status: HTTPStatus, detail: str) -> None:
        """Refuse bytes that are no request.

        If the `earlier` request is still unanswered, only end the connection after its answer.
        """
        if self.cycle is not earlier:
            # It looked like a request at first: the app's answer to it must not be sent.
            self.cycle.disconnected = True
        if earlier is None or earlier.response_complete:
            self._is_over, self._is_between_heads = True, False
            request_id = correlation.request_id(None)
            correlation.begin(request_id, None)
            response = problem(status, "bad-request", detail)
            correlation.end()
            response = response.having(("Connection", "close"), ("Date", date()), ("X-Request-ID", request_id))
            response = response.having(*self._cors_headers())
            self.transport.write(b"\r\n".join(response.as_bytes()))
            self._close_gently()
            ServersRefusals.note(status, request_id)
        else:
            # The client would read this error as the answer to its earlier request.
            self._end_with(earlier)

    def _cors_headers(self) -> tuple[Header, ...]:
        """What the app says of CORS to the headers that came before the mistake."""
        of_app = getattr(self.app, "cors_headers", None)
        return () if of_app is None else of_app({"server": self.server, "headers": self.headers or []})

    def _end_with(self, cycle: Any) -> None:
        """Let the connection end with the answer to this request, without a reset. Nothing more is read from it."""
        self._is_over, self._is_between_heads = True, False
        cycle.keep_alive = False
        cycle.transport = _ClosedGently(self.transport, self._close_gently)

    def _close_gently(self) -> None:
        """Close our side first. A full close while the client still sends would reset what it has not read yet."""
        if self._is_half_closed or not self.transport.can_write_eof():
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()
            self.transport.resume_reading()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)

    def _is_idle(self) -> bool:
        # uvicorn sets the attribute to None in its constructor, which its types do not say.
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _end(self) -> None:
        if self._is_idle():
            self.transport.close()


class _ClosedGently:
    """The part of a transport that uvicorn uses when it answers a request."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class SignalledServer(Server):
    """Obeys gunicorn's signals: TERM ends it when all requests are answered, QUIT at once.

    uvicorn's own handlers ignore QUIT, and let TERM kill the process in the end.
    """

    # Private names used here: `capture_signals`, which uvicorn must call, or else its own handlers are in force; and
    # `should_exit`, which ends uvicorn's main loop, or else no signal does.

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Called by uvicorn around its whole run."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._finish)
        loop.add_signal_handler(signal.SIGQUIT, self._quit)
        yield

    def _finish(self) -> None:
        self.should_exit = True

    def _quit(self) -> None:
        end_at_once()
