"""Answers: what an app is told."""

import json
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

from behave import then

from features.support.answers import (
    PROBLEMS,
    Problem,
    expect_names,
    expect_not_to_be_kept,
    expect_page_may_send,
    expect_problem,
    expect_shown_to_the_page,
    explanation,
    origin,
    permissions,
    permitted,
    problem_of,
    title_of,
    told,
    word_of,
)
from features.support.expectations import expect, expect_same, lasting
from features.support.world import PATH, Context


@then('the answer is titled "{title:Title}"')
def answer_is_titled(context: Context, title: str) -> None:
    expect_same(f'the title "{title}"', title_of(context.world.answer))


@then("the answer has no title")
def answer_has_no_title(context: Context) -> None:
    expect_same("no title", title_of(context.world.answer))


@then("the app is told that {names:Names} comes")
@then("it names {names:Names}")
def answer_names(context: Context, names: list[str]) -> None:
    expect_names(context.world.answer, names)


@then("it names {names:Names}, although C42 lists {number:d} subscribers")
def answer_names_although_c42_lists_more(context: Context, names: list[str], number: int) -> None:
    expect_names(context.world.answer, names)
    context.world.c42.expect_listed(context.world.event_id, number)


@then("each time it names {names:Names}")
@then("all of them are told the same, that it names {names:Names}")
def each_answer_names(context: Context, names: list[str]) -> None:
    for answer in context.world.answers:
        expect_names(answer, names)
        expect_same(context.world.answers[0].text, answer.text)


@then("all of them are told that {problem:Problem}")
def each_answer_is_the_problem(context: Context, problem: Problem) -> None:
    for answer in context.world.answers:
        expect_problem(answer, problem)


@then("the answer is marked as expired")
def answer_is_marked_as_expired(context: Context) -> None:
    expect_same("an answer that has expired, after asking C42", origin(context.world.answer))


@then("the answer is marked as expired {ago:Duration} ago, without asking C42")
def answer_is_marked_as_expired_without_asking_c42(context: Context, ago: timedelta) -> None:
    expect_same(f"an answer that expired {lasting(ago)} ago, without asking C42", origin(context.world.answer))


@then("all {number:d} subscribers are named, in C42's order")
def answer_names_all_subscribers_in_order(context: Context, number: int) -> None:
    context.world.c42.expect_listed(context.world.event_id, number)
    expect_names(context.world.answer, context.world.c42.people(context.world.event_id))


@then("the {number:d} subscribers who were there when the second reading began are named, in C42's order")
def answer_names_those_of_the_second_reading(context: Context, number: int) -> None:
    people = context.world.c42.people(context.world.event_id, reading=2)
    expect_same(f"{number} subscribers", f"{len(people)} subscribers")
    expect_names(context.world.answer, people)


@then("all {number:d} subscribers are named, in C42's order, although it has given {count:Count}")
def answer_names_all_subscribers_whatever_their_count(context: Context, number: int, count: int | None) -> None:
    answer_names_all_subscribers_in_order(context, number)
    given = context.world.c42.counts_given
    expect(given == {count}, f"C42 has given {count} as their count, and no other", f"{given or 'no wrong count'}")


@then("the answer says this, and nothing else")
def answer_says_this(context: Context) -> None:
    answer, wanted = context.world.answer, context.text.replace("ID", context.world.event_id)
    expect(answer.get_json(force=True, silent=True) == json.loads(wanted), wanted, told(answer))
    expect_same("application/json", f"{answer.mimetype}")


@then("the answer is exactly this")
def answer_is_exactly_this(context: Context) -> None:
    expect_same(context.text.replace("ID", context.world.event_id), context.world.answer.text)
    expect_same("application/json", f"{context.world.answer.content_type}")


@then("the app is told that {problem:Problem}")
def answer_is_the_problem(context: Context, problem: Problem) -> None:
    expect_problem(context.world.answer, problem)


@then('the explanation is "{words:Title}"')
def problem_is_explained(context: Context, words: str) -> None:
    expect_same(words.replace(" ID ", f" {context.world.event_id} "), explanation(context.world.answer))


@then("the problem is exactly this")
def problem_is_exactly_this(context: Context) -> None:
    answer = context.world.answer
    expect_same(context.text.replace("REQUEST", answer.headers["X-Request-ID"]), answer.text)


@then('the word for programs is "{word:Title}"')
def problem_has_a_word(context: Context, word: str) -> None:
    expect_same(word, word_of(context.world.answer))


@then("the app is told that C42 asks to wait, for {wait:Duration}")
def answer_asks_to_wait(context: Context, wait: timedelta) -> None:
    expect_problem(context.world.answer, PROBLEMS["C42 asks to wait"], wait)


@then("the app is told that C42 is down, and to try again in {wait:Duration}")
def answer_says_when_c42_may_be_up(context: Context, wait: timedelta) -> None:
    expect_problem(context.world.answer, PROBLEMS["C42 is down"], wait)


@then("each time the app is told that C42 is down or broken")
def each_answer_says_that_c42_is_down_or_broken(context: Context) -> None:
    either = (PROBLEMS["C42 is down"], PROBLEMS["C42 cannot be reached or is broken"])
    for answer in context.world.answers:
        expect(problem_of(answer) in either, "the app is told that C42 is down or broken", told(answer))


