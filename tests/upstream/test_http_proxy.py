"""Through an HTTP proxy, the time budget, the limits and the causes are those of the direct way."""

import socket
import tempfile
import time
import unittest
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import patch

from pydantic import SecretStr

from c42_proxy.caching.circuit_breaker import CircuitBreaker
from c42_proxy.deadline import Deadline
from c42_proxy.errors import Cause, InvalidAnswer, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from c42_proxy.observability.metrics import Metrics
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.threads import IDLE_SECONDS, Threads
from c42_proxy.upstream.client import C42Client, Page
from c42_proxy.upstream.combine import Combiner
from c42_proxy.upstream.transport import close_idle, new_session
from harness.needs import needs
from harness.processes import until
from harness.tinyproxy import Tinyproxy
from harness.tls import Authority
from harness.wire import (
    EVENT_ID,
    MALFORMED_HEADS,
    Address,
    Behaviour,
    Connection,
    Wire,
    c42,
    closes,
    dead_address,
    drips,
    is_silent,
    says,
    sends,
    sends_and_closes,
)

TOKEN = "s3kr3t-t0k3n"
PASSWORD = "s3kr3t p4ss/w0rd"
USER_INFO = "user:s3kr3t%20p4ss%2Fw0rd"
BUDGET = 0.3
SLACK = 0.3
PLENTY = 5.0
NOWHERE = "https://127.0.0.1:1/api/v2/"


class ProxyTest(unittest.TestCase):
    def session_to(self, url: str, proxy_url: str, ca_file: Path | None = None) -> C42Client:
        self.session = self.enterContext(
            new_session(8, ca_file=None if ca_file is None else str(ca_file), proxy_url=proxy_url)
        )
        return C42Client(url, SecretStr(TOKEN), session=self.session, clock=lambda: 0.0, metrics=Metrics())

    def page(self, client: C42Client, budget: float = PLENTY) -> Page:
        return client.subscriptions(EVENT_ID, 0, Deadline(budget))

    def assert_fails(self, client: C42Client, kind: type[UpstreamError], *causes: str, budget: float = PLENTY) -> None:
        """With this error and one of these causes, within the budget."""
        began = time.monotonic()
        with self.assertRaises(UpstreamError) as raised:
            self.page(client, budget)
        self.assertLess(time.monotonic() - began, budget + SLACK)
        self.assertIs(kind, type(raised.exception), raised.exception)
        if causes:
            self.assertIn(raised.exception.cause, causes)


class ConnectTest(ProxyTest):
    """The proxy, which is to connect to C42, is the wire."""

    def client(self, behaviour: Behaviour, ca_file: Path | None = None) -> C42Client:
        proxy = self.enterContext(Wire(behaviour))
        return self.session_to(NOWHERE, f"http://{USER_INFO}@127.0.0.1:{proxy.port}", ca_file)

    def test_too_late(self) -> None:
        """A proxy that hangs, or whose answer does not end, costs the budget and no more."""
        for name, behaviour in {
            "silence": is_silent,
            "a status line that drips": drips(b"", b"HTTP/1.0 200 Connection established\r\n\r\n" * 9),
            "headers that drip": drips(b"HTTP/1.0 200 OK\r\n", b"X: x\r\n" * 50),
        }.items():
            with self.subTest(name):
                self.assert_fails(self.client(behaviour), UpstreamTimeout, "HTTP proxy: timed out", budget=BUDGET)

    def test_refuses(self) -> None:
        """A proxy that does not connect is named, with what it did."""
        for behaviour, cause in (
            (says(b"", "407 Proxy Authentication Required"), "status 407"),
            (says(b"", "502 Bad Gateway"), "status 502"),
            (closes, Cause.CLOSED),
            (sends_and_closes(b"220 mail.example ESMTP\r\n"), Cause.NO_HTTP),
        ):
            with self.subTest(cause):
                self.assert_fails(self.client(behaviour), UpstreamUnavailable, f"HTTP proxy: {cause}")

    def test_not_reached(self) -> None:
        """A proxy where nobody listens, and one whose name does not resolve, for both schemes."""
        for url in (NOWHERE, NOWHERE.replace("https", "http")):
            client = self.session_to(url, "http://127.0.0.1:1")
            self.assert_fails(client, UpstreamUnavailable, "HTTP proxy: connection refused")
            client = self.session_to(url, "http://proxy.example")
            with patch("socket.getaddrinfo", side_effect=socket.gaierror(-2, "no name")):
                self.assert_fails(client, UpstreamUnavailable, "HTTP proxy: its name does not resolve")

    def test_tunnel_without_tls(self) -> None:
        """What is behind a tunnel is not the proxy: no TLS there."""

        def tunnel(_path: str, connection: Connection) -> None:
            connection.send(b"HTTP/1.0 200 Connection established\r\n\r\n")
            connection.sock.recv(65536)
            connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        self.assert_fails(self.client(tunnel), UpstreamUnavailable, Cause.NO_TLS)

    def test_no_authorities(self) -> None:
        """That our own file of authorities cannot be used is not the proxy's doing."""
        with tempfile.NamedTemporaryFile() as file:
            client = self.client(sends(b"HTTP/1.0 200 Connection established\r\n\r\n"), Path(file.name))
            self.assert_fails(client, UpstreamUnavailable, Cause.NO_AUTHORITIES)

    def test_sent(self) -> None:
        """The proxy is told its password, and where to connect, and not the token."""
        heads: list[bytes] = []

        def refuse(path: str, connection: Connection) -> None:
            heads.append(connection.request)
            says(b"", "403 No")(path, connection)

        self.assert_fails(self.client(refuse), UpstreamUnavailable)
        (head,) = heads
        self.assertTrue(head.startswith(b"CONNECT 127.0.0.1:1 HTTP/1."), head)
        self.assertIn(b"Proxy-Authorization: Basic " + b64encode(f"user:{PASSWORD}".encode()), head)
        self.assertNotIn(TOKEN.encode(), head)


