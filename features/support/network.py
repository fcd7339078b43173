"""Ways to C42 over real connections, and what may go wrong on them: for a driver with sockets, in one process."""

import atexit
import gzip
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch
from urllib.parse import urlsplit

from harness.tls import HERE, Authority
from harness.wire import (
    BROKEN,
    DAWDLING,
    UNUSABLE,
    Address,
    Behaviour,
    Connection,
    Wire,
    address,
    closes,
    dead_address,
    is_silent,
    says,
)

Way = Callable[[Behaviour, str], AbstractContextManager[dict[str, str]]]
"""Given what C42 does on a connection, and the path of its address: the settings with which the proxy goes this way."""
Change = Callable[[Behaviour], Behaviour]
"""Of what C42 does on a connection."""

NAME = "c42.example"
NOBODY = address("127.0.0.1", 1)
UNREACHABLE = address("224.0.0.1", 1)
"""TCP does not connect to many receivers at once (multicast)."""
CONNECTED = b"HTTP/1.0 200 Connection established\r\n\r\n"
HINTS = b"".join(b"HTTP/1.1 %d Soon\r\nLink: </x>\r\n\r\n" % status for status in (102, 103, 103, 199))


def changed(change: Change) -> Way:
    """C42 does on its connections what it usually does, but for a change."""

    @contextmanager
    def way(usual: Behaviour, path: str) -> Iterator[dict[str, str]]:
        with Wire(change(usual)) as c42:
            yield {"C42_API_URL": f"http://127.0.0.1:{c42.port}{path}"}

    return way


def instead(behaviour: Behaviour) -> Way:
    """Whatever C42 is asked, this happens on the connection."""
    return changed(lambda _usual: behaviour)


def named(*before: Address, dead: int = 0, answers: bool = True) -> Way:
    """C42's name has these addresses, so many dead ones, and then one that answers. It keeps no connection."""

    @contextmanager
    def way(usual: Behaviour, path: str) -> Iterator[dict[str, str]]:
        with Wire(_keeps_no_connection(usual)) as c42, ExitStack() as stack:
            found = [*before, *(stack.enter_context(dead_address()) for _ in range(dead))]
            name = f"{path.split('/')[1]}.example"  # of this scenario alone: which address answers is remembered
            stack.enter_context(_resolved(name, [*found, *[c42.address] * answers]))
            yield {"C42_API_URL": f"http://{name}:{c42.port}{path}"}

    return way


@contextmanager
def without_a_name(_usual: Behaviour, path: str) -> Iterator[dict[str, str]]:
    with _resolved(NAME, None):
        yield {"C42_API_URL": f"https://{NAME}{path}"}


def secured(
    names: str = HERE,
    host: str = "127.0.0.1",
    change: Callable[[ssl.SSLContext], None] = lambda _context: None,
    *,
    trusted: bool = True,
    expired: bool = False,
) -> Way:
    """C42 is at an https address, with a certificate for these names, of an authority that the proxy trusts or not."""

    @contextmanager
    def way(usual: Behaviour, path: str) -> Iterator[dict[str, str]]:
        context = _authority().server(names, expired=expired)
        change(context)
        with Wire(usual, tls=context) as c42:
            trust = {"C42_CA_FILE": f"{_authority().file}"} if trusted else {}
            yield {"C42_API_URL": f"https://{host}:{c42.port}{path}", **trust}

    return way


