"""Small features of a test's own, run by behave in this process, and the page that comes of it."""

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from datetime import UTC, datetime

from behave.api.pending_step import StepNotImplementedError
from behave.configuration import Configuration
from behave.formatter.base import StreamOpener
from behave.model import Feature
from behave.parser import parse_feature
from behave.runner import Context, ModelRunner
from behave.step_registry import StepRegistry

from tools.spec_page import PageFormatter

BEGAN = datetime(2016, 10, 21, 15, 0, 0, tzinfo=UTC)


def page_of(
    *texts: str,
    steps: Mapping[str, Callable[[Context], None]] | None = None,
    hooks: Mapping[str, Callable[..., None]] | None = None,
    options: tuple[str, ...] = (),
    began: datetime = BEGAN,
) -> str:
    """The page of a run of these features, with the steps below and more `steps` by their words."""
    config = Configuration(["--no-summary", *options], load_config=False)
    runner = ModelRunner(config, features=[_parsed(text) for text in texts], step_registry=_registry(steps or {}))
    runner.hooks = dict(hooks or {})
    page = io.StringIO()
    runner.formatters = [PageFormatter(StreamOpener(stream=page), config, clock=lambda: began)]
    with redirect_stdout(io.StringIO()):
        runner.run()
    return page.getvalue()


def _parsed(text: str) -> Feature:
    return parse_feature(text, filename="small.feature")


def _registry(more: Mapping[str, Callable[[Context], None]]) -> StepRegistry:
    registry = StepRegistry()
    for words, function in {**STEPS, **more}.items():
        registry.add_step_definition("step", words, function)
    return registry


def _holds(_context: Context) -> None:
    pass


def _breaks(_context: Context) -> None:
    raise AssertionError("two answers are not one")


def _errs(_context: Context) -> None:
    raise LookupError("nothing there")


def _pends(_context: Context) -> None:
    raise StepNotImplementedError("later")


def _skips(context: Context) -> None:
    context.scenario.skip("C42 is on holiday")


STEPS: dict[str, Callable[..., None]] = {
    "it holds": _holds,
    "{number} is even": lambda _context, number: _even(number),
    "it breaks": _breaks,
    "it errs": _errs,
    "it is pending": _pends,
    "it is skipped": _skips,
}


def _even(number: str) -> None:
    if int(number) % 2:
        raise AssertionError(f"{number} is odd")
