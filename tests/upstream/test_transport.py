"""The session keeps connections, ends by the deadline, and takes advice from nobody."""

import os
import tempfile
import time
import unittest
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import requests

from c42_proxy.deadline import Deadline, ends_at
from c42_proxy.errors import InvalidAnswer
from c42_proxy.threads import IDLE_SECONDS
from c42_proxy.upstream.deadline_connection import _HTTPConnection
from c42_proxy.upstream.transport import close_idle, new_session
from harness.processes import until
from harness.wire import Behaviour, Connection, Wire, answer, closes, sends, sends_and_resets

MEBIBYTE = 2**20


def at_request(number: int, unusual: Behaviour) -> Behaviour:
    """Says OK, but for the request of this number on its connection, which meets with something else."""

    def behave(path: str, connection: Connection) -> None:
        if connection.requests == number:
            unusual(path, connection)
        else:
            connection.send(answer(b"OK"))

    return behave


class TransportTest(unittest.TestCase):
    def setUp(self) -> None:
        self.wire = self.enterContext(Wire())
        self.session = self.enterContext(new_session(8))

    def get(self, seconds: float = 5.0) -> requests.Response:
        with ends_at(Deadline(seconds)):
            return self.session.get(self.wire.url + "events/1/", timeout=seconds, allow_redirects=False)


