"""How long an entry may be reused: pure rules on the instants that are passed in."""

from dataclasses import dataclass
from enum import StrEnum

from ..stores.contract import Entry, is_ahead


class Age(StrEnum):
    """What the age of an entry allows (RFC 9111, section 4.2; RFC 5861, section 4)."""

    FRESH = "fresh"
    """It is served without asking C42."""
    STALE = "stale"
    """It has expired, and is served only if C42 cannot be asked, or fails."""
    TOO_OLD = "too old"
    """It has expired, and is not served any more."""
    AHEAD = "ahead"
    """Not served: the clock was set back after it was fetched, so its age is unknown."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """An entry is fresh for `ttl` seconds, and may be served stale for `stale_if_error` more (0: never)."""

    ttl: float
    stale_if_error: float

    def expiry(self, fetched_at: float) -> float:
        """The instant, in seconds since the epoch, from which an entry is no longer fresh."""
        return fetched_at + self.ttl

    def stale_until(self, status: int, fetched_at: float) -> float | None:
        """The instant from which an entry is no longer served stale; None for an entry that never is.

        A 404 never is: while C42 fails, it might hide an event that exists by now.
        """
        if status != 200 or self.stale_if_error == 0:
            return None
        return self.expiry(fetched_at) + self.stale_if_error

    def is_fresh(self, entry: Entry, now: float) -> bool:
        """Whether an entry is served without asking C42. Reading an entry does not prolong this."""
        return now < entry.fetched_at + self.ttl and not is_ahead(entry.fetched_at, now)

    def is_stale(self, entry: Entry, now: float) -> bool:
        """Whether its age is `STALE`, found in one step: a stale answer is to cost what a hit costs."""
        expiry = entry.fetched_at + self.ttl
        return expiry <= now < expiry + self.stale_if_error and entry.status == 200

    def may_replace_failure(self, entry: Entry, now: float) -> bool:
        """Whether an entry may be served if C42 cannot be asked, or fails."""
        return entry.status == 200 and self.age(entry.status, entry.fetched_at, now) in {Age.FRESH, Age.STALE}

    def age(self, status: int, fetched_at: float, now: float) -> Age:
        if is_ahead(fetched_at, now):
            return Age.AHEAD
        if now < self.expiry(fetched_at):
            return Age.FRESH
        stale_until = self.stale_until(status, fetched_at)
        return Age.STALE if stale_until is not None and now < stale_until else Age.TOO_OLD
