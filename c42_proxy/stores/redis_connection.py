"""The only module that uses a private name of redis-py: `_connect`.

It is checked at the start. Without it, redis-py's own connections are used, whose time-outs do not bound the resolution
of the host name.
"""

import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache

import redis
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from ..errors import Overloaded
from ..private_names import private_or_public
from ..threads import in_thread
from .contract import STORE_SECONDS

NOBODY = {"host": "127.0.0.1", "port": 1, "socket_connect_timeout": STORE_SECONDS}
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

    if not hasattr(base, "_connect"):
        raise LookupError("it has no _connect")
    with suppress(Reached):
        Connection(**NOBODY).connect()
        raise LookupError("it connects without _connect")


def _in_time(base: type[redis.Connection]) -> type[redis.Connection]:
    class Connection(base):  # type: ignore[valid-type, misc]  # a class like any other
        # Without `_connect`, redis-py alone controls connecting, from resolving the host name to the first command.
        def _connect(self) -> socket.socket:
            return _within_store_seconds(super()._connect)

    return Connection


def _within_store_seconds(connect: Callable[[], socket.socket]) -> socket.socket:
    """Connect within STORE_SECONDS, or raise TimeoutError."""
    try:
        connected = in_thread(connect)
    except Overloaded as exc:
        raise redis.ConnectionError("this process can start no thread") from exc
    try:
        return connected.result(STORE_SECONDS)
    except TimeoutError:
        connected.add_done_callback(_close)
        raise


def _close(connected: Future[socket.socket]) -> None:
    with suppress(Exception):
        connected.result().close()
