"""Metrics by Prometheus' conventions, of one process or of all workers."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..errors import (
    InvalidAnswer,
    NotAsked,
    RateLimited,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from ..version import __version__
from .multiprocess import SharedValues
from .processes import Processes

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10)
"""Seconds. C42 takes a few hundred milliseconds; the default budget is 4 s."""

RESULTS: dict[type[UpstreamError], str] = {
    RateLimited: "rate_limited",
    TokenRefused: "token_refused",
    UpstreamTimeout: "timeout",
    UpstreamUnavailable: "down",
    InvalidAnswer: "invalid",
}

Endpoint = Literal["events", "event-subscriptions"]

STATUSES: dict[str, tuple[int, ...]] = {
    "hit": (200, 304, 404),
    "miss": (200, 304, 404),
    "collapsed": (200, 304, 404),
    "stale": (200, 304),
    "error": (500, 502, 503, 504),
    "refused": (204, 308, 400, 404, 405, 431),
}
"""The outcomes of a request, each with the statuses that it can have."""


def log_records_dropped(registry: CollectorRegistry) -> Counter:
    """The only metric that gunicorn's master counts, too."""
    return Counter(
        "c42_proxy_log_records_dropped",
        "Log lines that were dropped, because nobody read the earlier ones.",
        registry=registry,
    )


class Metrics:
    """The metrics of one app. No label has an id, because the number of ids has no bound."""

    def __init__(self, shared: SharedValues | None = None, segment: int = 0) -> None:
        """For one process; with `shared`, for all workers. This one counts in `segment`."""
        self._shown = registry = CollectorRegistry()
        self._shown.register(Processes((lambda: {"1": os.getpid()}) if shared is None else shared.pids))
        if shared is not None:
            self._shown.register(shared)
            registry = shared.count_in(segment)
        requests = Counter(
            "c42_proxy_requests",
            "Requests answered, by how and with which status.",
            ["outcome", "status"],
            registry=registry,
        )
        self.request = cache(lambda outcome, status: requests.labels(outcome, str(status)))
        """The counter for an outcome and a status (`STATUSES`)."""
        calls = Histogram(
            "c42_proxy_upstream_call_duration_seconds",
            "Calls to C42 and how long they took, by endpoint and result.",
            ["endpoint", "result"],
            buckets=BUCKETS,
            registry=registry,
        )
        durations = Histogram(
            "c42_proxy_request_duration_seconds",
            "How long requests took that were not served at once, by outcome.",
            ["outcome"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._duration = cache(durations.labels)
        self._call = cache(calls.labels)
        # All exist from the start, at 0: `increase()` does not see the step from nothing to 1, so a rule would miss the
        # first call of its kind.
        for outcome, statuses in STATUSES.items():
            for status in statuses:
                self.request(outcome, status)
            if outcome != "hit":
                self._duration(outcome)
        for endpoint in get_args(Endpoint):
            for result in ("ok", *RESULTS.values()):
                self._call(endpoint, result)
        self.open_until = Gauge(
            "c42_proxy_upstream_paused_until_timestamp_seconds",
            "Until when the circuit breaker is open; 0 when it is closed.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self.back_off_until = Gauge(
            "c42_proxy_upstream_wait_until_timestamp_seconds",
            "Until when the back-off lasts that C42 asked for.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self.fetches_in_flight = Gauge(
            "c42_proxy_fetches_in_flight", "Events being fetched.", multiprocess_mode="livesum", registry=registry
        )
        self.fetches_waiting = Gauge(
            "c42_proxy_fetches_waiting",
            "Events waiting for a slot to be fetched.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.store_failures = Counter(
            "c42_proxy_store_failures", "Operations on the shared store that failed.", registry=registry
        )
        self.store_up = Gauge(
            "c42_proxy_store_up",
            "Whether the shared store works for all workers (1) or not (0).",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self.log_records_dropped = log_records_dropped(registry)
        self.memory_entries = Gauge(
            "c42_proxy_memory_entries",
            "Answers in the memory of the workers.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.memory_bytes = Gauge(
            "c42_proxy_memory_bytes",
            "Size of the answers in the memory of the workers, as counted against C42_CACHE_MAX_BYTES (per worker).",
            multiprocess_mode="livesum",
            registry=registry,
        )
        build = Gauge(
            "c42_proxy_build_info",
            "The version that runs, as labels.",
            ["version", "python"],
            multiprocess_mode="max",
            registry=registry,
        )
        build.labels(__version__, platform.python_version()).set(1)
        self.store_up.set(1)

    def took(self, outcome: str, seconds: float) -> None:
        """Note how long a request took, unless it was a hit: that would cost 7 % of the hit's own time.

        So the event loop does not call it for a stale answer that it serves at once, either.
        """
        if outcome != "hit":
            self._duration(outcome).observe(seconds)

    @contextmanager
    def call(self, endpoint: Endpoint) -> Iterator[None]:
        """Count and time one call to C42, unless it failed at our own limits (NotAsked)."""
        start = perf_counter()
        result = "ok"
        try:
            yield
        except UpstreamError as error:
            result = RESULTS.get(type(error), "other")
            raise
        except NotAsked:
            result = ""
            raise
        finally:
            if result:
                self._call(endpoint, result).observe(perf_counter() - start)

    def exposition(self) -> bytes:
        """All metrics, of all workers, in Prometheus' text format."""
        return generate_latest(self._shown)
