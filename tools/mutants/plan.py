"""What is broken on purpose, and who is asked whether it is noticed."""

from dataclasses import dataclass, field
from pathlib import Path

GOAL = 0.95
"""The part of the mutants that must be killed."""

COPIED = ("c42_proxy", "features", "harness", "tests", "behave.ini", "pyproject.toml")
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


BOTH = ("flask", "asgi")


def _core(name: str, *tests: str, drivers: tuple[str, ...] = (), others: tuple[str, ...] = ()) -> Core:
    return Core(Path(f"c42_proxy/{name}.py"), tests, drivers, others)


CORE = (
    _core("events", "events", drivers=("flask",), others=("caching.model",)),
    _core("caching/cache", "caching.cache", drivers=BOTH, others=("caching.model",)),
    _core(
        "caching/shared_state",
        "caching.cache",
        "caching.circuit_breaker",
        drivers=("flask",),
        others=("caching.model",),
    ),
    _core("upstream/client", "upstream.client", "observability.correlation", drivers=("flask",)),
    _core(
        "web/routes",
        "web.routes",
        "observability.correlation",
        "observability.logs",
        "observability.metrics",
        drivers=("flask",),
    ),
    _core("web/responses", "web.routes", "observability.correlation", drivers=BOTH, others=("web.asgi",)),
    _core(
        "web/asgi",
        "observability.correlation",
        "observability.logs",
        "observability.metrics",
        "web.asgi",
        drivers=("asgi",),
    ),
    _core("settings", "settings", others=("main", "commands.cache", "stores.contract")),
    _core(
        "stores/contract",
        "caching.cache",
        "stores.contract",
        others=("stores.memory", "stores.tiered", "stores.sqlite"),
    ),
    _core("stores/forks", "stores.sqlite", others=("stores.contract", "stores.redis")),
    _core("stores/gate", "stores.gate", others=("stores.sqlite", "stores.redis")),
    _core("stores/locks", "stores.sqlite", others=("stores.contract",)),
    _core("stores/memory", "stores.memory", "observability.metrics", others=("stores.contract",)),
    _core("stores/opening", "stores.contract", others=("stores.sqlite", "settings", "commands.cache", "main")),
    _core("stores/records", "stores.contract", others=("stores.sqlite", "commands.cache")),
    _core("stores/redis", "stores.redis", others=("stores.contract",)),
    _core("stores/sqlite", "stores.sqlite", others=("stores.contract", "commands.cache")),
    _core("stores/tiered", "stores.tiered", others=("stores.contract",)),
)
