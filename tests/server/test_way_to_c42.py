"""The proxy as it is run where C42 has a private authority, an HTTP proxy is on the way, and the token changes."""

import http.client
import signal
import tempfile
import unittest
from pathlib import Path

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.sandbox.events import COFFEE
from harness.needs import needs
from harness.processes import C42_PROXY, Process, clean_environ, free_port, is_alive, until
from harness.tinyproxy import Tinyproxy
from harness.tls import Authority, TlsSandbox
from harness.wire import EVENT_ID, Connection, Wire, c42
from tests.commands.command_line import c42_proxy

TIMEOUT = 10.0
PASSWORD = "p4ssw0rd"


class ServedTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.port = free_port()
        self.token_file = self.folder / "token"

    def serve(self, **variables: str) -> Process:
        """In the folder: the names of the store and of the file with the token are relative."""
        environ = clean_environ(
            C42_BIND=f"127.0.0.1:{self.port}",
            C42_OPS_BIND="",
            C42_CACHE_URL="sqlite:///cache.sqlite3",
            C42_API_TOKEN_FILE="token",  # a file's name
            **variables,
        )
        proxy = self.enterContext(Process([*C42_PROXY, "serve"], environ, cwd=self.folder))
        proxy.wait_until_answers(f"http://127.0.0.1:{self.port}/")
        return proxy

    def ask(self, event_id: str) -> tuple[int, str, bytes]:
        """The status, `Cache-Status` and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            connection.request("GET", f"/events-with-subscriptions/{event_id}/")
            response = connection.getresponse()
            return response.status, response.headers["Cache-Status"] or "", response.read()
        finally:
            connection.close()


@needs("openssl")
@needs("tinyproxy")
class WayTest(ServedTest):
    def test_private_authority_behind_a_proxy(self) -> None:
        """C42 with a certificate of a private authority is asked through tinyproxy, which wants a password."""
        authority = Authority(self.folder)
        c42 = self.enterContext(TlsSandbox(authority.certificate()))
        proxy = self.enterContext(Tinyproxy(self.folder, PASSWORD))
        self.token_file.write_text(SANDBOX_TOKEN)
        url_file = self.folder / "url"
        url_file.write_text(f"{proxy.url}\n")
        way = {"C42_CA_FILE": str(authority.file), "C42_PROXY_URL_FILE": str(url_file), "C42_API_URL": c42.url}
        served = self.serve(**way)
        status, _, body = self.ask(COFFEE)
        self.assertEqual((200, True), (status, b"Michel" in body), body)
        self.assertGreater(proxy.connects, 0)

        for says, changes in (
            (r"C42 +works .* accepts the token", {}),
            (
                r"C42 +FAILS  https://.*: certificate not trusted: is its authority in C42_CA_FILE\?",
                {"C42_CA_FILE": ""},
            ),
            (
                r"C42 +FAILS  https://.*: HTTP proxy: status 40[17]: 127.0.0.1:\d+ \(C42_PROXY_URL\) wants another",
                {"C42_PROXY_URL": proxy.url.replace(PASSWORD, "wr0ng")},
            ),
            (
                r"C42 +FAILS  https://.*: HTTP proxy: connection refused: is 127.0.0.1:1 \(C42_PROXY_URL\) right\?",
                {"C42_PROXY_URL": f"http://user:{PASSWORD}@127.0.0.1:1"},
            ),
        ):
            given = {**way, "C42_API_TOKEN": SANDBOX_TOKEN, "C42_CACHE_URL": "memory://", **changes}
            given |= {"C42_PROXY_URL_FILE": ""} if "C42_PROXY_URL" in changes else {}
            said = c42_proxy("check", "--online", **given).output
            self.assertRegex(said, says)
            self.assertNotRegex(said, f"{PASSWORD}|wr0ng")
        served.send(signal.SIGTERM)
        self.assertEqual(0, served.wait())
        self.assertNotRegex(served.output(), f"{PASSWORD}|{SANDBOX_TOKEN}")

    def test_no_password(self) -> None:
        """tinyproxy lets the proxy through without a password, too."""
        authority = Authority(self.folder)
        c42 = self.enterContext(TlsSandbox(authority.certificate()))
        proxy = self.enterContext(Tinyproxy(self.folder))
        given = {"C42_API_URL": c42.url, "C42_API_TOKEN": SANDBOX_TOKEN, "C42_CA_FILE": str(authority.file)}
        given |= {"C42_PROXY_URL": proxy.url, "C42_CACHE_URL": "memory://"}
        said = c42_proxy("check", "--online", **given).output
        self.assertRegex(said, r"C42 +works .* accepts the token")
        self.assertEqual(1, proxy.connects)


class TokenTest(ServedTest):
    """C42 notes the token of each call."""

    def setUp(self) -> None:
        super().setUp()
        self.tokens: list[str] = []

        def note(path: str, connection: Connection) -> None:
            self.tokens.append((connection.header("Authorization") or "").removeprefix("Token "))
            c42()(path, connection)

        self.c42 = self.enterContext(Wire(note))

    def assert_asked_with(self, *tokens: str) -> None:
        """For the event, since the last time, each token by both calls; no token at all for a hit."""
        self.assertEqual(200, self.ask(EVENT_ID)[0])
        self.assertEqual([token for token in tokens for _ in range(2)], self.tokens)
        self.tokens.clear()

    def renew(self, proxy: Process, token: str) -> None:
        """Write the token, and renew the workers."""
        before = proxy.descendants()
        self.token_file.write_text(token)
        proxy.send(signal.SIGHUP)
        until(lambda: proxy.descendants() and not any(map(is_alive, before)), "other workers")
        proxy.wait_until_answers(f"http://127.0.0.1:{self.port}/")

    def test_rotated(self) -> None:
        """At a SIGHUP the workers take the token that the file holds then, with an empty cache, or else keep theirs."""
        first, second = "f1rst-t0k3n", "s3c0nd-t0k3n"
        self.token_file.write_text(first)
        proxy = self.serve(C42_API_URL=self.c42.url)
        self.assert_asked_with(first)
        self.assert_asked_with()
        self.renew(proxy, second)
        self.assert_asked_with(second)
        self.renew(proxy, second)
        self.renew(proxy, "")
        self.assert_asked_with()
        self.assertEqual(1, proxy.output().count("the token has been read anew: the cache is empty at first"))
        self.assertEqual(1, proxy.output().count("the token is the same as before"))
        self.assertIn("the token stays as it was: C42_API_TOKEN_FILE: the file must hold your C42", proxy.output())
        self.assertNotRegex(proxy.output(), f"{first}|{second}")

    def test_preload(self) -> None:
        """So it is with --preload, and in another folder: relative names are of the one where the proxy was started."""
        (self.folder / "other").mkdir()
        self.token_file.write_text("f1rst-t0k3n")
        # At a SIGUSR2, gunicorn leaves copies of its sockets open, and Python would say so.
        more = {"GUNICORN_CMD_ARGS": "--preload --chdir other", "PYTHONWARNINGS": ""}
        proxy = self.serve(C42_API_URL=self.c42.url, **more)
        for token in ("s3c0nd-t0k3n", "th1rd-t0k3n"):
            self.renew(proxy, token)
            self.assert_asked_with(token)
        old = proxy.descendants()
        proxy.send(signal.SIGUSR2)
        until(lambda: len(proxy.descendants() - old) == 2, f"a new master and its worker:\n{proxy.output()}")
        self.assertTrue((self.folder / "cache.sqlite3").exists())
        self.assertEqual([], [*(self.folder / "other").iterdir()])
        self.assertNotIn("Traceback", proxy.output())
