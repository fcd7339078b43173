"""Tries mutants of a module, in a copy of the project: `python -m tools.mutants.judge SESSION EVERY MODULE ASKED...`.

What is asked, in turn, are modules of tests (`tests.test_events`) and drivers of the features (`flask`). The first that
fails ends it. In each, those tests and scenarios come first that run the changed statement; of these, first the ones
that have noticed most mutants, then the quickest. A scenario that does not run the statement is left out: it runs in
this process, so it cannot notice the mutant. (A test may start the proxy in other processes.)

This process imports once what others have written, which takes most of the time, and forks a process for each mutant.
"""

import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
import unittest
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn, Protocol

from coverage import Coverage

from harness.runner import flat

from .mutations import Mutation, mutations

IMPORTED = (
    "a2wsgi", "cachetools", "click.testing", "flask", "freezegun", "hypothesis", "jsonschema_rs", "prometheus_client",
    "pydantic", "redis", "requests", "responses", "structlog", "urllib3", "uvicorn", "uvloop", "werkzeug.test", "yaml",
)  # fmt: skip
"""The libraries that the tests import: they are imported once, before the processes are forked."""

OUTPUT, RUNNING, VERDICT = (Path.cwd() / name for name in ("output", "running", "verdict"))
"""What the tests print; the check that runs; the check that failed."""

PACKAGE = Path.cwd() / "c42_proxy"


def measured(question: str) -> Path:
    """What was measured of a question without a mutant, once for all modules about which it is asked."""
    return Path.cwd().parent / "original" / f"measured-{question}"


LEAST_SECONDS = 10
SLOWER = 10
"""A check hangs when it takes so many times as long as without a mutant, and at least LEAST_SECONDS."""

SECONDS = 600
"""Longer than all questions about a mutant take on a busy machine. A mutant that takes longer hangs, too."""

IMPORT_SECONDS = 30
"""So long may it take to import a module of tests, and what it needs, on a busy machine."""

SLOW = "slow"
"""The tag of scenarios that take many seconds."""

Rank = Callable[[str], tuple[Any, ...]]


