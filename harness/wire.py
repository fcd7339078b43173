"""C42 as a socket on 127.0.0.1 that answers with any bytes, at any pace, or not at all: as no decent server can.

What it does is a plain function of a request's path and its connection (`Behaviour`); those below are ready-made.
"""

import contextlib
import gzip
import json
import re
import socket
import ssl
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from c42_proxy.sandbox import shapes

EVENT_ID = "b5ee_14770730026240"
REASON_OF = {
    400: "bad-request",
    404: "address-not-found",
    405: "method-not-allowed",
    431: "bad-request",
    502: "c42-unavailable",
}
"""The `reason` of the proxy's problem for each status, if C42 is broken or the request is wrong."""
PAGE = 100


class Connection:
    """A client's connection. `request` is the head of the request to answer, `requests` how many there were on it."""

    def __init__(self, sock: socket.socket, over: threading.Event) -> None:
        self.request = b""
        self.requests = 0
        self.sock = sock
        self._over = over

    @property
    def is_over(self) -> bool:
        """Whether the wire has ended this connection itself."""
        return self._over.is_set()

    def next_request(self) -> bool:
        """Read the head of a further request; False where the client has closed."""
        self.request = b""
        while b"\r\n\r\n" not in self.request:
            received = self.sock.recv(65536)
            if not received:
                return False
            self.request += received
        self.requests += 1
        return True

    def header(self, name: str) -> str | None:
        for line in self.request.decode("latin-1").split("\r\n"):
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    def send(self, data: bytes) -> None:
        """`EVENT_ID` in `data` becomes the id asked for, which must be as long because of `Content-Length`."""
        asked = re.search(rb"events/([^/]+)/|event_ids=%5B(.+?)%5D", self.request)
        self.sock.sendall(data.replace(EVENT_ID.encode(), asked[1] or asked[2]) if asked else data)

    def send_forever(self, data: bytes) -> None:
        """Ends when the client closes: sending fails then."""
        while True:
            self.sock.sendall(data)

    def drip(self, data: Iterable[int], pause: float = 0.01) -> None:
        for byte in data:
            self.send(bytes([byte]))
            self.pause(pause)

    def pause(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise ConnectionAbortedError

    def be_silent(self) -> None:
        """Ends when the client closes."""
        while self.sock.recv(65536):
            pass

    def leaves(self, seconds: float) -> bool:
        """Wait; whether the client, or the wire, closes meanwhile. A client sends nothing before it has its answer."""
        self.sock.settimeout(seconds)
        try:
            return not self.sock.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.sock.settimeout(None)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Behaviour = Callable[[str, Connection], None]

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]
"""As `socket.getaddrinfo` gives it."""


def address(host: str, port: int) -> Address:
    return socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)


@contextlib.contextmanager
def dead_address(host: str = "127.0.0.1", port: int = 0) -> Iterator[Address]:
    """An address that neither accepts nor refuses a connection: its queue is full, and further attempts are dropped."""
    with socket.create_server((host, port), backlog=0) as listener, contextlib.ExitStack() as queue:
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield address(*listener.getsockname())


