"""Small features of a test's own, run by behave in this process, and the page that comes of it."""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from behave.api.pending_step import StepNotImplementedError
from behave.configuration import Configuration
from behave.formatter.base import Formatter, StreamOpener
from behave.parser import parse_feature
from behave.runner import Context, ModelRunner
from behave.step_registry import StepRegistry

from tools.spec_page import FailuresFormatter, PageFormatter

BEGAN = datetime(2016, 10, 21, 15, 0, 0, tzinfo=UTC)


def page_of(*texts: str, began: datetime = BEGAN, **run: Any) -> str:
    """The page of a run of these features (see `_run`)."""
    return _run(partial(PageFormatter, clock=lambda: began), texts, **run)


def dots_of(*texts: str, **run: Any) -> str:
    """What those read who run these features."""
    return _run(FailuresFormatter, texts, **run)


def _run(
    formatter: Callable[[StreamOpener, Configuration], Formatter],
    texts: Sequence[str],
    *,
    steps: Mapping[str, Callable[[Context], None]] = MappingProxyType({}),
    hooks: Mapping[str, Callable[..., None]] = MappingProxyType({}),
    options: Sequence[str] = (),
) -> str:
    """With the steps below and more `steps` by their words; `options` are behave's."""
    config = Configuration(["--no-summary", *options], load_config=False)
    features = [parse_feature(text, filename="small.feature") for text in texts]
    runner = ModelRunner(config, features=features, step_registry=_registry(steps))
    runner.hooks = dict(hooks)
    written = io.StringIO()
    runner.formatters = [formatter(StreamOpener(stream=written), config)]
    with redirect_stdout(io.StringIO()):
        runner.run()
    return written.getvalue()


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