class PlainTest(ProxyTest):
    """The wire is a proxy on the way to an http address: it answers in C42's place."""

    def client(self, proxy: Wire) -> C42Client:
        return self.session_to("http://c42.example/api/v2/", proxy.url.removesuffix("/api/v2/"))

    def test_whole_address(self) -> None:
        """The proxy is told C42's whole address (RFC 9112, section 3.2.2): the path alone does not say where to go."""
        with Wire(c42()) as proxy:
            paths = []
            answers = proxy.behaviour

            def behave(path: str, connection: Connection) -> None:
                paths.append(path)
                answers(path, connection)

            proxy.behaviour = behave
            self.page(self.client(proxy))
        query = f"event_ids=%5B{EVENT_ID}%5D&limit=100&offset=0"
        self.assertEqual([f"http://c42.example/api/v2/event-subscriptions/?{query}"], paths)

    def test_limits(self) -> None:
        """What it answers is bounded as ever."""
        for behaviour in (
            is_silent,
            drips(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 300),
            drips(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", b" " * 300),
        ):
            with Wire(behaviour) as proxy:
                self.assert_fails(self.client(proxy), UpstreamTimeout, budget=BUDGET)
        for behaviour in list(MALFORMED_HEADS.values())[:3]:
            with Wire(behaviour) as proxy:
                self.assert_fails(self.client(proxy), InvalidAnswer)

    def test_addresses(self) -> None:
        """A dead address of the proxy costs a part of the budget, and the one that answered is kept in mind."""
        with Wire(c42()) as proxy, dead_address() as dead:
            addresses: list[Address] = [dead, proxy.address]
            with patch("socket.getaddrinfo", return_value=addresses):
                client = self.session_to("http://c42.example/api/v2/", "http://proxy.example:3128")
                for _ in range(2):
                    began = time.monotonic()
                    self.page(client, 1.0)
                    seconds = time.monotonic() - began
        self.assertLess(seconds, 0.2)

    def test_idle_connections(self) -> None:
        """A connection to the proxy is kept, and closed when nobody has used it for a while."""
        with Wire(c42()) as proxy:
            client = self.client(proxy)
            for _ in range(3):
                self.page(client)
            self.assertEqual((1, 1), (proxy.connections, proxy.open_connections))
            with patch("time.monotonic", lambda: time.perf_counter() + 1e9 + IDLE_SECONDS):
                close_idle(self.session)
            until(lambda: proxy.open_connections == 0, "that the connection is closed")


class FetchTest(unittest.TestCase):
    """A fetch that waits for the proxy in vain."""

    def assert_times_out(self, proxy_url: str, cause: str, url: str = NOWHERE) -> None:
        session = self.enterContext(new_session(8, proxy_url=proxy_url))
        client = C42Client(url, SecretStr(TOKEN), session=session, clock=time.time, metrics=Metrics())
        breaker = CircuitBreaker(MemoryStore(0), clock=time.time, threshold=0, probe_seconds=1, metrics=Metrics())
        calls, pages = (self.enterContext(closing(Threads(2, name=name))) for name in ("c42-call", "c42-page"))
        combiner = Combiner(client, breaker, calls=calls, pages=pages, budget=BUDGET, clock=time.time)
        with self.assertRaises(UpstreamTimeout) as raised, self.assertLogs("c42_proxy") as logs:
            combiner.combined(EVENT_ID)
        self.assertEqual(cause, raised.exception.cause)
        self.assertEqual([f"C42 fails: {cause}"], [record.getMessage() for record in logs.records])

    def test_cause(self) -> None:
        """It names the proxy in the one line of the log, also if its calls do not end in time themselves."""
        resolve, answered = socket.getaddrinfo, Event()

        def hang(host: str, *more: Any, **names: Any) -> Any:
            return answered.wait(PLENTY) and [] if host == "proxy.example" else resolve(host, *more, **names)

        with patch("socket.getaddrinfo", hang):
            try:
                for url in (NOWHERE, NOWHERE.replace("https", "http")):
                    self.assert_times_out("http://proxy.example:3128", "HTTP proxy: timed out", url)
            finally:
                answered.set()
        for behaviour in (is_silent, drips(b"HTTP/1.0 200 OK\r\n", b"X: x\r\n" * 50)):
            with Wire(behaviour) as proxy:
                self.assert_times_out(f"http://127.0.0.1:{proxy.port}", "HTTP proxy: timed out")

    def test_behind_the_proxy(self) -> None:
        """If the proxy has connected, it is C42 that is too late."""
        with Wire(sends(b"HTTP/1.0 200 Connection established\r\n\r\n")) as proxy:
            self.assert_times_out(f"http://127.0.0.1:{proxy.port}", "timed out")
        with Wire(is_silent) as proxy:
            self.assert_times_out(f"http://127.0.0.1:{proxy.port}", "timed out", "http://c42.example/api/v2/")


@needs("openssl")
@needs("tinyproxy")
class TunnelTest(ProxyTest):
    """C42 behind TLS is the wire; Debian's tinyproxy connects to it."""

    def test_closed_at_the_next_request(self) -> None:
        """A kept tunnel that is closed at its next request is opened anew for the same request."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        authority = Authority(folder)
        proxy = self.enterContext(Tinyproxy(folder, "p4ssw0rd"))
        heads: list[bytes] = []

        def close_second(path: str, connection: Connection) -> None:
            heads.append(connection.request)
            (closes if len(heads) == 2 else c42())(path, connection)

        server = self.enterContext(Wire(close_second, tls=authority.server()))
        client = self.session_to(server.url, proxy.url, authority.file)
        for _ in range(2):
            self.assertEqual(Page([], 0), self.page(client))
        self.assertEqual((2, 2, 3), (proxy.connects, server.connections, len(heads)))

    def test_tunnel(self) -> None:
        """Calls go through one tunnel; limits and time hold inside; C42 is not told of the proxy."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        authority = Authority(folder)
        proxy = self.enterContext(Tinyproxy(folder, "p4ssw0rd"))
        server = self.enterContext(Wire(c42(), tls=authority.server()))
        client = self.session_to(server.url, proxy.url, authority.file)
        heads: list[bytes] = []

        def note(path: str, connection: Connection) -> None:
            heads.append(connection.request)
            c42()(path, connection)

        server.behaviour = note
        for _ in range(3):
            self.assertEqual(Page([], 0), self.page(client))
        self.assertEqual((1, 1), (proxy.connects, server.connections))
        for head in heads:
            self.assertIn(f"Authorization: Token {TOKEN}\r\n".encode(), head)
            self.assertNotIn(b"proxy", head.lower().replace(b"c42-proxy", b""))
        for behaviour in (is_silent, drips(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 300)):
            server.behaviour = behaviour
            self.assert_fails(client, UpstreamTimeout, Cause.TIMED_OUT, budget=BUDGET)
        server.behaviour = MALFORMED_HEADS["two lengths"]
        self.assert_fails(client, InvalidAnswer, Cause.NO_LENGTH)
        untrusting = self.session_to(server.url, proxy.url)
        self.assert_fails(untrusting, UpstreamUnavailable, Cause.NOT_TRUSTED)
        stranger = self.session_to(server.url, proxy.url.replace("p4ssw0rd", "wrong"), authority.file)
        # An older tinyproxy says 401, a newer one 407.
        self.assert_fails(stranger, UpstreamUnavailable, *(f"HTTP proxy: status {status}" for status in (401, 407)))
