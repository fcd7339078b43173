"""Turns a reply into HTTP: status, headers and body, for both entry points. It decides nothing."""

import hashlib
import json
import math
import time
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from werkzeug.http import http_date, parse_etags

from ..caching.freshness import Freshness
from ..caching.reply import Failed, Fetched, Handling, Hit, Reply, StaleIfError
from ..errors import NotAsked, Problem
from ..observability import correlation
from ..stores.contract import Entry
from .cors import Header

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
CONTENT_TYPES = {200: JSON, 404: PROBLEM_JSON}
"""Of responses for entries, by their status."""
# Without the second one, an nginx that ignores Cache-Control would cache for as long as its `proxy_cache_valid` says.
NO_STORE = (("Cache-Control", "no-store"), ("X-Accel-Expires", "0"))
# No max-age and no Age: a cache that counts max-age from when *it* stored the answer would keep it too long.
UNTIL_EXPIRES = "must-revalidate, stale-while-revalidate=0, stale-if-error=0"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`Content-Length` is that of `body`, which is not sent to HEAD."""

    status: HTTPStatus
    headers: tuple[Header, ...]
    body: bytes

    def having(self, *headers: Header) -> "HttpResponse":
        return HttpResponse(self.status, self.headers + headers, self.body)

    def unless_known(self, if_none_match: str | None) -> "HttpResponse":
        """A 304 if the client has this response already, by weak comparison (RFC 9110, 13.1.2); else the response."""
        etag = dict(self.headers).get("ETag")
        if if_none_match is None or etag is None or not parse_etags(if_none_match).contains_weak(etag.strip('"')):
            return self
        bodyless_headers = tuple(header for header in self.headers if not header[0].startswith("Content-"))
        return HttpResponse(HTTPStatus.NOT_MODIFIED, bodyless_headers, b"")

    def as_bytes(self) -> tuple[bytes, bytes]:
        """The head in HTTP/1.1, without the empty line at its end, and the body."""
        return f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n".encode() + header_lines(self.headers), self.body


def header_lines(headers: tuple[Header, ...]) -> bytes:
    return "".join([f"{name.lower()}: {value}\r\n" for name, value in headers]).encode("latin-1")


def response_to(event_id: str, reply: Reply) -> HttpResponse:
    """The response to a GET for an event."""
    if isinstance(reply, Failed):
        response = failure_response(reply.problem)
    else:
        response = _entry_response(event_id, reply.entry, expiry_of(reply))
    return response.having(("Cache-Status", cache_status(reply)))


def expiry_of(reply: Reply) -> float | None:
    """The instant until which every cache may reuse the response; None if none may."""
    return reply.expiry if isinstance(reply, Hit | Fetched) else None


def prepared(freshness: Freshness, event_id: str, entry: Entry) -> tuple[bytes, bytes, bytes]:
    """The response for a fresh entry without `Cache-Status`: its head in two parts, and its body."""
    body = _body(event_id, entry)
    until = _last_second(freshness.expiry(entry.fetched_at))
    return _shared_head(entry.status, until), header_lines(_own_headers(entry, body)), body


@lru_cache(4096)
def _shared_head(status: int, until: int) -> bytes:
    """One object for all entries that expire in the same second: memory has it only once."""
    head, _body = HttpResponse(HTTPStatus(status), _shared_headers(status, until), b"").as_bytes()
    return head


@lru_cache(4096)
def stale_head(length: int) -> bytes:
    """The head of the response for a stale entry with a body of that length, without `Cache-Status`."""
    head, _body = _response(HTTPStatus.OK, JSON, bytes(length), *NO_STORE).as_bytes()
    return head


def cache_status(reply: Reply) -> str:
    """The value of `Cache-Status` (RFC 9211): where the reply comes from."""
    match reply:
        case Hit():
            return f"c42-proxy; hit; ttl={reply.ttl}"
        case Fetched():
            late = None if reply.expiry is not None else "detail=past-expiry"
            return _joined(*_forward_parameters(reply.handling, stored=reply.stored), late)
        case StaleIfError() if reply.handling.forward is None:
            return f"c42-proxy; hit; ttl={reply.ttl}; detail=stale-if-error"
        case StaleIfError():
            return _joined("fwd=stale", _forward_status(reply.handling), "detail=stale-if-error")
        case Failed():
            return _joined(*_forward_parameters(reply.handling), _detail(reply.problem, reply.handling))


def problem(status: HTTPStatus, reason: str, detail: str) -> HttpResponse:
    """A problem (RFC 9457, section 3). `reason` is for programs; the operator finds its `request_id` in the log."""
    origin = correlation.current()
    members = {} if origin is None else {"request_id": origin.request_id}
    return _response(status, PROBLEM_JSON, _problem_body(status, reason, detail, **members), *NO_STORE)


def failure_response(failure: Problem) -> HttpResponse:
    retry_after = () if failure.retry_after is None else (("Retry-After", str(failure.retry_after)),)
    return problem(HTTPStatus(failure.status), failure.reason, failure.detail).having(*retry_after)


def _forward_parameters(handling: Handling, *, stored: bool = False) -> tuple[str | None, ...]:
    return (
        None if handling.forward is None else f"fwd={handling.forward.value}",
        "stored" if stored else None,
        "collapsed" if handling.collapsed else None,
        _forward_status(handling),
    )


def _forward_status(handling: Handling) -> str | None:
    return None if handling.upstream_status is None else f"fwd-status={handling.upstream_status}"


def _detail(failure: Problem, handling: Handling) -> str | None:
    return f"detail={failure.why}" if isinstance(failure, NotAsked) and handling.forward is None else None


def _joined(*parameters: str | None) -> str:
    return "; ".join(["c42-proxy", *filter(None, parameters)])


def _entry_response(event_id: str, entry: Entry, expiry: float | None) -> HttpResponse:
    """The response for an entry, without `Cache-Status`; reusable until `expiry` (None: not at all)."""
    status, body = HTTPStatus(entry.status), _body(event_id, entry)
    if expiry is None:
        return _response(status, CONTENT_TYPES[status], body, *NO_STORE)
    headers = _shared_headers(status, _last_second(expiry)) + _own_headers(entry, body)
    return HttpResponse(status, headers, body)


def _body(event_id: str, entry: Entry) -> bytes:
    if entry.status == 200:
        return entry.body
    # No request id: this response is cached, and answers many requests.
    detail = f"C42 has no event {event_id} that this proxy may see, or it was deleted."
    return _problem_body(HTTPStatus.NOT_FOUND, "event-not-found", detail)


def _own_headers(entry: Entry, body: bytes) -> tuple[Header, ...]:
    """The headers that depend on the body."""
    length = (("Content-Length", str(len(body))),)
    return length if entry.status == 404 else (*length, ("ETag", f'"{hashlib.sha256(body).hexdigest()[:32]}"'))


def _last_second(expiry: float) -> int:
    """The last second in which caches may reuse the response.

    Dates have whole seconds, and some caches (nginx is one) reuse an answer to the end of the second that is named.
    """
    return math.floor(expiry) - 1


def _shared_headers(status: int, until: int) -> tuple[Header, ...]:
    """The type, and the headers that say until which second caches may reuse the response."""
    return (
        ("Content-Type", CONTENT_TYPES[status]),
        ("Cache-Control", UNTIL_EXPIRES),
        ("Expires", _http_date(until)),
        ("X-Accel-Expires", f"@{until}"),
    )


def date() -> str:
    """The value of `Date` for an answer that is sent now: some caches reuse an answer for `Expires` minus `Date`."""
    return _http_date(int(time.time()))


_http_date = lru_cache(4096)(http_date)


def _problem_body(status: HTTPStatus, reason: str, detail: str, **members: str) -> bytes:
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "reason": reason,
        "detail": detail,
        **members,
    }
    return json.dumps(body, separators=(",", ":")).encode()


def _response(status: HTTPStatus, content_type: str, body: bytes, *headers: Header) -> HttpResponse:
    about_body = (("Content-Type", content_type), ("Content-Length", str(len(body))))
    return HttpResponse(status, about_body + headers, body)
