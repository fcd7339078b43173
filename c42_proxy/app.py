"""The composition root: the only place that knows which parts the proxy is made of."""

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack

import requests
from flask import Flask, Request
from werkzeug.routing import MapAdapter

from .caching.cache import Cache
from .caching.circuit_breaker import Guard
from .events import CALLS_AT_ONCE, Events
from .observability.logs import configure_logs
from .observability.metrics import Metrics
from .settings import Settings
from .stores.contract import Store
from .stores.memory import MemoryStore
from .stores.opening import open_store
from .upstream.client import C42
from .upstream.transport import new_session
from .web.ops import create_ops
from .web.routes import EVENTS, METRICS, EventIdConverter, create_blueprint, internal_error, respond

OPS = "c42_proxy.ops"
"""Where the server finds the ops app (`Flask.extensions`)."""

CLOSING = "c42_proxy.closing"
"""Where `close_app` finds what it closes."""


def create_app(
    settings: Settings | None = None,
    *,
    session: requests.Session | None = None,
    clock: Callable[[], float] = lambda: time.time(),  # noqa: PLW0108  # a test may replace time.time later
    store: Store | None = None,
    metrics: Metrics | None = None,
) -> Flask:
    """The proxy as a Flask app, whole by itself under any WSGI server.

    Without `settings`, those of the environment (for `flask --app c42_proxy run`), whose log format holds then, too.
    `session` carries the calls to C42, `clock` tells the seconds since the epoch, `store` is what all processes share,
    `metrics` counts what happens.
    Raises SettingsError.
    """
    if settings is None:
        settings = Settings.from_env()
        configure_logs(settings)
        settings.log_warnings()
    budget = settings.timeout
    metrics = metrics or Metrics()
    closing = ExitStack()
    if session is None:
        session = closing.enter_context(new_session(CALLS_AT_ONCE))
    c42 = C42(settings.api_url, settings.api_token, session=session, clock=clock, metrics=metrics)
    memory = MemoryStore(settings.cache_max_bytes, metrics)
    shared = store or closing.enter_context(contextlib.closing(open_store(settings, memory, clock, metrics)))
    guard = Guard(shared, clock=clock, threshold=settings.breaker_threshold, trial_seconds=2 * budget, metrics=metrics)
    cache = Cache(
        memory,
        shared,
        guard,
        metrics=metrics,
        clock=clock,
        ttl=settings.cache_ttl,
        stale_if_error=settings.stale_if_error,
        budget=budget,
    )
    events = closing.enter_context(contextlib.closing(Events(c42, cache, guard, budget=budget, clock=clock)))

    app = _App("c42_proxy", static_folder=None)
    app.url_map.converters["event_id"] = EventIdConverter
    app.url_map.merge_slashes = False
    app.register_blueprint(create_blueprint(events, metrics))
    app.extensions[EVENTS] = events
    app.extensions[METRICS] = metrics
    app.extensions[CLOSING] = closing
    app.extensions[OPS] = create_ops(metrics, shared, guard)

    app.register_error_handler(Exception, lambda error: respond(internal_error(error)))
    return app


def close_app(app: Flask) -> None:
    """Wait for what is under way, end the threads of an app of `create_app`, and close the connections that it opened.

    The session and the store that `create_app` was given are their owner's. Nothing may be asked of it any more.
    """
    closing: ExitStack = app.extensions[CLOSING]
    closing.close()


class _App(Flask):
    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Route by path and method alone: left to Flask, Host, Upgrade and SCRIPT_NAME would have a say."""
        if request is None:
            return super().create_url_adapter(request)
        path = request.environ.get("PATH_INFO", "")
        return self.url_map.bind(
            "c42-proxy",
            # Werkzeug takes doubled slashes at the start for one.
            path_info="/" if path.startswith("//") else path,
            default_method=request.method,
        )
