"""Asks the tests, in a process of its own for each question, with what others have written already imported."""

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import sys
import time
import traceback
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

IMPORTED = (
    "a2wsgi", "behave.__main__", "behave.formatter.progress", "cachetools", "click.testing", "flask", "freezegun",
    "hypothesis", "prometheus_client", "pydantic", "redis", "requests", "responses", "structlog", "urllib3", "uvicorn",
    "uvloop", "werkzeug.test",
)  # fmt: skip
"""What the tests import of others: each process that is forked from here has it."""

SLOWER = 10
LEAST_SECONDS = 30.0
"""A test hangs when it takes so many times as long as without a mutant, and at least this long."""
SECONDS_AT_FIRST = 120.0
"""For a test of which it is not known how long it takes, and for what is between the tests."""

ATTEMPTS = 3
"""How often tests are asked that are to pass: on a busy machine, one may fail by itself."""

KILLED, HUNG = 10, 1
"""Exit statuses; the second is faulthandler's."""


@dataclass(frozen=True)
class Unit:
    """The tests of one module below `tests`: `stores.sqlite` are those of `tests/stores/test_sqlite.py`."""

    name: str


@dataclass(frozen=True)
class Features:
    """The features, through one of their drivers."""

    driver: str


Question = Unit | Features
Times = dict[str, float]
"""How long each test takes without a mutant, in seconds."""


def prepare(project: Path) -> None:
    """Make this process one that can ask the tests of a copy of the project."""
    os.chdir(project)
    sys.path[0] = str(project)
    os.environ["PYTHONPATH"] = str(project)
    # Two mutants of the same length within a second look the same to Python, which would take what it compiled before.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    os.environ["C42_REQUIRE_ALL"] = "1"
    # Told to end, it ends what it asked.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for name in IMPORTED:
        importlib.import_module(name)


def ask(question: Question, times: Times, output: Path) -> str | None:
    """None where the tests pass, else "killed" or "hung". What they print goes to `output`."""
    child = os.fork()
    if child == 0:
        _answer_and_exit(question, times, output)
    try:
        _, ended = os.waitpid(child, 0)
    finally:
        # With what it has left running, where it was cut short.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(ended)
    return None if status == 0 else "hung" if status == HUNG else "killed"


def measured(question: Question, output: Path) -> Times:
    """How long each test takes. Raises RuntimeError where one fails without any mutant, each time that it is asked."""
    if all(ask(question, {}, output) for _ in range(ATTEMPTS)):
        raise RuntimeError(f"{question} fails without a mutant: see {output}")
    found: Times = json.loads(_measurements(output).read_text())
    return found


def _answer_and_exit(question: Question, times: Times, output: Path) -> NoReturn:
    status = KILLED
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        faulthandler.dump_traceback_later(SECONDS_AT_FIRST, exit=True)
        taken = _told(question.driver, times) if isinstance(question, Features) else _run(question.name, times)
        if taken is not None:
            _measurements(output).write_text(json.dumps(taken))
            status = 0
    except BaseException:  # noqa: BLE001  # a mutant may raise anything, also where it is imported
        traceback.print_exc()
    finally:
        # Not `sys.exit`: a mutant's threads may never end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _told(driver: str, times: Times) -> Times | None:
    from behave.__main__ import main  # noqa: PLC0415  # it is imported before

    name = f"features through {driver}"
    with _limited(name, times) as taken:
        failed = main(["--stop", "--format", "progress", "--define", f"driver={driver}"])
    return None if failed else taken


def _run(name: str, times: Times) -> Times | None:
    result = _Result(times)
    room, dot, module = name.rpartition(".")
    suite = unittest.defaultTestLoader.loadTestsFromName(f"tests.{room}{dot}test_{module}")
    unittest.TestSuite(_quickest_first(suite, times)).run(result)
    for test, why in [*result.errors, *result.failures]:
        print(test, why, sep="\n")
    return result.taken if result.wasSuccessful() else None


def _quickest_first(suite: unittest.TestSuite, times: Times) -> list[unittest.TestCase]:
    """The tests of a suite; those of one class stay together, for what they share is set up once."""
    classes: dict[type, list[unittest.TestCase]] = {}
    for test in _cases(suite):
        classes.setdefault(type(test), []).append(test)
    for tests in classes.values():
        tests.sort(key=lambda test: times.get(test.id(), 0.0))
    ordered = sorted(classes.values(), key=lambda tests: sum(times.get(test.id(), 0.0) for test in tests))
    return [test for tests in ordered for test in tests]


def _cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _cases(test)
        else:
            yield test


class _Result(unittest.TestResult):
    """Stops at the first failure, and notes how long each test takes."""

    def __init__(self, times: Times) -> None:
        super().__init__()
        self.failfast = True
        self.taken: Times = {}
        self._times = times
        self._limit = contextlib.ExitStack()

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # unittest's name
        super().startTest(test)
        self._limit = contextlib.ExitStack()
        self._limit.enter_context(_limited(test.id(), self._times, self.taken))

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # unittest's name
        self._limit.close()
        super().stopTest(test)


@contextlib.contextmanager
def _limited(name: str, times: Times, taken: Times | None = None) -> Iterator[Times]:
    """Ends the process where what is done within hangs; notes how long it took otherwise."""
    taken = {} if taken is None else taken
    usual = times.get(name)
    limit = SECONDS_AT_FIRST if usual is None else max(LEAST_SECONDS, SLOWER * usual)
    start = time.monotonic()
    faulthandler.dump_traceback_later(limit, exit=True)
    try:
        yield taken
    finally:
        # What comes before the next test may hang, too.
        faulthandler.dump_traceback_later(SECONDS_AT_FIRST, exit=True)
        taken[name] = time.monotonic() - start


def _measurements(output: Path) -> Path:
    return output.with_suffix(".json")
