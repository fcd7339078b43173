"""What an app was told, in the words of the scenarios, and how each of the problems looks to it."""

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from werkzeug.test import TestResponse

from features.support.expectations import expect, expect_same, lasting, listed

SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Problem:
    """`name` is the scenarios' word for it, `reason` is the programs'; its `detail` matches the pattern `words`."""

    name: str
    status: int
    reason: str
    words: str


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("there is no such event", 404, "event-not-found", r"C42 has no event"),
        Problem(
            "there is no such address",
            404,
            "address-not-found",
            r"There is only /events-with-subscriptions/<event_id>/",
        ),
        Problem("this address can only be read", 405, "method-not-allowed", r"knows GET and HEAD"),
        Problem("C42 refuses the proxy's token", 502, "c42-refuses-token", r"refuses the token of this proxy"),
        Problem("C42's answer cannot be used", 502, "c42-invalid-answer", r"gave an answer that cannot be used"),
        Problem(
            "C42 cannot be reached or is broken",
            502,
            "c42-unavailable",
            r"C42 (cannot be reached or broke off|answered 5\d\d)",
        ),
        Problem("C42 did not answer in time", 504, "c42-timeout", r"no complete answer in time"),
        Problem("C42 is down", 503, "c42-down", r"C42 is down"),
        Problem("C42 asks to wait", 503, "c42-asks-to-wait", r"asks us to wait"),
        Problem("the proxy has too much to do", 503, "overloaded", r"The proxy has too much to do"),
        Problem("the proxy made a mistake", 500, "internal-error", r"The proxy made a mistake"),
    )
}
MEMBERS = {"type", "title", "status", "reason", "detail"}
"""What a problem consists of (RFC 9457). A problem that is not cached also has a `request_id`."""

ORIGINS = {
    r"hit; ttl=(\d+)": "a remembered answer, valid for another {mark}",
    r"hit; ttl=-(\d+); detail=stale-if-error": "an answer that expired {mark} ago, without asking C42",
    r"fwd=stale;(?: fwd-status=\d+;)? detail=stale-if-error": "an answer that has expired, after asking C42",
    r"fwd=uri-miss; stored; fwd-status=200": "an answer of C42, now remembered",
    r"fwd=stale; stored; fwd-status=200": "an answer of C42, now remembered in place of an expired one",
    r"fwd=uri-miss; fwd-status=200": "an answer of C42, not remembered",
    r"fwd=uri-miss; fwd-status=200; detail=past-expiry": "an answer of C42 that came too late to be remembered",
}
"""What the marks say. The first number in a mark is a time in seconds."""

SHOWN_HEADERS = {"Cache-Status", "ETag", "Retry-After", "X-Request-ID"}


def told(answer: TestResponse) -> str:
    """All that the app can see in the answer's status and body."""
    body = _body(answer)
    if answer.status_code == 200 and {"title", "names"} <= body.keys():
        title = "without a title" if body["title"] is None else f'"{body["title"]}"'
        return f"the app is given the event {title} with {listed(shown(body['names']))}"
    if problem := problem_of(answer):
        wait = answer.headers.get("Retry-After")
        return f"the app is told that {problem.name}" + (
            f", and to try again in {lasting(timedelta(seconds=int(wait)))}" if wait else ""
        )
    if answer.status_code == 304:
        return "the app is told that its answer is still valid"
    if answer.status_code == 308:
        return f"the app is sent to {answer.headers['Location']}"
    text = " ".join(answer.text.split())
    text = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
    return f"the app is given status {answer.status_code} with {text or 'nothing'}"


def problem_of(answer: TestResponse) -> Problem | None:
    """Which of the problems the answer is."""
    detail, reason = str(_body(answer).get("detail")), _body(answer).get("reason")
    return next(
        (
            problem
            for problem in PROBLEMS.values()
            if answer.status_code == problem.status and reason == problem.reason and re.search(problem.words, detail)
        ),
        None,
    )


def expect_problem(answer: TestResponse, problem: Problem, wait: timedelta | None = None) -> None:
    """The answer is this problem, in the form of RFC 9457, with the time to wait where one is expected."""
    got = told(answer) if wait else told(answer).partition(", and to try again in ")[0]
    expect_same(
        f"the app is told that {problem.name}" + (f", and to try again in {lasting(wait)}" if wait else ""), got
    )
    body = _body(answer)
    form = f"{answer.content_type} with {', '.join(sorted(body))}"
    expect(answer.content_type == "application/problem+json", "application/problem+json", form)
    expect(body.keys() - {"request_id"} == MEMBERS, f"a problem with {', '.join(sorted(MEMBERS))}", form)
    expect_same(f"status {problem.status} in the problem", f"status {body['status']} in the problem")
    request_id = answer.headers["X-Request-ID"]
    expect_same(f"the request id {request_id}", f"the request id {body.get('request_id', request_id)}")


