"""How often and how long each thing is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """`runs` are interleaved (A B C A B C ...), so that a slow moment of the machine meets everybody.

    `seconds` is the length of one run of wrk; the other fields are counts.
    """

    runs: int
    seconds: float
    misses: int
    cpu_misses: int
    cached: tuple[int, ...]
    subscribers: tuple[int, ...]
    shared_hits: int
    starts: int
    leak_requests: int
    patience: float
    """Seconds for which the servers are watched that should close idle or half-sent connections."""


FULL = Plan(
    runs=7,
    seconds=2,
    misses=30,
    cpu_misses=300,
    cached=(10, 10_000, 1_000_000),
    subscribers=(1, 10, 100, 300, 1000, 2000),
    shared_hits=500,
    starts=7,
    leak_requests=1_000_000,
    patience=8,
)
QUICK = Plan(
    runs=1,
    seconds=1,
    misses=10,
    cpu_misses=200,
    cached=(10, 1000, 20_000),
    subscribers=(1, 1000),
    shared_hits=300,
    starts=2,
    leak_requests=50_000,
    patience=6,
)
