"""C42: how it behaves, and what it has been asked."""

import json
from collections.abc import Callable
from datetime import timedelta
from threading import Barrier
from typing import Any

from behave import given, step, then

from c42_proxy.sandbox.shapes import Person, page, removed
from features.support.fake_c42 import Answer, Behaviour, Call, altered, answers, only_at_offset
from features.support.world import Context

PAGE = 100
PATIENCE_SECONDS = 5


@step("C42 {does:Behaviour}")
def c42_misbehaves(context: Context, does: Behaviour) -> None:
    context.world.c42.misbehave(does, "event")


@given("C42 {does:Behaviour} when asked for {question:Question}")
def c42_misbehaves_when_asked_for(context: Context, does: Behaviour, question: str) -> None:
    if question == "the event":
        context.world.c42.misbehave(does, "event")
    else:
        context.world.c42.misbehave(
            only_at_offset(PAGE, does) if question == "the second page" else does, "subscribers"
        )


@step("C42 is well again")
def c42_recovers(context: Context) -> None:
    context.world.c42.behaviours.clear()


@given("C42 takes {duration:Duration} to answer")
def c42_takes_its_time(context: Context, duration: timedelta) -> None:
    def slowly(_call: Call, truth: Callable[[], Answer]) -> Answer:
        context.world.pass_time(duration)
        return truth()

    context.world.c42.misbehave(slowly, "event")


@given("C42 answers neither question before it has received both")
def c42_answers_when_asked_both_questions(context: Context) -> None:
    both = Barrier(2)

    def together(_call: Call, truth: Callable[[], Answer]) -> Answer:
        both.wait(PATIENCE_SECONDS)
        return truth()

    context.world.c42.misbehave(together, "event", "subscribers")


@given("an event that C42 leaves out of its answer")
def c42_leaves_the_event_out(context: Context) -> None:
    context.world.choose("Tea")
    context.world.c42.misbehave(altered(lambda answer: answer["data"].clear()), "event")


@given("C42 gives {count:Count} as their count")
def c42_miscounts(context: Context, count: int | None) -> None:
    def miscount(answer: Any) -> None:
        answer["meta_data"]["count"] = count
        if count is None:
            del answer["meta_data"]["count"]

    context.world.c42.misbehave(altered(miscount), "subscribers")


@given("somebody joins at the top of the list while it is read")
def somebody_joins_while_the_list_is_read(context: Context) -> None:
    """Everybody moves down by one: the last of the first page comes again as the first of the second."""

    def moved(call: Call, truth: Callable[[], Answer]) -> Answer:
        if call.offset:
            context.world.c42.join(call.event_id, Person("Zaphod"))
        return truth()

    context.world.c42.misbehave(moved, "subscribers")


@given("an event whose list of subscribers never ends")
def event_has_an_endless_list(context: Context) -> None:
    context.world.choose("Tea")
    context.world.settings["C42_TIMEOUT"] = "30"  # a thousand pages take their time
    full_page = json.dumps(page([removed(f"{number}") for number in range(PAGE)]))
    context.world.c42.misbehave(answers(200, full_page), "subscribers")


@then("C42 has been asked {times:Times}")
def c42_was_asked_times(context: Context, times: int) -> None:
    assert context.world.c42.asked("event") == times, context.world.c42.calls


@then("C42 has been asked once for each of the two")
def c42_was_asked_once_for_each_of_two(context: Context) -> None:
    asked = [(call.name, call.event_id) for call in context.world.c42.calls]
    assert len(asked) == len(set(asked)) == 4, asked  # two calls for each of two events


@then("C42 has not been asked for it")
def c42_was_not_asked_for_it(context: Context) -> None:
    assert context.world.c42.asked("event", context.world.event_id) == 0, context.world.c42.calls


@then("C42 has been asked for nothing")
def c42_was_asked_for_nothing(context: Context) -> None:
    assert not context.world.c42.calls, context.world.c42.calls


@then("C42 has been asked for {pages:Pages} of subscribers")
def c42_was_asked_for_pages(context: Context, pages: int) -> None:
    assert context.world.c42.asked("subscribers") == pages, context.world.c42.calls
