"""Answers: what an app is told."""

from datetime import timedelta
from email.utils import parsedate_to_datetime

from behave import then

from features.support.answers import (
    PROBLEMS,
    Problem,
    assert_names,
    assert_not_to_be_kept,
    assert_problem,
    cache_status,
)
from features.support.world import PATH, Context


@then('the answer is titled "{title}"')
def answer_is_titled(context: Context, title: str) -> None:
    assert context.world.answer.get_json()["title"] == title, context.world.answer.text


@then("the answer has no title")
def answer_has_no_title(context: Context) -> None:
    assert context.world.answer.get_json()["title"] is None, context.world.answer.text


@then("the app is told that {names:Names} comes")
@then("it names {names:Names}")
def answer_names(context: Context, names: list[str]) -> None:
    assert_names(context.world.answer, names)


@then("each time it names {names:Names}")
@then("all of them are told the same, that it names {names:Names}")
def each_answer_names(context: Context, names: list[str]) -> None:
    for answer in context.world.answers:
        assert_names(answer, names)


@then("all of them are told the same")
def all_answers_are_the_same(context: Context) -> None:
    assert {(answer.status_code, answer.text) for answer in context.world.answers} == {(200, context.world.answer.text)}


@then("all of them are told that {problem:Problem}")
def all_answers_are_the_problem(context: Context, problem: Problem) -> None:
    for answer in context.world.answers:
        assert_problem(answer, problem)


@then("the answer is marked as expired")
def answer_is_marked_as_expired(context: Context) -> None:
    status = cache_status(context.world.answer)
    assert (status["fwd"], status["detail"]) == ("stale", "stale-if-error"), status


@then("the answer is marked as expired, without asking C42")
@then("the answer is marked as expired {ago:Duration} ago, without asking C42")
def answer_is_marked_as_expired_without_asking_c42(context: Context, ago: timedelta | None = None) -> None:
    status = cache_status(context.world.answer)
    assert "hit" in status, status
    assert status["detail"] == "stale-if-error", status
    assert int(status["ttl"]) < 0, status
    assert ago is None or status["ttl"] == f"-{ago.seconds}", status


@then("all {number:d} subscribers are named, in C42's order")
def answer_names_all_subscribers_in_order(context: Context, number: int) -> None:
    expected = [person.first_name for person in context.world.people]
    assert len(expected) == number
    assert context.world.answer.get_json()["names"] == expected, context.world.answer.text


@then('the answer consists of its id, the title "{title}", and the names {names:Names}, and of nothing else')
def answer_consists_of_nothing_else(context: Context, title: str, names: list[str]) -> None:
    quoted = ",".join(f'"{name}"' for name in names)
    expected = f'{{"id":"{context.world.event_id}","title":"{title}","names":[{quoted}]}}'
    assert context.world.answer.text == expected, context.world.answer.text
    assert context.world.answer.headers["Content-Type"] == "application/json"


@then("the app is told that {problem:Problem}")
def answer_is_the_problem(context: Context, problem: Problem) -> None:
    assert_problem(context.world.answer, problem)


@then("the app is told that C42 asks to wait, for {wait:Duration}")
def answer_asks_to_wait(context: Context, wait: timedelta) -> None:
    assert_problem(context.world.answer, PROBLEMS["C42 asks to wait"])
    assert context.world.answer.headers["Retry-After"] == str(round(wait.total_seconds()))


@then("the app is told that C42 is down, and to try again in {wait:Duration}")
def answer_says_when_c42_may_be_up(context: Context, wait: timedelta) -> None:
    assert_problem(context.world.answer, PROBLEMS["C42 is down"])
    assert context.world.answer.headers["Retry-After"] == str(round(wait.total_seconds()))


@then("each time the app is told that C42 is down or broken")
def each_answer_says_that_c42_is_down_or_broken(context: Context) -> None:
    for answer in context.world.answers:
        down = answer.status_code == PROBLEMS["C42 is down"].status
        assert_problem(answer, PROBLEMS["C42 is down" if down else "C42 cannot be reached or is broken"])


@then("the answer must not be kept")
def answer_must_not_be_kept(context: Context) -> None:
    assert_not_to_be_kept(context.world.answer)


@then("the answer is valid until {life:Duration} after C42 was asked")
def answer_is_valid_until(context: Context, life: timedelta) -> None:
    headers = context.world.answer.headers
    assert parsedate_to_datetime(headers["Expires"]) == context.world.c42.calls[0].at + life, headers
    assert "max-age" not in headers["Cache-Control"], headers
    assert "Age" not in headers, headers


@then("it is told that it does, without being sent it again")
def answer_is_confirmed_without_being_sent(context: Context) -> None:
    assert context.world.answer.status_code == 304, context.world.answer.status
    assert context.world.answer.data == b"", context.world.answer.data


@then("the answer comes from C42 and is remembered")
def answer_comes_from_c42(context: Context) -> None:
    assert cache_status(context.world.answer) == {"fwd": "uri-miss", "stored": "", "fwd-status": "200"}


@then("the answer comes from C42, in place of an expired one, and is remembered")
def answer_replaces_an_expired_one(context: Context) -> None:
    assert cache_status(context.world.answer) == {"fwd": "stale", "stored": "", "fwd-status": "200"}


@then("the answer is a remembered one, valid for another {ttl:Duration}")
def answer_is_remembered_and_valid_for(context: Context, ttl: timedelta) -> None:
    assert cache_status(context.world.answer) == {"hit": "", "ttl": str(round(ttl.total_seconds()))}


@then("the answer came too late to be remembered")
def answer_came_too_late_to_be_remembered(context: Context) -> None:
    status = cache_status(context.world.answer)
    assert status == {"fwd": "uri-miss", "fwd-status": "200", "detail": "past-expiry"}, status


@then("the app is sent to the address with it")
def app_is_sent_to_the_address_with_the_slash(context: Context) -> None:
    assert context.world.answer.status_code == 308, context.world.answer.status
    assert context.world.answer.headers["Location"] == f"{PATH}{context.world.event_id}/"


@then("nothing of the proxy's insides is shown")
def answer_shows_no_insides(context: Context) -> None:
    assert "inner detail" not in context.world.answer.text, context.world.answer.text
    assert "Traceback" not in context.world.answer.text, context.world.answer.text
