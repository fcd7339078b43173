"""The replies of the use case: a hit, a fetched answer, a stale one, or a failure."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal

from ..errors import Problem
from ..stores.contract import Entry
from .freshness import Freshness


class Forward(Enum):
    """Why C42 was asked (RFC 9211, section 2.2)."""

    URI_MISS = "uri-miss"
    STALE = "stale"

    @classmethod
    def because_of(cls, cached: Entry | None) -> "Forward":
        """The reason: `cached` is the entry that was not fresh, None if there was none."""
        return cls.URI_MISS if cached is None else cls.STALE


@dataclass(slots=True)
class SearchResult:
    """The result of one search, for all requests that waited for it. Not frozen, as a hit.

    `cached` is the entry from before the search. `forward` is None if C42 was not asked, or the fetch was broken off
    (NotAsked). `elsewhere` means that another process asked C42. `upstream_seconds` is how long C42 took.
    """

    result: Entry | Problem
    cached: Entry | None = None
    forward: Forward | None = None
    upstream_status: int | None = None
    stored: bool = False
    elsewhere: bool = False
    upstream_seconds: float | None = None


@dataclass(slots=True)
class Handling:
    """How a request was handled (RFC 9211): whether and how C42 was asked. Not frozen, as a hit.

    `forward` is None if it was not asked; `collapsed` means that another request asked; `upstream_status` is the
    status of the call that decided. `upstream_seconds` is how long C42 took, None for requests that only waited.
    `cause` is why there is no new answer, None if there is one.
    """

    forward: Forward | None
    collapsed: bool
    upstream_status: int | None
    upstream_seconds: float | None
    cause: str | None = None


@dataclass(slots=True)
class Hit:
    """A fresh entry. Every cache may reuse it until `expiry`, which is `ttl` seconds away, rounded down.

    Not frozen: making a frozen one would take 3 % of the time of a whole hit.
    """

    entry: Entry
    expiry: float
    ttl: int
    outcome: ClassVar[Literal["hit"]] = "hit"
    handling: ClassVar[None] = None

    @classmethod
    def of(cls, entry: Entry, freshness: Freshness, now: float) -> "Hit":
        expiry = freshness.expiry(entry.fetched_at)
        return cls(entry, expiry, math.floor(expiry - now))


@dataclass(frozen=True, slots=True)
class Fetched:
    """A new answer of C42. Every cache may reuse it until `expiry`; None if it arrived after its expiry."""

    entry: Entry
    expiry: float | None
    stored: bool
    handling: Handling

    @property
    def outcome(self) -> Literal["collapsed", "miss"]:
        return "collapsed" if self.handling.collapsed else "miss"


@dataclass(slots=True)
class StaleIfError:
    """An entry served because C42 cannot be asked, or fails (RFC 5861).

    It expired `-ttl` seconds ago. If `ttl` is positive, it is still fresh: it was stored while this request failed.
    Not frozen, as a hit.
    """

    entry: Entry
    ttl: int
    handling: Handling
    outcome: ClassVar[Literal["stale"]] = "stale"

    @classmethod
    def of(cls, entry: Entry, freshness: Freshness, now: float, handling: Handling) -> "StaleIfError":
        return cls(entry, math.floor(freshness.expiry(entry.fetched_at) - now), handling)


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, and why."""

    problem: Problem
    handling: Handling
    outcome: ClassVar[Literal["error"]] = "error"


Reply = Hit | Fetched | StaleIfError | Failed


def reply_of(found: SearchResult, *, leads: bool, freshness: Freshness, now: float) -> Reply:
    """The reply to one of the requests that waited for a search; `leads` is true for the request that began it."""
    collapsed = found.elsewhere or (found.forward is not None and not leads)
    result, cached = found.result, found.cached
    cause = result.cause if isinstance(result, Problem) else None
    seconds = None if collapsed else found.upstream_seconds
    handling = Handling(found.forward, collapsed, found.upstream_status, seconds, cause)
    if isinstance(result, Problem):
        if cached is not None and result.allows_stale and freshness.may_replace_failure(cached, now):
            return StaleIfError.of(cached, freshness, now, handling)
        return Failed(result, handling)
    if not freshness.is_fresh(result, now):
        return Fetched(result, None, stored=False, handling=handling)
    if found.forward is None:
        return Hit.of(result, freshness, now)
    stored = found.stored and not collapsed
    return Fetched(result, freshness.expiry(result.fetched_at), stored, handling)
