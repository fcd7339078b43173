"""The only module that uses private names of urllib3 and http.client.

Time-outs of requests and urllib3 are for each socket operation: an upstream that sends a byte a second never reaches
them. Here every operation gets only the rest of one budget.

The names are checked at the start (`check`). Without them, the session uses requests' own adapter;
`transport.adapter_class` says what is then lost.
"""

import http.client
import io
import math
import re
import socket
import time
from contextlib import suppress
from email.errors import (
    FirstHeaderLineIsContinuationDefect,
    InvalidHeaderDefect,
    MisplacedEnvelopeHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)
from queue import LifoQueue
from threading import Lock
from typing import Any

from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)
from urllib3.response import BaseHTTPResponse, HTTPResponse

from ..deadline import Deadline, deadline_in_force, ends_at
from ..errors import Cause, InvalidAnswer
from .addresses import Addresses
from .lean_adapter import LeanAdapter

LINE_TOO_LONG = http.client.LineTooLong
"""Without the name, lines that are too long would count as a broken connection, not as an invalid answer."""

INTERIM = range(102, 200)
"""The final answer is still to come (RFC 9110, section 15.2). http.client skips 100; 101 is no interim answer."""

MAX_HEAD_BYTES = 1_048_576
"""At most this much is read of a head that Python's parser has given up on, to see whether it ends."""

MAX_LINE_BYTES = 65_536
"""The bound of a line that Python's parser has for heads."""

LENGTH = re.compile("[0-9]{1,18}[ \t]*")

NO_HEADER = (
    FirstHeaderLineIsContinuationDefect,
    InvalidHeaderDefect,
    MisplacedEnvelopeHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)
"""Python's parser reports these if a line is no header. Its other defects are about a MIME body, which is not read."""

CLOSING_SECONDS = 0.25
"""Less than the time by which a thread is idle for longer than a connection that is closed: so a thread that ends so
shortly after another one has no connection that the other one has left open."""

CHECK_SECONDS = 1.0
UNUSED = "127.0.0.1:1"
"""Nothing listens on this address, in case the check does open a real connection."""


