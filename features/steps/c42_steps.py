"""C42: how it behaves, and what it has been asked."""

from collections.abc import Callable
from datetime import timedelta
from threading import Barrier, Event
from typing import Any

from behave import given, step, then

from c42_proxy.sandbox.shapes import Person
from features.support.expectations import expect, expect_same
from features.support.fake_c42 import PAGE, TOKEN, Answer, Behaviour, Call, only_at_offset
from features.support.network import Way
from features.support.world import PATIENCE_SECONDS, WAITING_SECONDS, Context, pause

ZAPHOD = Person("Zaphod")
MOMENT_SECONDS = 0.1
"""Long enough for what is asked at the same time to meet."""


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


@given("C42 {does:Behaviour} when asked for the second page, and a moment later {then:Behaviour} for the third")
def c42_misbehaves_for_two_pages(context: Context, does: Behaviour, then: Behaviour) -> None:
    both = Barrier(2)

    def misbehave(call: Call, truth: Callable[[], Answer]) -> Answer:
        if call.offset == 0:
            return truth()
        both.wait(PATIENCE_SECONDS)
        if call.offset == PAGE:
            return does(call, truth)
        pause(MOMENT_SECONDS)
        return then(call, truth)

    context.world.c42.misbehave(misbehave, "subscribers")


@given("C42 {does:Behaviour} when asked for the subscribers, but not before the app is answered")
def c42_misbehaves_when_the_app_is_answered(context: Context, does: Behaviour) -> None:
    context.world.c42.when_asked("subscribers", lambda _call: context.world.wait_for_answer())
    context.world.c42.misbehave(does, "subscribers")


@given("C42 {does:Behaviour} when asked for the event, and lists the subscribers a moment later")
def c42_misbehaves_before_it_lists(context: Context, does: Behaviour) -> None:
    is_asked = Event()

    def list_later(_call: Call) -> None:
        is_asked.wait(PATIENCE_SECONDS)
        pause(WAITING_SECONDS)

    context.world.c42.misbehave(does, "event")
    context.world.c42.when_asked("event", lambda _call: is_asked.set())
    context.world.c42.when_asked("subscribers", list_later)


@given("C42 takes a moment for each page")
def c42_takes_a_moment_for_each_page(context: Context) -> None:
    def take_a_moment(_call: Call) -> None:
        with context.world.c42.answering():
            pause(MOMENT_SECONDS)

    context.world.c42.when_asked("subscribers", take_a_moment)


@then("C42 has been asked for several pages at the same time, but for no more than {number:d}")
def c42_was_asked_for_no_more_pages_at_once(context: Context, number: int) -> None:
    most = context.world.c42.most_at_once
    expect(1 < most <= number, f"2 to {number} pages at the same time", f"{most} pages at the same time")


@given("on the network C42 {is_there:Way}")
def c42_is_on_the_network(context: Context, is_there: Way) -> None:
    context.world.go(is_there)


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
        context.world.c42.questions_met = True

    context.world.c42.when_asked("event", wait_for_the_other)
    context.world.c42.when_asked("subscribers", wait_for_the_other)


@given("C42 answers no page after the first before it has been asked for {number:d} of them")
def c42_answers_when_asked_for_pages(context: Context, number: int) -> None:
    asked = Barrier(number)

    def wait_for_the_others(call: Call) -> None:
        if call.offset > 0:
            asked.wait(PATIENCE_SECONDS)
            context.world.c42.questions_met = True

    context.world.c42.when_asked("subscribers", wait_for_the_others)


@given("C42 gives {count:Count} as their count")
def c42_miscounts(context: Context, count: int | None) -> None:
    def miscount(answer: Any) -> None:
        context.world.c42.counts_given.add(count)
        answer["meta_data"]["count"] = count
        if count is None:
            del answer["meta_data"]["count"]

    context.world.c42.alter("subscribers", miscount)


def when_second_page_is_asked_for(context: Context, change: Callable[[str], None], *, only_once: bool = False) -> None:
    """Change the list of the event before C42 answers with its second page: each time, or the first time alone."""
    c42 = context.world.c42

    def happen(call: Call) -> None:
        if call.offset == PAGE and not (only_once and c42.times_asked(call) > 1):
            change(call.event_id)

    c42.when_asked("subscribers", happen)


@given("somebody joins the list at its top when C42 is first asked for the second page")
def somebody_joins_in_the_first_reading(context: Context) -> None:
    """Everybody moves down by one: the last of the first page comes again as the first of the second."""
    when_second_page_is_asked_for(context, lambda event_id: context.world.c42.join(event_id, ZAPHOD), only_once=True)


@given("somebody leaves the list at its top when C42 is first asked for the second page")
def somebody_leaves_in_the_first_reading(context: Context) -> None:
    """Everybody moves up by one: the first of the second page has moved to the first page, which was read before."""
    when_second_page_is_asked_for(context, context.world.c42.drop_first, only_once=True)


@given("somebody joins the list at its top each time that C42 is asked for the second page")
def somebody_joins_in_each_reading(context: Context) -> None:
    when_second_page_is_asked_for(context, lambda event_id: context.world.c42.join(event_id, ZAPHOD))


@then("C42 has been asked with the proxy's token alone")
def c42_was_asked_with_the_proxys_token(context: Context) -> None:
    tokens = context.world.c42.authorizations
    expect(tokens == {f"Token {TOKEN}"}, f"C42 has been asked with Token {TOKEN} alone", f"{tokens or 'not at all'}")


@then("C42 has been told the id and the trace of the request")
def c42_was_told_of_the_request(context: Context) -> None:
    headers = context.world.answer.request.headers
    told = (context.world.answer.headers["X-Request-ID"], headers.get("traceparent"))
    expect_same(f"{ {told} }", f"{context.world.c42.requests}")


@then("C42 has received {number:d} calls")
def c42_has_received_calls(context: Context, number: int) -> None:
    expect_same(f"{number} calls", f"{len(context.world.c42.calls)} calls")


@then("C42 has received both questions before it answered")
@then("C42 has received the questions for all later pages before it answered one")
def c42_received_the_questions_together(context: Context) -> None:
    met = context.world.c42.questions_met
    expect(met, "C42 has received all these questions before it answered", "C42 has not waited for all of them")


@then("C42 has been asked {number:Times}")
def c42_was_asked_times(context: Context, number: int) -> None:
    context.world.c42.expect_asked(number)


@then('C42 has been asked for "{title:Title}" {number:Times}')
def c42_was_asked_times_for(context: Context, title: str, number: int) -> None:
    context.world.c42.expect_asked(number, context.world.c42.id_of(title))


@then("C42 has not been asked for it")
def c42_was_not_asked_for_it(context: Context) -> None:
    context.world.c42.expect_asked(0, context.world.event_id)


@then("C42 has been asked for nothing")
def c42_was_asked_for_nothing(context: Context) -> None:
    context.world.c42.expect_asked(0)


@then("C42 has been asked for {pages:Pages} of subscribers alone")
@then("C42 has been asked for {pages:Pages} of subscribers, each {number:Times}")
def c42_was_asked_for_pages(context: Context, pages: int, number: int = 1) -> None:
    context.world.c42.expect_pages(context.world.event_id, pages, number)
