"""What an app was told: the problems of the domain, and how each looks to it."""

from dataclasses import dataclass

from werkzeug.test import TestResponse


@dataclass(frozen=True)
class Problem:
    """A status, and words that a client's developer finds in the detail."""

    status: int
    words: str


PROBLEMS = {
    "there is no such event": Problem(404, "C42 has no event"),
    "there is no such address": Problem(404, "There is only /events-with-subscriptions/<event_id>/"),
    "this address can only be read": Problem(405, "knows GET and HEAD"),
    "C42 refuses the proxy's token": Problem(502, "refuses the token of this proxy"),
    "C42's answer cannot be used": Problem(502, "gave an answer that cannot be used"),
    "C42 cannot be reached or is broken": Problem(502, "C42 "),
    "C42 did not answer in time": Problem(504, "no complete answer in time"),
    "C42 is down": Problem(503, "C42 is down and left alone"),
    "C42 asks to wait": Problem(503, "asks us to wait"),
    "the proxy made a mistake": Problem(500, "The proxy made a mistake"),
}


def assert_problem(answer: TestResponse, problem: Problem) -> None:
    """The answer is this problem, in the form of RFC 9457."""
    body = answer.get_json(force=True)
    assert answer.content_type == "application/problem+json", answer.content_type
    assert {"type", "title", "status", "detail"} <= set(body) <= {"type", "title", "status", "detail", "request_id"}, (
        body
    )
    assert body.get("request_id", answer.headers["X-Request-ID"]) == answer.headers["X-Request-ID"], answer.headers
    assert (answer.status_code, body["status"]) == (problem.status, problem.status), body
    assert problem.words in body["detail"], body
    assert "cannot be used" not in body["detail"] or "cannot be used" in problem.words, body


def assert_names(answer: TestResponse, names: list[str]) -> None:
    """The answer is an event with these names."""
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["names"] == names, answer.text


def assert_not_to_be_kept(answer: TestResponse) -> None:
    assert answer.headers["Cache-Control"] == "no-store", answer.headers
    assert "Expires" not in answer.headers, answer.headers


def cache_status(answer: TestResponse) -> dict[str, str]:
    """The parameters of `Cache-Status` (RFC 9211), which must be of our cache alone."""
    name, *parameters = answer.headers["Cache-Status"].split("; ")
    assert name == "c42-proxy", name
    return {key: value for key, _, value in (parameter.partition("=") for parameter in parameters)}
