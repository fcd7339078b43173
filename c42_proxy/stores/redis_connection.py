"""The only module that uses how a connection of redis-py connects: its private name `_connect`, and its files for TLS.

They are checked at the start. Without them, redis-py's own connections are used, whose time-outs do not bound the
resolution of the host name.
"""

import socket
import ssl
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, lru_cache
from operator import attrgetter
from pathlib import Path

import redis
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from ..errors import Overloaded
from ..private_names import private_or_public
from ..threads import in_thread
from .contract import STORE_SECONDS

UNUSED = {"host": "127.0.0.1", "port": 1, "socket_connect_timeout": STORE_SECONDS}
"""Nothing listens on this address, in case the check does open a real connection."""


@cache
def connection_class(*, tls: bool, managed: bool = False) -> type[redis.Connection]:
    """redis-py's connection, with a bound on connecting as a whole.

    A `managed` one asks its pool for the address of the primary, and the pool asks Sentinels.
    """
    plain = redis.SSLConnection if tls else redis.Connection
    public = (SentinelManagedSSLConnection if tls else SentinelManagedConnection) if managed else plain

    def private() -> type[redis.Connection]:
        check(plain)
        return _in_time(public)

    return private_or_public(
        "redis",
        private,
        public,
        lost="if the host name in C42_CACHE_URL does not resolve, answers wait for that.",
    )


def check(base: type[redis.Connection]) -> None:
    """Connect, up to the first call that would block. Raises if redis-py has changed."""

    class Reached(Exception):
        pass

    class Connection(base):  # type: ignore[valid-type, misc]  # a class like any other
        def _connect(self) -> socket.socket:
            raise Reached

    connection = Connection(**UNUSED)
    if issubclass(base, redis.SSLConnection):
        _files(connection)
    with suppress(Reached):
        connection.connect()
        raise LookupError("it connects without _connect")


def _in_time(base: type[redis.Connection]) -> type[redis.Connection]:
    class Connection(base):  # type: ignore[valid-type, misc]  # a class like any other
        # Without `_connect`, redis-py alone controls connecting, from resolving the host name to the first command.
        def _connect(self) -> socket.socket:
            return _within_store_seconds(super()._connect)

    class TlsConnection(base):  # type: ignore[valid-type, misc]  # a class like any other
        # For each connection, redis-py reads all authorities of the system. That takes 50 ms of a core: some workers
        # that connect at the same time would all be too late.
        def _connect(self) -> socket.socket:
            return _within_store_seconds(self._connect_tls)

        def _connect_tls(self) -> socket.socket:
            files = _files(self)
            context = _context(*files, tuple(Path(file).stat().st_mtime_ns for file in files if file))
            connected: socket.socket = redis.Connection._connect(self)  # type: ignore[no-untyped-call]  # redis-py has no types
            return context.wrap_socket(connected, server_hostname=self.host)

    return TlsConnection if issubclass(base, redis.SSLConnection) else Connection


_files = attrgetter("ca_certs", "certfile", "keyfile")
"""The names of the files for TLS of a connection. Raises AttributeError if redis-py keeps them in another way."""


@lru_cache(maxsize=1)
def _context(ca: str | None, certificate: str | None, key: str | None, _changed_at: tuple[int, ...]) -> ssl.SSLContext:
    """What TLS needs to know; made anew when one of the files has changed."""
    context = ssl.create_default_context(cafile=ca)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def _within_store_seconds(connect: Callable[[], socket.socket]) -> socket.socket:
    """Connect within STORE_SECONDS, or raise TimeoutError."""
    try:
        connected = in_thread(connect)
    except Overloaded:
        # What is fresh in Redis is served even if the system gives no thread. Only to resolve a name may take longer.
        return connect()
    try:
        return connected.result(STORE_SECONDS)
    except TimeoutError:
        connected.add_done_callback(_close)
        raise


def _close(connected: Future[socket.socket]) -> None:
    with suppress(Exception):
        connected.result().close()