@then("{number:d} of them are told that {problem:Problem}, and to try again in {wait:Duration}")
def some_answers_are_the_problem(context: Context, number: int, problem: Problem, wait: timedelta) -> None:
    refused = [answer for answer in context.world.answers if answer.status_code != 200]
    for answer in refused:
        expect_problem(answer, problem, wait)
    expect_same(f"{number} of them are told so", f"{len(refused)} of them are told so")


@then("{number:d} of them are told that {names:Names} comes")
def some_answers_name(context: Context, number: int, names: list[str]) -> None:
    given = [answer for answer in context.world.answers if answer.status_code == 200]
    for answer in given:
        expect_names(answer, names)
    expect_same(f"{number} of them are told so", f"{len(given)} of them are told so")


@then("the second of them is marked as asked for by another")
def second_answer_was_asked_for_by_another(context: Context) -> None:
    first, second = (answer.headers.get("Cache-Status", "no mark").split("; ") for answer in context.world.answers)
    expect(set(second) - set(first) == {"collapsed"}, f"{first}, but for its being stored, and collapsed", f"{second}")


@then("it has waited {duration:Duration}")
def app_has_waited(context: Context, duration: timedelta) -> None:
    context.world.expect_waited(duration)


@then("the answer must not be kept")
def answer_must_not_be_kept(context: Context) -> None:
    expect_not_to_be_kept(context.world.answer)


@then("the answer is valid until {life:Duration} after C42 was asked")
def answer_is_valid_until(context: Context, life: timedelta) -> None:
    headers = context.world.answer.headers
    end = parsedate_to_datetime(headers["Expires"]) if "Expires" in headers else None
    valid = "no time" if end is None else lasting(end - context.world.c42.calls[0].at)
    expect_same(f"valid until {lasting(life)} after C42 was asked", f"valid until {valid} after C42 was asked")
    for counted_by_others in ("max-age", "s-maxage", "Age"):
        said = f"Cache-Control: {headers['Cache-Control']}, Age: {headers.get('Age', 'none')}"
        none = counted_by_others not in headers and counted_by_others not in headers["Cache-Control"]
        expect(none, "one moment, and no time that each station counts for itself", said)


@then("the answer is valid until {moment:Moment} UTC")
def answer_is_valid_until_a_moment(context: Context, moment: datetime) -> None:
    expires = context.world.answer.headers.get("Expires")
    expect(expires and parsedate_to_datetime(expires) == moment, f"valid until {moment}", f"valid until {expires}")


@then("the answer says that it was sent just now")
def answer_says_when_it_was_sent(context: Context) -> None:
    sent = context.world.answer.headers.get("Date")
    expect_same(f"sent at {format_datetime(context.world.now, usegmt=True)}", f"sent at {sent}")


@then("the answer comes from another proxy than the first one")
def answer_comes_from_another_proxy(context: Context) -> None:
    expect_same("2 proxies have run", f"{context.world.proxies} proxies have run")
    expect(origin(context.world.answer).startswith("a remembered"), "a remembered answer", origin(context.world.answer))


@then("the app is told that its answer is still valid, and is not sent it again")
def answer_is_confirmed_without_being_sent(context: Context) -> None:
    expect_same("the app is told that its answer is still valid", told(context.world.answer))
    expect_same("0 bytes", f"{len(context.world.answer.data)} bytes")


@then("the answer comes from C42 and is remembered")
def answer_comes_from_c42(context: Context) -> None:
    expect_same("an answer of C42, now remembered", origin(context.world.answer))


@then("the answer comes from C42, and is not remembered")
def answer_is_not_remembered(context: Context) -> None:
    expect_same("an answer of C42, not remembered", origin(context.world.answer))


@then("the answer comes from C42, in place of an expired one, and is remembered")
def answer_replaces_an_expired_one(context: Context) -> None:
    expect_same("an answer of C42, now remembered in place of an expired one", origin(context.world.answer))


@then("the answer is a remembered one, valid for another {ttl:Duration}")
def answer_is_remembered_and_valid_for(context: Context, ttl: timedelta) -> None:
    expect_same(f"a remembered answer, valid for another {lasting(ttl)}", origin(context.world.answer))


@then("the answer came too late to be remembered")
def answer_came_too_late_to_be_remembered(context: Context) -> None:
    expect_same("an answer of C42 that came too late to be remembered", origin(context.world.answer))


@then("no browser shows the answer to the page")
def answer_is_for_no_other_site(context: Context) -> None:
    expect(not permissions(context.world.answer), "nothing is permitted to the page", permitted(context.world.answer))


@then("a browser shows the answer to the page")
def answer_is_for_the_page(context: Context) -> None:
    expect_shown_to_the_page(context.world.answer)


@then("the browser lets the page send its request")
def browser_lets_the_page_send(context: Context) -> None:
    expect_page_may_send(context.world.answer)


@then("the browser does not let the page send its request")
def browser_does_not_let_the_page_send(context: Context) -> None:
    expect_same("status 204, and nothing is permitted to the page", permitted(context.world.answer))


@then("the app is sent to the address with it")
def app_is_sent_to_the_address_with_the_slash(context: Context) -> None:
    expect_same(f"the app is sent to {PATH}{context.world.event_id}/", told(context.world.answer))


@then("nothing of the proxy's insides is shown")
def answer_shows_no_insides(context: Context) -> None:
    shown = f"{context.world.answer.headers}{context.world.answer.text}"
    inside = next((words for words in ("inner detail", "Traceback", "ZeroDivision") if words in shown), None)
    expect(inside is None, "nothing of the proxy's insides", shown)
