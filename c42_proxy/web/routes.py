"""The Flask entry point. Events' answers are decided in `events.py`; here only refusals."""

import logging
import re
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Flask, Request, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter, MapAdapter

from ..caching.reply import Reply
from ..events import Events
from ..observability import correlation
from ..observability.logs import log_request
from ..observability.metrics import Metrics
from .cors import Cors
from .responses import HttpResponse, problem, response_to

log = logging.getLogger(__name__)

PREFIX = "/events-with-subscriptions/"
EVENT_ID = "[A-Za-z0-9_-]{1,128}"
"""An event's id, after percent-decoding. Anything else would change the query at C42, so it never gets there."""
MAX_KNOWN_HOSTS = 64
METHODS = ["GET"]  # and HEAD, which Flask adds


_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")


known_hosts: set[bytes] = set()
"""`Host` values already found valid: nearly all requests use one of a few, and the pattern would slow down hits."""


def is_host(value: bytes | None) -> bool:
    """Whether a `Host` is valid (RFC 9112, section 3.2). Two of them arrive joined by a comma, which is invalid."""
    if value is None or not _HOST.fullmatch(value):
        return False
    if len(known_hosts) < MAX_KNOWN_HOSTS:
        known_hosts.add(value)
    return True


def has_encoded_slash(raw_path: bytes) -> bool:
    """Whether a path, as it was sent, contains an encoded slash (%2F), which is data, not a separator."""
    return b"%2f" in raw_path.lower()


class EventIdConverter(BaseConverter):
    regex = EVENT_ID


def create_flask(events: Events, metrics: Metrics, cors: Cors) -> Flask:
    """The proxy as a Flask app: its one address, which `events` answers, and the hooks for every request."""
    app = _App("c42_proxy", static_folder=None)
    app.url_map.converters["event_id"] = EventIdConverter
    app.url_map.merge_slashes = False
    app.register_blueprint(_blueprint(events, metrics, cors))
    app.register_error_handler(Exception, lambda error: flask_response(internal_error(error)))
    return app


class _App(Flask):
    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Route by path and method alone: Flask would also use Host, Upgrade and SCRIPT_NAME."""
        if request is None:
            return super().create_url_adapter(request)
        environ = request.environ
        path = environ.get("PATH_INFO", "")
        return self.url_map.bind(
            "c42-proxy",
            # `/` is a 404, as these paths must be: Werkzeug merges leading slashes, WSGI servers decode encoded ones.
            path_info="/" if path.startswith("//") or has_encoded_slash(_raw_path(environ)) else path,
            # Werkzeug upper-cases the method, so `get` would count as GET.
            default_method=request.method if environ["REQUEST_METHOD"] == request.method else "OTHER",
        )


def _raw_path(environ: dict[str, Any]) -> bytes:
    """The path as it was sent. Our worker, gunicorn's others and Werkzeug each use a different variable."""
    scope = environ.get("asgi.scope")
    if scope is not None:
        return scope.get("raw_path") or b""
    target: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    return target.partition("?")[0].encode("latin-1", "replace")


def _blueprint(events: Events, metrics: Metrics, cors: Cors) -> Blueprint:
    blueprint = Blueprint("events", __name__)

    @blueprint.before_app_request
    def begin() -> Response | None:
        g.start = time.perf_counter()
        g.request_id = correlation.request_id(request.headers.get("X-Request-ID"))
        correlation.begin(g.request_id, request.headers.get("traceparent"))
        host: str | None = request.environ.get("HTTP_HOST")
        if host is None:
            may_go_on = request.environ.get("SERVER_PROTOCOL") != "HTTP/1.1"
        else:
            may_go_on = is_host(host.encode("latin-1"))
        if may_go_on:
            return None
        detail = "The request needs one Host, as host or host:port."
        return flask_response(problem(HTTPStatus.BAD_REQUEST, "bad-request", detail))

    @blueprint.teardown_app_request
    def forget(_error: BaseException | None) -> None:
        correlation.end()

    @blueprint.after_app_request
    def end(response: Response) -> Response:
        reply: Reply | None = g.get("reply")
        handling = None if reply is None else reply.handling
        is_bug = response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
        outcome = "error" if is_bug else "refused" if reply is None else reply.outcome
        seconds = time.perf_counter() - g.start
        metrics.request(outcome, response.status_code).inc()
        metrics.took(outcome, seconds)
        response.headers["X-Request-ID"] = g.request_id
        response.headers.extend(cors.headers(request.headers.get("Origin")))
        log_request(
            method=request.method,
            path=quote(request.environ["PATH_INFO"].encode("latin-1")),
            status=response.status_code,
            outcome=outcome,
            seconds=seconds,
            upstream_seconds=None if handling is None else handling.upstream_seconds,
            cause=None if handling is None else handling.cause,
            request_id=g.request_id,
        )
        return response

    @blueprint.route(f"{PREFIX}<event_id:event_id>/", methods=METHODS, provide_automatic_options=False)
    def event_with_subscriptions(event_id: str) -> Response:
        g.reply = events.reply(event_id)
        return flask_response(response_to(event_id, g.reply).unless_known(request.headers.get("If-None-Match")))

    if cors.is_on:
        # Not strict: Werkzeug would redirect the address without the slash.
        @blueprint.route(f"{PREFIX}<event_id:event_id>/", methods=["OPTIONS"], strict_slashes=False)
        def preflight(event_id: str) -> Response:  # noqa: ARG001  # the answer is the same for all events
            origin = request.headers.get("Origin")
            is_preflight = request.path.endswith("/") and request.headers.get("Access-Control-Request-Method")
            if not origin or not is_preflight:
                raise MethodNotAllowed
            response = Response(status=HTTPStatus.NO_CONTENT, headers=cors.preflight(origin))
            del response.headers["Content-Type"]
            return response

    @blueprint.route(f"{PREFIX}<event_id:event_id>", methods=METHODS, provide_automatic_options=False)
    def without_closing_slash(event_id: str) -> Response:
        response = Response(status=HTTPStatus.PERMANENT_REDIRECT)
        response.location = f"{PREFIX}{event_id}/"
        del response.headers["Content-Type"]
        return response

    @blueprint.app_errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        if isinstance(error, MethodNotAllowed):
            detail = "This address knows GET and HEAD."
            not_allowed = problem(HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", detail)
            return flask_response(not_allowed.having(("Allow", "GET, HEAD")))
        if isinstance(error, NotFound):
            detail = (
                "There is only /events-with-subscriptions/<event_id>/ here, "
                "with an event_id of 1 to 128 letters, digits, '-' and '_'."
            )
            return flask_response(problem(HTTPStatus.NOT_FOUND, "address-not-found", detail))
        status = HTTPStatus(error.get_response().status_code)
        return flask_response(problem(status, "bad-request", "This request cannot be answered."))

    return blueprint


def internal_error(error: Exception) -> HttpResponse:
    """The response for a bug of the proxy. The traceback goes to the log only."""
    log.error("a bug of the proxy", exc_info=error)
    detail = "The proxy made a mistake. Its operator finds it in the log."
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)


def flask_response(sent: HttpResponse) -> Response:
    return Response(sent.body, sent.status, sent.headers)
