"""Requests: what apps ask the proxy for."""

from datetime import timedelta

from behave import given, step, when

from features.support.expectations import expect
from features.support.fake_c42 import answers, is_well
from features.support.world import PATH, Context, soon


@given('"{title:Title}" has been requested')
@when('"{title:Title}" is requested')
def request_event_titled(context: Context, title: str) -> None:
    context.world.choose(title)
    context.world.request()


@given('"{title:Title}" has been requested {wait:Duration} later')
@when('"{title:Title}" is requested {wait:Duration} later')
def request_event_titled_later(context: Context, title: str, wait: timedelta) -> None:
    context.world.pass_time(wait)
    request_event_titled(context, title)


@when("it is requested")
@given("it has been requested")
def request_it(context: Context) -> None:
    context.world.request()


@step("it is requested again {wait:Duration} later")
@given("it has been requested again {wait:Duration} later")
@given("the last of them has been requested again {wait:Duration} later")
def request_it_again_later(context: Context, wait: timedelta) -> None:
    context.world.pass_time(wait)
    context.world.request()


@given('"{title:Title}" has been requested {number:d} times, {pause:Duration} apart')
def request_event_titled_repeatedly(context: Context, title: str, number: int, pause: timedelta) -> None:
    request_event_titled(context, title)
    for _ in range(number - 1):
        request_it_again_later(context, pause)


@when('"{title:Title}" is requested every {pause:Duration} for {duration:Duration}')
def request_event_titled_at_intervals(context: Context, title: str, pause: timedelta, duration: timedelta) -> None:
    context.world.choose(title)
    context.world.request_every(pause, duration)


@when('"{title:Title}" is requested by {number:d} people at once')
@when("it is requested by {number:d} people at once, {wait:Duration} later")
def request_by_many_at_once(
    context: Context, number: int, title: str | None = None, wait: timedelta = timedelta()
) -> None:
    context.world.pass_time(wait)
    if title is not None:
        context.world.choose(title)
    context.world.request_by(number)


@when('"{title:Title}" is requested from two proxies at once')
def request_from_two_proxies_at_once(context: Context, title: str) -> None:
    context.world.choose(title)
    context.world.request_from_two()


@when('{number:d} other events, then {more:d} more and "{title:Title}", are requested before C42 answers')
def request_many_events_at_once(context: Context, number: int, more: int, title: str) -> None:
    context.world.request_others(number, more, title)


@given("{number:d} other events have been requested")
def request_a_number_of_other_events(context: Context, number: int) -> None:
    for _ in range(number):
        request_another_event(context)


@given("{number:d} other events are being requested, and C42 does not answer yet")
def request_events_that_c42_does_not_answer_yet(context: Context, number: int) -> None:
    context.world.request_and_hold(number)


@given("another event is being requested {wait:Duration} later, and C42 does not answer yet")
def request_another_event_that_c42_does_not_answer_yet(context: Context, wait: timedelta) -> None:
    context.world.pass_time(wait)
    context.world.request_and_hold(1)


@when('"{title:Title}" is requested until the answer changes')
@when('"{title:Title}" is requested {wait:Duration} later, until the answer changes')
def request_event_titled_until_the_answer_changes(context: Context, title: str, wait: timedelta = timedelta()) -> None:
    """Until it is another one than the last. What another proxy has learnt is found beside the requests."""
    before = context.world.answer.text
    context.world.pass_time(wait)
    context.world.choose(title)

    def has_changed() -> bool:
        context.world.request()
        return context.world.answer.text != before

    expect(soon(has_changed), "another answer", "the same answer each time")


@when("C42 fails for those who still wait")
def let_c42_fail_those_who_wait(context: Context) -> None:
    context.world.answer_held(answers(500))


@when("C42 answers those who still wait")
def let_c42_answer_those_who_wait(context: Context) -> None:
    context.world.answer_held(is_well)


@given("another event has been requested {wait:Duration} later")
def request_another_event(context: Context, wait: timedelta = timedelta()) -> None:
    context.world.pass_time(wait)
    context.world.choose_another()
    context.world.request()


@when("it is requested again {wait:Duration} after C42 was asked")
def request_it_again_after_c42_was_asked(context: Context, wait: timedelta) -> None:
    context.world.pass_time(context.world.c42.calls[0].at + wait - context.world.now)
    context.world.request()


@when("the app asks {wait:Duration} later whether its answer is still valid")
def ask_whether_the_answer_is_still_valid(context: Context, wait: timedelta) -> None:
    context.world.pass_time(wait)
    context.world.request(headers={"If-None-Match": context.world.answer.headers["ETag"]})


@when("an event is requested by an id with {character:Character} in it")
def request_an_id_with_a_character(context: Context, character: str) -> None:
    context.world.send(f"{PATH}a{character}/")


@when("the event with the same id in capitals is requested")
def request_the_id_in_capitals(context: Context) -> None:
    assert context.world.event_id != context.world.event_id.upper(), "the id has no letters"
    context.world.send(f"{PATH}{context.world.event_id.upper()}/")


@when("it is requested with an unknown addition to the address")
def request_it_with_an_addition(context: Context) -> None:
    context.world.send(f"{PATH}{context.world.event_id}/?limit=1&names=none")


@when("it is requested by an app with {headers:Headers}")
def request_it_with_headers(context: Context, headers: dict[str, str]) -> None:
    context.world.request(headers=headers)


@when("it is requested by a page of {site:Name}")
def request_it_from_a_page(context: Context, site: str) -> None:
    context.world.request(headers={"Origin": f"https://{site}"})


@when("a browser asks whether a page of {site:Name} may request it")
def ask_for_a_page(context: Context, site: str) -> None:
    """What browsers send beforehand, if the page's request has a header that is not usual."""
    asked_for = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match"}
    context.world.request(method="OPTIONS", headers={"Origin": f"https://{site}", **asked_for})


@when("it is requested without the closing slash")
def request_it_without_the_slash(context: Context) -> None:
    context.world.send(f"{PATH}{context.world.event_id}", query_string={"a": "b"})


@when("an app tries to {attempt:Attempt}")
def try_something_else(context: Context, attempt: tuple[str, str]) -> None:
    method, address = attempt
    context.world.send(address.format(context.world.event_id), method)
