"""The whole tree of errors, each with its HTTP status.

C42ProxyError
├── SettingsError                the proxy does not start; exit status 2
├── StoreError                   a store fails: a warning and a metric, never an answer
│   ├── PartlyRead               a part of a store fails: what the others have is used
│   └── StoreNotReached          this process lacks threads or descriptors: no failure of the store
└── Problem                      a failure that a client sees (RFC 9457)
    ├── UpstreamError            C42 was asked, and gave no answer that can be used
    │   ├── RateLimited          503  C42 asks us to wait
    │   ├── TokenRefused         502  C42 refuses our token
    │   ├── UpstreamTimeout      504  no complete answer within the time budget
    │   ├── UpstreamUnavailable  502  refused, reset, cut short, 5xx
    │   └── InvalidAnswer        502  an answer that is not what C42 promises
    └── NotAsked                 C42 was not asked, or not for everything
        ├── BackingOff           503  C42 has asked somebody to wait, and the time is not over
        ├── CircuitOpen          503  the circuit breaker is open, or half-open and somebody else probes
        ├── Overloaded           503  this process is at its own limits
        └── RepeatedFailure      5xx  the same event failed a moment ago; it keeps status, reason and text
"""

import math
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, ClassVar

import click


class C42ProxyError(Exception):
    """The root of all errors that the proxy raises itself."""


class SettingsError(C42ProxyError, click.ClickException):
    """One or more settings are wrong; `lines` has one sentence for each, `rows` all settings as far as they are right.

    A click exception, so that every click command line (ours and Flask's) prints the lines and exits with 2.
    """

    exit_code = 2

    def __init__(self, lines: list[str], rows: Iterable[tuple[str, str, str]] = ()) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.rows = list(rows)

    def format_message(self) -> str:
        return "the settings are wrong:\n" + "\n".join(f"  {line}" for line in self.lines)


class StoreError(C42ProxyError):
    """A store is corrupt, read-only, full, hung or gone. It costs a warning, never an answer."""


class PartlyRead(StoreError):
    """A part of a store (a node of a cluster) fails. `found` is a `Read` of what the others have."""

    def __init__(self, failure: StoreError, found: Any) -> None:
        super().__init__(f"{failure}")
        self.found = found


class StoreNotReached(StoreError):
    """This process lacks threads, descriptors or memory to use a store. That says nothing of the store."""


class Cause(StrEnum):
    """What C42, or the network on the way there, did: a phrase for operators.

    A cause is one of these, or a status (`status 503`), and may name the HTTP proxy. It is chosen by the class or the
    number of an error (`upstream/causes.py`): nothing that was received is ever in it.
    """

    NO_NAME = "its name does not resolve"
    REFUSED = "connection refused"
    NO_ROUTE = "no route to it"
    RESET = "connection reset"
    CLOSED = "connection closed without an answer"
    CUT_SHORT = "answer cut short"
    NOT_TRUSTED = "certificate not trusted"
    OTHER_NAME = "certificate for another name"
    OUT_OF_DATE = "certificate not valid today"
    NO_TLS = "no TLS there"
    TLS_FAILED = "TLS failed"
    NO_AUTHORITIES = "the file of trusted authorities (C42_CA_FILE) cannot be used"
    NO_HTTP = "no HTTP there"
    TIMED_OUT = "timed out"
    NOT_CONNECTED = "connection failed"

    # Why an answer cannot be used
    ANOTHER_EVENT = "it is not about the event that was asked for"
    NO_LIST = "it was a 404 for the list of subscriptions"
    TOO_MANY = "it holds more subscriptions than were asked for"
    ANOTHER_LIST = "it holds subscriptions of another event"
    ENDLESS_LIST = "its list of subscriptions does not end"
    NO_SUBSCRIBER = "a subscription that is not removed has no subscriber"
    NOT_JSON = "it is not JSON"
    NOT_UNICODE = "a text in it is not Unicode"
    OTHER_SHAPE = "it has another shape than C42's API promises"
    TOO_LONG = "it is too long"
    BROKEN_CODING = "its content encoding is broken"
    LONG_HEAD = "its head is too long"
    NO_HEADER = "a line of its head is no header"
    NO_LENGTH = "it has no single length"
    UNKNOWN_CODING = "its transfer coding is unknown"

    @staticmethod
    def status(status: int) -> str:
        return f"status {status}"

    @staticmethod
    def at_proxy(cause: str) -> str:
        """The same for the HTTP proxy on the way to C42."""
        return f"HTTP proxy: {cause}"

    @classmethod
    def is_one(cls, text: str) -> bool:
        cause = text.removeprefix(cls.at_proxy(""))
        return cause in set(cls) or re.fullmatch("status [0-9]{3}", cause) is not None


