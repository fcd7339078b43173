"""The app of a worker, and what the master needs of the libraries behind it. Imported when the settings are right."""

import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from flask import Flask

from ..app import build
from ..observability.logs import configure_logs
from ..observability.metrics import Metrics, log_records_dropped
from ..observability.multiprocess import MASTERS_SEGMENT, SharedValues, can_count_together
from ..observability.queued_lines import QueuedLines
from ..settings import Settings
from ..stores.opening import open_shared
from ..upstream.transport import adapter_class
from ..web.a2wsgi_threads import takes_our_threads
from ..web.asgi import AnswerAtOnce, Asgi, AsgiApp, Receive, Scope, Send, WsgiAsAsgi
from ..web.cors import Cors, Header
from .master import controls_master
from .worker import http_and_server

if TYPE_CHECKING:
    from ..observability.otel import Spans
    from ..web.traced import TracedAsgi

log = logging.getLogger(__name__)

OPS_THREADS = 2


def prepare(settings: Settings) -> None:
    """Configure the log, and check in the master whether libraries have changed, so that the warning comes once."""
    configure_logs(settings)
    settings.log_warnings()
    controls_master()
    http_and_server()
    takes_our_threads()
    adapter_class()
    open_shared(settings, time.time)


def share_values() -> SharedValues | None:
    """Memory in which all workers count, and the master its lost log lines; None if there is none."""
    if not can_count_together():
        return None
    try:
        values = SharedValues()
    except OSError as exc:
        log.warning("no memory for the metrics of all workers (%s): /metrics shows one worker", exc.strerror)
        return None
    QueuedLines.count_dropped = log_records_dropped(values.count_in(MASTERS_SEGMENT)).inc
    return values


def app_of_worker(
    settings: Settings, metrics: Metrics, spans: "Spans | None", *, is_asgi: bool, ops_port: int | None
) -> Callable[..., Any]:
    """The app, built after the fork: threads and connections do not survive one."""
    proxy = build(settings, metrics=metrics, spans=spans)
    proxy.start()
    if ops_port is None:
        return proxy.asgi if is_asgi else proxy.flask
    if is_asgi:
        return _AsgiByPort(proxy.asgi, WsgiAsAsgi(proxy.ops, OPS_THREADS, Cors(())), ops_port)
    return _wsgi_by_port(proxy.flask, proxy.ops, ops_port)


class _AsgiByPort:
    """By the socket of the connection: headers are not used."""

    def __init__(self, app: "AsgiApp | TracedAsgi", ops: Asgi, ops_port: int) -> None:
        self._app = app
        self._ops = ops
        self._ops_port = ops_port

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        return (self._ops if self._is_ops(scope) else self._app)(scope, receive, send)

    def answer_at_once_for(self, scope: Scope) -> AnswerAtOnce | None:
        return None if self._is_ops(scope) else self._app.answer_at_once_for(scope)

    def cors_headers(self, scope: Scope) -> tuple[Header, ...]:
        return () if self._is_ops(scope) else self._app.cors_headers(scope)

    def _is_ops(self, scope: Scope) -> bool:
        server = scope.get("server")
        return server is not None and server[1] == self._ops_port


def _wsgi_by_port(app: Flask, ops: Flask, ops_port: int) -> Callable[..., Any]:
    def by_port(environ: dict[str, Any], start_response: Any) -> Any:
        # As above: without a port of the socket, SERVER_PORT would come from the client's Host.
        connection = environ.get("gunicorn.socket") or environ.get("gunicorn.sock")
        name = None if connection is None else connection.getsockname()
        return (ops if isinstance(name, tuple) and name[1] == ops_port else app)(environ, start_response)

    return by_port
