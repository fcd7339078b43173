"""The fast path, beside the way through uvicorn, on real connections in one event loop."""

import asyncio
import gc
import logging
import re
import time
import unittest
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from uvicorn import Config
from uvicorn.server import ServerState

from c42_proxy.server.fast_path import FastPath
from c42_proxy.server.uvicorn_protocol import ClientConnection
from c42_proxy.web.asgi import AnswerAtOnce, Headers, Receive, Scope, Send

WAIT_SECONDS = 10.0
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
LARGE = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000_000)


def request(target: str = "/known", headers: str = "host: a\r\n", version: str = "1.1") -> bytes:
    return f"GET {target} HTTP/{version}\r\n{headers}\r\n".encode()


class App:
    """Knows the answer to `/known` at once, and any other with ASGI, `/late` when told."""

    def __init__(self, answer: bytes = EMPTY) -> None:
        self.at_once: list[bytes] = []
        """The targets of requests that were answered at once."""
        self.by_asgi: list[str] = []
        self.late = asyncio.Event()
        self._answer = answer

    def answer_at_once_for(self, _scope: Scope) -> AnswerAtOnce:
        return self._answer_at_once

    def _answer_at_once(self, _method: bytes, target: bytes, _headers: Headers) -> bytes | None:
        if target != b"/known":
            return None
        self.at_once.append(target)
        return self._answer

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.by_asgi.append(scope["path"])
        if scope["path"] == "/late":
            await self.late.wait()
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


class Connections:
    """A server of one app, and its end of each connection."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.state = ServerState()
        self.ends: list[ClientConnection] = []
        self.access_log = False
        self._port = 0
        self._clients: list[Client] = []

    def __call__(self) -> ClientConnection:
        plain: dict[str, Any] = {"ws": "none", "lifespan": "off", "proxy_headers": False, "interface": "asgi3"}
        config = Config(self.app, log_config=None, access_log=self.access_log, timeout_keep_alive=75, **plain)
        self.ends.append(ClientConnection(config, self.state, {}, asyncio.get_running_loop()))
        return self.ends[-1]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.get_running_loop().create_server(self, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for client in self._clients:
                client.writer.transport.abort()
            for end in self.ends:
                end.transport.abort()
            # The loop tells both ends in its next pass.
            await asyncio.sleep(0)

    async def connect(self) -> "Client":
        self._clients.append(Client(*await asyncio.open_connection("127.0.0.1", self._port)))
        return self._clients[-1]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def statuses(self, number: int) -> list[int]:
        """Of so many answers."""
        return [await self._status() for _ in range(number)]

    async def _status(self) -> int:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        await self.reader.readexactly(int(length[1]) if length else 0)
        return int(head.split()[1])

    async def asks(self, *requests: bytes) -> list[int]:
        self.writer.write(b"".join(requests))
        return await self.statuses(len(requests))

    async def is_ended(self) -> bool:
        return await self.reader.read() == b""


def on_each_loop(test: Callable[[Any, Connections], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test under uvloop and under asyncio's own loop."""

    def run(self: OnConnections) -> None:
        async def serve() -> None:
            connections = Connections(self.app())
            async with asyncio.timeout(WAIT_SECONDS), connections.serving():
                await test(self, connections)

        for new_loop in (uvloop.new_event_loop, asyncio.new_event_loop):
            with self.subTest(new_loop.__module__), asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(serve())

    run.__doc__ = test.__doc__
    return run


class OnConnections(unittest.TestCase):
    def app(self) -> App:
        return App()


