"""Answers: what an app is told."""

from datetime import timedelta
from email.utils import parsedate_to_datetime

from behave import then
from behave.runner import Context

from features.support.answers import (
    PROBLEMS,
    Problem,
    assert_names,
    assert_not_to_be_kept,
    assert_problem,
    cache_status,
)
from features.support.world import PATH


@then('the answer is titled "{title}"')
def step_impl(context: Context, title: str) -> None:
    assert context.world.answer.get_json()["title"] == title, context.world.answer.text


@then("the answer has no title")
def step_impl(context: Context) -> None:
    assert context.world.answer.get_json()["title"] is None, context.world.answer.text


@then("the app is told that {names:Names} comes")
@then("it names {names:Names}")
def step_impl(context: Context, names: list[str]) -> None:
    assert_names(context.world.answer, names)


@then("each time it names {names:Names}")
@then("all of them are told the same, that it names {names:Names}")
def step_impl(context: Context, names: list[str]) -> None:
    for answer in context.answers:
        assert_names(answer, names)


@then("all of them are told the same")
def step_impl(context: Context) -> None:
    assert {(answer.status_code, answer.text) for answer in context.answers} == {(200, context.world.answer.text)}


@then("all of them are told that {problem:Problem}")
def step_impl(context: Context, problem: Problem) -> None:
    for answer in context.answers:
        assert_problem(answer, problem)


@then("the answer is marked as expired")
def step_impl(context: Context) -> None:
    status = cache_status(context.world.answer)
    assert (status["fwd"], status["detail"]) == ("stale", "stale-if-error"), status


@then("the answer is marked as expired, without asking C42")
@then("the answer is marked as expired {ago:Duration} ago, without asking C42")
def step_impl(context: Context, ago: timedelta | None = None) -> None:
    status = cache_status(context.world.answer)
    assert "hit" in status, status
    assert status["detail"] == "stale-if-error", status
    assert int(status["ttl"]) < 0, status
    assert ago is None or status["ttl"] == f"-{ago.seconds}", status


@then("all {number:d} subscribers are named, in C42's order")
def step_impl(context: Context, number: int) -> None:
    expected = [person.first_name for person in context.people]
    assert len(expected) == number
    assert context.world.answer.get_json()["names"] == expected, context.world.answer.text


@then('the answer consists of its id, the title "{title}", and the names {names:Names}, and of nothing else')
def step_impl(context: Context, title: str, names: list[str]) -> None:
    quoted = ",".join(f'"{name}"' for name in names)
    expected = f'{{"id":"{context.world.event_id}","title":"{title}","names":[{quoted}]}}'
    assert context.world.answer.text == expected, context.world.answer.text
    assert context.world.answer.headers["Content-Type"] == "application/json"


@then("the app is told that {problem:Problem}")
def step_impl(context: Context, problem: Problem) -> None:
    assert_problem(context.world.answer, problem)


@then("the app is told that C42 asks to wait, for {wait:Duration}")
def step_impl(context: Context, wait: timedelta) -> None:
    assert_problem(context.world.answer, PROBLEMS["C42 asks to wait"])
    assert context.world.answer.headers["Retry-After"] == str(round(wait.total_seconds()))


@then("the app is told that C42 is down, and to try again in {wait:Duration}")
def step_impl(context: Context, wait: timedelta) -> None:
    assert_problem(context.world.answer, PROBLEMS["C42 is down"])
    assert context.world.answer.headers["Retry-After"] == str(round(wait.total_seconds()))


@then("each time the app is told that C42 is down or broken")
def step_impl(context: Context) -> None:
    for answer in context.answers:
        down = answer.status_code == PROBLEMS["C42 is down"].status
        assert_problem(answer, PROBLEMS["C42 is down" if down else "C42 cannot be reached or is broken"])


@then("the answer must not be kept")
def step_impl(context: Context) -> None:
    assert_not_to_be_kept(context.world.answer)


@then("the answer is valid until {life:Duration} after C42 was asked")
def step_impl(context: Context, life: timedelta) -> None:
    headers = context.world.answer.headers
    assert parsedate_to_datetime(headers["Expires"]) == context.world.c42.calls[0].at + life, headers
    assert "max-age" not in headers["Cache-Control"], headers
    assert "Age" not in headers, headers


@then("it is told that it does, without being sent it again")
def step_impl(context: Context) -> None:
    assert context.world.answer.status_code == 304, context.world.answer.status
    assert context.world.answer.data == b"", context.world.answer.data


@then("the answer comes from C42 and is remembered")
def step_impl(context: Context) -> None:
    assert cache_status(context.world.answer) == {"fwd": "uri-miss", "stored": "", "fwd-status": "200"}


@then("the answer comes from C42, in place of an expired one, and is remembered")
def step_impl(context: Context) -> None:
    assert cache_status(context.world.answer) == {"fwd": "stale", "stored": "", "fwd-status": "200"}


@then("the answer is a remembered one, valid for another {ttl:Duration}")
def step_impl(context: Context, ttl: timedelta) -> None:
    assert cache_status(context.world.answer) == {"hit": "", "ttl": str(round(ttl.total_seconds()))}


@then("the answer came too late to be remembered")
def step_impl(context: Context) -> None:
    status = cache_status(context.world.answer)
    assert status == {"fwd": "uri-miss", "fwd-status": "200", "detail": "past-expiry"}, status


@then("the app is sent to the address with it")
def step_impl(context: Context) -> None:
    assert context.world.answer.status_code == 308, context.world.answer.status
    assert context.world.answer.headers["Location"] == f"{PATH}{context.world.event_id}/"


@then("nothing of the proxy's insides is shown")
def step_impl(context: Context) -> None:
    assert "inner detail" not in context.world.answer.text, context.world.answer.text
    assert "Traceback" not in context.world.answer.text, context.world.answer.text
