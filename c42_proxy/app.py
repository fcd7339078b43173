"""The composition root: the only place that knows all parts of the proxy."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click
import requests
from flask import Flask
from flask.cli import run_command

from .caching.circuit_breaker import CircuitBreaker
from .caching.freshness import Freshness
from .caching.limits import FETCHES_AT_ONCE
from .events import Events
from .observability.logs import configure_logs
from .observability.metrics import Metrics
from .observability.queued_lines import QueuedLines
from .observability.tracing import spans_from_env
from .settings import Settings
from .stores.contract import Store
from .stores.erasure import Eraser
from .stores.memory import MemoryStore
from .stores.opening import lifetime, open_shared
from .stores.tiered import TieredStore
from .threads import Threads
from .upstream.client import C42Client
from .upstream.combine import Combiner
from .upstream.transport import close_idle, new_session
from .web.asgi import AsgiApp
from .web.cors import Cors
from .web.ops import create_ops
from .web.responses import prepared
from .web.routes import create_flask

if TYPE_CHECKING:
    from .observability.otel import Spans
    from .web.traced import TracedAsgi

CALLS_AT_ONCE = 3 * FETCHES_AT_ONCE
"""Each fetch uses two of these threads. The others are for calls that still run after their fetch has ended."""

LATER_PAGES_AT_ONCE = FETCHES_AT_ONCE // 2
"""Calls for the pages after the first, of all fetches together. Few lists have more than one page, and if no thread is
free, the thread that reads the list asks for the page itself."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """The parts that others use: two entry points (ASGI and Flask), the operators' app, the use case, the metrics."""

    flask: Flask
    asgi: "AsgiApp | TracedAsgi"
    ops: Flask
    events: Events
    metrics: Metrics
    _eraser: Eraser
    _spans: "Spans | None"
    _opened: ExitStack

    def start(self) -> None:
        """Start the background threads of this process. Call it after the fork: no thread survives a fork.

        If the system gives no threads, each request that is no hit tries again.
        """
        self.events.start()
        self._eraser.start()
        if self._spans is not None:
            self._spans.start()

    def close(self) -> None:
        """Wait for the fetches under way, end the threads, and close the connections that were opened here.

        The session and the store passed to `build` stay the caller's to close. Nothing may be asked any more.
        """
        self._opened.close()


def build(
    settings: Settings,
    *,
    session: requests.Session | None = None,
    clock: Callable[[], float] = lambda: time.time(),  # noqa: PLW0108  # a test may replace time.time later
    store: Store | None = None,
    metrics: Metrics | None = None,
    spans: "Spans | None" = None,
) -> Proxy:
    """Wire the proxy. Nothing is connected, opened or started yet.

    `session` has the adapter that makes the calls to C42, `clock` returns the seconds since the epoch, `store` is the
    shared tier. By default they are made from the settings. `spans` are closed with the proxy.
    """
    opened = ExitStack()
    budget = settings.timeout
    metrics = metrics or Metrics()
    QueuedLines.count_dropped = metrics.log_records_dropped.inc
    if session is None:
        session = opened.enter_context(
            new_session(CALLS_AT_ONCE + LATER_PAGES_AT_ONCE, ca_file=settings.ca_file, proxy_url=settings.proxy_url)
        )
    shared = store or open_shared(settings, clock)
    if shared is not None and store is None:
        opened.callback(shared.close)
    freshness = Freshness(settings.cache_ttl, settings.stale_if_error)
    memory = MemoryStore(
        *(settings.cache_max_bytes, metrics, partial(prepared, freshness)), lifetime=lifetime(settings), clock=clock
    )
    tiered = TieredStore(memory, shared, clock=clock, metrics=metrics)
    eraser = opened.enter_context(closing(Eraser(tiered.erase)))
    breaker = CircuitBreaker(
        tiered, clock=clock, threshold=settings.breaker_threshold, probe_seconds=2 * budget, metrics=metrics
    )
    client = C42Client(settings.api_url, settings.api_token, session=session, clock=clock, metrics=metrics)
    # When a thread ends, connections that are no longer needed are closed.
    end_idle = partial(close_idle, session)
    calls = opened.enter_context(closing(Threads(CALLS_AT_ONCE, name="c42-call", on_idle=end_idle)))
    pages = opened.enter_context(closing(Threads(LATER_PAGES_AT_ONCE, name="c42-page", on_idle=end_idle)))
    upstream = Combiner(client, breaker, calls=calls, pages=pages, budget=budget, clock=clock)
    events = opened.enter_context(
        closing(Events(upstream, tiered, breaker, freshness=freshness, budget=budget, clock=clock, metrics=metrics))
    )
    cors = Cors(settings.origins)
    flask = create_flask(events, metrics, cors)
    # By the first request, any server has forked.
    flask.before_request(eraser.start)
    app = opened.enter_context(closing(AsgiApp(flask, events, metrics, cors, before_miss=eraser.start)))
    asgi: AsgiApp | TracedAsgi = app
    if spans is not None:
        from .web import traced  # noqa: PLC0415  # OpenTelemetry may not be installed

        flask.wsgi_app = traced.TracedWsgi(flask.wsgi_app, spans)  # type: ignore[method-assign]  # as Flask's pages say
        asgi = traced.TracedAsgi(app, spans)
        opened.callback(spans.close)
    return Proxy(flask, asgi, create_ops(metrics, tiered, breaker), events, metrics, eraser, spans, opened)


def create_app(
    settings: Settings | None = None,
    *,
    session: requests.Session | None = None,
    clock: Callable[[], float] = lambda: time.time(),  # noqa: PLW0108  # a test may replace time.time later
    store: Store | None = None,
    metrics: Metrics | None = None,
) -> Flask:
    """The proxy as a Flask app, complete under any WSGI server.

    Without `settings` (for `flask --app c42_proxy run`) they are read from the environment, as are the variables of
    OpenTelemetry, and logging is configured as they say. For the other arguments see `build`. Raises SettingsError.

    Flask's own server does not fork, so there the background threads start at once, and not with the first request.
    """
    spans = None
    if settings is None:
        settings, spans = Settings.from_env(), spans_from_env()
        configure_logs(settings)
        settings.log_warnings()
    proxy = build(settings, session=session, clock=clock, store=store, metrics=metrics, spans=spans)
    command = click.get_current_context(silent=True)
    if command is not None and command.command is run_command:
        proxy.start()
    return proxy.flask