class KeptAliveTest(TransportTest):
    def test_with_and_without_tls(self) -> None:
        """Calls with TLS go through the same adapter as those without."""
        self.assertIs(self.session.get_adapter("http://c42.example"), self.session.get_adapter("https://c42.example"))

    def test_reused(self) -> None:
        """Twenty requests after each other travel over one connection."""
        for _ in range(20):
            self.assertEqual(b"OK", self._ok().content)
        self.assertEqual(1, self.wire.connections)

    def test_two_servers(self) -> None:
        """Each server has connections of its own, and gets the path and the query as they are."""
        paths = []

        def behave(path: str, connection: Connection) -> None:
            paths.append(path)
            connection.send(answer(b"OK"))

        with Wire(behave) as other:
            self.wire.behaviour = behave
            for url in (self.wire.url, other.url, self.wire.url, other.url):
                with ends_at(Deadline(5)):
                    self.session.get(f"{url}events/a%2Fb/?c=%5Bd%5D", timeout=5)
            self.assertEqual([1, 1], [self.wire.connections, other.connections])
        self.assertEqual(4 * ["/api/v2/events/a%2Fb/?c=%5Bd%5D"], paths)

    def test_used_after_it_is_closed(self) -> None:
        """As with requests' own: closing ends the connections, and the next call makes a new one."""
        self.assertEqual(b"OK", self._ok().content)
        self.session.close()
        until(lambda: self.wire.open_connections == 0, "that the connection is closed")
        self.assertEqual(b"OK", self._ok().content)
        self.assertEqual(2, self.wire.connections)

    def _ok(self) -> requests.Response:
        self.wire.behaviour = at_request(0, closes)
        return self.get()

    def test_closed_at_the_next_request(self) -> None:
        """A kept connection that is closed or reset at its next request is tried once more, on a fresh one."""
        for name, end in {"closed": closes, "reset": sends_and_resets(b"")}.items():
            with self.subTest(end=name), Wire(at_request(2, end)) as self.wire:
                self.assertEqual(b"OK", self.get().content)
                self.assertEqual(b"OK", self.get().content)
                self.assertEqual(2, self.wire.connections)
                self.assertEqual(3, self.wire.calls["event"])

    def test_closed_before_the_next_request(self) -> None:
        """A kept connection that was closed while nobody used it costs nothing but a fresh one."""

        def behave(_path: str, connection: Connection) -> None:
            connection.send(answer(b"OK"))
            connection.close()

        self.wire.behaviour = behave
        for _ in range(2):
            self.assertEqual(b"OK", self.get().content)
        self.assertEqual(2, self.wire.calls["event"])

    def test_reset_at_the_moment_of_sending(self) -> None:
        """A kept connection whose end becomes known as we send is tried once more, too."""
        connection = _HTTPConnection("127.0.0.1", int(self.wire.url.split(":")[2].split("/")[0]))
        self.addCleanup(connection.close)

        def behave(_path: str, at_server: Connection) -> None:
            at_server.send(answer(b"OK"))
            if self.wire.connections == 1:
                at_server.reset()

        self.wire.behaviour = behave
        with ends_at(Deadline(5)):
            for _ in range(2):
                connection.request("GET", "/events/1/")
                self.assertEqual(b"OK", connection.getresponse().data)
                time.sleep(0.05)  # until the RST is there

    def test_interim_answers(self) -> None:
        """Early hints and the like are not the answer: the one after them is. The connection goes on being used."""
        heads = (f"HTTP/1.1 {status} Soon\r\nLink: </x>\r\n\r\n" for status in (100, 102, 103, 103, 199))
        self.wire.behaviour = sends("".join(heads).encode() + answer(b"OK"))
        for _ in range(2):
            response = self.get()
            self.assertEqual((200, b"OK", None), (response.status_code, response.content, response.headers.get("Link")))
        self.assertEqual(1, self.wire.connections)

    def test_switching_protocols(self) -> None:
        """101, for which we have not asked, is no interim answer: nothing of HTTP comes after it."""
        self.wire.behaviour = sends(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        self.assertEqual(101, self.get().status_code)

    def test_long_head(self) -> None:
        """A head that is too long is read to its end; if it does not end in time or within a bound, that is a time-out.

        The bound counts from where Python has given up: after 65,537 bytes of a line.
        """
        cases: dict[tuple[int, bytes], type[Exception]] = {
            (MEBIBYTE - 1, b""): InvalidAnswer,
            (MEBIBYTE, b""): requests.Timeout,
            (MEBIBYTE - 1, b"X: y\r\n"): requests.Timeout,
        }
        for (length, more), error in cases.items():
            line = b"X: ".ljust(65_537 + length - 2, b"x") + b"\r\n"
            self.wire.behaviour = sends(b"HTTP/1.1 200 OK\r\n" + line + more + b"\r\n")
            with self.subTest(length=length, more=more):
                self.assertRaises(error, self.get)

    def test_long_head_without_end(self) -> None:
        """If the connection ends in such a head, that is known at once."""

        def behave(_path: str, connection: Connection) -> None:
            connection.send(b"HTTP/1.1 200 OK\r\n" + b"X: ".ljust(70_000, b"x"))
            connection.close()

        self.wire.behaviour = behave
        began = time.monotonic()
        with self.assertRaises(requests.ConnectionError):
            self.get()
        self.assertLess(time.monotonic() - began, 4)

    def test_strange_head(self) -> None:
        """What is odd in a head that can be used is not logged: it may be an echo of our own request."""
        self.wire.behaviour = sends(answer(b"OK", "200 OK", "Content-Type: multipart/mixed"))
        with self.assertNoLogs():
            self.assertEqual(b"OK", self.get().content)

    def test_fails_twice(self) -> None:
        """Where the fresh connection fails as well, that is the end: one retry, no more."""
        self.wire.behaviour = at_request(0, closes)
        self.get()
        self.wire.behaviour = closes
        with self.assertRaises(requests.ConnectionError):
            self.get()
        self.assertEqual(3, self.wire.calls["event"])
        self.assertEqual(2, self.wire.connections)

    def test_fresh_one_fails(self) -> None:
        """A fresh connection that fails is not tried again."""
        self.wire.behaviour = closes
        with self.assertRaises(requests.ConnectionError):
            self.get()
        self.assertEqual(1, self.wire.calls["event"])

    def test_retry_ends_at_the_deadline(self) -> None:
        """The second try has what is left of the first one's time, and no more."""

        def behave(_path: str, connection: Connection) -> None:
            if self.wire.connections == 1 and connection.requests == 2:
                connection.pause(0.2)
                connection.close()
            elif self.wire.connections == 1:
                connection.send(answer(b"OK"))
            else:
                connection.be_silent()

        self.wire.behaviour = behave
        self.get()
        start = time.monotonic()
        with self.assertRaises(requests.Timeout):
            self.get(0.3)
        self.assertLess(time.monotonic() - start, 0.45)


class IdleTest(TransportTest):
    """The session has been used at the instant 0."""

    def setUp(self) -> None:
        super().setUp()
        self.wire.behaviour = sends(answer(b"OK"))
        with self.at(0):
            self.get()

    def at(self, seconds: float) -> AbstractContextManager[object]:
        """The clock stands still so many seconds after the first use."""
        return patch("time.monotonic", lambda: seconds)

    def test_kept(self) -> None:
        """A connection that was used a moment ago is kept, however old it is."""
        for number in range(1, 4):
            with self.at(0.6 * IDLE_SECONDS * number):
                close_idle(self.session)
                self.get()
        self.assertEqual(1, self.wire.connections)

    def test_closed(self) -> None:
        """One that is idle for about as long as an idle thread stays is closed, and the next call has a new one."""
        with self.at(0.9 * IDLE_SECONDS):
            close_idle(self.session)
        until(lambda: self.wire.open_connections == 0, "that the connection is closed")
        self.assertEqual(b"OK", self.get().content)
        self.assertEqual(2, self.wire.connections)

    def test_closed_once_for_all(self) -> None:
        """Threads that end within a quarter of a second look at the connections once; later ones do so again."""
        for moments, connections in (((-0.125, 0), 1), ((-0.125, 0.125), 2)):
            with Wire(sends(answer(b"OK"))) as self.wire, new_session(8) as self.session:
                with self.at(0):
                    self.get()
                for seconds in moments:
                    with self.at(0.9 * IDLE_SECONDS + seconds):
                        close_idle(self.session)
                self.get()
                self.assertEqual(connections, self.wire.connections)

    def test_public_way(self) -> None:
        """Where the session is carried by requests' own adapter, nothing is closed, and nothing fails."""
        session = self.enterContext(requests.Session())
        close_idle(session)


class AdviceTest(TransportTest):
    def setUp(self) -> None:
        super().setUp()
        self.headers: list[bytes] = []

        def behave(_path: str, connection: Connection) -> None:
            self.headers.append(connection.request)
            connection.send(answer(b"OK", "200 OK", "Set-Cookie: a=b; Path=/"))

        self.wire.behaviour = behave

    def test_netrc(self) -> None:
        """A .netrc in the home directory adds no Authorization."""
        with tempfile.TemporaryDirectory() as home:
            netrc = Path(home, ".netrc")
            netrc.write_text("default login ford password prefect\n")
            netrc.chmod(0o600)
            with patch.dict(os.environ, {"HOME": home, "NETRC": str(netrc)}):
                self.assertIsNotNone(requests.utils.get_netrc_auth(self.wire.url), "this test would prove nothing")
                self.get()
        self.assertNotIn(b"authorization", self.headers[0].lower())

    def test_proxies(self) -> None:
        """The proxies of the environment are not used."""
        names = ["http_proxy", "https_proxy", "all_proxy"]
        nowhere = "http://127.0.0.1:1"
        with patch.dict(os.environ, {n: nowhere for name in names for n in (name, name.upper())}):
            os.environ.pop("no_proxy", None)
            os.environ.pop("NO_PROXY", None)
            self.assertEqual(b"OK", self.get().content)


if __name__ == "__main__":
    unittest.main()
