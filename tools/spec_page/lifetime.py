"""How long an answer lives, in the words of the page."""

from dataclasses import dataclass
from typing import Self

from c42_proxy.settings import Settings

UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


@dataclass(frozen=True)
class Lifetime:
    """Counted from when C42 is asked. `gone` is None where an expired answer is never given."""

    expired: str
    gone: str | None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        fresh, stale = settings.cache_ttl, settings.stale_if_error
        return cls(in_words(fresh), in_words(fresh + stale) if stale else None)


def in_words(seconds: float) -> str:
    """A time span as it is read out: 3852.5 is `1 h 4 min 12.5 s`."""
    parts = []
    rest = round(seconds, 3)
    for name, size in UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count:.0f} {name}")
    if rest or not parts:
        parts.append(f"{rest:.3f}".rstrip("0").rstrip(".") + " s")
    return " ".join(parts)
