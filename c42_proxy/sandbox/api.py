"""The C42 API as a function from requests to replies, without socket, clock and thread.

It is called by the sandbox's server, and by tests that run C42 in their own process.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from importlib.resources import files
from urllib.parse import parse_qs, unquote

from pydantic import ValidationError

from . import shapes
from .events import SAMPLES, Sample
from .state import Change, Fault, State

DEFAULT_LIMIT = 10
MAX_LIMIT = 100

_EVENT = re.compile(r"/api/v2/events/([^/]+)/")
_SUBSCRIPTIONS = "/api/v2/event-subscriptions/"
_CONTROL = "/sandbox/"
_LIVE = "/sandbox/live"
_OWN_NAME = re.compile(r"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]+)?")
"""What no other site can have as its host: the name of a site may lead to this machine, but is no address."""
PROXY = "http://127.0.0.1:4242"

_ALLOWED = (
    'Allowed is an object with any of "latency" (0 to 3600 seconds), "calls" ("reset"), "fault" (null, or an '
    'object with any of "status" (300 to 599, from 200 with a body), "retry_after" (seconds or text), "body" '
    '(text), "call" ("events", "subscriptions" or "both") and "event_id") and "events" (an object of '
    '{"<id>": {"title": "..." or null, "names": ["A", null]}}, ids of letters, digits, _ and -).'
)


@dataclass(frozen=True)
class Reply:
    """An answer in JSON, and after how many seconds it is sent."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class _RefusedError(Exception):
    """The request is answered with an error in C42's format."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reply = Reply(shapes.encoded(shapes.error(status, message)), status, headers or {})


class Sandbox:
    """A C42 with these events and this token; each API call takes `latency` seconds.

    The API is under `/api/v2/`. `/sandbox/` shows (GET) and changes (PUT) how it behaves, without a token. `/` is a
    page that does so in a browser, and asks `proxy` for the events.
    """

    def __init__(
        self,
        *,
        token: str,
        latency: float = 0.0,
        fault: Fault | None = None,
        events: Mapping[str, Sample] = SAMPLES,
        proxy: str = PROXY,
    ) -> None:
        self._state = State(events=events, latency=latency, fault=fault)
        self._token = token
        self._proxy = proxy

    def receive(
        self,
        method: str,
        target: str,
        authorization: str | None = None,
        body: bytes = b"",
        *,
        origin: str | None = None,
        host: str = "",
    ) -> Reply:
        """Answer a request from any thread. `target` is the path with its query, `origin` and `host` headers of it."""
        path, _, query = target.partition("?")
        try:
            if path == _CONTROL:
                _refuse_other_sites(origin, host)
                return self._controlled(method, body)
            if path in {"/", _LIVE}:
                _refuse_unless(method, "GET", "HEAD")
                return self._page() if path == "/" else Reply(shapes.encoded(self._state.live()))
            event = _EVENT.fullmatch(unquote(path))
            if event is None and path != _SUBSCRIPTIONS:
                raise _RefusedError(404, "There is no such address.")
            _refuse_unless(method, "GET", "HEAD")
            reply = self._called(event and event[1], query, authorization)
            self._state.note(unquote(target).removesuffix("?"), reply.status)
            return reply
        except _RefusedError as refused:
            return refused.reply

    def event(self, event_id: str) -> bytes:
        found = self._state.find(event_id)
        if found is None:
            raise _RefusedError(404, "No such event, or it is not for you to see.")
        return shapes.encoded(shapes.page([found.event], count=1))

    def page(self, event_ids: Sequence[str], limit: int, offset: int) -> bytes:
        found = [self._state.find(event_id) for event_id in event_ids]
        everyone = [subscription for one in found if one for subscription in one.subscriptions]
        some = everyone[offset : offset + limit]
        return shapes.encoded(shapes.page(some, count=len(everyone), offset=offset, sync_token=self._state.sync_token))

    def _page(self) -> Reply:
        page = (
            files("c42_proxy.sandbox").joinpath("page.html").read_text("utf-8").replace("PROXY", escape(self._proxy), 1)
        )
        policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
        policy += f"connect-src 'self' {self._proxy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        return Reply(
            page.encode(), headers={"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
        )

    def _called(self, event_id: str | None, query: str, authorization: str | None) -> Reply:
        """Every call is counted and takes its time, also one that fails or is refused."""
        asked = (
            {} if event_id else {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        )
        listed = asked.get("event_ids", "")
        # The events that the call is about, not yet checked: a fault comes first.
        about = frozenset([event_id] if event_id else listed.strip("[]").split(","))
        latency, fault = self._state.receive("events" if event_id else "subscriptions", about)
        try:
            if fault:
                reply = _faulty(fault)
            elif authorization != f"Token {self._token}":
                raise _RefusedError(401, "The token is missing or wrong.", {"WWW-Authenticate": "Token"})
            elif event_id:
                reply = Reply(self.event(event_id))
            else:
                limit = _number(asked, "limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
                reply = Reply(self.page(_event_ids(listed), limit, _number(asked, "offset", default=0, least=0)))
        except _RefusedError as refused:
            reply = refused.reply
        return replace(reply, seconds=latency)

    def _controlled(self, method: str, body: bytes) -> Reply:
        _refuse_unless(method, "GET", "HEAD", "PUT")
        if method == "PUT":
            try:
                self._state.change(Change.model_validate_json(body))
            except ValidationError as exc:
                wrong = (f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in exc.errors())
                raise _RefusedError(400, f"{'; '.join(wrong)}. {_ALLOWED}") from exc
        return Reply(shapes.encoded(self._state.report()))


def _refuse_unless(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise _RefusedError(405, f"{method} is not allowed here.", {"Allow": ", ".join(allowed)})


def _refuse_other_sites(origin: str | None, host: str) -> None:
    """Only a browser sends an `Origin`: the page's own is this server's, by a name that no other site can have."""
    if origin is not None and not (origin == f"http://{host}" and _OWN_NAME.fullmatch(host)):
        raise _RefusedError(
            403, "Pages of other sites may not change the sandbox. Open its own page by localhost or an IP address."
        )


def _event_ids(listed: str) -> list[str]:
    """The ids of `[a,b]`, each once. C42 wants brackets, and no quotes."""
    if not re.fullmatch(r"\[[^\[\],\"'\s]+(,[^\[\],\"'\s]+)*\]", listed):
        raise _RefusedError(400, "event_ids is a list of one or more ids in brackets, without quotes: [a,b].")
    return list(dict.fromkeys(listed[1:-1].split(",")))


def _number(asked: Mapping[str, str], name: str, *, default: int, least: int, most: int = 10**9) -> int:
    given = asked.get(name, str(default))
    # int() alone would accept signs, blanks, underscores and the digits of other scripts.
    if not re.fullmatch("[0-9]{1,10}", given) or not least <= int(given) <= most:
        raise _RefusedError(400, f"{name} is a whole number from {least} to {most}.")
    return int(given)


def _faulty(fault: Fault) -> Reply:
    if fault.body is not None:
        body = fault.body.encode()
    else:
        body = shapes.encoded(shapes.error(fault.status, "The sandbox was told to fail."))
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return Reply(body, fault.status, headers)