def _agrees_on_nothing(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2


@contextmanager
def without_tls(_usual: Behaviour, path: str) -> Iterator[dict[str, str]]:
    """What is there answers without reading: the first bytes of TLS are no request."""

    def answer(connection: Connection) -> bool:
        connection.sock.recv(65536)
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return False

    with Wire() as c42, patch.object(Connection, "next_request", answer):
        yield {"C42_API_URL": f"https://127.0.0.1:{c42.port}{path}"}


def through(gateway: Change, scheme: str = "https", url: str = "http://127.0.0.1:{}") -> Way:
    """The way leads through a gateway (an HTTP proxy). If it connects, it answers in C42's place."""

    @contextmanager
    def way(usual: Behaviour, path: str) -> Iterator[dict[str, str]]:
        with Wire(gateway(usual)) as it, _resolved("gateway.example", None):
            settings = {"C42_PROXY_URL": url.format(it.port), "C42_CA_FILE": f"{_authority().file}"}
            yield {"C42_API_URL": f"{scheme}://{NAME}{path}", **settings}

    return way


def _connects(usual: Behaviour) -> Behaviour:
    """The way to an https address: what follows is between the proxy and C42, and only they can read it."""
    context = _authority().server(f"DNS:{NAME}")

    def behave(path: str, connection: Connection) -> None:
        if connection.request.startswith(b"CONNECT"):
            connection.send(CONNECTED)
            connection.sock = context.wrap_socket(connection.sock, server_side=True)
            connection.requests = 0
        else:
            usual(path, connection)

    return behave


def _passes_on(usual: Behaviour) -> Behaviour:
    """The way to an http address: the gateway is asked for all of the address."""

    def behave(path: str, connection: Connection) -> None:
        parts = urlsplit(path)
        if parts.hostname == NAME:
            usual(f"{parts.path}?{parts.query}", connection)

    return behave


def _keeps_no_connection(usual: Behaviour) -> Behaviour:
    def behave(path: str, connection: Connection) -> None:
        usual(path, connection)
        connection.close()

    return behave


def _ends_kept_connections(end: Behaviour) -> Change:
    """A connection that was kept ends with its second request."""
    return lambda usual: lambda path, connection: (end if connection.requests > 1 else usual)(path, connection)


def _sends_first(data: bytes) -> Change:
    def change(usual: Behaviour) -> Behaviour:
        def behave(path: str, connection: Connection) -> None:
            connection.send(data)
            usual(path, connection)

        return behave

    return change


def _in_another_form(form: Callable[[bytes], bytes]) -> Change:
    """The body of each answer, as C42 sends it on the connection; with the header that says so."""

    class Changed(Connection):
        def send(self, data: bytes) -> None:
            _head, _, body = data.partition(b"\r\n\r\n")
            super().send(b"HTTP/1.1 200 OK\r\n" + form(body))

    def change(usual: Behaviour) -> Behaviour:
        def behave(path: str, connection: Connection) -> None:
            connection.__class__ = Changed
            usual(path, connection)

        return behave

    return change


def _compressed(body: bytes) -> bytes:
    packed = gzip.compress(body)
    return b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed)


def _in_pieces(body: bytes) -> bytes:
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    return b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % pieces


def _gives_cookies(usual: Behaviour) -> Behaviour:
    class Giving(Connection):
        def send(self, data: bytes) -> None:
            super().send(data.replace(b"\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n", 1))

    def behave(path: str, connection: Connection) -> None:
        connection.__class__ = Giving
        (usual if connection.header("Cookie") is None else closes)(path, connection)

    return behave


def advised(**variables: str) -> Way:
    """The machine has these variables for all programs, and a password for each address in a file of the user's."""

    @contextmanager
    def way(usual: Behaviour, path: str) -> Iterator[dict[str, str]]:
        with TemporaryDirectory() as home, Wire(usual) as c42:
            netrc = Path(home, ".netrc")
            netrc.write_text("default login ford password prefect\n")
            netrc.chmod(0o600)
            with patch.dict(os.environ, {"HOME": home, **variables}):
                yield {"C42_API_URL": f"http://127.0.0.1:{c42.port}{path}"}

    return way


@cache
def _authority() -> Authority:
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Authority(Path(folder.name))


@contextmanager
def _resolved(name: str, addresses: list[Address] | None) -> Iterator[None]:
    """The name has these addresses; None if it has not been given to anybody."""
    resolve = socket.getaddrinfo

    def resolved(host: str, *more: object, **names: object) -> object:
        if host != name:
            return resolve(host, *more, **names)  # type: ignore[arg-type]  # they are passed on as they are
        if addresses is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return addresses

    with patch("socket.getaddrinfo", resolved):
        yield


