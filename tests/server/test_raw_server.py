"""What strangers may do to a connection: bytes on a socket, to a worker of gunicorn."""

import json
import re
import select
import signal
import socket
import time
import unittest
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import ClassVar

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.server.uvicorn_protocol import MAX_HEAD_BYTES
from harness.processes import C42_PROXY, Process, ProcessTestCase, clean_environ, free_port, until
from harness.wire import EVENT_ID, REASON_OF, Wire, after, c42, is_silent

TIMEOUT = 10.0
PATH = f"/events-with-subscriptions/{EVENT_ID}/"
HOST = "Host: localhost\r\n"
SITE = "https://app.example"
ORIGIN = f"Origin: {SITE}\r\n"


def request(target: str = PATH, headers: str = HOST, method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {target} HTTP/{version}\r\n{headers}\r\n".encode("latin-1")


class Client:
    """A connection to the proxy. Each read is bounded in time."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._received = b""
        self._began = int(time.time())

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer on the connection."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(headers) == len(lines), f"a header twice: {lines}"
        assert parsedate_to_datetime(headers["date"]).timestamp() >= self._began, f"sent before it was asked: {lines}"
        length = int(headers["content-length"])
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length], self._received[length:]
        return int(status.split()[1]), headers, body

    def status(self) -> int:
        return self.answer()[0]

    def is_closed(self) -> bool:
        """Whether the server closes, after nothing more."""
        try:
            return not self._received and not self.sock.recv(1)
        except ConnectionResetError:
            return True

    def _receive(self) -> None:
        received = self.sock.recv(65_536)
        if not received:
            raise EOFError(self._received)
        self._received += received


class RawServerTest(ProcessTestCase):
    """One proxy with one worker for all tests, and a C42 that does what each test wants."""

    wire: ClassVar[Wire]
    port: ClassVar[int]

    @classmethod
    def setUpClass(cls) -> None:
        cls.wire, cls.port = cls.enterClassContext(Wire()), free_port()
        environ = clean_environ(
            C42_API_URL=cls.wire.url,
            C42_API_TOKEN=SANDBOX_TOKEN,
            C42_BIND=f"127.0.0.1:{cls.port}",
            C42_OPS_BIND="",
            C42_CACHE_URL="memory://",
            C42_ALLOW_ORIGINS=SITE,
        )
        proxy = cls.start(*C42_PROXY, "serve", environ=environ)
        proxy.wait_until_answers(f"http://127.0.0.1:{cls.port}{PATH}")

    def setUp(self) -> None:
        self.wire.behaviour = c42()

    def connect(self) -> Client:
        client = Client(self.port)
        self.addCleanup(client.sock.close)
        return client

    def ask(self, *requests: bytes) -> Client:
        """All of them at once, on one connection."""
        client = self.connect()
        client.send(b"".join(requests))
        return client

    def assert_problem(self, client: Client, status: int, allowed: str | None = None) -> None:
        """With what is due to the page of the site that is `allowed`."""
        found, headers, body = client.answer()
        self.assertEqual((found, headers["content-type"]), (status, "application/problem+json"))
        problem = json.loads(body)
        self.assertEqual((problem["status"], problem["reason"]), (status, REASON_OF[status]))
        self.assertEqual(headers["x-request-id"], problem["request_id"])
        self.assertEqual(headers["vary"], "Origin")
        self.assertEqual(headers.get("access-control-allow-origin"), allowed)
        self.assertEqual("access-control-expose-headers" in headers, allowed is not None)
        line = f"outcome=refused path=\\S+ request_id={problem['request_id']} status={status}\n"
        until(lambda: re.search(line, self.processes[0].output()), f"{line} in the log")

    def test_endless_head(self) -> None:
        """A head of more than 64 KiB is refused before it is at its end, wherever it grows; others are answered."""
        for start, more in (
            (b"GET /", b"x" * 8192),
            (b"GET / HTTP/1.1\r\nX: ", b"x" * 8192),
            (b"GET / HTTP/1.1\r\n", b"X: x\r\n" * 1024),
            (b"", b"BREW" * 2048),
        ):
            with self.subTest(start + more[:8]):
                client, other = self.connect(), self.connect()
                # A client that goes on without reading is cut off at last.
                with suppress(OSError):
                    client.send(start)
                    for number in range(64):
                        client.send(more)
                        if number == 4:
                            other.send(request())
                            self.assertEqual(other.status(), 200)
                            self.assertEqual(([], [], []), select.select([client.sock], [], [], 0))
                self.assert_problem(client, 431)
                other.send(request())
                self.assertEqual(other.status(), 200)

    def test_page(self) -> None:
        """A page of a permitted site may read that its request is refused, if its Origin had come by then."""
        no_coding, long = "Transfer-Encoding: gzip\r\n", f"X: {'x' * MAX_HEAD_BYTES}\r\n"
        for headers, status, allowed in (
            (f"{HOST}{ORIGIN}{no_coding}", 400, SITE),
            (f"{HOST}{ORIGIN}{ORIGIN}{no_coding}", 400, None),
            (f"{HOST}Origin: https://other.example\r\n{no_coding}", 400, None),
            (f"{HOST}{ORIGIN}{long}", 431, SITE),
            (f"{HOST}{long}{ORIGIN}", 431, None),
            (f"{ORIGIN}Host: a b\r\n", 400, SITE),
        ):
            with self.subTest(headers[:60]):
                self.assert_problem(self.ask(request(headers=headers)), status, allowed)
        in_pieces = self.ask(request(headers=f"{HOST}{ORIGIN}{long}")[:40_000])
        in_pieces.send(b"x" * MAX_HEAD_BYTES)
        self.assert_problem(in_pieces, 431, SITE)
        # Another page may have sent the request before it on the same connection.
        for bad in (b"?\r\n\r\n", b"GET / HTTP/1.1\n\n", b"GET /" + b"x" * MAX_HEAD_BYTES):
            client = self.ask(request(headers=f"{HOST}{ORIGIN}"))
            self.assertEqual(client.answer()[1]["access-control-allow-origin"], SITE)
            client.send(bad)
            self.assert_problem(client, 431 if len(bad) > MAX_HEAD_BYTES else 400)

    def test_long_head(self) -> None:
        """A head of up to 64 KiB is answered, in several pieces, too; a longer one is not, in one piece either."""
        filling = f"{HOST}X: {'x' * 65_000}\r\n"
        client = self.connect()
        head = request(headers=filling)
        for start in range(0, len(head), 10_000):
            client.send(head[start : start + 10_000])
        self.assertEqual(client.status(), 200)
        client.send(request())
        self.assertEqual(client.status(), 200)
        self.assert_problem(self.ask(request(headers=f"{filling}Y: {'y' * 1000}\r\n")), 431)

    def test_pieces(self) -> None:
        """Heads that come byte by byte, and several at once, are answered in turn."""
        client = self.connect()
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request() + b"\r\n" + request(method="BREW") + request("/"):
            client.send(bytes([byte]))
        self.assertEqual([client.status() for _ in range(3)], [200, 405, 404])
        client = self.ask(request(), b"\r\n", request(method="BREW"), request("/"), request()[:-1])
        self.assertEqual([client.status() for _ in range(3)], [200, 405, 404])
        client.send(b"\n")
        self.assertEqual(client.status(), 200)

    def test_half_closed(self) -> None:
        """A client that closes its side after the request gets its answer, late as it may be, and all that it asked."""
        self.wire.behaviour = after(0.3, c42())
        for requests, statuses in (
            ((request(PATH.replace("26240", "00001")),), [200]),
            ((request(PATH.replace("26240", "00002")), request(), request("/")), [200, 200, 404]),
            ((request(PATH.replace("26240", "00003"), headers=f"{HOST}Content-Length: 9\r\n"),), [200]),
        ):
            client = self.ask(*requests)
            client.sock.shutdown(socket.SHUT_WR)
            self.assertEqual([client.status() for _ in statuses], statuses)
            self.assertTrue(client.is_closed())
        idle = self.connect()
        idle.sock.shutdown(socket.SHUT_WR)
        self.assertTrue(idle.is_closed())

    def test_behind_an_upgrade(self) -> None:
        """What comes in one piece with an offer of another protocol is answered, too."""
        offer = f"{HOST}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        client = self.ask(request(headers=offer), request("/"), request())
        self.assertEqual([client.status() for _ in range(3)], [200, 404, 200])

    def test_host(self) -> None:
        """HTTP/1.1 without a Host, and any request with two or with none that could be one, is a 400."""
        for headers in (
            *(
                "",
                "Host: a\r\nHost: a\r\n",
                "Host: a\r\nHost: b\r\n",
                "Host: a,b\r\n",
                "Host: a b\r\n",
                "Host: a/b\r\n",
            ),
            *(
                "Host: <a>\r\n",
                "Host: a:port\r\n",
                "Host: [::1\r\n",
                "Host: a@b\r\n",
                "Host: \xe9\r\n",
                "Host: a%zz\r\n",
            ),
        ):
            for target in (PATH, PATH[:-1], "/"):
                with self.subTest(headers, target=target):
                    client = self.ask(request(target, headers), request("/"))
                    self.assert_problem(client, 400)
                    self.assertEqual(client.status(), 404)
        self.assertEqual(self.ask(request(headers="Host: a\r\nHost: b\r\n", version="1.0")).status(), 400)
        for headers in ("Host:\r\n", "Host: [::1]:80\r\n", "Host: a.b-c_d:8080\r\n", "hOST:%41\r\n", "Host: a:\r\n"):
            with self.subTest(headers):
                self.assertEqual(self.ask(request(headers=headers)).status(), 200)
        self.assertEqual(self.ask(request(headers="", version="1.0")).status(), 200)

    def test_any_method(self) -> None:
        """Every token is a method, and all but two are refused as such; what is no token is no request."""
        for method in ("BREW", "get", "GETS", "GE", "H", "M-SEARCH", "CONNECT", "PRI", "DESCRIBE", "!#$%&'*+.^_`|~9"):
            with self.subTest(method):
                client = self.ask(
                    request(method=method), request(PATH[:-1], method=method), request("/", method=method)
                )
                status, headers, _body = client.answer()
                self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"))
                self.assertEqual([client.status() for _ in range(2)], [405, 404])
        for method in ("G(ET", "\x16\x03", "{", "\xe9"):
            with self.subTest(method):
                self.assert_problem(self.ask(request(method=method)), 400)

    def test_encoded_slash(self) -> None:
        """An encoded slash closes no address: it is part of an id, which has none."""
        for target in (
            f"{PATH[:-1]}%2F",
            f"{PATH[:-1]}%2f",
            f"/{PATH[1:].replace('/', '%2F', 1)}",
        ):
            with self.subTest(target):
                self.assert_problem(self.ask(request(target)), 404)
        self.assertEqual(self.ask(request(f"{PATH}?a=%2F")).status(), 200)

    def test_missing_body(self) -> None:
        """A body that was announced and not sent eats no request: the client learns that its connection ends."""
        for headers in (
            "Content-Length: 100\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Expect: 100-continue\r\nContent-Length: 9\r\n",
        ):
            for method, status in (("POST", 405), ("GET", 200), ("BREW", 405)):
                with self.subTest(method + headers):
                    client = self.ask(request(method=method, headers=HOST + headers))
                    found, answered, _body = client.answer()
                    self.assertEqual((found, answered["connection"]), (status, "close"))
                    self.assertTrue(client.is_closed())

    def test_large_body(self) -> None:
        """A client that sends a body which nobody wants, and reads only then, can read why."""
        client = self.ask(request(method="POST", headers=f"{HOST}Content-Length: 300000\r\n"))
        for _ in range(30):
            client.send(b"x" * 10_000)
        self.assertEqual(client.status(), 405)

    def test_still_sending(self) -> None:
        """A client that is refused, and still sends for a moment, is not reset: it can read why, and then the end."""
        for name, refused, status in (
            ("a body", request(method="POST", headers=f"{HOST}Content-Length: 300000\r\n"), 405),
            ("a head that is too long", b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES, 431),
            ("no request", b"GET / HTTP/1.1\n\n", 400),
        ):
            with self.subTest(name):
                client = self.ask(refused)
                poll = select.poll()
                poll.register(client.sock, select.POLLRDHUP)
                self.assertTrue(poll.poll(1000 * TIMEOUT), "the server has not closed its side")
                for _ in range(5):
                    client.send(b"x" * 10_000)
                self.assertEqual(client.status(), status)
                self.assertEqual(client.sock.recv(1), b"")

    def test_sending_for_ever(self) -> None:
        """One that does not stop is reset after a moment."""
        client = self.ask(request(method="POST", headers=f"{HOST}Content-Length: 300000\r\n"))
        self.assertEqual(client.status(), 405)

        def is_reset() -> bool:
            try:
                client.send(b"x")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        until(is_reset, "a reset", TIMEOUT)

    def test_no_request(self) -> None:
        """What is no request is refused, and never taken for the answer to the one before it."""
        self.assert_problem(self.ask(b"GET / HTTP/1.1\n\n"), 400)
        self.assert_problem(self.ask(request(headers=f"{HOST}Transfer-Encoding: gzip\r\n")), 400)
        self.wire.behaviour = after(0.3, c42())
        for number, bad in enumerate((b"\x00\r\n\r\n", request(headers=f"{HOST}Transfer-Encoding: gzip\r\n"))):
            client = self.ask(request(PATH.replace("26240", f"1000{number}")), bad)
            self.assertEqual(client.status(), 200)
            self.assertTrue(client.is_closed())


class QuitTest(unittest.TestCase):
    def test_silent_c42(self) -> None:
        """QUIT ends all at once, although a request waits for a C42 that says nothing."""
        wire = self.enterContext(Wire(is_silent))
        for worker_class in ("", "--worker-class gthread"):
            port = free_port()
            environ = clean_environ(
                C42_API_URL=wire.url,
                C42_API_TOKEN=SANDBOX_TOKEN,
                C42_BIND=f"127.0.0.1:{port}",
                C42_OPS_BIND="",
                C42_CACHE_URL="memory://",
                C42_TIMEOUT="60",
                GUNICORN_CMD_ARGS=worker_class,
            )
            with self.subTest(worker_class), Process([*C42_PROXY, "serve"], environ) as proxy:
                proxy.wait_until_answers(f"http://127.0.0.1:{port}/")
                client = Client(port)
                self.addCleanup(client.sock.close)
                calls = wire.connections
                client.send(request())
                until(lambda calls=calls: wire.connections > calls, "a call")  # type: ignore[misc]  # bound
                began = time.monotonic()
                proxy.send(signal.SIGQUIT)
                self.assertEqual(proxy.wait(), 0, proxy.output())
                self.assertLess(time.monotonic() - began, 3)
                self.assertTrue(client.is_closed())
