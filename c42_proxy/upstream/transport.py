"""A requests session fit for an upstream that may do anything: every wait on it ends at one deadline.

Time-outs of requests and urllib3 are for each socket operation: an upstream that sends a byte a second never
meets them. Here every operation gets what is left of one budget, and no more.
"""

import contextlib
import http.client
import io
import socket
from collections.abc import Iterator
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

from ..deadline import Deadline as Deadline  # noqa: PLC0414  # events.py still imports it from here

_deadline: ContextVar[Deadline] = ContextVar("deadline")


@contextlib.contextmanager
def ends_at(deadline: Deadline) -> Iterator[None]:
    """Within this block, what the thread reads from a session of `new_session` ends at `deadline`."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def new_session(connections: int) -> requests.Session:
    """A session that keeps up to `connections` alive, and takes neither the environment's nor the upstream's advice.

    No proxy, `.netrc` or certificate of the environment, no cookie kept, no redirect looked at.
    """
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(pool_connections=1, pool_maxsize=connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Always None: requests would read a redirect's whole body, however long, even when it is not to follow it."""


class _DeadlineReader(io.RawIOBase):
    """A socket's bytes; each read waits no longer than the deadline that is in force."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_deadline.get().remaining())
        received = self._raw.readinto(buffer)
        self.ended = received == 0
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._reader = _DeadlineReader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        self._read_head()
        while 100 < self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            # An interim answer (103, say): the one that counts is still to come (RFC 9110, section 15.2).
            self.headers = self.msg = None  # type: ignore[assignment]  # as before the first
            self._read_head()
        if self._reader.ended:
            # Python takes the end of the connection for the end of the headers: half a 404 would pass for a whole one.
            raise http.client.HTTPException
        # urllib3 logs what is no header, and it may be an echo of our own request.
        self.msg.defects = []
        self.msg.set_payload("")

    def _read_head(self) -> None:
        try:
            super().begin()
        except http.client.HTTPException as exc:
            # Python's parser gives up on lines or headers that do not end: no complete answer would have come.
            if isinstance(exc, http.client.LineTooLong) or type(exc) is http.client.HTTPException:
                raise TimeoutError from exc
            raise


class _HTTPConnection(HTTPConnection):
    """Reads by the deadline, and tries a kept-alive connection that the upstream had closed once more, on a fresh one.

    The upstream may close an idle connection at the very moment at which we use it; a GET may then be sent again
    (RFC 9112, section 9.3.1).
    """

    response_class = _Response
    _used = False

    def connect(self) -> None:
        self._used = False
        self.timeout = _deadline.get().remaining()
        super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._request = (args, kwargs)
        try:
            super().request(*args, **kwargs)
        except ConnectionError:
            # On a used connection, the lack of an answer will show it again.
            if not self._used:
                raise

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3's own class
        try:
            response = super().getresponse()
        except ConnectionError:
            if not self._used:
                raise
            self.close()
            args, kwargs = self._request
            self.request(*args, **kwargs)
            response = super().getresponse()
        self._used = True
        return response


class _HTTPSConnection(_HTTPConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
