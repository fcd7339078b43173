"""HTTP in, HTTP out: the one address, and what is refused. No decisions on what to answer."""

import logging
import time
from http import HTTPStatus
from urllib.parse import quote

from flask import Blueprint, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter

from ..caching.cache import Reply
from ..events import Events
from ..observability import correlation
from ..observability.logs import log_request
from ..observability.metrics import Metrics
from .responses import Answer, answer, problem

log = logging.getLogger(__name__)

PREFIX = "/events-with-subscriptions/"
EVENTS = "c42_proxy.events"
METRICS = "c42_proxy.metrics"
"""Where the front finds the app's parts (`Flask.extensions`)."""

EVENT_ID = "[A-Za-z0-9_-]{1,128}"
"""An event's id, after percent-decoding. Nothing else may reach C42: it would change the query there."""
METHODS = ["GET"]  # and HEAD, which Flask adds


class EventIdConverter(BaseConverter):
    """An event's id in a path."""

    regex = EVENT_ID


def create_blueprint(events: Events, metrics: Metrics) -> Blueprint:
    """The one address of the proxy, answered by `events`, and what is done for every request."""
    blueprint = Blueprint("events", __name__)

    @blueprint.before_app_request
    def begin() -> None:
        g.start = time.perf_counter()
        g.request_id = correlation.request_id(request.headers.get("X-Request-ID"))
        correlation.begin(g.request_id, request.headers.get("traceparent"))

    @blueprint.teardown_app_request
    def forget(_error: BaseException | None) -> None:
        correlation.end()

    @blueprint.after_app_request
    def end(response: Response) -> Response:
        reply: Reply | None = g.get("reply")
        outcome = "refused" if reply is None else reply.outcome
        metrics.request(outcome, response.status_code).inc()
        response.headers["X-Request-ID"] = g.request_id
        log_request(
            method=request.method,
            path=quote(request.environ["PATH_INFO"].encode("latin-1")),
            status=response.status_code,
            outcome=outcome,
            seconds=time.perf_counter() - g.start,
            upstream_seconds=None if reply is None else reply.upstream_seconds,
            request_id=g.request_id,
        )
        return response

    @blueprint.route(f"{PREFIX}<event_id:event_id>/", methods=METHODS, provide_automatic_options=False)
    def event_with_subscriptions(event_id: str) -> Response:
        g.reply = events.reply(event_id)
        return respond(answer(event_id, g.reply).unless_known(request.headers.get("If-None-Match")))

    @blueprint.route(f"{PREFIX}<event_id:event_id>", methods=METHODS, provide_automatic_options=False)
    def without_closing_slash(event_id: str) -> Response:
        response = Response(status=HTTPStatus.PERMANENT_REDIRECT)
        response.autocorrect_location_header = False  # it would put in the client's Host
        response.location = f"{PREFIX}{event_id}/"
        del response.headers["Content-Type"]
        return response

    @blueprint.app_errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        if isinstance(error, MethodNotAllowed):
            told = problem(HTTPStatus.METHOD_NOT_ALLOWED, "This address knows GET and HEAD.")
            return respond(told.having(("Allow", "GET, HEAD")))
        if isinstance(error, NotFound):
            detail = (
                "There is only /events-with-subscriptions/<event_id>/ here, "
                "with an event_id of 1 to 128 letters, digits, '-' and '_'."
            )
            return respond(problem(HTTPStatus.NOT_FOUND, detail))
        return respond(problem(HTTPStatus(error.code or 500), "This request cannot be answered."))

    return blueprint


def internal_error(error: Exception) -> Answer:
    """The answer where the proxy itself is at fault; the traceback is for the log alone."""
    log.error("a bug of the proxy", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The proxy made a mistake. Its operator finds it in the log.")


def respond(told: Answer) -> Response:
    """An answer as Flask sends it."""
    response = Response(told.body, told.status, told.headers)
    if not told.body:
        # Flask has a default for it.
        del response.headers["Content-Type"]
    return response
