"""The whole tree of errors, each with its HTTP status.

C42ProxyError
├── SettingsError                the proxy does not start; exit status 2
├── StoreError                   a store fails: a warning and a metric, never an answer
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
from collections.abc import Iterable
from typing import ClassVar

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

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class UpstreamError(Problem):
    """C42 was asked, and gave no answer that can be used.

    `upstream_status` is the status of the answer that failed, None if there was no answer.
    """

    def __init__(self, detail: str, upstream_status: int | None = None) -> None:
        super().__init__(detail)
        self.upstream_status = upstream_status


class RateLimited(UpstreamError):
    """C42 asks us to wait: 429, or 503 with `Retry-After`. `seconds` says how long."""

    status = 503
    reason = "c42-asks-to-wait"
    precedence = 0

    def __init__(self, seconds: float, upstream_status: int) -> None:
        self.seconds = seconds
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(f"C42 asks us to wait. Try again in {self.retry_after} s.", upstream_status)


class TokenRefused(UpstreamError):
    """C42 refuses our token: 401 or 403."""

    status = 502
    reason = "c42-refuses-token"
    precedence = 2
    allows_stale = False

    def __init__(self, upstream_status: int) -> None:
        super().__init__(
            "C42 refuses the token of this proxy. Only the proxy's operator can mend that.",
            upstream_status,
        )


class UpstreamTimeout(UpstreamError):
    """No complete answer within the time budget."""

    status = 504
    reason = "c42-timeout"
    precedence = 3

    def __init__(self) -> None:
        super().__init__("C42 gave no complete answer in time. Try again later.")


class UpstreamUnavailable(UpstreamError):
    """C42 could not be reached, broke off, or answered 5xx."""

    status = 502
    reason = "c42-unavailable"
    precedence = 4

    def __init__(self, upstream_status: int | None = None) -> None:
        what = "cannot be reached or broke off" if upstream_status is None else f"answered {upstream_status}"
        super().__init__(f"C42 {what}. Try again later.", upstream_status)


class InvalidAnswer(UpstreamError):
    """C42 answered, but not as its API promises. `why` is for people; it never quotes the answer."""

    status = 502
    reason = "c42-invalid-answer"
    precedence = 4

    def __init__(self, why: str, upstream_status: int | None = None) -> None:
        super().__init__(f"C42 gave an answer that cannot be used: {why}. Try again later.", upstream_status)


class NotAsked(Problem):
    """C42 was not asked, or the fetch was broken off. `why` is a word for `Cache-Status`."""

    status = 503
    precedence: ClassVar[int] = 1
    why: ClassVar[str]

    def __init__(self, detail: str, seconds: float | None) -> None:
        self.retry_after = None if seconds is None else max(1, math.ceil(seconds))
        super().__init__(detail if seconds is None else f"{detail} Try again in {self.retry_after} s.")


class BackingOff(NotAsked):
    """C42 has asked this process, or another with the same store, C42 and token, to wait for `seconds` more."""

    reason = "c42-asks-to-wait"
    why = "told-to-wait"

    def __init__(self, seconds: float) -> None:
        super().__init__("C42 asks us to wait.", seconds)


class CircuitOpen(NotAsked):
    """C42 failed too often in a row: the circuit breaker is open for `seconds` more, or somebody else probes."""

    reason = "c42-down"
    why = "c42-down"

    def __init__(self, seconds: float) -> None:
        super().__init__("C42 is down, and is not asked for a moment.", seconds)


class Overloaded(NotAsked):
    """This process is at its limits: of fetches and of those that wait, of threads, or of open files."""

    reason = "overloaded"
    why = "busy"

    def __init__(self) -> None:
        super().__init__("The proxy has too much to do at once.", 1)


class RepeatedFailure(NotAsked):
    """The failure of a moment ago, repeated: `status`, `reason` and `detail` are those of that failure."""

    why = "recent-failure"

    def __init__(
        self, status: int, reason: str, detail: str, upstream_status: int | None, *, allows_stale: bool
    ) -> None:
        super().__init__(detail, None)
        self.status = status
        self.reason = reason
        self.upstream_status = upstream_status
        self.retry_after = 1 if status == 503 else None
        self.allows_stale = allows_stale
