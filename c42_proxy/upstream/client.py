"""Client of the C42 v2 API: returns our own types, and translates every foreign error."""

import http.client
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from http import HTTPStatus
from typing import NoReturn, TypeVar, cast
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from werkzeug.http import parse_date

from ..deadline import Deadline, ends_at
from ..errors import Cause, InvalidAnswer, RateLimited, TokenRefused, UpstreamUnavailable
from ..observability import correlation, tracing
from ..observability.metrics import Metrics
from ..version import __version__
from .causes import failure_of
from .lean_adapter import Answer, Get

PAGE_LIMIT = 100
MAX_BODY_BYTES = 4_194_304
DEFAULT_WAIT = 30.0
MAX_WAIT = 3600.0
READ_BYTES = 65_536
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": f"c42-proxy/{__version__}",
}
REMOVED = "removed"
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of C42. `status` is the status of the answer, which is 200 for a deleted event, too."""

    exists: bool
    title: str | None
    status: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """`first_name` is None for a removed subscription, and for a missing or blank name."""

    id: str
    first_name: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of subscriptions, in C42's order. `count` is the size of the whole list, None if C42 gives none."""

    subscriptions: list[Subscription]
    count: int | None


class C42Client:
    """The two calls that the proxy makes. As thread-safe as the adapter of its session.

    That adapter makes them, with `verify` and `proxies` of `session` (see `transport.new_session`). `clock` returns
    seconds since the epoch: `Retry-After` may be a date.
    """

    def __init__(
        self,
        api_url: str,
        token: SecretStr,
        *,
        session: requests.Session,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._adapter = session.get_adapter(api_url)
        self._verify = cast("bool | str", session.verify)  # only a request's may be None
        self._proxies = session.proxies
        # Prepared once: to prepare a request, or to copy one, takes a tenth of the time of a miss.
        self._api_url = requests.Request("GET", api_url).prepare().url
        self._token = token
        self._clock = clock
        self._metrics = metrics
        parts = urlsplit(api_url)
        self._server: dict[str, str | int] = {
            "http.request.method": "GET",
            "server.address": parts.hostname or "",
            "server.port": parts.port or {"https": 443}.get(parts.scheme, 80),
        }

    def event(self, event_id: str, deadline: Deadline) -> Event:
        """`GET events/<event_id>/`. Raises UpstreamError, or Overloaded if this process lacks descriptors.

        An id has only characters that need no quoting in a URL (`web.routes.EVENT_ID`).
        """
        with self._metrics.call("events"), tracing.span("GET events/{event_id}/", "client", self._server):
            return self._event(event_id, deadline)

    def _event(self, event_id: str, deadline: Deadline) -> Event:
        status, body = self._get(f"events/{event_id}/", deadline)
        if status == HTTPStatus.NOT_FOUND:
            return Event(exists=False, title=None, status=status)
        data = _parsed(body, _EventAnswer).data
        if not data:
            return Event(exists=False, title=None, status=status)
        if [event.id for event in data] != [event_id]:
            raise InvalidAnswer(Cause.ANOTHER_EVENT, status)
        event = data[0]
        return Event(
            exists=event.permission != REMOVED,
            title=None if event.permission == REMOVED else _sendable(event.title),
            status=status,
        )

    def subscriptions(self, event_id: str, offset: int, deadline: Deadline) -> Page:
        """`GET event-subscriptions/`: at most `PAGE_LIMIT` subscriptions from `offset` on. Raises as `event`."""
        page = {**self._server, "c42_proxy.offset": offset}
        with self._metrics.call("event-subscriptions"), tracing.span("GET event-subscriptions/", "client", page):
            return self._subscriptions(event_id, offset, deadline)

    def _subscriptions(self, event_id: str, offset: int, deadline: Deadline) -> Page:
        path = f"event-subscriptions/?event_ids=%5B{event_id}%5D&limit={PAGE_LIMIT}&offset={offset}"
        status, body = self._get(path, deadline)
        if status == HTTPStatus.NOT_FOUND:
            raise InvalidAnswer(Cause.NO_LIST, status)
        answer = _parsed(body, _SubscriptionsAnswer)
        if len(answer.data) > PAGE_LIMIT:
            raise InvalidAnswer(Cause.TOO_MANY, status)
        if any(found.event_id not in {None, event_id} for found in answer.data):
            raise InvalidAnswer(Cause.ANOTHER_LIST, status)
        return Page(
            subscriptions=[Subscription(found.id, _first_name(found)) for found in answer.data],
            count=answer.meta_data.count,
        )

    def _get(self, path: str, deadline: Deadline) -> tuple[int, bytes]:
        """The status, 200 or 404, and the whole body. Raises UpstreamError and Overloaded."""
        own = {"Authorization": f"Token {self._token.get_secret_value()}", **_correlation_headers()}
        request = Get(f"{self._api_url}{path}", {**HEADERS, **own})
        try:
            with (
                ends_at(deadline),
                # Not `session.send`, which looks for cookies and redirects: none are kept or followed.
                self._adapter.send(
                    request,
                    stream=True,
                    timeout=deadline.remaining(),
                    verify=self._verify,
                    proxies=self._proxies,
                ) as response,
            ):
                tracing.annotate({"http.response.status_code": response.status_code})
                if response.status_code not in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}:
                    self._refuse(response.status_code, response.headers.get("Retry-After"))
                return response.status_code, _read(response)
        except (
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            ValueError,
        ) as exc:
            failure = failure_of(exc, deadline)
        # Not `from exc`: these exceptions quote the answer, which may be an echo of our request with the token.
        raise failure

    def _refuse(self, status: int, retry_after: str | None) -> NoReturn:
        if status == HTTPStatus.TOO_MANY_REQUESTS or (
            status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after is not None
        ):
            raise RateLimited(_retry_after_seconds(retry_after, self._clock()), status)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise TokenRefused(status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UpstreamUnavailable(status)
        raise InvalidAnswer(Cause.status(status), status)


def _correlation_headers() -> dict[str, str]:
    headers = {}
    if (request := correlation.current()) is not None:
        headers["X-Request-ID"] = request.request_id
        traceparent = tracing.traceparent() or request.traceparent
        if traceparent is not None:
            headers["traceparent"] = traceparent
    return headers


class _Shape(BaseModel):
    """The part of an answer that we rely on; other fields are ignored."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)


_S = TypeVar("_S", bound=_Shape)


class _Event(_Shape):
    id: str
    title: str | None = None
    permission: str | None = None


class _EventAnswer(_Shape):
    data: list[_Event]


class _Subscriber(_Shape):
    first_name: str | None = None


class _Subscription(_Shape):
    id: str
    event_id: str | None = None
    permission: str | None = None
    subscriber: _Subscriber | None = None


class _MetaData(_Shape):
    count: int | None = None


class _SubscriptionsAnswer(_Shape):
    data: list[_Subscription]
    meta_data: _MetaData = _MetaData()


def _read(response: Answer | requests.Response) -> bytes:
    body = bytearray()
    # As `response.iter_content`, which only adds errors of its own.
    for chunk in response.raw.stream(READ_BYTES, decode_content=True):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidAnswer(Cause.TOO_LONG, response.status_code)
    return bytes(body)


def _parsed(body: bytes, shape: type[_S]) -> _S:
    try:
        return shape.model_validate(_decoder.decode(body.decode()))
    except (ValidationError, RecursionError):
        why = Cause.OTHER_SHAPE
    except ValueError:
        why = Cause.NOT_JSON
    # Not in the `except`: the `repr` of a UnicodeDecodeError has the whole answer, perhaps an echo with the token.
    raise InvalidAnswer(why, HTTPStatus.OK)


def _not_json(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's parser accepts and RFC 8259 does not."""
    raise ValueError(constant)


_decoder = json.JSONDecoder(parse_constant=_not_json)


def _first_name(found: _Subscription) -> str | None:
    if found.permission == REMOVED:
        return None
    if found.subscriber is None:
        raise InvalidAnswer(Cause.NO_SUBSCRIBER, HTTPStatus.OK)
    name = _sendable(found.subscriber.first_name)
    return name if name and name.strip() else None


def _sendable(text: str | None) -> str | None:
    """Return `text`. Raises InvalidAnswer if it has a lone surrogate, which UTF-8 cannot encode."""
    if text is not None and SURROGATE.search(text):
        raise InvalidAnswer(Cause.NOT_UNICODE, HTTPStatus.OK)
    return text


def _retry_after_seconds(retry_after: str | None, now: float) -> float:
    """The seconds to wait. `Retry-After` is a number of seconds, or a date (RFC 9110, section 10.2.3)."""
    value = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]+", value):
        return min(float(value), MAX_WAIT)
    try:
        date = parse_date(value)
    except OverflowError:  # a year of twelve digits
        date = None
    if date is None:
        return DEFAULT_WAIT
    return min(max(date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now, 0.0), MAX_WAIT)
