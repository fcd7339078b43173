"""What the operator reads in the log of the proxy."""

from behave import then

from features.support.expectations import expect, expect_same, times
from features.support.world import Context


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


@then("the operator reads no warning")
def operator_reads_no_warning(context: Context) -> None:
    lines = context.world.output().splitlines()
    expect_same("[]", f"{[line for line in lines if not line.startswith('INFO')]}")


@then("the operator is shown that {state:State}")
def operator_is_shown(context: Context, state: list[str]) -> None:
    expect_same(f"{state}", f"{context.world.shown()}")
