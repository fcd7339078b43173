"""How long an answer lives, in the words of the page."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from c42_proxy.settings import Settings
from features.support.expectations import lasting


@dataclass(frozen=True)
class Lifetime:
    """Counted from when C42 is asked. `gone` is None where an expired answer is never given."""

    expired: str
    gone: str | None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        fresh, stale = settings.cache_ttl, settings.stale_if_error
        return cls(_lasting(fresh), _lasting(fresh + stale) if stale else None)


def _lasting(seconds: float) -> str:
    return lasting(timedelta(seconds=seconds))
