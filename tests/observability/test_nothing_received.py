"""Nothing that C42 or a proxy sends, and no secret, gets into a log line, a problem, or what a command says."""

import io
import logging
import tempfile
import unittest
from contextlib import closing, redirect_stderr
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from c42_proxy.app import build
from c42_proxy.observability.logs import configure_logs
from c42_proxy.settings import Settings
from harness.needs import needs
from harness.tls import Authority
from harness.wire import CHUNKED, EVENT_ID, Behaviour, Wire, answer, but, c42, closes, says, sends, sends_and_closes
from tests.commands.command_line import c42_proxy

TOKEN = "s3kr3t-t0k3n"
PASSWORD = "s3kr3t-p4ssw0rd"
RECEIVED = "r3c31v3d"
BUDGET = 0.3
"""Where a proxy answers that it connects, and does not, all of it is used up."""
ECHO = f"Token {TOKEN} {PASSWORD} {RECEIVED}"
"""What a broken server may send back of what it was sent."""

HEADERS = (f"X-Echo: {ECHO}", f"Authorization: {ECHO}", f"Set-Cookie: a={ECHO}", f"Location: http://{RECEIVED}/{TOKEN}")

WHATEVER: dict[str, Behaviour] = {
    **{
        f"status {status}": says(ECHO.encode(), f"{status} {ECHO}", *HEADERS)
        for status in (200, 204, 302, 400, 401, 403, 407, 429, 500, 503)
    },
    "a Retry-After": says({}, f"503 {ECHO}", f"Retry-After: {ECHO}"),
    "a status line": sends_and_closes(f"{ECHO}\r\n\r\n".encode()),
    "half a head": sends_and_closes(f"HTTP/1.1 200 {ECHO}\r\nX: {ECHO}".encode()),
    "no header": sends(f"HTTP/1.1 200 OK\r\n{ECHO}\r\n\r\n".encode()),
    "a length": sends(f"HTTP/1.1 200 OK\r\nContent-Length: {ECHO}\r\n\r\n".encode()),
    "a coding": sends(answer(ECHO.encode(), "200 OK", f"Transfer-Encoding: {ECHO}")),
    "a content coding": sends(answer(ECHO.encode(), "200 OK", "Content-Encoding: gzip")),
    "a chunk": sends_and_closes(CHUNKED + ECHO.encode() + b"\r\n"),
    "JSON of another shape": says({"data": [{"id": ECHO, ECHO: ECHO}], "error": {"message": ECHO}}),
    "a subscriber": says({"data": [{"id": ECHO, "subscriber": {"first_name": [ECHO]}}]}),
    "nothing": closes,
    "an event, and no list": but(c42(), {"page 0": says(ECHO.encode(), f"500 {ECHO}")}),
}

FORMATS: tuple[Literal["text", "json"], ...] = ("text", "json")


class NothingReceivedTest(unittest.TestCase):
    def setUp(self) -> None:
        self.stderr = io.StringIO()
        names = [None, "urllib3", "urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"]
        for logger in map(logging.getLogger, names):
            self.addCleanup(logger.setLevel, logger.level)
        root = logging.getLogger()
        self.addCleanup(setattr, root, "handlers", root.handlers[:])

    def assert_hidden(
        self, url: str, *, log_format: Literal["text", "json"] = "text", proxy_url: str | None = None
    ) -> None:
        """Two requests at the level debug, and `check --online`, say a cause, and nothing that must not be said."""
        settings = Settings(
            api_url=url,
            api_token=SecretStr(TOKEN),
            proxy_url=proxy_url,
            cache_url="memory://",
            log_level="debug",
            log_format=log_format,
            breaker_threshold=1,
            timeout=BUDGET,
        )
        with redirect_stderr(self.stderr):
            configure_logs(settings)
        with closing(build(settings)) as proxy:
            client = proxy.flask.test_client()
            said = [client.get(f"/events-with-subscriptions/{event}/") for event in (EVENT_ID, EVENT_ID[::-1])]
        for handler in logging.getLogger().handlers:
            handler.close()
        logged = self.stderr.getvalue()
        variables = {
            "C42_API_TOKEN": TOKEN,
            "C42_API_URL": url,
            "C42_PROXY_URL": proxy_url or "",
            "C42_TIMEOUT": f"{BUDGET}",
        }
        checked = c42_proxy("check", "--online", **variables, C42_CACHE_URL="memory://", C42_BIND="127.0.0.1:0").output
        self.assertRegex(logged, """cause(": "|=["'])""")
        for text in (logged, checked, *(f"{each.headers}{each.text}" for each in said)):
            for secret in (TOKEN, PASSWORD, RECEIVED):
                self.assertNotIn(secret, text)


class AnswersTest(NothingReceivedTest):
    def test_c42(self) -> None:
        """Whatever C42 answers."""
        for number, (name, behaviour) in enumerate(WHATEVER.items()):
            with self.subTest(name), Wire(behaviour) as server:
                self.assert_hidden(server.url, log_format=FORMATS[number % 2])

    def test_proxy(self) -> None:
        """Whatever the HTTP proxy answers, on the way to http and https."""
        for number, (name, behaviour) in enumerate(WHATEVER.items()):
            with self.subTest(name), Wire(behaviour) as proxy:
                url = f"http://user:{PASSWORD}@127.0.0.1:{proxy.port}"
                self.assert_hidden(f"http{'s' * (number % 2)}://127.0.0.1:1/", proxy_url=url)


@needs("openssl")
class CertificateTest(NothingReceivedTest):
    def test_names(self) -> None:
        """The names in a certificate that is not trusted."""
        with tempfile.TemporaryDirectory() as folder:
            context = Authority(Path(folder), RECEIVED).server(f"DNS:{RECEIVED}.example,IP:127.0.0.1")
            with Wire(tls=context) as server:
                self.assert_hidden(server.url)


del NothingReceivedTest
