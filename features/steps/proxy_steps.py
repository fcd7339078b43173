"""The proxy: how it is set up, and what it remembers."""

from datetime import timedelta

from behave import given, then

from features.support.world import Context

ROOM_FOR_ONE = 1170
"""Bytes: a small answer, and what the memory needs around it."""


@given("the proxy is set to reuse answers for {ttl:Duration}")
def proxy_reuses_answers_for(context: Context, ttl: timedelta) -> None:
    context.world.settings["C42_CACHE_TTL"] = str(ttl.total_seconds())


@given("the proxy is set never to give an expired answer")
def proxy_never_gives_an_expired_answer(context: Context) -> None:
    context.world.settings["C42_STALE_IF_ERROR"] = "0"


@given("the proxy is set never to leave C42 alone")
def proxy_never_leaves_c42_alone(context: Context) -> None:
    context.world.settings["C42_BREAKER_THRESHOLD"] = "0"


@given("the proxy has room for two answers")
def proxy_has_room_for_two(context: Context) -> None:
    context.world.settings["C42_CACHE_MAX_BYTES"] = str(2 * ROOM_FOR_ONE)


@given("the proxy has a bug")
def proxy_has_a_bug(context: Context) -> None:
    context.world.has_bug = True


@then('"{title}" is still remembered')
def event_is_remembered(context: Context, title: str) -> None:
    assert asked_again(context, title) == 0, "C42 was asked again"


@then('"{title}" is forgotten')
def event_is_forgotten(context: Context, title: str) -> None:
    assert asked_again(context, title) == 1, "C42 was not asked again"


def asked_again(context: Context, title: str) -> int:
    """How often C42 is asked when the event is requested once more."""
    before: int = context.world.c42.asked("event")
    context.world.choose(title)
    context.world.request()
    return int(context.world.c42.asked("event") - before)