def expect_names(answer: TestResponse, names: list[str]) -> None:
    """The answer is an event with these names, in this order."""
    got = _body(answer).get("names") if answer.status_code == 200 else None
    expect(got is not None, f"the app is given an event with {listed(names)}", told(answer))
    if got is not None and got != names:
        words = shown(got)
        expect_same(f"it names {listed(names)}", f"it names {listed(words)}")
        place = next(place for place, name in enumerate(names) if name != words[place])
        expect_same(f"{names[place]} in place {place + 1}", f"{words[place]} in place {place + 1}")


def shown(names: Any) -> list[str]:
    """Names as an answer has them. What is no name is shown as it stands in the JSON: `null`, `""`."""
    names = names if isinstance(names, list) else [names]
    return [name if isinstance(name, str) and name.strip() else json.dumps(name) for name in names]


def explanation(answer: TestResponse) -> str:
    """What the makers of the app read, if the answer is a problem."""
    return str(_body(answer).get("detail", told(answer)))


def word_of(answer: TestResponse) -> str:
    """The word by which programs recognise the problem, if the answer is one."""
    return str(_body(answer).get("reason", told(answer)))


def title_of(answer: TestResponse) -> str:
    """The title of the event that the answer is, in quotes if it has one."""
    body = _body(answer)
    if answer.status_code != 200 or "title" not in body:
        return told(answer)
    return "no title" if body["title"] is None else f'the title "{body["title"]}"'


def expect_not_to_be_kept(answer: TestResponse) -> None:
    headers = answer.headers
    kept = ", ".join(
        f"{name}: {headers[name]}" for name in ("Cache-Control", "X-Accel-Expires", "Expires") if name in headers
    )
    expect_same(
        "Cache-Control: no-store, X-Accel-Expires: 0", kept or "nothing is said of whether the answer may be kept"
    )


def origin(answer: TestResponse) -> str:
    """Where the answer comes from, as it is marked (`Cache-Status`, RFC 9211)."""
    mark = answer.headers.get("Cache-Status", "no mark at all")
    where = "an answer marked {mark}"
    for pattern, words in ORIGINS.items():
        # A cache in front of the proxy that has passed the request on says so after the proxy's mark.
        if found := re.fullmatch(f"c42-proxy; {pattern}(?:, [a-z]+; fwd=[^,]+)?", mark):
            where, mark = words, lasting(timedelta(seconds=int(found[1]))) if found.groups() else mark
    return where.format(mark=mark)


def permissions(answer: TestResponse) -> dict[str, str]:
    """What the answer lets pages of other sites do (CORS)."""
    start = "access-control-"
    headers = [(name.lower(), value) for name, value in answer.headers]
    return {name.removeprefix(start): value for name, value in headers if name.startswith(start)}


def permitted(answer: TestResponse) -> str:
    given = ", ".join(f"{name} {value}" for name, value in permissions(answer).items())
    return f"status {answer.status_code}, and {given or 'nothing'} is permitted to the page"


def expect_shown_to_the_page(answer: TestResponse) -> None:
    """A browser shows the page the answer, and the headers in it that a page cannot read without permission."""
    _expect_permitted_origin(answer)
    shown = set(permissions(answer).get("expose-headers", "").split(", "))
    expect(shown >= SHOWN_HEADERS, f"{', '.join(sorted(SHOWN_HEADERS))} are shown to the page", permitted(answer))


def expect_page_may_send(answer: TestResponse) -> None:
    """The answer lets a browser send the page's request, about which it has asked."""
    _expect_permitted_origin(answer)
    expect(answer.status_code == 204, "status 204", permitted(answer))
    given = permissions(answer)
    methods, headers = (given.get(f"allow-{what}", "").casefold().split(", ") for what in ("methods", "headers"))
    sent = answer.request.headers
    expect(sent["Access-Control-Request-Method"].casefold() in methods, "the method is permitted", permitted(answer))
    expect(sent["Access-Control-Request-Headers"] in headers, "the header is permitted", permitted(answer))


def _expect_permitted_origin(answer: TestResponse) -> None:
    allowed = permissions(answer).get("allow-origin")
    # If the answers for two sites differ, no cache may give a page of one site the answer for the other.
    right = allowed == "*" or (
        allowed == answer.request.headers["Origin"]
        and "Origin" in re.split(r", *", ", ".join(answer.headers.getlist("Vary")))
    )
    expect(right, f"permitted to pages of {answer.request.headers['Origin']}", permitted(answer))


def _body(answer: TestResponse) -> dict[str, Any]:
    """The answer's JSON object, empty if it is none."""
    body = answer.get_json(force=True, silent=True)
    return body if isinstance(body, dict) else {}
