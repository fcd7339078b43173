"""Runs of the features with something planted, each in a process of its own."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING

from behave.configuration import Configuration
from behave.model import Scenario, Step
from behave.model_type import Status
from behave.runner import Runner
from behave.step_registry import registry

from features import drivers
from features.drivers import asgi, flask
from features.drivers.in_process import InProcess, Mocked, Serve
from features.drivers.sockets import Sockets
from features.drivers.wires import Receive
from features.support import world

from .faults import FAULTS, GROSS, NONE, Fault

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


# With a fault, a scenario may wait for something that never comes, again and again.
world.PATIENCE_SECONDS = 5


@dataclass
class Noticed:
    """Which scenarios broke, and at which steps: the names of the steps' functions."""

    scenarios: list[str] = field(default_factory=list)
    steps: set[str] = field(default_factory=set)


NONE_AT_ONCE = """
c42_proxy_requests_total{outcome="stale"} 60
c42_proxy_request_duration_seconds_count{outcome="stale"} 60
"""


@dataclass
class Steps:
    """The functions of the steps: where each is used, which only look at what came, and names that two of them have."""

    used: dict[str, list[str]] = field(default_factory=dict)
    checks: set[str] = field(default_factory=set)
    twice: list[str] = field(default_factory=list)


class _Faulty(InProcess):
    """The proxy in this process with a fault between it and C42, or between it and an app, or its operator."""

    def __init__(self, fault: Fault, *serve: Serve) -> None:
        super().__init__(*serve)
        self._fault = fault
        self._receive: Receive

    def wire(self, receive: Receive) -> AbstractContextManager[str]:
        self._receive = receive
        return super().wire(partial(self._fault.calls, receive, {}))  # type: ignore[safe-super]  # the other base has it

    @contextmanager
    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "Iterator[WSGIApplication]":
        with super().proxy({**settings, **self._fault.settings}, has_bug=has_bug) as app:
            yield self._fault.answers(app, self._receive)

    def output(self) -> str:
        return super().output() if self._fault.said is None else self._fault.said

    def shown(self, proxy: "WSGIApplication", path: str) -> str:
        if self._fault.said is None:
            return super().shown(proxy, path)
        return json.dumps({"degraded": [self._fault.said]}) if path == "/readyz" else NONE_AT_ONCE


class _FaultyMocked(_Faulty, Mocked):
    pass


class _FaultySockets(_Faulty, Sockets):
    pass


def _faulty(fault: Fault) -> _Faulty:
    if fault.driver == "sockets":
        return _FaultySockets(fault)
    return _FaultyMocked(fault, asgi.served if fault.driver == "asgi" else flask.served)


class _Run(Runner):  # type: ignore[misc]  # behave has no types
    """behave's, with a step that does nothing, if one is named."""

    def __init__(self, config: Configuration, idle: str | None = None) -> None:
        super().__init__(config)
        self._idle = idle

    def load_step_definitions(self, extra_step_paths: list[str] | None = None) -> None:
        super().load_step_definitions(extra_step_paths)
        for definitions in registry.steps.values():
            for definition in definitions:
                if definition.func.__name__ == self._idle:
                    definition.func = _nothing

    def function_of(self, step: Step) -> str:
        match = registry.find_match(step)
        return "" if match is None else str(match.func.__name__)


def _nothing(*_context: object, **_words: object) -> None:
    """A step that does nothing."""


def survey() -> Steps:
    """The steps of the features, without running any."""
    run = _finished("--dry-run")
    steps = Steps()
    kinds: dict[str, set[str]] = {}
    functions: dict[str, object] = {}
    for kind, definitions in registry.steps.items():
        for definition in definitions:
            name = definition.func.__name__
            kinds.setdefault(name, set()).add(kind)
            if functions.setdefault(name, definition.func) is not definition.func:
                steps.twice.append(name)
    steps.checks = {name for name, own in kinds.items() if own == {"then"}}
    for scenario in _scenarios(run):
        for step in scenario.all_steps:
            places = steps.used.setdefault(run.function_of(step), [])
            if str(scenario.location) not in places:
                places.append(str(scenario.location))
    return steps


def with_fault(name: str, places: list[str] | None = None, *, whole: bool = False) -> Noticed:
    """What the features (or the scenarios at these places) notice of a proxy with this fault: the first, or all."""
    fault = next(fault for fault in (NONE, *FAULTS, *GROSS) if fault.name == name)
    drivers.STARTS[fault.driver] = lambda _store, _options: _faulty(fault)
    Scenario.continue_after_failed_step = whole
    # Each check has to fail somewhere; of a single fault, one quick scenario is enough.
    options = ["-D", f"driver={fault.driver}"] + ([] if whole else ["--stop", "--tags", "not @slow"])
    return _noticed(_finished(*options, *(places or [])))


def with_idle_step(function: str, places: list[str]) -> Noticed:
    """What the scenarios at these places notice first of a step that does nothing.

    Where none of them is for the Flask app, they run with sockets in one process, or against gunicorn.
    """
    for driver in ("flask", "sockets", "live"):
        noticed = _finished("--stop", "-D", f"driver={driver}", *places, idle=function)
        if any(scenario.status is not Status.skipped for scenario in _scenarios(noticed)):
            break
    return _noticed(noticed)


def _finished(*arguments: str, idle: str | None = None) -> _Run:
    options = ["--no-summary", "--no-color", "--format", "null", "--outfile", "/dev/null", *arguments]
    run = _Run(Configuration(options), idle)
    with redirect_stdout(StringIO()):
        run.run()
    return run


def _scenarios(run: _Run) -> Iterator[Scenario]:
    for feature in run.features:
        yield from feature.walk_scenarios()


def _noticed(run: _Run) -> Noticed:
    noticed = Noticed()
    for scenario in _scenarios(run):
        failed = [step for step in scenario.all_steps if step.status.has_failed()]
        if failed or scenario.status.has_failed():
            noticed.scenarios.append(f"{scenario.name} ({scenario.location})")
            noticed.steps.update(run.function_of(step) for step in failed)
    return noticed
