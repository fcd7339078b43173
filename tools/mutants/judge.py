"""Sees whether a test notices a mutant, in a copy of the project: `python -m tools.mutants.judge QUESTION...`.

A question is a module of tests (`tests.test_events`) or a driver of the features (`flask`). They are asked in turn, and
the first that fails ends it.

This process goes on from mutant to mutant, because it imports once what others have written: that takes most of the
time. For each mutant, cosmic-ray runs `client.py`, which asks here for a verdict.
"""

import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
import unittest
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from harness.runner import flat

from .client import SOCKET, SURVIVED

IMPORTED = (
    "a2wsgi", "behave.__main__", "behave.formatter.progress", "cachetools", "click.testing", "flask", "freezegun",
    "hypothesis", "prometheus_client", "pydantic", "redis", "requests", "responses", "structlog", "urllib3", "uvicorn",
    "uvloop", "werkzeug.test",
)  # fmt: skip
"""The libraries that the tests import: they are imported once, before the processes are forked."""

TIMES = Path("times.json")
"""How long each test takes in seconds, as the run without a mutant has measured it: the quickest are asked first."""
OUTPUT = Path("output")

LEAST_SECONDS = 10
SLOWER = 10
"""A test hangs when it takes so many times as long as without a mutant, and at least LEAST_SECONDS. Most mutants that
hang are found so, long before cosmic-ray's time-out, which is for all questions together."""

IMPORT_SECONDS = 30
"""So long may it take to import a module of tests, and what it needs, on a busy machine."""

Times = dict[str, float]
Ask = Callable[[], bool]
"""Whether the tests pass."""


def main() -> None:
    questions = sys.argv[1:]
    for name in IMPORTED:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                _judge(connection, questions)


def _judge(connection: socket.socket, questions: list[str]) -> None:
    """Let a child process ask the questions and send the outcome. If cosmic-ray's time-out ends the client, kill it."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if not any(_notices(question, connection) for question in questions):
                connection.sendall(SURVIVED)
        finally:
            # Not `sys.exit`: a mutant's threads may never end.
            os._exit(0)
    ended = os.pidfd_open(child)
    select.select([connection.fileno(), ended], [], [])
    os.close(ended)
    with suppress(ProcessLookupError):
        # With what the tests have left running.
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _notices(question: str, connection: socket.socket) -> bool:
    start = time.monotonic()
    # What is imported here, the processes below share. A mutant may hang as soon as it is imported.
    signal.alarm(IMPORT_SECONDS)
    ask = _unit_tests(question) if "." in question else partial(_features, question)
    signal.alarm(0)
    status = _exit_status(ask)
    if status > 0:
        # On a busy machine, a test may fail by itself: it has noticed nothing unless it fails again.
        status = _exit_status(ask)
    connection.sendall(f"{question}: status {status} after {time.monotonic() - start:.1f} s\n".encode())
    return status != 0


def _exit_status(ask: Ask) -> int:
    """Ask in a process of its own. Its exit status is positive where a test fails, and negative where it hangs."""
    child = os.fork()
    if child == 0:
        _answer_and_exit(ask)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _answer_and_exit(ask: Ask) -> NoReturn:
    status = 1
    try:
        file = os.open(OUTPUT, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        status = 0 if ask() else 1
    except BaseException:  # noqa: BLE001  # a mutant may raise anything
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _features(driver: str) -> bool:
    from behave.__main__ import main as behave  # noqa: PLC0415  # most mutants are noticed before

    return not behave(["--stop", "--format", "progress", "--define", f"driver={driver}"])


def _unit_tests(module: str) -> Ask:
    times: Times = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    tests = _quickest_first(flat(unittest.defaultTestLoader.loadTestsFromName(module)), times)

    def ask() -> bool:
        result = _Result(times)
        unittest.TestSuite(tests).run(result)
        for test, why in [*result.errors, *result.failures]:
            print(test, why, sep="\n")
        if result.wasSuccessful():
            TIMES.write_text(json.dumps(result.taken | times))
        return result.wasSuccessful()

    return ask


def _quickest_first(tests: Iterable[unittest.TestCase], times: Times) -> list[unittest.TestCase]:
    """The tests of one class stay together, because what they share is set up once."""
    classes: dict[type, list[unittest.TestCase]] = {}
    for test in tests:
        classes.setdefault(type(test), []).append(test)
    for of_class in classes.values():
        of_class.sort(key=lambda test: times.get(test.id(), 0.0))
    ordered = sorted(classes.values(), key=lambda of_class: sum(times.get(test.id(), 0.0) for test in of_class))
    return [test for of_class in ordered for test in of_class]


class _Result(unittest.TestResult):
    """Stops at the first failure, ends the process where a test hangs, and notes how long each takes."""

    def __init__(self, times: Times) -> None:
        super().__init__()
        self.failfast = True
        self.taken: Times = {}
        self._times = times
        self._start = 0.0

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # unittest's name
        super().startTest(test)
        self._start = time.monotonic()
        usual = self._times.get(test.id(), LEAST_SECONDS)
        signal.alarm(max(LEAST_SECONDS, round(SLOWER * usual)))

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # unittest's name
        # What comes before the next test may hang, too.
        signal.alarm(LEAST_SECONDS)
        self.taken[test.id()] = time.monotonic() - self._start
        super().stopTest(test)


if __name__ == "__main__":
    main()
