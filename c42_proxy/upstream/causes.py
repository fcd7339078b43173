"""What C42 or the network did: errors of the libraries become ours here, and are logged.

A cause is chosen by an error's class, its errno, OpenSSL's code or a status. Texts of the libraries quote what was
received, which may be an echo of our request with the token: they are never passed on.
"""

import errno
import http.client
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from threading import Lock

import requests
from urllib3.exceptions import DecodeError, LocationParseError, ProtocolError, ProxyError
from urllib3.exceptions import SSLError as Urllib3SSLError

from ..deadline import Deadline
from ..errors import (
    Cause,
    InvalidAnswer,
    Overloaded,
    Problem,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from ..own_limits import chain, is_our_own_limit

log = logging.getLogger(__name__)

BY_CLASS: dict[type[BaseException], Cause] = {
    TimeoutError: Cause.TIMED_OUT,
    requests.Timeout: Cause.TIMED_OUT,
    socket.gaierror: Cause.NO_NAME,
    LocationParseError: Cause.NO_NAME,
    UnicodeError: Cause.NO_NAME,
    ConnectionRefusedError: Cause.REFUSED,
    http.client.RemoteDisconnected: Cause.CLOSED,
    ssl.SSLZeroReturnError: Cause.CLOSED,
    ssl.SSLEOFError: Cause.CLOSED,
    ConnectionError: Cause.RESET,
    http.client.BadStatusLine: Cause.NO_HTTP,
    http.client.UnknownProtocol: Cause.NO_HTTP,
    http.client.HTTPException: Cause.CUT_SHORT,
}
"""The first class that fits decides."""

BY_VERIFY_CODE = {62: Cause.OTHER_NAME, 64: Cause.OTHER_NAME, 9: Cause.OUT_OF_DATE, 10: Cause.OUT_OF_DATE}
"""OpenSSL's numbers (x509_vfy.h): another host name or address; not valid yet, or no longer."""

NO_TLS = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "HTTPS_PROXY_REQUEST",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
}
"""OpenSSL's reasons (sslerr.h) if the first bytes are no TLS."""

NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}

REPEAT_SECONDS = 10.0
"""A kind of failure that comes and goes is logged again after this time at the earliest."""


def failure_of(error: BaseException, deadline: Deadline) -> Problem:
    """Our error for one that a call has raised."""
    if isinstance(error, requests.Timeout | TimeoutError):
        return UpstreamTimeout(cause_of(error))
    if is_our_own_limit(error):
        return Overloaded()
    if not deadline.may_begin:
        # A read that our deadline ended may look like a broken connection: the deadline decides.
        return UpstreamTimeout(_with_place(error, Cause.TIMED_OUT))
    if isinstance(error, DecodeError):
        return InvalidAnswer(Cause.BROKEN_CODING)
    return UpstreamUnavailable(cause=cause_of(error))


def timeout_at(deadline: Deadline) -> UpstreamTimeout:
    """Our error for a call that has not ended at the deadline. It names the HTTP proxy if a call has not passed it."""
    return UpstreamTimeout(Cause.at_proxy(Cause.TIMED_OUT) if deadline.at_http_proxy else Cause.TIMED_OUT)


def cause_of(error: BaseException) -> str:
    """What has happened, as a `Cause`. The outermost error of the chain for which there is one decides."""
    causes = (_cause_of_one(each) for each in chain(error))
    # urllib3 names no cause if a connection closes between two chunks, or if the line that begins a chunk has no end.
    is_within = isinstance(error, ProtocolError) and error.__cause__ is None
    other = Cause.CUT_SHORT if is_within else Cause.NOT_CONNECTED
    return _with_place(error, next((cause for cause in causes if cause is not None), other))


class FailureLines:
    """One warning when a kind of failure begins in this process, and one line when it ends, with the next answer.

    Thread-safe. `monotonic` returns seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = lambda: time.monotonic()) -> None:  # noqa: PLW0108  # a test may replace it later
        self._monotonic = monotonic
        self._lock = Lock()
        self._going_on: list[str] = []
        self._logged_at: dict[str, float] = {}

    def failed(self, failures: Iterable[Problem]) -> None:
        """Log what has begun. What is our own limit, or was not asked, is no failure of C42."""
        for failure in failures:
            if isinstance(failure, UpstreamError) and self._begins(kind := f"{failure.said}: {failure.cause}"):
                log.log(logging.ERROR if isinstance(failure, TokenRefused) else logging.WARNING, "%s", kind)

    def answered(self) -> None:
        """C42 has answered as it should: log what has ended."""
        if self._going_on:
            with self._lock:
                ended, self._going_on = self._going_on, []
            for kind in ended:
                log.info("C42 answers again. It was: %s", kind)

    def _begins(self, kind: str) -> bool:
        with self._lock:
            now = self._monotonic()
            if kind in self._going_on or now < self._logged_at.get(kind, -REPEAT_SECONDS) + REPEAT_SECONDS:
                return False
            self._going_on.append(kind)
            self._logged_at[kind] = now
            return True


def _cause_of_one(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return BY_VERIFY_CODE.get(error.verify_code, Cause.NOT_TRUSTED)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Cause.NO_TLS if error.reason in NO_TLS else Cause.TLS_FAILED
    for kind, cause in BY_CLASS.items():
        if isinstance(error, kind):
            return cause
    if isinstance(error, OSError) and error.errno in NO_ROUTE:
        return Cause.NO_ROUTE
    if _cannot_load_authorities(error):
        return Cause.NO_AUTHORITIES
    # urllib3 and http.client have no class for a proxy that refuses to CONNECT. Of the text, only the number is taken.
    refused = re.match("Tunnel connection failed: ([0-9]{3}) ", str(error)) if type(error) is OSError else None
    return Cause.status(int(refused[1])) if refused else None


def _cannot_load_authorities(error: BaseException) -> bool:
    """Whether C42_CA_FILE is gone (requests finds that out, and has no class for it), or is no such file any more."""
    if type(error) is OSError:
        return str(error).startswith("Could not find a suitable TLS CA certificate bundle")
    # Only there urllib3 names another OSError as the cause.
    return isinstance(error, Urllib3SSLError) and isinstance(error.__cause__, OSError)


def _with_place(error: BaseException, cause: str) -> str:
    return Cause.at_proxy(cause) if any(isinstance(each, ProxyError) for each in chain(error)) else cause
