"""The stand-in C42 over HTTP: the two API calls that the proxy makes, and the control beside them."""

import json
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from flask import Blueprint, Flask, Response, abort, request
from flask.json.provider import DefaultJSONProvider
from pydantic import ValidationError
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import RequestRedirect

from .events import SAMPLES, Sample
from .state import Call, Change, Fault, State

DEFAULT_LIMIT = 10
MAX_LIMIT = 100

_CALLS: Mapping[str | None, Call] = {"api.event": "events", "api.subscriptions": "subscriptions"}

_ALLOWED = (
    'Allowed is an object with any of "latency" (0 to 3600 seconds), "calls" ("reset"), "fault" (null, or an '
    'object with any of "status" (300 to 599, from 200 with a body), "retry_after" (seconds or text), "body" '
    '(text), "call" ("events", "subscriptions" or "both") and "event_id") and "events" (an object of '
    '{"<id>": {"title": "..." or null, "names": ["A", null]}}, ids of letters, digits, _ and -).'
)


class _PlainJson(DefaultJSONProvider):
    """JSON that a reader recognises: the keys in C42's order, every script as itself."""

    sort_keys = False
    ensure_ascii = False


def create_sandbox(
    *,
    token: str,
    latency: float = 0.0,
    fault: Fault | None = None,
    events: Mapping[str, Sample] = SAMPLES,
    sleep: Callable[[float], object] = time.sleep,
) -> Flask:
    """A C42 that knows these events and this token; each API call takes `latency` seconds.

    The API is under `/api/v2/`. `/sandbox/` tells (GET) and changes (PUT) how it behaves, without a token.
    """
    state = State(events=events, latency=latency, fault=fault)
    app = Flask(__name__, static_folder=None)
    app.json = _PlainJson(app)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.before_request(_no_detours)
    app.register_blueprint(_api(state, token, sleep), url_prefix="/api/v2")
    app.register_blueprint(_control(state), url_prefix="/sandbox")
    app.register_error_handler(HTTPException, _error)
    return app


def _api(state: State, token: str, sleep: Callable[[float], object]) -> Blueprint:
    api = Blueprint("api", __name__)

    @api.before_request
    def receive() -> Response | None:
        """Every call counts and takes its time, also one that goes wrong or is refused."""
        latency, fault = state.receive(_CALLS[request.endpoint], _ids_in_the_address())
        sleep(latency)
        if fault:
            return _faulty(fault)
        if request.headers.get("Authorization") != f"Token {token}":
            raise Unauthorized("The token is missing or wrong.", www_authenticate=WWWAuthenticate("token"))
        return None

    @api.get("/events/<event_id>/")
    def event(event_id: str) -> dict[str, object]:
        found = state.find(event_id)
        if found is None:
            abort(404, "No such event, or it is not for you to see.")
        return {"data": [found.event], "meta_data": {"count": 1}}

    @api.get("/event-subscriptions/")
    def subscriptions() -> dict[str, object]:
        limit = _number("limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
        offset = _number("offset", default=0, least=0)
        found = [state.find(event_id) for event_id in _event_ids()]
        everyone = [subscription for one in found if one for subscription in one.subscriptions]
        return {
            "data": everyone[offset : offset + limit],
            "meta_data": {"count": len(everyone), "offset": offset, "sync_token": state.sync_token},
        }

    return api


def _control(state: State) -> Blueprint:
    control = Blueprint("control", __name__)

    @control.get("/")
    def report() -> dict[str, object]:
        return state.report()

    @control.put("/")
    def change() -> dict[str, object]:
        try:
            wanted = Change.model_validate_json(request.get_data())
        except ValidationError as exc:
            wrong = (f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in exc.errors())
            abort(400, f"{'; '.join(wrong)}. {_ALLOWED}")
        state.change(wanted)
        return state.report()

    return control


def _event_ids() -> list[str]:
    """The ids of `event_ids=[a,b]`, each once. C42 wants brackets, and no quotes."""
    given = request.args.get("event_ids", "")
    if not re.fullmatch(r"\[[^\[\],\"'\s]+(,[^\[\],\"'\s]+)*\]", given):
        abort(400, "event_ids is a list of one or more ids in brackets, without quotes: [a,b].")
    return list(dict.fromkeys(given[1:-1].split(",")))


def _ids_in_the_address() -> frozenset[str]:
    """The events that a call is about, before anybody has checked it: a fault comes first."""
    in_the_path = (request.view_args or {}).values()
    in_the_query = request.args.get("event_ids", "").strip("[]").split(",")
    return frozenset([*in_the_path, *in_the_query])


def _number(name: str, *, default: int, least: int, most: int = 10**9) -> int:
    given = request.args.get(name, str(default))
    # int() alone would take signs, blanks, underscores and the digits of other scripts.
    if not re.fullmatch("[0-9]{1,10}", given) or not least <= int(given) <= most:
        abort(400, f"{name} is a whole number from {least} to {most}.")
    return int(given)


def _faulty(fault: Fault) -> Response:
    body = fault.body if fault.body is not None else _c42_error(fault.status, "The sandbox was told to fail.")
    response = Response(body, fault.status, content_type="application/json")
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


def _no_detours() -> None:
    """Flask would lead to the address with single slashes and a closing one: here any other is unknown."""
    if isinstance(request.routing_exception, RequestRedirect):
        abort(404)


def _error(exc: HTTPException) -> Response:
    """Any error in C42's format, with the headers that belong to it (Allow, WWW-Authenticate)."""
    status = exc.code or HTTPStatus.INTERNAL_SERVER_ERROR
    headers = [(name, value) for name, value in exc.get_headers() if name.lower() != "content-type"]
    return Response(_c42_error(status, exc.description or ""), status, headers, content_type="application/json")


def _c42_error(status: int, message: str) -> str:
    code = HTTP_STATUS_CODES.get(status, "unknown").lower().replace(" ", "_")
    return json.dumps({"error": {"status_code": status, "message": message, "code": code}})
