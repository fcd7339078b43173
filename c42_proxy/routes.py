"""HTTP in, HTTP out: the one address, its answers and its problems. No decisions on what to answer."""

import hashlib
import json
import logging
import math
import time
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import quote

from flask import Blueprint, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.http import http_date, parse_etags
from werkzeug.routing import BaseConverter

from . import correlation
from .cache import Reply
from .errors import EventNotFound, Problem
from .events import Events
from .logs import log_request
from .metrics import Metrics

log = logging.getLogger(__name__)

PREFIX = "/events-with-subscriptions/"
EVENT_ID = "[A-Za-z0-9_-]{1,128}"
"""An event's id, after percent-decoding. Nothing else may reach C42: it would change the query there."""
METHODS = ["GET"]  # and HEAD, which Flask adds
NO_STORE = "no-store"
# No max-age and no Age: a cache that counts max-age from when *it* stored the answer would keep it too long.
UNTIL_EXPIRES = "must-revalidate, stale-while-revalidate=0, stale-if-error=0"


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
        return answer(event_id, g.reply, request.headers.get("If-None-Match"))

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
            response = _problem(HTTPStatus.METHOD_NOT_ALLOWED, "This address knows GET and HEAD.")
            response.headers["Allow"] = "GET, HEAD"
            return response
        if isinstance(error, NotFound):
            detail = (
                "There is only /events-with-subscriptions/<event_id>/ here, "
                "with an event_id of 1 to 128 letters, digits, '-' and '_'."
            )
            return _problem(HTTPStatus.NOT_FOUND, detail)
        return _problem(HTTPStatus(error.code or 500), "This request cannot be answered.")

    return blueprint


def internal_error(error: Exception) -> Response:
    """The answer where the proxy itself is at fault; the traceback is for the log alone."""
    log.error("a bug of the proxy", exc_info=error)
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The proxy made a mistake. Its operator finds it in the log.")


def answer(event_id: str, reply: Reply, if_none_match: str | None) -> Response:
    """The answer to a GET for an event. `if_none_match` is the client's header; other preconditions have no say."""
    result = reply.result
    if isinstance(result, Problem):
        response = _problem(HTTPStatus(result.status), result.detail)
        if result.retry_after is not None:
            response.headers["Retry-After"] = str(result.retry_after)
    elif result.status == 404:
        # It is cached, here and elsewhere: it belongs to no one request.
        response = _problem(HTTPStatus.NOT_FOUND, EventNotFound(event_id).detail, of_this_request=False)
        _tell_expiry(response, reply.expiry)
    else:
        response = Response(result.body, mimetype="application/json")
        if _tell_expiry(response, reply.expiry):
            etag = hashlib.sha256(result.body).hexdigest()[:32]
            response.set_etag(etag)
            if if_none_match is not None and is_unchanged(if_none_match, etag):
                response.status_code = HTTPStatus.NOT_MODIFIED
                response.set_data(b"")
                del response.headers["Content-Type"]
                del response.headers["Content-Length"]
    response.headers["Cache-Status"] = reply.cache_status
    return response


def is_unchanged(if_none_match: str, etag: str) -> bool:
    """Whether the client has the answer of this tag already, by weak comparison (RFC 9110, section 13.1.2)."""
    return parse_etags(if_none_match).contains_weak(etag)


def _tell_expiry(response: Response, expiry: float | None) -> bool:
    """Put the one instant into `response` until which every cache may reuse it; whether there is one."""
    if expiry is None:
        response.headers["Cache-Control"] = NO_STORE
        return False
    instant = math.floor(expiry)
    response.headers["Cache-Control"] = UNTIL_EXPIRES
    response.headers["Expires"] = _http_date(instant)
    # nginx serves through the whole second that it is told.
    response.headers["X-Accel-Expires"] = f"@{instant - 1}"
    return True


_http_date = lru_cache(4096)(http_date)


def _problem(status: HTTPStatus, detail: str, *, of_this_request: bool = True) -> Response:
    """RFC 9457, section 3; `request_id` is what the operator finds in the log."""
    problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    if of_this_request and (origin := correlation.current()) is not None:
        problem["request_id"] = origin.request_id
    body = json.dumps(problem, ensure_ascii=False, separators=(",", ":"))
    response = Response(body, status=status.value, content_type="application/problem+json")
    response.headers["Cache-Control"] = NO_STORE
    return response
