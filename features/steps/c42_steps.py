"""C42: how it behaves, and what it has been asked."""

from datetime import timedelta
from threading import Barrier
from typing import Any

from behave import given, step, then

from c42_proxy.sandbox.shapes import Person
from features.support.fake_c42 import PAGE, Behaviour, Call, id_of, only_at_offset
from features.support.world import PATIENCE_SECONDS, Context


@step("C42 {does:Behaviour}")
def c42_misbehaves(context: Context, does: Behaviour) -> None:
    context.world.c42.misbehave(does)


@given("C42 {does:Behaviour} when asked for {question:Question}")
def c42_misbehaves_when_asked_for(context: Context, does: Behaviour, question: str) -> None:
    match question:
        case "the event":
            context.world.c42.misbehave(does, "event")
        case "the subscribers":
            context.world.c42.misbehave(does, "subscribers")
        case "the second page":
            context.world.c42.misbehave(only_at_offset(PAGE, does), "subscribers")


@step("C42 is well again")
def c42_recovers(context: Context) -> None:
    context.world.c42.recover()


@given("C42 takes {duration:Duration} to answer")
def c42_takes_its_time(context: Context, duration: timedelta) -> None:
    """Both questions are asked at the same time: it is the same time that passes for both."""
    context.world.c42.when_asked("event", lambda _call: context.world.pass_time(duration))


@given("C42 answers neither question before it has received both")
def c42_answers_when_asked_both_questions(context: Context) -> None:
    both = Barrier(2)

    def wait_for_the_other(_call: Call) -> None:
        both.wait(PATIENCE_SECONDS)

    context.world.c42.when_asked("event", wait_for_the_other)
    context.world.c42.when_asked("subscribers", wait_for_the_other)


@given("C42 gives {count:Count} as their count")
def c42_miscounts(context: Context, count: int | None) -> None:
    def miscount(answer: Any) -> None:
        answer["meta_data"]["count"] = count
        if count is None:
            del answer["meta_data"]["count"]

    context.world.c42.alter("subscribers", miscount)


@given("somebody joins at the top of the list when C42 is asked for the second page")
def somebody_joins_while_the_list_is_read(context: Context) -> None:
    """Everybody moves down by one: the last of the first page comes again as the first of the second."""

    def join(call: Call) -> None:
        if call.offset == PAGE:
            context.world.c42.join(call.event_id, Person("Zaphod"))

    context.world.c42.when_asked("subscribers", join)


@then("C42 has been asked {number:Times}")
def c42_was_asked_times(context: Context, number: int) -> None:
    context.world.c42.expect_asked(number)


@then('C42 has been asked for "{title:Title}" {number:Times}')
def c42_was_asked_times_for(context: Context, title: str, number: int) -> None:
    context.world.c42.expect_asked(number, id_of(title))


@then("C42 has not been asked for it")
def c42_was_not_asked_for_it(context: Context) -> None:
    context.world.c42.expect_asked(0, context.world.event_id)


@then("C42 has been asked for nothing")
def c42_was_asked_for_nothing(context: Context) -> None:
    context.world.c42.expect_asked(0)


@then("C42 has been asked for {pages:Pages} of subscribers, each once")
def c42_was_asked_for_pages(context: Context, pages: int) -> None:
    context.world.c42.expect_pages(context.world.event_id, pages)
