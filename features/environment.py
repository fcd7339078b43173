"""A fresh world for each scenario, told by one of the drivers: `-D driver=…`, `-D store=…` (see `drivers`)."""

import operator
import os
import sys
from pathlib import Path

from behave.model import Feature, Scenario
from behave.runner import Context
from behave.tag_matcher import ActiveTagMatcher, ValueObject

# behave makes the folder importable from which it was started, which may be this one or any other.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from features import drivers
from features.support import parameters
from features.support.world import World
from harness.needs import REQUIRE_ALL
from harness.watch import Watch

parameters.register()

IMPOSSIBLE = {"stack": {"an_unprintable_character", "1.1_s", "1_hour"}}
"""What a driver cannot tell, though it tells the rest of an outline: it skips what is `@not.with_impossible=…`."""


def _duration(feature: Feature) -> float:
    return sum((scenario.duration for scenario in feature.walk_scenarios()), 0.0)


# behave 1.3 does not count the scenarios of rules, and would say that the features took no time.
Feature.duration = property(_duration)


def before_all(context: Context) -> None:
    options = context.config.userdata
    name = options.get("driver", "flask")
    try:
        store = drivers.store_of(name, options.get("store"))
        context.lacks = drivers.lacks(name, store)
        if context.lacks:
            assert os.environ.get(REQUIRE_ALL) != "1", f"{context.lacks} is not there, and {REQUIRE_ALL}=1"
            return
        context.driver = drivers.started(name, store, options)
    except LookupError:
        # Nothing is run, and there is nothing to sum up: behave says what the error says, and no more.
        context.config.reporters.clear()
        raise
    context.add_cleanup(context.driver.close)
    context.watch = Watch()
    impossible = ValueObject(IMPOSSIBLE.get(name, set()), operator.contains)
    context.tags_of_driver = ActiveTagMatcher({"driver": name, "store": store, "impossible": impossible})


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
