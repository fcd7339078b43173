"""What an answer is in HTTP: status, headers and body, for whoever sends them. No decisions on what to answer."""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from werkzeug.http import http_date, parse_etags

from ..caching.cache import Reply
from ..errors import EventNotFound
from ..observability import correlation
from ..stores.contract import Entry

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
NO_STORE = "no-store"
# No max-age and no Age: a cache that counts max-age from when *it* stored the answer would keep it too long.
UNTIL_EXPIRES = "must-revalidate, stale-while-revalidate=0, stale-if-error=0"

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """`Content-Length` is that of `body`, which is not sent to HEAD."""

    status: HTTPStatus
    headers: tuple[Header, ...]
    body: bytes

    def having(self, *headers: Header) -> "Answer":
        """The same with more headers."""
        return Answer(self.status, self.headers + headers, self.body)

    def unless_known(self, if_none_match: str | None) -> "Answer":
        """The 304 instead, where this is what the client has already, by weak comparison (RFC 9110, 13.1.2)."""
        etag = dict(self.headers).get("ETag")
        if if_none_match is None or etag is None or not parse_etags(if_none_match).contains_weak(etag.strip('"')):
            return self
        about_no_body = tuple(header for header in self.headers if not header[0].startswith("Content-"))
        return Answer(HTTPStatus.NOT_MODIFIED, about_no_body, b"")


def answer(event_id: str, reply: Reply) -> Answer:
    """The answer to a GET for an event."""
    result = reply.result
    if isinstance(result, Entry):
        told = entry_answer(event_id, result, reply.expiry)
    else:
        wait = () if result.retry_after is None else (("Retry-After", str(result.retry_after)),)
        told = problem(HTTPStatus(result.status), result.detail).having(*wait)
    return told.having(("Cache-Status", reply.cache_status))


def entry_answer(event_id: str, entry: Entry, expiry: float | None) -> Answer:
    """What all are told of an entry who may reuse it until `expiry` (None: not at all): all but `Cache-Status`."""
    until = _until(expiry)
    if entry.status == 404:
        # It is cached, here and elsewhere: it belongs to no one request.
        body = _problem_body(HTTPStatus.NOT_FOUND, EventNotFound(event_id).detail)
        return _answer(HTTPStatus.NOT_FOUND, PROBLEM_JSON, body, *until)
    etag = () if expiry is None else (("ETag", f'"{hashlib.sha256(entry.body).hexdigest()[:32]}"'),)
    return _answer(HTTPStatus.OK, JSON, entry.body, *until, *etag)


def problem(status: HTTPStatus, detail: str) -> Answer:
    """RFC 9457, section 3; `request_id` is what the operator finds in the log."""
    origin = correlation.current()
    members = {} if origin is None else {"request_id": origin.request_id}
    return _answer(status, PROBLEM_JSON, _problem_body(status, detail, **members), ("Cache-Control", NO_STORE))


def _until(expiry: float | None) -> tuple[Header, ...]:
    """The one instant until which every cache may reuse the answer, if there is one."""
    if expiry is None:
        return (("Cache-Control", NO_STORE),)
    instant = math.floor(expiry)
    return (
        ("Cache-Control", UNTIL_EXPIRES),
        ("Expires", _http_date(instant)),
        # nginx serves through the whole second that it is told.
        ("X-Accel-Expires", f"@{instant - 1}"),
    )


_http_date = lru_cache(4096)(http_date)


def _problem_body(status: HTTPStatus, detail: str, **members: str) -> bytes:
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, **members}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _answer(status: HTTPStatus, content_type: str, body: bytes, *headers: Header) -> Answer:
    about_body = (("Content-Type", content_type), ("Content-Length", str(len(body))))
    return Answer(status, about_body + headers, body)
