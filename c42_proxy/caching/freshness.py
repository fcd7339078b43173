"""How long an entry may be reused: pure rules on the instants that are passed in."""

from dataclasses import dataclass

from ..stores.contract import Entry, Listed, is_ahead


@dataclass(frozen=True, slots=True)
class Freshness:
    """An entry is fresh for `ttl` seconds, and may be served stale for `stale_if_error` more (0: never)."""

    ttl: float
    stale_if_error: float

    def expiry(self, fetched_at: float) -> float:
        """The instant, in seconds since the epoch, from which an entry is no longer fresh."""
        return fetched_at + self.ttl

    def is_fresh(self, entry: Entry | Listed, now: float) -> bool:
        """Whether an entry is served without asking C42 (RFC 9111, section 4.2). Reading it does not prolong this."""
        return now < entry.fetched_at + self.ttl and not is_ahead(entry.fetched_at, now)

    def is_stale(self, entry: Entry | Listed, now: float) -> bool:
        """Whether an expired entry is served if C42 cannot be asked, or fails (RFC 5861, section 4).

        A 404 never is: while C42 fails, it might hide an event that exists by now.
        """
        expiry = entry.fetched_at + self.ttl
        return expiry <= now < expiry + self.stale_if_error and entry.status == 200

    def may_replace_failure(self, entry: Entry, now: float) -> bool:
        """Whether an entry is served if C42 cannot be asked, or fails. A fresh one may have been stored meanwhile."""
        return self.is_stale(entry, now) or (entry.status == 200 and self.is_fresh(entry, now))
