"""A fresh world for each scenario; time stands still until a step moves it; nothing reaches a network."""

from behave.model import Scenario
from behave.runner import Context
from freezegun import freeze_time

from features.support import parameters
from features.support.network import forbid_connections
from features.support.world import START, World

parameters.register()


def before_all(context: Context) -> None:
    forbid_connections()
    # Frozen once for all: it takes longer than a scenario.
    # asyncio needs a clock that goes on.
    freezer = freeze_time(START, real_asyncio=True)
    context.clock = freezer.start()
    context.add_cleanup(freezer.stop)


def before_scenario(context: Context, _scenario: Scenario) -> None:
    context.clock.move_to(START)
    context.world = World(context.clock, context.config.userdata.get("driver", "flask"))
    context.add_cleanup(context.world.close)
