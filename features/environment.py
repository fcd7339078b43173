"""A fresh world for each scenario, told by one of the drivers: `-D driver=flask|asgi|live`, `-D store=…` for live."""

import os
import shutil
import sys
from pathlib import Path

from behave.model import Feature, Scenario
from behave.runner import Context
from behave.tag_matcher import ActiveTagMatcher

# behave makes the folder importable from which it was started, which may be this one or any other.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from features import drivers
from features.support import parameters
from features.support.world import World
from harness.needs import REQUIRE_ALL
from harness.watch import Watch

parameters.register()


def _duration(feature: Feature) -> float:
    return sum((scenario.duration for scenario in feature.walk_scenarios()), 0.0)


# behave 1.3 does not count the scenarios of rules, and would say that the features took no time.
Feature.duration = property(_duration)


def before_all(context: Context) -> None:
    name, store = context.config.userdata.get("driver", "flask"), context.config.userdata.get("store", "memory")
    context.lacks = "redis-server" if store == "redis" and shutil.which("redis-server") is None else None
    if context.lacks:
        assert os.environ.get(REQUIRE_ALL) != "1", f"{context.lacks} is not there, and {REQUIRE_ALL}=1"
        return
    try:
        context.driver = drivers.started(name, store)
    except LookupError:
        # Nothing is run, and there is nothing to sum up: behave says what the error says, and no more.
        context.config.reporters.clear()
        raise
    context.add_cleanup(context.driver.close)
    context.watch = Watch()
    context.tags_of_driver = ActiveTagMatcher({"driver": name, "store": store})


def after_all(context: Context) -> None:
    if "watch" in context:
        noted = context.watch.taken()
        assert not noted, "\n".join(noted)


def before_feature(context: Context, feature: Feature) -> None:
    if context.lacks:
        feature.skip(f"{context.lacks} is not there")


def before_scenario(context: Context, scenario: Scenario) -> None:
    if context.tags_of_driver.should_skip_with_tags(scenario.effective_tags):
        scenario.skip("not with this driver and store")
        return
    context.world = World(context.driver)
    context.add_cleanup(context.world.close)


def after_scenario(context: Context, scenario: Scenario) -> None:
    if scenario.status.has_failed() and "world" in context:
        print(context.world.output())
