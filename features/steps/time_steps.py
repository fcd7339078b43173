"""The clock."""

from datetime import timedelta

from behave import given
from behave.runner import Context


@given("the clock is set back by {step:Duration}")
def step_impl(context: Context, step: timedelta) -> None:
    context.world.pass_time(-step)