WAYS: dict[str, Way] = {
    # No connection, or one that breaks
    "has no name that is known": without_a_name,
    "refuses connections": named(NOBODY, answers=False),
    "is where nothing leads to": named(UNREACHABLE, answers=False),
    "hangs up without an answer": instead(closes),
    "breaks off without an answer": instead(BROKEN["reset at once"]),
    "breaks off within its answer": instead(BROKEN["reset in the body"]),
    "hangs up at the head of its answer": instead(BROKEN["cut in the headers"]),
    "hangs up before the text of its answer": instead(BROKEN["cut after the headers"]),
    "hangs up within its answer": instead(BROKEN["cut in a chunk"]),
    "hangs up between two parts of its answer": instead(BROKEN["cut between two chunks"]),
    "is a mail server": instead(BROKEN["no HTTP"]),
    # Certificates
    "has a certificate of an unknown authority": secured(trusted=False),
    "has a certificate for another name": secured(f"DNS:{NAME}", host="localhost"),
    "has a certificate for another address": secured("IP:127.0.0.2"),
    "has a certificate that has expired": secured(expired=True),
    "has no certificate": without_tls,
    "wants a certificate of the proxy": secured(change=_agrees_on_nothing),
    # What it answers
    "says in two ways how long its answer is": instead(UNUSABLE["two lengths"]),
    "says in letters how long its answer is": instead(UNUSABLE["a length that is no number"]),
    "packs its answer in a way that is not known": instead(UNUSABLE["a transfer coding that nobody asked for"]),
    "says that its answer is packed, and it is not": instead(UNUSABLE["said to be compressed"]),
    "sends a line without meaning before its answer": instead(UNUSABLE["a line without a colon"]),
    "sends a line without meaning behind others": instead(UNUSABLE["a line without a colon behind the length"]),
    "begins like a mailbox": instead(UNUSABLE["the first line of a mailbox"]),
    "sends a hundred lines before its answer": instead(UNUSABLE["106 headers"]),
    "sends one very long line before its answer": instead(UNUSABLE["a header of 70,000 characters"]),
    # Nothing whole in time
    "takes no connection": named(dead=1, answers=False),
    "says nothing": instead(is_silent),
    "sends a letter at a time": instead(DAWDLING["a body that drips"]),
    "sends a letter of the head at a time": instead(DAWDLING["headers that drip"]),
    "sends a head without end": instead(DAWDLING["endless headers"]),
    "sends a head of long lines without end": instead(DAWDLING["endless long headers"]),
    "sends hints without end": instead(DAWDLING["endless 103 Early Hints"]),
    # It is well, if in an unusual way
    "is well": changed(lambda usual: usual),
    "is well, with a certificate": secured(),
    "sends hints before its answer": changed(_sends_first(HINTS)),
    "sends its answer in pieces": changed(_in_another_form(_in_pieces)),
    "packs its answer": changed(_in_another_form(_compressed)),
    "hangs up when it is asked again": changed(_ends_kept_connections(closes)),
    "breaks off when it is asked again": changed(_ends_kept_connections(BROKEN["reset at once"])),
    "hangs up after each answer": changed(_keeps_no_connection),
    "gives out cookies, and answers nobody who has one": changed(_gives_cookies),
    "is on a machine that sends all programs through a gateway": advised(http_proxy="http://127.0.0.1:1"),
    # Several addresses
    "has two addresses, and nobody is at the first": named(NOBODY),
    "has two addresses, and nothing leads to the first": named(UNREACHABLE),
    "has six addresses, and the first five are dead": named(dead=5),
    # A gateway
    "is behind a gateway": through(_connects),
    "is behind a gateway, without a certificate": through(_passes_on, "http"),
    "is behind a gateway, and hangs up when it is asked again": through(
        lambda usual: _connects(_ends_kept_connections(closes)(usual))
    ),
    "is behind a gateway that is not there": through(_connects, url="http://127.0.0.1:1"),
    "is behind a gateway without a name": through(_connects, url="http://gateway.example:{}"),
    "is behind a gateway that wants a password": through(lambda _usual: says(b"", "407 No")),
    "is behind a gateway that hangs up": through(lambda _usual: closes),
    "is behind a gateway that is a mail server": through(lambda _usual: BROKEN["no HTTP"]),
    "is behind a gateway that says nothing": through(lambda _usual: is_silent),
    "is silent behind a gateway": through(lambda _usual: _connects(is_silent)),
}
"""What the steps say of the way to C42."""
