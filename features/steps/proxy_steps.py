"""The proxy: how it is set up."""

from datetime import timedelta

from behave import given, step, then, when

from features.support.expectations import expect
from features.support.world import Context

ROOM_FOR_ONE = 914
"""Bytes: a small answer, and what the memory needs around it."""


@given("the proxy is set to reuse answers for {ttl:Duration}")
def proxy_reuses_answers_for(context: Context, ttl: timedelta) -> None:
    context.world.set_up(C42_CACHE_TTL=str(ttl.total_seconds()))


@given("the proxy is set to give C42 {budget:Duration} for an answer")
def proxy_gives_c42_time(context: Context, budget: timedelta) -> None:
    context.world.set_up(C42_TIMEOUT=str(budget.total_seconds()))


@given("the proxy is set never to give an expired answer")
def proxy_never_gives_an_expired_answer(context: Context) -> None:
    context.world.set_up(C42_STALE_IF_ERROR="0")


@given("the proxy is set to ask C42 however often it fails")
def proxy_asks_c42_however_often_it_fails(context: Context) -> None:
    context.world.set_up(C42_BREAKER_THRESHOLD="0")


@given("the proxy has room for two answers")
def proxy_has_room_for_two(context: Context) -> None:
    context.world.set_up(C42_CACHE_MAX_BYTES=str(2 * ROOM_FOR_ONE))


@given("the proxy has room for no answer")
def proxy_has_room_for_none(context: Context) -> None:
    context.world.set_up(C42_CACHE_MAX_BYTES="1")


@given("the proxy is set to allow pages of {sites:Names}")
def proxy_allows_pages_of(context: Context, sites: list[str]) -> None:
    context.world.set_up(C42_ALLOW_ORIGINS=", ".join(f"https://{site}" for site in sites))


@given("the proxy is set to allow pages of every site")
def proxy_allows_pages_of_every_site(context: Context) -> None:
    context.world.set_up(C42_ALLOW_ORIGINS="*")


@given("the proxies remember answers in one place")
def proxies_remember_in_one_place(context: Context) -> None:
    # C42_CACHE_URL=…: the driver decides which place that is. The page lists the setting by this line.
    context.world.remember_in_one_place()


@then("that place holds the name {name:Name}")
def place_holds_the_name(context: Context, name: str) -> None:
    found = context.world.is_soon_there(name)
    expect(found, f"the place holds the name {name}", f"the place does not hold the name {name}")


@then("that place holds the name {name:Name} no more")
def name_is_erased_from_the_place(context: Context, name: str) -> None:
    erased = context.world.is_soon_there(name, wanted=False)
    expect(erased, f"the place holds the name {name} no more", f"the place still holds the name {name}")


@when("the proxy is restarted")
@when("the proxy is restarted {wait:Duration} later")
def proxy_is_restarted(context: Context, wait: timedelta = timedelta()) -> None:
    context.world.pass_time(wait)
    context.world.restart()


@step("apps request from a second proxy")
def second_proxy_is_started(context: Context) -> None:
    context.world.start_another()


@step("apps request from the first proxy again")
def first_proxy_answers_again(context: Context) -> None:
    context.world.go_back_to_first()


@given("another proxy asks C42 for it, and hangs")
def another_proxy_hangs(context: Context) -> None:
    context.world.let_another_proxy_hang()


@given("the proxy has a bug")
def proxy_has_a_bug(context: Context) -> None:
    context.world.set_up(bug=True)