class _DeadlineReader(io.RawIOBase):
    """A socket's bytes. Each read ends at the deadline in force at the latest. `ended`: the last one found no more."""

    ended: bool

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(deadline_in_force().remaining())
        received = self._raw.readinto(buffer)
        self.ended = received == 0
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedReader(io.BufferedReader):
    """Puts a bound to each read without one: urllib3 reads the length of a chunk so, and a chunk of the length -1."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            raise http.client.HTTPException
        return super().read(size)

    def readline(self, size: int | None = -1) -> bytes:
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(MAX_LINE_BYTES)
        if len(line) == MAX_LINE_BYTES:
            raise http.client.HTTPException
        return line


class _Response(http.client.HTTPResponse):
    # Private names used here: `fp`, the buffered socket, to which the deadline is applied; `begin`, which http.client
    # must call, or else early hints and half a head pass for the answer; and `msg` and `headers`, which must be empty
    # before a head is read, or else nothing is read after early hints.

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._reader = _DeadlineReader(sock, self.fp.detach())
        self.fp = _BoundedReader(self._reader)

    def begin(self) -> None:
        self._read_head()
        while self.status in INTERIM:
            # As before the first head. Without a status, the loop ends even if `begin` reads nothing.
            self.headers = self.msg = self.status = None  # type: ignore[assignment]  # typed for an answer
            self._read_head()
        if self._reader.ended:
            # Python accepts the end of the connection as the end of the headers: half a 404 would pass for a whole one.
            raise http.client.HTTPException
        self._refuse_malformed_head()
        # urllib3 logs defects, which may be an echo of our own request.
        self.msg.defects = []

    def _read_head(self) -> None:
        try:
            super().begin()
            return
        except http.client.HTTPException as exc:
            if not (isinstance(exc, LINE_TOO_LONG) or type(exc) is http.client.HTTPException):
                raise
        # Python's parser has given up: on a long line, the hundred-and-first header, or too many 100 Continue.
        self._skip_head()
        raise InvalidAnswer(Cause.LONG_HEAD)

    def _skip_head(self) -> None:
        """Read on to the end of the head. Raises TimeoutError if it does not end: no complete answer would come."""
        skipped = 0
        while skipped < MAX_HEAD_BYTES:
            line = self.fp.readline(MAX_HEAD_BYTES)
            if not line:
                raise http.client.HTTPException
            if line in {b"\r\n", b"\n"}:
                return
            skipped += len(line)
        raise TimeoutError

    def _refuse_malformed_head(self) -> None:
        """Raises InvalidAnswer for a malformed head, which Python would read as far as it can.

        Without a usable length, the body would be read until the deadline.
        """
        lengths = self.msg.get_all("Content-Length", [])
        codings = self.msg.get_all("Transfer-Encoding", ["chunked"])
        payload = self.msg.get_payload()
        why = None
        if (
            any(isinstance(defect, NO_HEADER) for defect in self.msg.defects)
            or self.msg.get_unixfrom() is not None
            or (isinstance(payload, str) and payload)
        ):
            why = Cause.NO_HEADER
        elif len(lengths) > 1 or not all(map(LENGTH.fullmatch, lengths)):
            why = Cause.NO_LENGTH
        elif [coding.strip().lower() for coding in codings] != ["chunked"]:
            why = Cause.UNKNOWN_CODING
        if why is not None:
            raise InvalidAnswer(why, self.status)


_addresses = Addresses()
"""One for the process: which address of C42 answers does not depend on the session."""


class _HTTPConnection(HTTPConnection):
    """Reads by the deadline, and repeats a request on a new connection if the upstream had closed the kept-alive one.

    The upstream may close an idle connection at the very moment at which we use it; a GET may then be sent again
    (RFC 9112, section 9.3.1).
    """

    # Without the name, Python's own class would read the answer.
    response_class = _Response
    _used: bool

    def connect(self) -> None:
        self._used = False
        at_http_proxy = deadline_in_force().at_http_proxy
        if self.proxy is not None:
            at_http_proxy.add(id(self))
        super().connect()
        at_http_proxy.discard(id(self))
        # The fetch may have ended meanwhile.
        deadline_in_force().check_may_begin()

    def _new_conn(self) -> socket.socket:
        # Without `_new_conn`, one dead address may use up the remaining time. Without `_dns_host`, a trailing dot of
        # the host name is lost.
        try:
            return _addresses.connect(self._dns_host, self.port, deadline_in_force())
        except TimeoutError as exc:
            raise ConnectTimeoutError(self, "no address has answered in time") from exc
        except OSError as exc:
            # Not the OSError itself: urllib3 takes a reset for one that came after sending, and reads on.
            raise NewConnectionError(self, f"no address can be reached: {exc}") from exc

    def _tunnel(self) -> None:
        # Without `_tunnel`, what the HTTP proxy does would pass for what C42 does.
        try:
            super()._tunnel()
        except (OSError, http.client.HTTPException) as exc:
            raise ProxyError("the HTTP proxy does not connect", exc) from exc
        deadline_in_force().at_http_proxy.discard(id(self))

    def request(self, *args: Any, **kwargs: Any) -> None:
        # The fetch may have ended while this page looked for a back-off.
        deadline_in_force().check_may_begin()
        self._request = (args, kwargs)
        self._tunnel_to: tuple[Any, ...] = (self._tunnel_host, self._tunnel_port, self._tunnel_scheme)
        try:
            super().request(*args, **kwargs)
        except ConnectionError:
            # On a reused connection `getresponse` fails as well, and sends the request again.
            if not self._used:
                raise

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3's own class
        try:
            response = super().getresponse()
        except ConnectionError:
            if not self._used:
                raise
            host, port, scheme = self._tunnel_to
            if host is not None:
                # http.client has closed the connection, which forgets the tunnel: the request would go to the proxy.
                self.set_tunnel(host, port, self._tunnel_headers, scheme)  # type: ignore[attr-defined]  # http.client's
            args, kwargs = self._request
            self.request(*args, **kwargs)
            response = super().getresponse()
        self._used = True
        return response


class _HTTPSConnection(_HTTPConnection, HTTPSConnection):
    pass


class _IdleConnections(LifoQueue[Any]):
    """The connections of a pool that no call uses; None stands for one that is not made yet.

    The connection that was used last is used next, so that those that are not needed grow old.
    """

    def _put(self, item: Any) -> None:
        if item is not None:
            item.idle_since = time.monotonic()
        super()._put(item)

    def close_old(self, seconds: float) -> None:
        """Close connections that have been idle for `seconds`: the upstream may have closed its end long ago."""
        limit = time.monotonic() - seconds
        # With the mutex, no call takes one of them meanwhile. A closed connection connects again when it is used.
        with self.mutex:
            for connection in self.queue:
                if connection is not None and connection.idle_since <= limit:
                    connection.close()


class _HTTPPool(HTTPConnectionPool):
    # Private names: without `ConnectionCls` and `pool_classes_by_scheme`, urllib3 would make its own connections;
    # without `QueueCls`, and `queue` and `mutex` of the queue, idle connections would stay open.
    ConnectionCls = _HTTPConnection
    QueueCls = _IdleConnections


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection
    QueueCls = _IdleConnections


POOL_CLASSES = {"http": _HTTPPool, "https": _HTTPSPool}


class DeadlineAdapter(LeanAdapter):
    """Makes the calls of a requests session, each with one deadline, also through an HTTP proxy."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._making_manager = Lock()
        self._closed_at = -math.inf
        super().__init__(*args, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOL_CLASSES

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        # With the lock, no other thread takes a manager that has urllib3's own pools yet.
        with self._making_manager:
            manager = super().proxy_manager_for(*args, **kwargs)
            manager.pool_classes_by_scheme = POOL_CLASSES
        return manager

    def close_idle(self, seconds: float) -> None:
        """Close the connections that no call has used for `seconds`.

        Hundreds of threads may end at once and call this. One of them in `CLOSING_SECONDS` does it for all.
        """
        now = time.monotonic()
        if now < self._closed_at + CLOSING_SECONDS:
            return
        self._closed_at = now
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # no dict: it refuses to be iterated
                connections = manager.pools[key].pool
                if connections is not None:
                    connections.close_old(seconds)


def check() -> None:
    """Read an answer from ourselves, over a pair of sockets. Raises if one of the libraries has changed."""
    adapter = DeadlineAdapter()
    manager = adapter.poolmanager
    for each in (manager, adapter.proxy_manager_for(f"http://{UNUSED}")):
        _expect(isinstance(each.connection_from_url(f"https://{UNUSED}/"), _HTTPSPool), "a session makes other pools")
    _expect(hasattr(http.client.HTTPConnection, "_tunnel"), "a connection has no _tunnel")
    _expect("_tunnel_headers" in vars(_HTTPConnection(UNUSED)), "a connection keeps its tunnel in another way")
    idle = manager.connection_from_url(f"http://{UNUSED}/").pool
    idle.get_nowait()
    idle.put(_HTTPConnection(UNUSED))
    # It fails if the pool, or its queue or the queue's lock, is another one or kept in another way.
    adapter.close_idle(0)
    pool, theirs = _pool_to_ourselves(manager)
    with theirs:
        theirs.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12")
        with _get(pool) as response:
            _expect(response.status == http.HTTPStatus.OK, "early hints pass for the answer")
            # All bytes are there, but the deadline has passed.
            theirs.sendall(b"34")
            with ends_at(Deadline(0)), suppress(ReadTimeoutError):
                response.read()
                raise LookupError("a read does not end at the deadline")
    pool, theirs = _pool_to_ourselves(manager)
    with theirs:
        theirs.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Type")
        theirs.shutdown(socket.SHUT_WR)
        with suppress(ProtocolError):
            _get(pool)
            raise LookupError("half a head passes for a whole one")
    _expect("_dns_host" in vars(_HTTPConnection("127.0.0.1")), "a connection has no _dns_host")


def _pool_to_ourselves(manager: PoolManager) -> tuple[HTTPConnectionPool, socket.socket]:
    """A pool like the adapter's whose connection is one end of a socket pair, and the other end."""
    ours, theirs = socket.socketpair()

    class Connection(_HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return ours

    class Pool(_HTTPPool):
        ConnectionCls = Connection

    manager.pool_classes_by_scheme = {"http": Pool}
    manager.clear()
    pool = manager.connection_from_url(f"http://{UNUSED}/")
    return pool, theirs


def _get(pool: HTTPConnectionPool) -> BaseHTTPResponse:
    with ends_at(Deadline(CHECK_SECONDS)):
        return pool.urlopen("GET", "/", retries=False, timeout=CHECK_SECONDS, preload_content=False)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise LookupError(otherwise)
