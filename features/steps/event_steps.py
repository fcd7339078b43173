"""Events at C42: which there are, who subscribed to them, and how they change."""

import json
from datetime import timedelta
from typing import Any

from behave import given, step

from c42_proxy.sandbox.shapes import Person, page, removed
from features.support.fake_c42 import PAGE, answers
from features.support.world import Context


@given('the event "{title:Title}" with the subscribers {names:Names}')
@given('the event "{title:Title}" with the subscriber {names:Names}')
def event_with_subscribers(context: Context, title: str, names: list[str]) -> None:
    context.world.give(title, [Person(name) for name in names])


@given("an event without a title, with the subscriber {names:Names}")
def event_without_a_title(context: Context, names: list[str]) -> None:
    context.world.give(None, [Person(name) for name in names])


@given('the event "{title:Title}" with {number:d} subscribers')
def event_with_a_number_of_subscribers(context: Context, title: str, number: int) -> None:
    context.world.give(title, [Person(f"Subscriber {position}") for position in range(1, number + 1)])


@given("{number:d} other events, each with the subscriber {names:Names}")
def other_events(context: Context, number: int, names: list[str]) -> None:
    context.world.give_others(number, [Person(name) for name in names])


@given("between the two a subscriber {who:Subscriber}")
def subscriber_between_the_two(context: Context, who: Person | None) -> None:
    context.world.c42.expect_listed(context.world.event_id, 2)
    context.world.c42.join(context.world.event_id, who, 1)


@given("its list of subscribers never ends, which takes up to {duration:Duration} to find out")
def event_has_an_endless_list(context: Context, duration: timedelta) -> None:
    context.world.expect_budget(duration)
    full_page = json.dumps(page([removed(f"{number}") for number in range(PAGE)]))
    context.world.c42.misbehave(answers(200, full_page), "subscribers")


@given("an event that never existed")
@given("an event that never existed, whose id has {length:d} characters")
def event_that_never_existed(context: Context, length: int = 32) -> None:
    context.world.event_id = context.world.c42.id_of_none(length)


@given("a deleted event")
def deleted_event(context: Context) -> None:
    context.world.give("Deleted", [Person("Arthur")])
    context.world.choose("Deleted")
    context.world.c42.delete(context.world.event_id)


@given("an event that C42 leaves out of its answer")
def event_left_out(context: Context) -> None:
    def leave_out(answer: Any) -> None:
        answer["data"].clear()

    context.world.give("Private", [Person("Arthur")])
    context.world.choose("Private")
    context.world.c42.alter("event", leave_out)


@step("{name:Name} joins it at the top of its list")
def somebody_joins_it(context: Context, name: str) -> None:
    context.world.c42.join(context.world.event_id, Person(name))


@given("the next subscriber is {name:Name}, who {rsvp:Rsvp}")
def next_subscriber(context: Context, name: str, rsvp: str | None) -> None:
    context.world.c42.join(context.world.event_id, Person(name), None, rsvp_status=rsvp)


@step("{name:Name} leaves it")
def somebody_leaves_it(context: Context, name: str) -> None:
    context.world.c42.unsubscribe(context.world.event_id, name)


@step("{name:Name} is invited to it again")
def somebody_is_invited_again(context: Context, name: str) -> None:
    context.world.c42.subscribe_again(context.world.event_id, name)


@step("{name:Name} changes her first name to {other:Name}")
def somebody_changes_her_name(context: Context, name: str, other: str) -> None:
    context.world.c42.rename_person(context.world.event_id, name, other)


@given('the event "{title:Title}", which C42 does not have yet')
def event_that_does_not_exist_yet(context: Context, title: str) -> None:
    context.world.announce(title)


@step("C42 creates it, with the subscribers {names:Names}")
def c42_creates_it(context: Context, names: list[str]) -> None:
    context.world.create([Person(name) for name in names])


@step("C42 deletes it")
def c42_deletes_it(context: Context) -> None:
    context.world.c42.delete(context.world.event_id)


@step('C42 renames it to "{title:Title}"')
def c42_renames_it(context: Context, title: str) -> None:
    context.world.c42.rename(context.world.event_id, title)


@given('C42 renames "{title:Title}" to "{other:Title}"')
def c42_renames_event(context: Context, title: str, other: str) -> None:
    context.world.c42.rename(context.world.c42.id_of(title), other)