class Problem(C42ProxyError):
    """A failure that a client sees: a status, and a `detail` that a client's developer can act on."""

    status: int
    reason: str
    """Which problem it is, in a word for programs. A failure that is repeated keeps its own."""
    precedence: ClassVar[int]
    """If several calls of a fetch fail, the failure with the smallest number becomes the answer."""
    retry_after: int | None = None
    """Whole seconds, rounded up (RFC 9110, section 10.2.3); None if nobody knows how long to wait."""
    allows_stale: bool = True
    """Whether a stale entry may be served instead of this failure."""
    cause: str
    """What has happened, for the operator: a `Cause`, or why C42 was not asked."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class UpstreamError(Problem):
    """C42 was asked, and gave no answer that can be used.

    `upstream_status` is the status of the answer that failed, None if there was no answer. `said` is how the log begins
    to tell the cause.
    """

    said: ClassVar[str] = "C42 fails"

    def __init__(self, detail: str, upstream_status: int | None, cause: str) -> None:
        super().__init__(detail)
        self.upstream_status = upstream_status
        self.cause = str(cause)  # the log would show the name of a member


class RateLimited(UpstreamError):
    """C42 asks us to wait: 429, or 503 with `Retry-After`. `seconds` says how long."""

    status = 503
    reason = "c42-asks-to-wait"
    precedence = 0
    said = "C42 asks us to wait"

    def __init__(self, seconds: float, upstream_status: int) -> None:
        self.seconds = seconds
        self.retry_after = max(1, math.ceil(seconds))
        detail = f"C42 asks us to wait. Try again in {self.retry_after} s."
        super().__init__(detail, upstream_status, Cause.status(upstream_status))


class TokenRefused(UpstreamError):
    """C42 refuses our token: 401 or 403."""

    status = 502
    reason = "c42-refuses-token"
    precedence = 2
    allows_stale = False
    said = "C42 refuses our token"

    def __init__(self, upstream_status: int) -> None:
        super().__init__(
            "C42 refuses the token of this proxy. Only the proxy's operator can mend that.",
            upstream_status,
            Cause.status(upstream_status),
        )


class UpstreamTimeout(UpstreamError):
    """No complete answer within the time budget."""

    status = 504
    reason = "c42-timeout"
    precedence = 3

    def __init__(self, cause: str = Cause.TIMED_OUT) -> None:
        super().__init__("C42 gave no complete answer in time. Try again later.", None, cause)


class UpstreamUnavailable(UpstreamError):
    """C42 could not be reached, broke off, or answered 5xx."""

    status = 502
    reason = "c42-unavailable"
    precedence = 4

    def __init__(self, upstream_status: int | None = None, cause: str = Cause.NOT_CONNECTED) -> None:
        what = "cannot be reached or broke off"
        if upstream_status is not None:
            what, cause = f"answered {upstream_status}", Cause.status(upstream_status)
        super().__init__(f"C42 {what}. Try again later.", upstream_status, cause)


class InvalidAnswer(UpstreamError):
    """C42 answered, but not as its API promises. `why` is a `Cause`, or a status."""

    status = 502
    reason = "c42-invalid-answer"
    precedence = 4
    said = "C42's answer cannot be used"

    def __init__(self, why: str, upstream_status: int | None = None) -> None:
        detail = f"C42 gave an answer that cannot be used: {why}. Try again later."
        super().__init__(detail, upstream_status, why)


class NotAsked(Problem):
    """C42 was not asked, or the fetch was broken off. `why` is a word for `Cache-Status`.

    `seconds` is for how long C42 may not be asked, None if that is unknown.
    """

    status = 503
    precedence: ClassVar[int] = 1
    why: ClassVar[str]

    def __init__(self, detail: str, seconds: float | None) -> None:
        self.seconds = seconds
        self.retry_after = None if seconds is None else max(1, math.ceil(seconds))
        super().__init__(detail if seconds is None else f"{detail} Try again in {self.retry_after} s.")


class BackingOff(NotAsked):
    """C42 has asked this process, or another with the same store, C42 and token, to wait for `seconds` more."""

    reason = "c42-asks-to-wait"
    why = "told-to-wait"
    cause = "C42 has asked to wait"

    def __init__(self, seconds: float) -> None:
        super().__init__("C42 asks us to wait.", seconds)


class CircuitOpen(NotAsked):
    """C42 failed too often in a row: the circuit breaker is open for `seconds` more, or somebody else probes."""

    reason = "c42-down"
    why = "c42-down"
    cause = "the circuit breaker is open"

    def __init__(self, seconds: float) -> None:
        super().__init__("C42 is down, and is not asked for a moment.", seconds)


class Overloaded(NotAsked):
    """This process is at its limits: of fetches and of those that wait, of threads, or of open files."""

    reason = "overloaded"
    why = "busy"
    cause = "the proxy is at its limits"

    def __init__(self) -> None:
        super().__init__("The proxy has too much to do at once.", 1)


class RepeatedFailure(NotAsked):
    """The failure of a moment ago, repeated for `seconds` more.

    All but `why` and `retry_after` are those of that failure.
    """

    why = "recent-failure"

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        upstream_status: int | None,
        *,
        cause: str,
        allows_stale: bool,
        seconds: float,
    ) -> None:
        super().__init__(detail, None)
        self.seconds = seconds
        self.status = status
        self.reason = reason
        self.upstream_status = upstream_status
        self.cause = cause
        self.retry_after = 1 if status == 503 else None
        self.allows_stale = allows_stale
