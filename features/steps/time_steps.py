"""The clock."""

from datetime import timedelta

from behave import given

from features.support.world import Context


@given("the clock is set back by {step:Duration}")
def clock_is_set_back(context: Context, step: timedelta) -> None:
    context.world.pass_time(-step)