class ConnectionTest(OnConnections):
    @on_each_loop
    async def test_both_ways(self, connections: Connections) -> None:
        """What is known is answered at once, all else by ASGI, on one connection; uvicorn counts both."""
        client = await connections.connect()
        for target, status in (("/known", 204), ("/other", 202), ("/known", 204), ("/known", 204), ("/other", 202)):
            self.assertEqual([status], await client.asks(request(target)))
        self.assertEqual((3, 2), (len(connections.app.at_once), len(connections.app.by_asgi)))
        self.assertEqual(5, connections.state.total_requests)

    @on_each_loop
    async def test_in_turn(self, connections: Connections) -> None:
        """An answer that is known at once waits for that of the request before it."""
        client = await connections.connect()
        client.writer.write(request("/late"))
        while not connections.app.by_asgi:
            await asyncio.sleep(0)
        client.writer.write(request())
        while not connections.app.at_once and not connections.ends[0].pipeline:
            await asyncio.sleep(0)
        self.assertEqual([], connections.app.at_once)
        connections.app.late.set()
        self.assertEqual([202, 202], await client.statuses(2))

    @on_each_loop
    async def test_in_one_pass(self, connections: Connections) -> None:
        """Whatever follows in the same pass of the loop, an answer leaves first."""
        for more, statuses in (
            (request(), [204, 204]),
            (request("/other"), [204, 202]),
            (request() + request("/other"), [204, 202, 202]),
        ):
            with self.subTest(more):
                client = await connections.connect()
                await client.asks(request())
                end, counted = connections.ends[-1], connections.state.total_requests
                end.data_received(request())
                end.data_received(more)
                self.assertEqual(statuses, await client.statuses(len(statuses)))
                self.assertEqual(len(statuses), connections.state.total_requests - counted)

    @on_each_loop
    async def test_no_request_behind_it(self, connections: Connections) -> None:
        """Nor does a refusal leave before it."""
        client = await connections.connect()
        await client.asks(request())
        with self.assertLogs("uvicorn.error"):
            connections.ends[0].data_received(request())
            connections.ends[0].data_received(b"?\r\n\r\n")
        self.assertEqual([204, 400], await client.statuses(2))

    @on_each_loop
    async def test_half_closed(self, connections: Connections) -> None:
        """A client that closes its side with its request gets the answer, and then the end."""
        client = await connections.connect()
        await client.asks(request())
        end = connections.ends[0]
        end.data_received(request())
        # As the loop does, here in the same pass.
        self.assertFalse(end.eof_received())
        end.transport.close()
        self.assertEqual([204], await client.statuses(1))
        self.assertTrue(await client.is_ended())

    @on_each_loop
    async def test_gone(self, connections: Connections) -> None:
        """A client that is gone before its answer leaves harms nobody."""
        client = await connections.connect()
        await client.asks(request())
        end = connections.ends[-1]
        end.data_received(request())
        end.transport.abort()
        end.connection_lost(None)
        self.assertEqual([204], await (await connections.connect()).asks(request()))
        self.assertEqual(2, connections.state.total_requests)

    @on_each_loop
    async def test_no_garbage(self, connections: Connections) -> None:
        """A connection that has ended leaves nothing to the garbage collector."""
        client = await connections.connect()
        await client.asks(request())
        connection = weakref.ref(connections.ends.pop())
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        client.writer.close()
        while connection() is not None:
            await asyncio.sleep(0)
        self.assertFalse([each for each in gc.get_objects() if type(each) is FastPath])

    @on_each_loop
    async def test_at_a_stop(self, connections: Connections) -> None:
        """While the server stops, the client learns with its answer that the connection ends."""
        client = await connections.connect()
        await client.asks(request())
        connections.ends[0].shutdown()
        client.writer.write(request())
        self.assertIn(b"connection: close", await client.reader.readuntil(b"\r\n\r\n"))
        self.assertTrue(await client.is_ended())

    @on_each_loop
    async def test_idle(self, connections: Connections) -> None:
        """A connection that nobody uses is closed, after an answer of either kind."""
        for first, last in (("/known", "/known"), ("/other", "/known"), ("/known", "/other")):
            with self.subTest(first=first, last=last):
                client = await connections.connect()
                await client.asks(request(first))
                connections.ends[-1].timeout_keep_alive = 0
                await client.asks(request(last))
                self.assertTrue(await client.is_ended())

    @on_each_loop
    async def test_idle_until_now(self, connections: Connections) -> None:
        """A request that comes at the last moment gets its answer."""
        client = await connections.connect()
        connections.ends[0].timeout_keep_alive = 0.01  # type: ignore[assignment]  # uvicorn's has whole seconds
        await client.asks(request())
        connections.ends[0].timeout_keep_alive = 75
        connections.ends[0].data_received(request())
        # The loop does not run meanwhile, so the timeout is due when it does.
        time.sleep(0.02)
        self.assertEqual([204], await client.statuses(1))
        self.assertEqual([202], await client.asks(request("/other")))

    @on_each_loop
    async def test_access_log(self, connections: Connections) -> None:
        """With gunicorn's access log, each request has a line of uvicorn's."""
        log, handler = logging.getLogger("uvicorn.access"), logging.NullHandler()
        self.addCleanup(log.removeHandler, handler)
        log.addHandler(handler)
        connections.access_log = True
        with self.assertLogs(log, "INFO") as lines:
            self.assertEqual([202], await (await connections.connect()).asks(request()))
        self.assertIn("GET /known HTTP/1.1", lines.output[0])
        log.removeHandler(handler)


