"""What is broken on purpose, and who is asked whether it is noticed."""

from dataclasses import dataclass, field
from pathlib import Path

GOAL = 0.95
"""The part of the mutants that must be killed."""

COPIED = ("c42_proxy", "features", "tests", "behave.ini", "pyproject.toml")
"""What a copy of the project needs for these tests."""


TUNING = {
    *("CALLS_AT_ONCE", "COMMANDS_AT_ONCE", "FLASK_THREADS", "SPARE_CONNECTIONS"),
    *("LISTED_AT_ONCE", "PRUNED_AT_ONCE", "READ_AT_ONCE", "READ_BYTES", "SCANNED_AT_ONCE"),
    *("POLL_SECONDS", "MAX_POLL_SECONDS", "MAX_CHANGES", "MAX_PAUSE_MICROSECONDS", "RENEW_SECONDS"),
    *("ENTRY_OVERHEAD", "MAX_FILE_VARIABLE_BYTES", "_http_date"),
}
"""Constants of the core that are no rules: how many threads, how much in one go, how long between two looks, how much
to keep. One more or less is as right; what they must keep to (a bound, a time) is tested where it shows."""


@dataclass(frozen=True)
class Core:
    """A module of the core. Its tests are asked first, then the features through these drivers, then `others`."""

    path: Path
    tests: tuple[str, ...]
    drivers: tuple[str, ...] = ()
    others: tuple[str, ...] = field(default=())


BOTH = ("flask", "front")


def _core(name: str, *tests: str, drivers: tuple[str, ...] = (), others: tuple[str, ...] = ()) -> Core:
    return Core(Path(f"c42_proxy/{name}.py"), tests, drivers, others)


CORE = (
    _core("events", "events", drivers=("flask",), others=("model",)),
    _core("cache", "cache", drivers=BOTH, others=("model",)),
    _core("notes", "cache", "guard", drivers=("flask",), others=("model",)),
    _core("c42", "c42", "correlation", drivers=("flask",)),
    _core("routes", "routes", "correlation", "logs", "metrics", drivers=("flask",)),
    _core("answers", "routes", "correlation", drivers=BOTH, others=("front",)),
    _core("front", "correlation", "logs", "metrics", "front", drivers=("front",)),
    _core("settings", "settings", others=("main", "inspection", "stores")),
    _core("stores/__init__", "cache", "stores", others=("memory", "steady", "sqlite")),
    _core("stores/forks", "sqlite", others=("stores", "redis")),
    _core("stores/gate", "gate", others=("sqlite", "redis")),
    _core("stores/locks", "sqlite", others=("stores",)),
    _core("stores/memory", "memory", "metrics", others=("stores",)),
    _core("stores/opening", "stores", others=("sqlite", "settings", "inspection", "main")),
    _core("stores/records", "stores", others=("sqlite", "inspection")),
    _core("stores/redis", "redis", others=("stores",)),
    _core("stores/sqlite", "sqlite", others=("stores", "inspection")),
    _core("stores/steady", "steady", others=("stores",)),
)
