"""The proxy: how it is set up, and what it remembers."""

from datetime import timedelta

from behave import given, then
from behave.runner import Context

ROOM_FOR_ONE = 1170
"""Bytes: a small answer, and what the memory needs around it."""


@given("the proxy is set to reuse answers for {ttl:Duration}")
def step_impl(context: Context, ttl: timedelta) -> None:
    context.world.settings["C42_CACHE_TTL"] = str(ttl.total_seconds())


@given("the proxy is set never to give an expired answer")
def step_impl(context: Context) -> None:
    context.world.settings["C42_STALE_IF_ERROR"] = "0"


@given("the proxy is set never to leave C42 alone")
def step_impl(context: Context) -> None:
    context.world.settings["C42_BREAKER_THRESHOLD"] = "0"


@given("the proxy has room for two answers")
def step_impl(context: Context) -> None:
    context.world.settings["C42_CACHE_MAX_BYTES"] = str(2 * ROOM_FOR_ONE)


@given("the proxy has a bug")
def step_impl(context: Context) -> None:
    context.world.has_bug = True


@then('"{title}" is still remembered')
def step_impl(context: Context, title: str) -> None:
    assert asked_again(context, title) == 0, "C42 was asked again"


@then('"{title}" is forgotten')
def step_impl(context: Context, title: str) -> None:
    assert asked_again(context, title) == 1, "C42 was not asked again"


def asked_again(context: Context, title: str) -> int:
    """How often C42 is asked when the event is requested once more."""
    before: int = context.world.c42.asked("event")
    context.world.choose(title)
    context.world.request()
    return int(context.world.c42.asked("event") - before)
