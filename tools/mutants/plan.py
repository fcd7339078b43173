"""What is broken on purpose, and which tests are asked whether they notice it."""

from dataclasses import dataclass
from pathlib import Path

GOAL = 0.96
"""The part of the mutants of the core that must be killed by features and tests."""

FEATURES_GOAL = 0.75
"""The part of the mutants of the modules that decide that must be killed by the features alone."""

COPIED = ("c42_proxy", "docs", "features", "harness", "tests", "tools", "behave.ini", "pyproject.toml")
"""What a copy of the project needs for these tests."""


TUNING = {
    *("CALLS_AT_ONCE", "COMMANDS_AT_ONCE", "FLASK_THREADS", "SPARE_THREADS"),
    *("LISTED_AT_ONCE", "ERASED_AT_ONCE", "READ_AT_ONCE", "READ_BYTES", "SCANNED_AT_ONCE"),
    *("POLL_SECONDS", "MAX_POLL_SECONDS", "MAX_CHANGES", "MAX_PAUSE_MICROSECONDS", "RENEW_SECONDS"),
    *("ENTRY_OVERHEAD", "MAX_FILE_VARIABLE_BYTES", "_http_date"),
}
"""Constants of the core that are no rules: how many threads, how much in one go, how long between two looks, how much
to keep. One more or less is as right; what they must keep to (a bound, a time) is tested where it shows."""


@dataclass(frozen=True)
class Core:
    """A module of the core, and what is asked about it in turn: modules of tests, and drivers of the features."""

    path: Path
    questions: tuple[str, ...]


BOTH = ("flask", "asgi")

IN_PROCESS = ("asgi", "flask", "sockets")
"""The drivers of the features that run the proxy in the process of the features."""

SLOW = "flask @slow"
"""The scenario with many requests at once, which takes long: only asked where it is about the module."""

DECIDES = ("events.py", "caching", "upstream")
"""Where the product owner's rules are kept."""


def _core(name: str, *tests: str, drivers: tuple[str, ...] = (), others: tuple[str, ...] = ()) -> Core:
    """The unit tests of the module come first, then the features, then what takes longer or tests it on the way."""
    return Core(Path(f"c42_proxy/{name}.py"), (*map(_module, tests), *drivers, *map(_module, others)))


def _module(name: str) -> str:
    room, dot, module = name.rpartition(".")
    return f"tests.{room}{dot}test_{module}"


CORE = (
    _core("events", "events", drivers=(*BOTH, SLOW), others=("caching.model",)),
    _core(
        "caching/circuit_breaker", "caching.circuit_breaker", "events", drivers=("flask",), others=("caching.model",)
    ),
    _core("caching/freshness", "events", "commands.cache", drivers=("flask",), others=("caching.model",)),
    _core("caching/lease", "caching.lease", "events", others=("stores.sqlite", "stores.redis")),
    _core("caching/limits", "caching.limits", "events", drivers=("flask", SLOW)),
    _core("caching/refusals", "events", drivers=BOTH, others=("caching.model", "web.asgi")),
    _core("caching/reply", "events", drivers=BOTH, others=("caching.model", "web.asgi")),
    _core("caching/shared_state", "events", "caching.circuit_breaker", drivers=("flask",), others=("caching.model",)),
    _core("caching/single_flight", "caching.single_flight", "events", drivers=("flask",)),
    _core("looks", "looks", "events"),
    _core("address", "address", "settings"),
    _core("redis_url", "redis_url", "settings", others=("commands.check",)),
    _core("setting_values", "settings", others=("redis_url", "commands.check", "observability.logs")),
    _core("deadline", "deadline", "upstream.client", others=("upstream.transport", "upstream.combine")),
    _core("errors", "errors", "events", "upstream.client", drivers=("flask",), others=("settings", "web.routes")),
    _core("own_limits", "own_limits", "upstream.causes"),
    _core("threads", "threads", "caching.limits", others=("events",)),
    _core("upstream/addresses", "upstream.addresses", others=("upstream.transport",)),
    _core(
        "upstream/deadline_connection",
        "upstream.transport",
        "upstream.client",
        others=("upstream.causes", "upstream.combine", "upstream.http_proxy", "private_names"),
    ),
    _core(
        "upstream/lean_adapter",
        *("upstream.transport", "upstream.client"),
        drivers=("flask",),
        others=("upstream.http_proxy",),
    ),
    _core(
        "upstream/causes",
        *("upstream.causes", "upstream.client"),
        drivers=("flask",),
        others=("upstream.http_proxy", "upstream.combine"),
    ),
    _core(
        "upstream/transport",
        *("upstream.transport", "upstream.client"),
        others=("upstream.addresses", "upstream.http_proxy", "private_names"),
    ),
    _core(
        "upstream/client",
        *("upstream.client", "observability.correlation"),
        drivers=("flask",),
        others=("observability.tracing",),
    ),
    _core("upstream/pages", "upstream.pages", others=("upstream.combine",)),
    _core("upstream/combine", "upstream.combine", drivers=("flask",), others=("caching.circuit_breaker",)),
    _core(
        "web/routes",
        *("web.routes", "observability.correlation", "observability.logs", "observability.metrics"),
        drivers=("flask",),
    ),
    _core("web/responses", "web.routes", "observability.correlation", "events", drivers=BOTH, others=("web.asgi",)),
    _core(
        "web/asgi",
        *("web.asgi", "observability.correlation", "observability.logs", "observability.metrics"),
        drivers=("asgi",),
    ),
    _core("web/pace", "web.pace", others=("web.asgi",)),
    _core("web/cors", "web.routes", "web.asgi", drivers=BOTH),
    _core("web/ops", "web.ops", "observability.metrics"),
    _core("settings", "settings", others=("main", "commands.cache", "stores.contract")),
    _core("stores/contract", "events", "stores.contract", others=("stores.memory", "stores.tiered", "stores.sqlite")),
    _core("stores/erasure", "stores.erasure"),
    _core("stores/forks", "stores.sqlite", others=("stores.contract", "stores.redis")),
    _core("stores/limit", "stores.limit", others=("stores.sqlite", "stores.redis")),
    _core("stores/locks", "stores.sqlite", others=("stores.contract",)),
    _core("stores/memory", "stores.memory", "observability.metrics", others=("stores.contract", "stores.tiered")),
    _core("stores/opening", "stores.contract", others=("stores.sqlite", "settings", "commands.check", "main")),
    _core("stores/records", "stores.contract", others=("stores.sqlite", "commands.cache")),
    _core("stores/redis", "stores.redis", others=("stores.contract",)),
    _core("stores/redis_clients", "stores.redis", others=("stores.redis_deployments", "commands.check")),
    _core("stores/redis_cluster", "stores.redis_deployments"),
    _core("stores/redis_nodes", "stores.redis_nodes", "private_names", others=("stores.redis_deployments",)),
    _core("stores/redis_connection", "stores.redis", "private_names", others=("stores.redis_deployments",)),
    _core("stores/sqlite", "stores.sqlite", others=("stores.contract", "commands.cache")),
    _core("stores/tiered", "stores.tiered", "events", others=("stores.contract",)),
)

DECIDING = tuple(
    Core(core.path, (*IN_PROCESS, *([SLOW] if SLOW in core.questions else [])))
    for core in CORE
    if core.path.parts[1] in DECIDES
)
"""The modules that decide, about which the features alone are asked."""