class Wire:
    """The server: a thread for each connection; all threads have ended after the `with` block, and after `refuse`.

    `calls` counts the requests by `kind`, `most_at_once` is the highest number of them under way together;
    `connections` counts all that were made, `open_connections` those that are open.
    """

    def __init__(self, behaviour: Behaviour | None = None, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour or c42()
        self.calls: Counter[str] = Counter()
        self.most_at_once = 0
        self.connections = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._open: dict[Connection, threading.Thread] = {}
        self._bind(port)
        self.port: int = self._listener.getsockname()[1]
        self._tls = tls
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/api/v2/"

    @property
    def address(self) -> Address:
        return address(*self._listener.getsockname())

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()

    def refuse(self) -> None:
        """Close everything: whoever connects is refused, until the next `listen`."""
        self._over.set()
        with contextlib.suppress(OSError):  # it refuses already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            still_open = dict(self._open)
        for connection, thread in still_open.items():
            with contextlib.suppress(OSError):  # its other end, or its behaviour, may be faster
                connection.sock.shutdown(socket.SHUT_RDWR)
            thread.join()

    def listen(self) -> None:
        """Answer again, at the same port."""
        self._bind(self.port)
        self._acceptor.start()

    def _bind(self, port: int) -> None:
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self._acceptor = threading.Thread(target=self._accept, name="wire")

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, self._over)
            thread = threading.Thread(target=self._serve, args=(connection,), name="wire")
            with self._lock:
                self.connections += 1
                self._open[connection] = thread
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            if self._tls is not None:
                connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
            while connection.next_request():
                self._answer(connection)
        except OSError:
            pass  # either end has closed: nobody is left to tell
        finally:
            connection.close()
            with self._lock:
                del self._open[connection]

    def _answer(self, connection: Connection) -> None:
        path = connection.request.split(b" ")[1].decode()
        with self._lock:
            self.calls[kind(path)] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.behaviour(path, connection)
        finally:
            with self._lock:
                self._at_once -= 1


def asked(path: str) -> tuple[str, int | None]:
    """What a call is about: an event; and where a page of its subscriptions begins, if it is that call."""
    parts = urlsplit(path)
    if "/event-subscriptions/" not in parts.path:
        return parts.path.rstrip("/").rpartition("/")[2], None
    query = parse_qs(parts.query)
    return query.get("event_ids", [""])[0].strip("[]"), int(query.get("offset", ["0"])[0])


def kind(path: str) -> str:
    """`event` for the call for the event, `page 0`, `page 100` and so on for the subscriptions from that offset on."""
    start = asked(path)[1]
    return "event" if start is None else f"page {start}"


def offset(path: str) -> int:
    return asked(path)[1] or 0


# What C42 says, without what the proxy does not read: every alteration should matter to the proxy.


def event(title: object = "Coffee", **fields: object) -> dict[str, object]:
    return {"data": [{**_read(shapes.event(EVENT_ID, "")), "title": title, **fields}]}


def subscription(number: int, first_name: object = "Ann", **fields: object) -> dict[str, object]:
    said = _read(shapes.subscription(EVENT_ID, number, shapes.Person("")))
    return {**said, "id": f"{EVENT_ID}__{number}", "subscriber": {"first_name": first_name}, **fields}


def _read(said: Mapping[str, object]) -> dict[str, object]:
    return {name: said[name] for name in ("id", "event_id", "permission") if name in said}


def page(subscriptions: Sequence[object], **meta_data: object) -> dict[str, object]:
    return {**shapes.page(subscriptions, **meta_data)}


def people(number: int) -> list[object]:
    """That many subscriptions; their names are the numbers from 0 on."""
    return [subscription(n, str(n)) for n in range(number)]


# Behaviours


