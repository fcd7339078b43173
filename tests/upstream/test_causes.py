"""Operators learn what C42 or the network did, in one of a few phrases, and nothing of what was received."""

import errno
import socket
import ssl
import tempfile
import unittest
from itertools import product
from pathlib import Path
from threading import Thread
from unittest.mock import patch

from pydantic import SecretStr

from c42_proxy.deadline import Deadline
from c42_proxy.errors import (
    Cause,
    InvalidAnswer,
    Overloaded,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from c42_proxy.observability.metrics import Metrics
from c42_proxy.upstream.causes import REPEAT_SECONDS, FailureLines, cause_of
from c42_proxy.upstream.client import C42Client
from c42_proxy.upstream.transport import new_session
from harness.needs import needs
from harness.tls import Authority
from harness.wire import (
    CHUNKED,
    Behaviour,
    Wire,
    closes,
    dead_address,
    is_silent,
    says,
    sends,
    sends_and_closes,
    sends_and_resets,
)

TOKEN = "s3kr3t-t0k3n"
BUDGET = 0.3
PLENTY = 5.0
RECEIVED = b"r3c31v3d"


class AskingTest(unittest.TestCase):
    def failure(
        self, url: str, budget: float = PLENTY, *, ca_file: Path | None = None, proxy_url: str | None = None
    ) -> UpstreamError:
        ca_name = None if ca_file is None else str(ca_file)
        with new_session(1, ca_file=ca_name, proxy_url=proxy_url) as session:
            client = C42Client(url, SecretStr(TOKEN), session=session, clock=lambda: 0.0, metrics=Metrics())
            with self.assertRaises(UpstreamError) as raised:
                client.subscriptions("tea", 0, Deadline(budget))
        self.assertTrue(Cause.is_one(raised.exception.cause), raised.exception.cause)
        self.assertNotIn(RECEIVED.decode(), f"{raised.exception!r}")
        return raised.exception

    def cause(self, behaviour: Behaviour, budget: float = PLENTY) -> str:
        with Wire(behaviour) as c42:
            return self.failure(c42.url, budget).cause


class CauseTest(AskingTest):
    def test_each(self) -> None:
        """Each thing that C42 may do has its phrase."""
        head = b"HTTP/1.1 200 OK\r\nX: %b\r\n" % RECEIVED
        for behaviour, cause in (
            (closes, Cause.CLOSED),
            (sends_and_resets(b""), Cause.RESET),
            (sends_and_resets(head + b"Content-Length: 9\r\n\r\n{"), Cause.RESET),
            (sends_and_closes(head), Cause.CUT_SHORT),
            (sends_and_closes(head + b"Content-Length: 9\r\n\r\n{"), Cause.CUT_SHORT),
            (sends_and_closes(CHUNKED + b"ff\r\n{"), Cause.CUT_SHORT),
            (sends_and_closes(CHUNKED + b"2\r\n{}\r\n"), Cause.CUT_SHORT),
            (sends_and_closes(RECEIVED + b"\r\n"), Cause.NO_HTTP),
            (says({}, f"503 {RECEIVED.decode()}"), "status 503"),
            (says({}, f"302 {RECEIVED.decode()}"), "status 302"),
            (says(RECEIVED, "401 No"), "status 401"),
            (says({}, "429 Slow", "Retry-After: r3c31v3d"), "status 429"),
            (says(RECEIVED), Cause.NOT_JSON),
            (says({"data": RECEIVED.decode()}), Cause.OTHER_SHAPE),
            (says(RECEIVED, "200 OK", "Content-Encoding: gzip"), Cause.BROKEN_CODING),
            (sends(head + RECEIVED + b"\r\n\r\n"), Cause.NO_HEADER),
        ):
            with self.subTest(cause):
                self.assertEqual(cause, self.cause(behaviour))
        self.assertEqual(Cause.TIMED_OUT, self.cause(is_silent, BUDGET))

    def test_the_system_gives_up(self) -> None:
        """If the system itself gives up connecting before the budget ends, that is a time-out, too."""
        with patch("socket.socket.connect_ex", return_value=errno.ETIMEDOUT):
            failure = self.failure("http://127.0.0.1:1/")
            behind = self.failure("https://c42.example/", proxy_url="http://127.0.0.1:1")
        self.assertEqual((UpstreamTimeout, Cause.TIMED_OUT), (type(failure), failure.cause))
        self.assertEqual("HTTP proxy: timed out", behind.cause)

    def test_reset_while_connecting(self) -> None:
        """A connection that is reset before it is there counts as one, with and without TLS."""
        for number, url in product((errno.ECONNRESET, errno.EPIPE), ("http://127.0.0.1:1/", "https://127.0.0.1:1/")):
            with self.subTest(number=number, url=url), patch("socket.socket.connect_ex", return_value=number):
                failure = self.failure(url)
                self.assertEqual((UpstreamUnavailable, Cause.RESET), (type(failure), failure.cause))

    def test_no_connection(self) -> None:
        """A name that does not resolve, a port that refuses, and what leads nowhere have theirs."""
        self.assertEqual(Cause.REFUSED, self.failure("http://127.0.0.1:1/").cause)
        with patch("socket.getaddrinfo", side_effect=socket.gaierror(-2, RECEIVED.decode())):
            self.assertEqual(Cause.NO_NAME, self.failure("http://name.example/").cause)
        with dead_address() as dead:
            self.assertEqual(Cause.TIMED_OUT, self.failure("http://{}:{}/".format(*dead[4]), BUDGET).cause)
        for number, cause in (
            (errno.EHOSTUNREACH, Cause.NO_ROUTE),
            (errno.EPIPE, Cause.RESET),
            (errno.EPERM, Cause.NOT_CONNECTED),
        ):
            self.assertEqual(cause, cause_of(OSError(number, RECEIVED.decode())))

    def test_no_fixed_phrase(self) -> None:
        """What is not in the list is no cause: a text from the store, say."""
        for text in ("", "s3kr3t", "status 5033", "status x", "timed out\n", "HTTP proxy: ", "timed out: s3kr3t"):
            self.assertFalse(Cause.is_one(text), text)
        for text in ("timed out", "status 503", "HTTP proxy: status 407", "HTTP proxy: timed out"):
            self.assertTrue(Cause.is_one(text), text)


@needs("openssl")
class TlsTest(AskingTest):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.authority = Authority(folder, RECEIVED.decode())

    def test_certificates(self) -> None:
        """A certificate of an authority that nobody knows, and one for another name."""
        with Wire(tls=self.authority.server()) as c42:
            self.assertEqual(Cause.NOT_TRUSTED, self.failure(c42.url).cause)
            with new_session(1, ca_file=str(self.authority.file)) as session:
                client = C42Client(c42.url, SecretStr(TOKEN), session=session, clock=lambda: 0.0, metrics=Metrics())
                self.assertEqual([], client.subscriptions("tea", 0, Deadline(PLENTY)).subscriptions)
        for name in (f"DNS:{RECEIVED.decode()}.example", "IP:127.0.0.2"):
            with Wire(tls=self.authority.server(name)) as c42:
                self.assertEqual(Cause.OTHER_NAME, self.failure(c42.url, ca_file=self.authority.file).cause)
                by_name = c42.url.replace("127.0.0.1", "localhost")
                self.assertEqual(Cause.OTHER_NAME, self.failure(by_name, ca_file=self.authority.file).cause)
        for not_yet_or_no_longer in (9, 10):
            error = ssl.SSLCertVerificationError(RECEIVED.decode())
            error.verify_code = not_yet_or_no_longer
            self.assertEqual(Cause.OUT_OF_DATE, cause_of(error))

    def test_no_authorities(self) -> None:
        """The file of authorities has become another one since the start, is gone, or is forbidden."""
        file = self.authority.file.with_name("other.pem")
        broken = b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n" % RECEIVED
        with Wire(tls=self.authority.server()) as c42:
            for content in (RECEIVED, b"", broken):
                file.write_bytes(content)
                self.assertEqual(Cause.NO_AUTHORITIES, self.failure(c42.url, ca_file=file).cause)
            gone = file.with_name(RECEIVED.decode())
            self.assertEqual(Cause.NO_AUTHORITIES, self.failure(c42.url, ca_file=gone).cause)
            with patch.object(ssl.SSLContext, "load_verify_locations", side_effect=PermissionError(errno.EACCES, "")):
                self.assertEqual(Cause.NO_AUTHORITIES, self.failure(c42.url, ca_file=file).cause)

    def test_no_tls(self) -> None:
        """Plain HTTP where TLS is expected, TLS where plain HTTP is, and TLS that does not agree."""
        with socket.create_server(("127.0.0.1", 0)) as plain:
            port = plain.getsockname()[1]
            server = Thread(target=_answer_anything, args=(plain, b"HTTP/1.1 400 %b\r\n\r\n" % RECEIVED))
            server.start()
            self.assertEqual(Cause.NO_TLS, self.failure(f"https://127.0.0.1:{port}/").cause)
            server.join()
        context = self.authority.server()
        with Wire(tls=context) as c42:
            cause = self.failure(c42.url.replace("https", "http")).cause
            self.assertIn(cause, {Cause.NO_HTTP, Cause.CLOSED, Cause.RESET})
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with Wire(tls=context) as c42:
            self.assertEqual(Cause.TLS_FAILED, self.failure(c42.url, ca_file=self.authority.file).cause)


class LinesTest(unittest.TestCase):
    """A clock that the test moves."""

    def setUp(self) -> None:
        self.now = 0.0
        self.lines = FailureLines(lambda: self.now)

    def assert_said(self, *expected: str) -> None:
        """Since the last time, with the level."""
        self.assertEqual(
            list(expected), [line.replace(":c42_proxy.upstream.causes:", " ") for line in self.logs.output]
        )
        self.logs.output.clear()

    def test_begin_and_end(self) -> None:
        """Each kind of failure is logged when it begins, and when it has ended; our own limits are none."""
        refused, late = UpstreamUnavailable(cause=Cause.REFUSED), InvalidAnswer(Cause.NOT_JSON, 200)
        with self.assertLogs("c42_proxy", "INFO") as self.logs:
            for _ in range(3):
                self.lines.failed([Overloaded(), refused])
                self.now += 10 * REPEAT_SECONDS
            self.assert_said("WARNING C42 fails: connection refused")
            self.lines.failed([refused, late])
            self.assert_said("WARNING C42's answer cannot be used: it is not JSON")
            for _ in range(2):
                self.lines.answered()
            self.assert_said(
                "INFO C42 answers again. It was: C42 fails: connection refused",
                "INFO C42 answers again. It was: C42's answer cannot be used: it is not JSON",
            )
            self.lines.failed([TokenRefused(401)])
            self.assert_said("ERROR C42 refuses our token: status 401")

    def test_to_and_fro(self) -> None:
        """What comes and goes is logged every few seconds, not each time."""
        with self.assertLogs("c42_proxy", "INFO") as self.logs:
            for _ in range(100):
                self.lines.failed([UpstreamUnavailable(500)])
                self.lines.answered()
            self.assertEqual(2, len(self.logs.output))
            self.now += REPEAT_SECONDS
            self.lines.failed([UpstreamUnavailable(500)])
            self.assertEqual(3, len(self.logs.output))


def _answer_anything(listener: socket.socket, data: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(data)
