"""A fresh world for each scenario, told by one of the drivers: `-D driver=flask|asgi|live`, `-D store=…` for live."""

import os
import shutil

from behave.model import Feature, Scenario
from behave.runner import Context
from behave.tag_matcher import ActiveTagMatcher

from features.drivers.asgi import asgi
from features.drivers.driver import Driver
from features.drivers.flask import flask
from features.support import parameters
from features.support.world import World
from harness.needs import REQUIRE_ALL

parameters.register()


def before_all(context: Context) -> None:
    userdata = context.config.userdata
    store = userdata.get("store", "memory")
    context.lacks = "redis-server" if store == "redis" and shutil.which("redis-server") is None else None
    if context.lacks:
        assert os.environ.get(REQUIRE_ALL) != "1", f"{context.lacks} is not there, and {REQUIRE_ALL}=1"
        return
    context.driver = _driver(userdata.get("driver", "flask"), store)
    context.add_cleanup(context.driver.close)
    context.tags_of_driver = ActiveTagMatcher({"store": store})


def before_feature(context: Context, feature: Feature) -> None:
    if context.lacks:
        feature.skip(f"{context.lacks} is not there")


def before_scenario(context: Context, scenario: Scenario) -> None:
    if context.tags_of_driver.should_skip_with_tags(scenario.effective_tags):
        scenario.skip(f"not with the store {context.driver.store}")
        return
    context.world = World(context.driver)
    context.add_cleanup(context.world.close)


def after_scenario(context: Context, scenario: Scenario) -> None:
    if scenario.status.has_failed() and "world" in context:
        print(context.world.output())


def _driver(name: str, store: str) -> Driver:
    if name == "live":
        # Not imported for the others: it starts gunicorn.
        from features.drivers.live import Live  # noqa: PLC0415

        return Live(store)
    return {"flask": flask, "asgi": asgi}[name]()
