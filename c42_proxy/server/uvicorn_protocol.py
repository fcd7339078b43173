"""The only module that uses names of uvicorn which it does not promise to keep.

They are checked at the start (`check`). Without them, the worker runs uvicorn's own protocol and server: the answers
are the same, but hits are slower, and a graceful stop cuts idle connections at once (`worker.http_and_server`).
"""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server, ServerState

from ..web.asgi import SEND_WHOLE, Receive, Scope, Send

LAST_REQUEST_SECONDS = 0.5


class LastRequestProtocol(HttpToolsProtocol):
    """At a graceful stop, an idle connection is not cut at once: a request may be on its way on it.

    One that comes within `LAST_REQUEST_SECONDS` is answered, and its client told that the connection ends with it.
    """

    # Private are: `shutdown` and `on_headers_complete`, for being called; `loop`, `transport`, `flow`, `scope`,
    # `server_state` and `cycle`, the request that came last, with all that is asked of it below.

    _ends = False
    _default_headers: list[tuple[bytes, bytes]] | None = None
    _default_lines = b""

    def shutdown(self) -> None:
        """Called once by uvicorn for each connection; if it were not, a request on its way would be cut off."""
        if self._is_idle():
            self._ends = True
            self.loop.call_later(LAST_REQUEST_SECONDS, self._end)
        else:
            super().shutdown()

    def on_headers_complete(self) -> None:
        """Called by the parser for each request."""
        super().on_headers_complete()
        # Without `scope`, nobody learns that an answer can be sent whole, and ASGI's slower messages are used.
        self.scope["extensions"] = {SEND_WHOLE: self._send_whole}  # type: ignore[dict-item]  # ASGI has dicts there
        if self._ends:
            # Else the client would send its next request on a connection that is about to be closed.
            self.cycle.keep_alive = False

    def _send_whole(self, scope: Any, head: bytes, body: bytes) -> bool:
        """Send an answer as it is but for the server's own headers; False where it takes more than that."""
        # Not bound to the request: a cycle of references would leave all its objects to the garbage collector.
        cycle = self.cycle
        # Without one of these names, we would not know whether the bytes may be sent now, and as they are.
        if (
            cycle.scope is not scope  # a pipelined one is waiting behind it
            or cycle.disconnected
            or cycle.response_started
            or not cycle.keep_alive
            or cycle.access_log
            or self.flow.write_paused
        ):
            return False
        if self._default_headers is not self.server_state.default_headers:
            # uvicorn makes new ones each second: without them, answers would have no date.
            self._default_headers = self.server_state.default_headers
            self._default_lines = b"".join(b"%b: %b\r\n" % header for header in self._default_headers)
        self.transport.write(b"".join((head, self._default_lines, b"\r\n", body)))
        # Without these, uvicorn would answer a second time, with a 500, or never take the next request.
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _is_idle(self) -> bool:
        # uvicorn sets the attribute to None in its constructor, without saying so to mypy.
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _end(self) -> None:
        if self._is_idle():
            self.transport.close()


class SignalledServer(Server):
    """Obeys gunicorn's signals: TERM ends it when all requests are answered, QUIT at once.

    uvicorn's own handlers pay no heed to QUIT, and let TERM kill the process in the end.
    """

    # Private are: `capture_signals`, for being called, without which uvicorn's own handlers are in force; and the
    # two attributes that end uvicorn's main loop, without which no signal would.

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Called by uvicorn around all that it does."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._finish)
        loop.add_signal_handler(signal.SIGQUIT, self._quit)
        yield

    def _finish(self) -> None:
        self.should_exit = True

    def _quit(self) -> None:
        self.should_exit = True
        self.force_exit = True


def check() -> None:
    """Answer requests on a connection in memory, and start a server that ends at once. Raises where uvicorn changed."""
    log = logging.getLogger("uvicorn.error")
    # What goes wrong here is told once, by whoever has asked.
    log.disabled = True
    try:
        with asyncio.Runner() as runner:
            runner.run(_check_protocol())
            runner.run(_check_server())
    finally:
        log.disabled = False


async def _check_protocol() -> None:
    errors: list[Exception] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            if not scope["extensions"][SEND_WHOLE](scope, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", b"OK"):
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
                await send({"type": "http.response.body", "body": b"OK"})
        except Exception as exc:  # noqa: BLE001  # it is raised below
            errors.append(exc)

    async def answer() -> bytes:
        connection.data_received(b"GET / HTTP/1.1\r\nhost: c42.invalid\r\n\r\n")
        # uvicorn has made a task for the request: it runs before this one goes on.
        await asyncio.sleep(0)
        for error in errors:
            raise error
        written = bytes(transport.written)
        transport.written.clear()
        return written

    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    connection = LastRequestProtocol(_config(app), state, {}, asyncio.get_running_loop())
    transport = _MemoryTransport()
    connection.connection_made(transport)
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: today\r\n\r\nOK"
    _expect(await answer() == whole, "an answer is not sent whole")
    _expect(await answer() == whole, "the next request is not taken")
    _expect(hasattr(HttpToolsProtocol, "shutdown"), "connections are told in another way that the server ends")
    connection.shutdown()
    _expect(not transport.is_closing(), "an idle connection is closed at once")
    # This one is sent by uvicorn: it knows the same headers.
    lines = (await answer()).split(b"\r\n")
    _expect(b"date: today" in lines, "an answer has other headers of the server when it is sent whole")
    _expect(b"connection: close" in lines, "a client does not learn that its connection ends")
    _expect(transport.is_closing(), "a connection goes on after its last request")
    connection.connection_lost(None)


async def _check_server() -> None:
    class Ends(SignalledServer):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            raise _ReachedError
            yield

    server = Ends(_config(None))
    _expect(not (server.should_exit or server.force_exit), "a server ends before it starts")
    server.should_exit = server.force_exit = True
    with suppress(_ReachedError):
        await server.serve(sockets=[])
        raise LookupError("the signals are captured in another way")


class _ReachedError(Exception):
    pass


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise LookupError(otherwise)


def _config(app: Any) -> Config:
    return Config(app, "127.0.0.1", 0, ws="none", lifespan="off", log_config=None, access_log=False, interface="asgi3")


class _MemoryTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self._closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