def answer(content: object, status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer; `content` is what to send as JSON, or bytes as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def says(content: object, status: str = "200 OK", *headers: str) -> Behaviour:
    return sends(answer(content, status, *headers))


def sends(data: bytes) -> Behaviour:
    return lambda _path, connection: connection.send(data)


def sends_and_closes(data: bytes) -> Behaviour:
    def behave(_path: str, connection: Connection) -> None:
        connection.send(data)
        connection.close()

    return behave


def sends_and_resets(data: bytes) -> Behaviour:
    def behave(_path: str, connection: Connection) -> None:
        connection.send(data)
        connection.reset()

    return behave


def sends_without_end(start: bytes, again: bytes) -> Behaviour:
    def behave(_path: str, connection: Connection) -> None:
        connection.send(start)
        connection.send_forever(again)

    return behave


def drips(start: bytes, rest: bytes) -> Behaviour:
    def behave(_path: str, connection: Connection) -> None:
        connection.send(start)
        connection.drip(rest)

    return behave


def is_silent(_path: str, connection: Connection) -> None:
    connection.be_silent()


def closes(_path: str, connection: Connection) -> None:
    connection.close()


def after(seconds: float, behaviour: Behaviour) -> Behaviour:
    def behave(path: str, connection: Connection) -> None:
        connection.pause(seconds)
        behaviour(path, connection)

    return behave


def c42(title: object = "Coffee", people: Sequence[object] = (), *, at_most: int = PAGE, **meta: object) -> Behaviour:
    """A well-behaved C42, except that `meta` replaces the true `count`, and a page has `at_most` subscriptions."""

    def behave(path: str, connection: Connection) -> None:
        if kind(path) == "event":
            connection.send(answer(event(title)))
        else:
            start = offset(path)
            connection.send(answer(page(people[start : start + at_most], **(meta or {"count": len(people)}))))

    return behave


def but(usual: Behaviour, unusual: Mapping[str, Behaviour]) -> Behaviour:
    """As usual, but for some kinds of calls."""
    return lambda path, connection: unusual.get(kind(path), usual)(path, connection)


# Answers with something wrong

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SPACES = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
GZIP_BOMB = gzip.compress(bytes(2**24)) * 64
"""A gigabyte, in a megabyte."""
EMPTY_GZIP = zlib.compressobj(wbits=31).flush(zlib.Z_SYNC_FLUSH)
"""The start of a compressed body; any number of blocks without content may follow."""

DAWDLING: dict[str, Behaviour] = {
    "silence": is_silent,
    "a status line that drips": drips(b"", answer(event())),
    "headers that drip": drips(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 10_000),
    "a body that drips": drips(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", b" " * 10_000),
    "chunks that drip": drips(CHUNKED, b"1\r\n \r\n" * 10_000),
    "silence after the headers": drips(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b""),
    "silence in the body": drips(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b""),
    "endless headers": sends_without_end(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n"),
    "endless long headers": sends_without_end(b"HTTP/1.1 200 OK\r\n", b"X: %b\r\n" % (b"x" * 1000)),
    "one endless header": sends_without_end(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
    "an endless status line": sends_without_end(b"HTTP/1.1 200 ", b"x" * 1000),
    "endless 103 Early Hints": sends_without_end(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "endless 100 Continue": sends_without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a compressed body without content": sends_without_end(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + EMPTY_GZIP, b"\0\0\0\xff\xff" * 1000
    ),
    "endless trailers": sends_without_end(CHUNKED + b"0\r\n", b"X: x\r\n"),
}
"""Nothing complete comes within any time."""

BROKEN: dict[str, Behaviour] = {
    "closed at once": closes,
    "reset at once": sends_and_resets(b""),
    "reset in the headers": sends_and_resets(b"HTTP/1.1 200 OK\r\nContent-"),
    "reset in the body": sends_and_resets(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
    "cut in the status line": sends_and_closes(b"HTTP/1.1 404 Not"),
    "cut after the status line": sends_and_closes(b"HTTP/1.1 404 Not Found\r\n"),
    "cut in the headers": sends_and_closes(b"HTTP/1.1 404 Not Found\r\nContent-Type"),
    "cut after the headers": sends_and_closes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n"),
    "cut short by its length": sends_and_closes(answer(event())[:-1]),
    "cut in a chunk": sends_and_closes(CHUNKED + b"ff\r\n{"),
    "cut between two chunks": sends_and_closes(CHUNKED + b"2\r\n{}\r\n"),
    "no HTTP": sends_and_closes(b"220 mail.example.org ESMTP\r\n"),
    "a chunk of no length": sends_and_closes(CHUNKED + b"many\r\n{}\r\n"),
    "a chunk of negative length": sends_without_end(CHUNKED + b"-1\r\n", b" " * 65536),
    "an endless chunk length": sends_without_end(CHUNKED, b"0" * 65536),
    "500": says({}, "500 Oops"),
    "502": says(b"<html>", "502 Bad Gateway"),
    "503": says({}, "503 Unavailable"),
    "status 999": says({}, "999 Oops"),
}
"""C42 is down, or breaks off."""

WITHOUT_EVENT = b'{"data": []}'
MALFORMED_HEADS: dict[str, Behaviour] = {
    name: sends(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + WITHOUT_EVENT)
    for name, head in {
        "the same length twice": b"Content-Length: 12\r\n" * 2,
        "two lengths": b"Content-Length: 12\r\nContent-Length: 13\r\n",
        "two lengths in one line": b"Content-Length: 12, 12\r\n",
        "a length that is no number": b"Content-Length: many\r\n",
        "a length below zero": b"Content-Length: -12\r\n",
        "a length with a sign": b"Content-Length: +12\r\n",
        "a length of 5,000 digits": b"Content-Length: " + b"0" * 5000 + b"12\r\n",
        "a length on two lines": b"Content-Length: 1\r\n 2\r\n",
        "an empty length": b"Content-Length:\r\n",
        "a transfer coding that nobody asked for": b"Transfer-Encoding: gzip, chunked\r\n",
        "chunked twice": b"Transfer-Encoding: chunked\r\n" * 2,
        "a line without a colon": b"no colon\r\nContent-Length: 12\r\n",
        "a line without a colon behind the length": b"Content-Length: 12\r\nno colon\r\n",
        "a header without a name": b": no name\r\nContent-Length: 12\r\n",
        "a space before the colon": b"Content-Length : 12\r\n",
        "a first header that goes on": b" folded\r\nContent-Length: 12\r\n",
        "the first line of a mailbox": b"From Ford Prefect\r\nContent-Length: 12\r\n",
        "the first line of a mailbox as the last header": b"Content-Length: 12\r\nFrom Ford Prefect\r\n",
        "106 headers": b"X: x\r\n" * 105 + b"Content-Length: 12\r\n",
        "a header of 70,000 characters": b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 12\r\n",
    }.items()
} | {"a status line of 70,000 characters": sends(b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n" + WITHOUT_EVENT)}
"""The head ends, but it is not clear what it says, or where the body ends. The connection stays open."""

UNUSABLE: dict[str, Behaviour] = {
    **MALFORMED_HEADS,
    "nothing": says(b""),
    "204": sends(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": sends(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "400": says({"error": {"status_code": 400, "message": "no", "code": "no"}}, "400 Bad Request"),
    "a redirect": says(b"", "302 Found", f"Location: /api/v2/events/{EVENT_ID}/?again"),
    "a redirect with an endless body": sends_without_end(
        CHUNKED.replace(b"200 OK", b"302 Found\r\nLocation: /elsewhere"), SPACES
    ),
    "HTML": says(b"<html>"),
    "invalid UTF-8": says(b'{"data": "\xff"}'),
    "UTF-16": says(json.dumps(event()).encode("utf-16")),
    "nested 100,000 deep": says(b"[" * 100_000 + b"]" * 100_000),
    "nested 100,000 deep in a field of no interest": says(b'{"data": [], "x": ' + b'{"a":' * 100_000),
    "NaN": says(b'{"data": [], "x": NaN}'),
    "a number too long to read": says(b'{"data": [], "x": ' + b"1" * 10_000 + b"}"),
    "an array": says([]),
    "text": says("data"),
    "null": says(None),
    "no data": says({}),
    "data is null": says({"data": None}),
    "data is an object": says({"data": {}}),
    "data is text": says({"data": EVENT_ID}),
    "arrays for objects": says({"data": [[]]}),
    "numbers for objects": says({"data": [1]}),
    "objects without an id": says({"data": [{}]}),
    "a number for an id": says({"data": [{"id": 1}]}),
    "spaces without end, in chunks": sends_without_end(CHUNKED, SPACES),
    "spaces without end, and a length": sends_without_end(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n", b" " * 65536
    ),
    "a byte too many": says(b'{"data": []}'.ljust(4_194_305)),
    "a gigabyte, compressed": says(GZIP_BOMB, "200 OK", "Content-Encoding: gzip"),
    "a gigabyte, compressed twice": says(gzip.compress(GZIP_BOMB), "200 OK", "Content-Encoding: gzip, gzip"),
    "said to be compressed": says(event(), "200 OK", "Content-Encoding: gzip"),
    "compressed in a way of its own": says(b"\x8b\x08\x80", "200 OK", "Content-Encoding: br"),
}
"""C42 answers, but not as its API promises, whichever call it is."""