@dataclass
class Known:
    """What is known of each check (a test, or a scenario with a driver), by its name."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, set[int]] = field(default_factory=dict)
    """Those of the module that it runs."""
    kills: Counter[str] = field(default_factory=Counter)

    def runs(self, check: str, mutation: Mutation) -> bool:
        """Whether the check runs the changed statement, or anything of the module if that runs at import."""
        lines = self.lines.get(check, set())
        return not self.lines or bool(mutation.lines & lines if mutation.lines else lines)

    def rank(self, check: str, mutation: Mutation) -> tuple[Any, ...]:
        """Of the checks, the one with the lowest rank comes first."""
        return not self.runs(check, mutation), -self.kills[check], self.seconds.get(check, 0.0)


class Question(Protocol):
    """Some checks. `begin` is told the name of each before it runs."""

    def passes(self, mutation: Mutation, known: Known, begin: Callable[[str], None], first: str) -> bool:
        """Whether all pass; `first` is the name of the one that comes before all others, if there is one."""
        ...


def main() -> None:
    session, every, module, *questions = sys.argv[1:]
    for name in IMPORTED:
        importlib.import_module(name)
    if any("." not in question for question in questions):
        _features()
    path, known, parent = Path(module), Known(), os.getppid()
    code = path.read_text()
    unknown = [question for question in questions if not measured(question).exists()]
    if _failed(unknown, Mutation("", code, frozenset()), known, measure=True):
        sys.exit(f"{module}: {VERDICT.read_text()} fails without a mutant, see {OUTPUT}")
    for question in questions:
        found = json.loads(measured(question).read_text())
        known.seconds |= found["seconds"]
        known.lines |= {check: set(lines.get(module, ())) for check, lines in found["lines"].items()}
    with Path(session).open("a+") as tried:
        tried.seek(0)
        earlier = {json.loads(line)["mutant"] for line in tried}
        for mutation in mutations(code)[:: int(every)]:
            if mutation.text in earlier:
                continue
            if os.getppid() != parent:
                break  # the run was ended
            start = time.monotonic()
            path.write_text(mutation.code)
            failed = _failed(questions, mutation, known)
            known.kills[failed] += 1
            seconds = round(time.monotonic() - start, 1)
            print(json.dumps({"mutant": mutation.text, "by": failed, "seconds": seconds}), file=tried, flush=True)
    path.write_text(code)


def _failed(questions: list[str], mutation: Mutation, known: Known, measure: bool = False) -> str:
    """The check that notices the mutant, or nothing."""
    VERDICT.write_text("the import, or a time-out")
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            drivers = [question for question in questions if "." not in question]
            asked = (_notices(question, drivers, mutation, known, measure) for question in questions)
            VERDICT.write_text(next(filter(None, asked), ""))
        finally:
            # Not `sys.exit`: a mutant's threads may never end.
            os._exit(0)
    ended = os.pidfd_open(child)
    select.select([ended], [], [], None if measure else SECONDS)
    os.close(ended)
    with suppress(ProcessLookupError):
        # With what the tests have left running.
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return VERDICT.read_text()


def _notices(name: str, drivers: list[str], mutation: Mutation, known: Known, measure: bool) -> str:
    # What is imported here, the processes below share. A mutant may hang as soon as it is imported.
    signal.alarm(IMPORT_SECONDS)
    question: Question = UnitTests(name) if "." in name else Scenarios(name, drivers)
    signal.alarm(0)
    passes = partial(_passes, question, mutation, known, Measure(name) if measure else None)
    RUNNING.write_text(name)
    status = _exit_status(passes, "")
    if status > 0:
        # On a busy machine, a check may fail by itself: it has noticed nothing unless it fails again.
        status = _exit_status(passes, RUNNING.read_text())
    return RUNNING.read_text() if status else ""


def _exit_status(passes: Callable[[str], bool], first: str) -> int:
    """Ask in a process of its own. Its exit status is positive where a check fails, and negative where one hangs."""
    child = os.fork()
    if child == 0:
        _answer_and_exit(passes, first)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _answer_and_exit(passes: Callable[[str], bool], first: str) -> NoReturn:
    status = 1
    try:
        file = os.open(OUTPUT, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        status = 0 if passes(first) else 1
    except BaseException:  # noqa: BLE001  # a mutant may raise anything
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _passes(question: Question, mutation: Mutation, known: Known, measure: "Measure | None", first: str) -> bool:
    def begin(check: str) -> None:
        RUNNING.write_text(check)
        signal.alarm(max(LEAST_SECONDS, round(SLOWER * known.seconds.get(check, LEAST_SECONDS))))
        if measure:
            measure.begin(check)

    passes = question.passes(mutation, known, begin, first)
    if measure and passes:
        # What was measured up to a failure would pass for all that there is.
        measure.end()
    return passes


class Measure:
    """Notes how long each check takes, and which lines it runs."""

    def __init__(self, question: str) -> None:
        self._file = measured(question)
        self._coverage = Coverage(data_file=None, config_file=False, include=[f"{PACKAGE}/*"])
        self._starts: dict[str, float] = {}

    def begin(self, check: str) -> None:
        if not self._starts:
            self._coverage.start()
        self._coverage.switch_context(check)
        # The features freeze the other clocks.
        self._starts[check] = time.clock_gettime(time.CLOCK_MONOTONIC)

    def end(self) -> None:
        ends = [*self._starts.values(), time.clock_gettime(time.CLOCK_MONOTONIC)][1:]
        seconds = {check: end - start for (check, start), end in zip(self._starts.items(), ends, strict=True)}
        self._coverage.stop()
        data = self._coverage.get_data()
        modules = {path: str(Path(path).relative_to(PACKAGE.parent)) for path in data.measured_files()}
        lines = {}
        for check in self._starts:
            data.set_query_context(check)
            lines[check] = {name: found for path, name in modules.items() if (found := data.lines(path))}
        written = self._file.with_name(f"{self._file.name}-{os.getpid()}")
        written.write_text(json.dumps({"seconds": seconds, "lines": lines}))
        written.rename(self._file)


@cache
def _features() -> list[Any]:
    from behave.runner_util import collect_feature_locations, parse_features  # noqa: PLC0415  # only if they are asked

    return list(parse_features(collect_feature_locations(["features"])))


@cache
def _behave() -> Any:
    """A runner of behave that has loaded the steps. They can be loaded once in a process."""
    from behave.configuration import Configuration  # noqa: PLC0415  # only if the features are asked
    from behave.runner import Context, Runner  # noqa: PLC0415  # the same
    from behave.step_registry import registry  # noqa: PLC0415  # the same

    runner = Runner(Configuration(["--no-color", "--no-summary", "--format", "null", "--outfile", "/dev/null"]))
    runner.path_manager.__enter__()
    runner.setup_paths()
    runner.context = Context(runner)
    runner.step_registry = registry
    runner.load_hooks()
    runner.load_step_definitions()
    return runner


class Scenarios:
    """The scenarios of all features, told by a driver in this process, but for what a driver before has told already.

    A scenario that runs the changed statement with the one driver has noticed the mutant, or does not notice it.
    `flask @slow` stands for the scenarios with that tag, `flask` for the others.
    """

    def __init__(self, name: str, drivers: list[str]) -> None:
        self._driver, _, self._tag = name.partition(" @")
        self._before = set(drivers[: drivers.index(name)]) - {self._driver}
        self._runner = _behave()

    def passes(self, mutation: Mutation, known: Known, begin: Callable[[str], None], first: str) -> bool:
        runner = self._runner
        runner.config.update_userdata({"driver": self._driver})
        runner.run_hook("before_all")
        scenarios = {}
        for scenario in (each for feature in _features() for each in feature.walk_scenarios()):
            told = known.lines and any(known.runs(f"{driver} {scenario.location}", mutation) for driver in self._before)
            check = f"{self._driver} {scenario.location}"
            if known.runs(check, mutation) and not told and (SLOW in scenario.effective_tags) == (self._tag == SLOW):
                scenarios[check] = scenario
        for check in sorted(scenarios, key=lambda check: (check != first, known.rank(check, mutation))):
            begin(check)
            runner.feature = scenarios[check].feature
            if scenarios[check].run(runner):
                errors = (step.error_message for step in scenarios[check].all_steps)
                print(check, *filter(None, errors), sep="\n")
                return False
        runner.run_hook("after_all")
        return not runner.hook_failures


class UnitTests:
    """The tests of a module."""

    def __init__(self, module: str) -> None:
        self._tests = list(flat(unittest.defaultTestLoader.loadTestsFromName(module)))

    def passes(self, mutation: Mutation, known: Known, begin: Callable[[str], None], first: str) -> bool:
        def rank(test: unittest.TestCase) -> tuple[Any, ...]:
            return test.id() != first, known.rank(test.id(), mutation)

        result = _Result(begin)
        unittest.TestSuite(_by_class(self._tests, rank)).run(result)
        for test, why in [*result.errors, *result.failures]:
            print(test, why, sep="\n")
        return result.wasSuccessful()


def _by_class(tests: Iterable[unittest.TestCase], rank: Callable[[unittest.TestCase], Any]) -> list[unittest.TestCase]:
    """The tests in order. Those of one class stay together, because what they share is set up once."""
    classes: dict[type, list[unittest.TestCase]] = {}
    for test in sorted(tests, key=rank):
        classes.setdefault(type(test), []).append(test)
    return [test for of_class in classes.values() for test in of_class]


class _Result(unittest.TestResult):
    """Stops at the first failure, and says which test begins."""

    def __init__(self, begin: Callable[[str], None]) -> None:
        super().__init__()
        self.failfast = True
        self._begin = begin

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # unittest's name
        super().startTest(test)
        self._begin(test.id())

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # unittest's name
        # What comes before the next test may hang, too.
        signal.alarm(LEAST_SECONDS)
        super().stopTest(test)


if __name__ == "__main__":
    main()