class UnreadTest(OnConnections):
    def app(self) -> App:
        return App(LARGE)

    @on_each_loop
    async def test_unread(self, connections: Connections) -> None:
        """Of a client that reads no answers, no more than one waits in memory."""
        client = await connections.connect()
        await client.asks(request("/other"))
        transport: Any = client.writer.transport
        transport.pause_reading()
        for _ in range(20):
            connections.ends[0].data_received(request())
        self.assertLess(connections.ends[0].transport.get_write_buffer_size(), 3 * len(LARGE))
        transport.resume_reading()
        self.assertEqual({200, 202}, set(await client.statuses(20)))


class FastPathTest(unittest.TestCase):
    def test_which_requests(self) -> None:
        """Only a whole request of HTTP/1.1, without a body, on a connection that goes on; the next one likewise."""
        asked: list[tuple[bytes, bytes, Headers]] = []

        def answer(method: bytes, target: bytes, headers: Headers) -> bytes:
            asked.append((method, target, headers))
            return EMPTY

        fast_path = FastPath(answer)
        self.addCleanup(fast_path.close)
        for takes_it, head in (
            (True, request()),
            (True, request(headers="host: a\r\ncontent-length: 0\r\n")),
            (True, request(headers="host: a\r\nconnection: keep-alive\r\n")),
            (False, request(headers="host: a\r\ncontent-length: 5\r\n")),
            (False, request(headers="host: a\r\ntransfer-encoding: chunked\r\n")),
            (False, request(headers="host: a\r\ntransfer-encoding: gzip\r\n")),
            (False, request(headers="host: a\r\nconnection: close\r\n")),
            (False, request(headers="host: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n")),
            (False, request(headers="host: a\r\nx\r\n")),
            (False, request(version="1.0")),
            (False, request(version="1.0", headers="host: a\r\nconnection: keep-alive\r\n")),
            (False, b"G(ET / HTTP/1.1\r\n\r\n"),
            # No server may take these for two requests in one case, and for one in the other (RFC 9112, section 11.2).
            *((False, b"GET / HTTP/1.1\r\nhost: a" + two + request()) for two in (b"\n\n", b"\r\n\n", b"\n\r\n")),
            (False, request() + request()),
            (False, request() * 3),
            (False, request()[:-2]),
        ):
            with self.subTest(head):
                self.assertEqual(EMPTY if takes_it else None, fast_path.answer(head))
                self.assertEqual(EMPTY, fast_path.answer(b"HEAD /%20?b HTTP/1.1\r\nHost: A\r\nX: \xe9\r\n\r\n"))
                self.assertEqual((b"HEAD", b"/%20?b", [(b"host", b"A"), (b"x", b"\xe9")]), asked[-1])
