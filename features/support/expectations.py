"""What is expected and what came instead, in the words of the scenarios: a failure explains itself."""

from collections.abc import Sequence
from datetime import timedelta

NUMBERS = {1: "once", 2: "twice"}
SHOWN = 6
"""How many names of a long list are shown; the rest is counted."""


def expect(holds: object, expected: str, got: str) -> None:
    """Fail, unless it holds, with what was expected and what came."""
    assert holds, f"expected: {expected}\n     got: {got}"


def expect_same(expected: str, got: str) -> None:
    expect(expected == got, expected, got)


def listed(words: Sequence[str]) -> str:
    """`Arthur, Ford and Zaphod`"""
    if len(words) > SHOWN:
        return f"{', '.join(words[: SHOWN - 1])}, … and {words[-1]} ({len(words)} in all)"
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])) or "nobody"


def times(number: int) -> str:
    """`once`, `twice`, `7 times`"""
    return NUMBERS.get(number, f"{number} times")


def lasting(duration: timedelta) -> str:
    """`1 hour 4 minutes 11.9 s`"""
    rest = round(duration.total_seconds(), 3)
    words = []
    for unit, seconds in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        number, rest = divmod(rest, seconds)
        if number:
            words.append(f"{number:.0f} {unit}{'s' if number > 1 else ''}")
    if rest or not words:
        words.append(f"{rest:.3f}".rstrip("0").rstrip(".") + " s")
    return " ".join(words)
