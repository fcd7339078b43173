"""The ids that connect a request with its log lines, its calls to C42, and the client's own records."""

import re
from contextvars import ContextVar
from dataclasses import dataclass
from random import getrandbits

_PLAIN_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Correlation:
    """The id of a request, and its place in a trace (W3C Trace Context, section 3.2), if it has one."""

    request_id: str
    traceparent: str | None = None


_current: ContextVar[Correlation | None] = ContextVar("correlation", default=None)


def request_id(header: str | None) -> str:
    """The id in a client's `X-Request-ID` if it is short and plain, else a new one."""
    return header if header is not None and _PLAIN_ID.fullmatch(header) else f"{getrandbits(128):032x}"


def begin(request_id_: str, traceparent: str | None) -> None:
    """Connect this task or thread with a request."""
    known = traceparent is not None and _TRACEPARENT.fullmatch(traceparent)
    _current.set(Correlation(request_id_, traceparent if known else None))


def end() -> None:
    _current.set(None)


def current() -> Correlation | None:
    """The request that this task or thread works for."""
    return _current.get()
