"""The clock."""

from datetime import datetime, timedelta

from behave import given

from features.support.world import Context


@given("it is {moment:Moment} UTC, 1 minute before the clocks change")
def it_is(context: Context, moment: datetime) -> None:
    context.world.pass_time(moment - context.world.now)


@given("the clock is set back by {step:Duration}")
def clock_is_set_back(context: Context, step: timedelta) -> None:
    context.world.pass_time(-step)
