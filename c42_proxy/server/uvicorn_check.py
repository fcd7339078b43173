"""Checks at the start whether uvicorn has the private names that `uvicorn_protocol.py` uses, and does as it expects."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ..web.asgi import SEND_WHOLE, AnswerAtOnce, Receive, Scope, Send
from .uvicorn_protocol import ClientConnection, SignalledServer


def check() -> None:
    """Answer requests on a connection in memory, and start a server that ends at once. Raises if uvicorn changed."""
    log = logging.getLogger("uvicorn.error")
    # The caller logs a failure, once.
    log.disabled = True
    try:
        with asyncio.Runner() as runner:
            runner.run(_check_protocol())
            runner.run(_check_server())
    finally:
        log.disabled = False


async def _check_protocol() -> None:
    errors: list[Exception] = []
    methods: list[str] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        methods.append(scope["method"])
        try:
            if not scope["extensions"][SEND_WHOLE](scope, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", b"OK"):
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
                await send({"type": "http.response.body", "body": b"OK"})
        except Exception as exc:  # noqa: BLE001  # it is raised below
            errors.append(exc)

    def connect(app: Any = app) -> tuple[ClientConnection, "_MemoryTransport"]:
        connection = ClientConnection(_config(app), state, {}, asyncio.get_running_loop())
        transport = _MemoryTransport()
        connection.connection_made(transport)
        return connection, transport

    async def answer(request: bytes = b"GET / HTTP/1.1\r\nhost: c42.invalid\r\n\r\n") -> bytes:
        connection.data_received(request)
        # uvicorn has made a task for the request, which runs before this one continues.
        await asyncio.sleep(0)
        for error in errors:
            raise error
        written = bytes(transport.written)
        transport.written.clear()
        return written

    class AtOnce:
        def answer_at_once_for(self, _scope: Scope) -> AnswerAtOnce:
            return lambda _method, _target, _headers: whole

    state = ServerState()
    connection, transport = connect()
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK"
    _expect(await answer() == whole, "an answer is not sent whole")
    _expect(await answer() == whole, "the next request is not taken")
    _expect(hasattr(HttpToolsProtocol, "shutdown"), "a connection has no shutdown")
    connection.shutdown()
    _expect(not transport.is_closing(), "an idle connection is closed at once")
    # This answer is sent by uvicorn.
    _expect(b"connection: close" in (await answer()).split(b"\r\n"), "a last answer is without Connection: close")
    _expect(transport.is_closing(), "a connection goes on after its last request")
    connection.connection_lost(None)

    connection, transport = connect(AtOnce())
    requests = state.total_requests
    _expect(await answer() == whole, "an answer is not sent at once")
    _expect(state.total_requests == requests + 1, "an answer that is sent at once is not counted")
    connection.connection_lost(None)

    connection, transport = connect()
    body_is_missing = await answer(b"BREW / HTTP/1.1\r\nhost: c42.invalid\r\ncontent-length: 9\r\n\r\n")
    _expect(methods[-1] == "BREW", "a method is not passed on")
    _expect(b"connection: close" in body_is_missing, "an answer to a body is without Connection: close")
    _expect(transport.is_closing(), "a connection goes on with a body")
    connection.connection_lost(None)

    connection, transport = connect()
    known = {"app", "server", "access_log", "headers"}
    _expect(known <= vars(connection).keys(), f"a connection does not know all of {known}")
    _expect(b"application/problem+json" in await answer(b"?\r\n\r\n"), "a bad request is refused in another way")
    connection.connection_lost(None)


async def _check_server() -> None:
    class Ends(SignalledServer):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            raise _ReachedError
            yield

    server = Ends(_config(None))
    _expect(not server.should_exit, "a server ends before it starts")
    server.should_exit = True
    with suppress(_ReachedError):
        await server.serve(sockets=[])
        raise LookupError("capture_signals is not called")


class _ReachedError(Exception):
    pass


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise LookupError(otherwise)


def _config(app: Any) -> Config:
    plain: dict[str, Any] = {"ws": "none", "lifespan": "off", "proxy_headers": False, "interface": "asgi3"}
    return Config(app, log_config=None, access_log=False, **plain)


class _MemoryTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self._closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._closing = True
