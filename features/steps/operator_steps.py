"""What the operator reads in the log of the proxy, and is shown at the operators' port."""

import re
from datetime import timedelta

from behave import then

from features.support.expectations import expect, expect_same, lasting, times
from features.support.world import Context, soon

UNTIL = {
    "told-to-wait": "c42_proxy_upstream_wait_until_timestamp_seconds",
    "c42-down": "c42_proxy_upstream_paused_until_timestamp_seconds",
}
"""Which figure says until when it is so."""


@then('the operator reads why: "{cause:Title}"')
def operator_reads_why(context: Context, cause: str) -> None:
    """Once that this kind of failure has begun, and in the line of the request."""
    lines = context.world.output().splitlines()
    begun = [line for line in lines if not line.startswith("INFO")]
    expect(len(begun) == 1 and begun[0].endswith(f": {cause}"), f"one warning that ends in: {cause}", f"{begun}")
    expect_same(f"INFO request: {cause}", lines[-1])


@then('the operator reads the {level:Level} "{words:Title}" {number:Times}')
def operator_reads(context: Context, level: str, words: str, number: int) -> None:
    lines = context.world.output().splitlines()
    found = times(lines.count(f"{level} {words}"))
    expect(found == times(number), f"{level} {words}, {times(number)}", f"{found} among {lines}")


@then("the operator reads how long C42 took {number:Times}")
def operator_reads_how_long_c42_took(context: Context, number: int) -> None:
    lines = context.world.output().splitlines()
    found = times(sum(re.fullmatch(r"INFO C42 took [0-9.]+ ms", line) is not None for line in lines))
    expect(found == times(number), f"how long C42 took, {times(number)}", f"{found} among {lines}")


@then('the operator soon reads the {level:Level} "{words:Title}" once')
def operator_soon_reads(context: Context, level: str, words: str) -> None:
    """The proxy says it when the app has its answer already."""
    soon(lambda: f"{level} {words}" in context.world.output().splitlines())
    operator_reads(context, level, words, 1)


@then("the operator reads no warning")
def operator_reads_no_warning(context: Context) -> None:
    lines = context.world.output().splitlines()
    expect_same("[]", f"{[line for line in lines if not line.startswith('INFO')]}")


@then("the operator is shown that at least {number:d} of {all_of_them:d} expired answers were given at once")
def operator_is_shown_answers_given_at_once(context: Context, number: int, all_of_them: int) -> None:
    given = context.world.figure("c42_proxy_requests_total", outcome="stale")
    expect_same(f"{all_of_them} expired answers", f"{given:.0f} expired answers")
    at_once = given - context.world.figure("c42_proxy_request_duration_seconds_count", outcome="stale")
    expect(at_once >= number, f"at least {number} of them at once", f"{at_once:.0f} of them at once")


@then("the operator is shown that {state:TemporaryState}, for another {wait:Duration}")
def operator_is_shown_for_how_long(context: Context, state: list[str], wait: timedelta) -> None:
    operator_is_shown(context, state)
    until = context.world.figure(UNTIL[state[0]])
    rest = timedelta(seconds=round(until - context.world.now.timestamp(), 3))
    expect_same(f"for {lasting(wait)}", f"for {lasting(rest)}")


@then("the operator is shown that {state:State}")
def operator_is_shown(context: Context, state: list[str]) -> None:
    expect_same(f"{state}", f"{context.world.degraded()}")
