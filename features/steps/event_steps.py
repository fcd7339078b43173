"""Events, and what is requested of them."""

from datetime import timedelta

from behave import given, step, when

from c42_proxy.sandbox.shapes import Person
from features.support.fake_c42 import id_of
from features.support.world import PATH, Context

TITLE = "Tea"


@given('the event "{title}" with the subscribers {names:Names}')
@given('the event "{title}" with the subscriber {names:Names}')
def event_with_subscribers(context: Context, title: str, names: list[str]) -> None:
    context.world.event_id = context.world.c42.add(title, [Person(name) for name in names])


@given("an event without a title, with the subscriber {names:Names}")
def event_without_a_title(context: Context, names: list[str]) -> None:
    context.world.event_id = context.world.c42.add(None, [Person(name) for name in names])


@given("an event with {number:d} subscribers")
def event_with_a_number_of_subscribers(context: Context, number: int) -> None:
    context.world.people = [Person(f"Subscriber {position}") for position in range(1, number + 1)]
    context.world.event_id = context.world.c42.add(TITLE, context.world.people)


@given("between the two a subscriber {who}")
def subscriber_between_the_two(context: Context, who: str) -> None:
    between = {
        "whose subscription was removed": None,
        "without a first name": Person(None),
        "whose first name is empty": Person(""),
        "whose first name is all spaces": Person(" \u2003\t"),
    }[who]
    context.world.c42.add(TITLE, [Person("Arthur"), between, Person("Ford")])


@given('the events "{title}" and "{other}"')
def two_events(context: Context, title: str, other: str) -> None:
    context.world.choose(other)
    context.world.choose(title)


@given("an unknown event")
@given("an unknown event whose id has {length:d} characters")
def unknown_event(context: Context, length: int = 32) -> None:
    context.world.event_id = "x" * length


@given("a deleted event")
def deleted_event(context: Context) -> None:
    context.world.c42.delete(context.world.choose(TITLE))


@given('"{title}" has been requested')
@when('"{title}" is requested')
def request_event_titled(context: Context, title: str) -> None:
    context.world.choose(title)
    context.world.request()


@when('"{title}" is requested {wait:Duration} later')
def request_event_titled_later(context: Context, title: str, wait: timedelta) -> None:
    context.world.pass_time(wait)
    context.world.choose(title)
    context.world.request()


@when("it is requested")
@given("it has been requested")
def request_it(context: Context) -> None:
    context.world.request()


@step("it is requested again {wait:Duration} later")
@given("it has been requested again {wait:Duration} later")
def request_it_again_later(context: Context, wait: timedelta) -> None:
    context.world.pass_time(wait)
    context.world.request()


@given("it has been requested {number:d} times, {pause:Duration} apart")
def request_it_repeatedly(context: Context, number: int, pause: timedelta) -> None:
    for _ in range(number):
        context.world.request()
        context.world.pass_time(pause)


@when('"{title}" is requested every {pause:Duration} for {duration:Duration}')
def request_event_titled_at_intervals(context: Context, title: str, pause: timedelta, duration: timedelta) -> None:
    context.world.choose(title)
    context.world.request_every(pause, duration)


@when("it is requested by {number:d} people at once")
@when("it is requested by {number:d} people at once, {wait:Duration} later")
def request_it_by_many_at_once(context: Context, number: int, wait: timedelta = timedelta()) -> None:
    context.world.pass_time(wait)
    context.world.request_by(number)


@given("{number:d} events have been requested")
@given("{number:d} more events have been requested")
def request_a_number_of_other_events(context: Context, number: int) -> None:
    for _ in range(number):
        context.world.choose_another()
        context.world.request()


@when("another event is requested")
@when("another event is requested {wait:Duration} later")
@given("another event has been requested {wait:Duration} later")
def request_another_event(context: Context, wait: timedelta = timedelta()) -> None:
    context.world.pass_time(wait)
    context.world.choose_another()
    context.world.request()


@given("the last of them has been requested again {wait:Duration} later")
def request_the_last_of_them_again(context: Context, wait: timedelta) -> None:
    context.world.pass_time(wait)
    context.world.request()


@when("it is requested again {wait:Duration} after C42 was asked")
def request_it_again_after_c42_was_asked(context: Context, wait: timedelta) -> None:
    context.world.pass_time(context.world.c42.calls[0].at + wait - context.world.now)
    context.world.request()


@when("the app asks {wait:Duration} later whether its answer is still valid")
def ask_whether_the_answer_is_still_valid(context: Context, wait: timedelta) -> None:
    context.world.pass_time(wait)
    context.world.request(headers={"If-None-Match": context.world.answer.headers["ETag"]})


@when("an event is requested by an id with {character} in it")
def request_an_id_with_a_character(context: Context, character: str) -> None:
    encoded = {
        "a comma": ",",
        "a closing bracket": "]",
        "a slash": "%2f",
        "a space": "%20",
        "a line break": "%0d%0a",
        "an unprintable character": "%00",
        "the letter é": "%C3%A9",
    }[character]
    context.world.request(f"a{encoded}")


@when("the event with the same id in capitals is requested")
def request_the_id_in_capitals(context: Context) -> None:
    assert context.world.event_id != context.world.event_id.upper(), "the id has no letters"
    context.world.request(context.world.event_id.upper())


@when("it is requested with an unknown addition to the address")
def request_it_with_an_addition(context: Context) -> None:
    context.world.request(address=PATH + "{}/?limit=1&names=none")


@when("it is requested without the closing slash")
def request_it_without_the_slash(context: Context) -> None:
    context.world.request(address=PATH + "{}", query_string={"a": "b"})


@when("an app tries to {do}")
def try_something_else(context: Context, do: str) -> None:
    event = f"{PATH}{context.world.event_id}/"
    address, method = {
        "change the event": (event, "PUT"),
        "delete the event": (event, "DELETE"),
        "ask what the address can do": (event, "OPTIONS"),
        "read the list of all events": (PATH, "GET"),
        "read the event at an address almost like it": (f"/{event}", "GET"),
    }[do]
    context.world.send(address, method)


@given("C42 deletes it")
def c42_deletes_it(context: Context) -> None:
    context.world.c42.delete(context.world.event_id)


@step('C42 renames it to "{title}"')
def c42_renames_it(context: Context, title: str) -> None:
    assert context.world.event_id != id_of(title)
    context.world.c42.rename(context.world.event_id, title)
