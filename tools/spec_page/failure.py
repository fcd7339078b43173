"""What broke, described without paths or names of the machine on which it ran."""

import re
import socket
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import behave
from behave.model import Feature, Rule, Scenario, Step
from behave.model_type import Status

BEHAVE = Path(behave.__file__).parent
UNDEFINED = "Nobody has written down how to try this step."


@dataclass(frozen=True)
class Failure:
    """`step` is the sentence that broke, if it was one. `explained`: the message needs no traceback."""

    message: str
    traceback: str = ""
    step: str = ""
    explained: bool = False


def failures_of_scenario(scenario: Scenario) -> list[Failure]:
    """Of its steps, and of what goes on around them."""
    steps = [_of_step(step) for step in scenario.all_steps if step.status.has_failed()]
    return [*steps, *own_failures(scenario)]


def own_failures(element: Feature | Rule | Scenario) -> list[Failure]:
    """Of what is done before and after the steps."""
    if not element.status.is_hook_error():
        return []
    if element.exception is None:
        # behave prints what broke when a scenario was cleaned up after, and keeps it nowhere else.
        said = re.search(r"^CLEANUP-ERROR in .*?: (.+)$", element.captured.output, re.MULTILINE)
        return [Failure("It could not be cleaned up after" + (f": {without_places(said[1])}" if said else "."))]
    return [_of_exception(element)]


def _of_step(step: Step) -> Failure:
    sentence = f"{step.keyword} {step.name}"
    if step.status is Status.undefined:
        return Failure(UNDEFINED, step=sentence)
    return _of_exception(step, sentence)


def _of_exception(element: Feature | Rule | Scenario | Step, sentence: str = "") -> Failure:
    error = element.exception
    if error is None:
        return Failure(without_places(element.error_message or "It broke without a word."), step=sentence)
    message = str(error)
    if not message or not isinstance(error, AssertionError):
        message = f"{type(error).__name__}: {message}".removesuffix(": ")
    lines = traceback.format_exception(type(error), error, _behind_behave(element.exc_traceback))
    explained = isinstance(error, AssertionError) and bool(str(error))
    return Failure(without_places(message), without_places("".join(lines)).rstrip(), sentence, explained)


def _behind_behave(trace: TracebackType | None) -> TracebackType | None:
    """`trace` from where behave calls what is ours."""
    here = trace
    while here is not None and Path(here.tb_frame.f_code.co_filename).is_relative_to(BEHAVE):
        here = here.tb_next
    return here or trace


def without_places(text: str) -> str:
    """`text` without paths of this machine, its name, and addresses in memory."""
    for pattern, instead in _places():
        text = re.sub(pattern, instead, text)
    return text


def _places() -> Iterator[tuple[str, str]]:
    folders = {Path.cwd(), Path.home(), tempfile.gettempdir(), *sysconfig.get_paths().values()}
    for folder in sorted(map(str, folders), key=len, reverse=True):
        yield re.escape(f"{folder}/"), ""
    # What begins with a folder of this machine is a path of it; `/events/7/` and `http://c42/home/` are not.
    roots = "|".join(re.escape(folder.name) for folder in Path("/").iterdir() if folder.is_dir())
    begin = rf"(?<![\w./:~-])/(?:{roots})"
    yield rf"{begin}(?:/[^\s\"'/:,;()<>]+)*/(?=[^\s\"'/])", ""
    yield rf"{begin}\b/?(?!\w)", "(a folder)"
    if name := socket.gethostname():
        yield rf"\b{re.escape(name)}\b", "(this machine)"
    yield r"\b0x[0-9a-fA-F]{6,}\b", "0x…"
