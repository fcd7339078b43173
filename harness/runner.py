"""All unit tests, in an order by chance, in a run that leaves nothing open: `python -m harness.runner [NAME...]`.

A NAME is a module, a class or a test, as unittest has it. The order of the modules, of the classes in each and of their
tests comes from a seed, which is printed; `--seed` gives the same order again. With `--jobs`, several processes take
the modules in that order. It fails, too, where a warning is given, where a thread ends with an exception, and where a
module leaves a thread or a file descriptor behind.

What is skipped is listed. With C42_REQUIRE_ALL=1 it must be what `tests/skips.toml` has for this platform
(C42_PLATFORM, which `scripts/platform` sets). Up to three tests that failed are then run once more, alone, as CPython's
own runner does with `--rerun`: real processes share the machine's cores. Those that pass then are listed as flaky.
"""

import argparse
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import traceback
import unittest
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from multiprocessing import resource_tracker
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest.util import strclass

import uvloop

from .needs import PLATFORM, REQUIRE_ALL
from .watch import Watch

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tests", "tools")
SKIPS = ROOT / "tests" / "skips.toml"

LONGEST = {"tests.server.test_faults", "tests.server.test_machine"}
"""They come first: if one of them were the last, one process would run alone for two minutes."""

END_SECONDS = 5.0
"""For a thread that ends by itself."""

Module = list[unittest.TestCase]

KEPT = re.compile(r"-leases( \(deleted\))?$|^/dev/shm/pym-|/libffi\.so[.0-9]*$")
"""What a process keeps open until it ends: lock files (see `c42_proxy.stores.locks`), multiprocessing's memory, and
libffi's own file, from the first callback of ctypes on.
"""


MOST_RERUN = 3
"""If more tests fail, that is no matter of chance."""

TURN_BYTES = 2
SLOWEST = 20
"""How many modules are named with the time that they took."""


class LeftBehind(AssertionError):
    """What a module of tests did not close."""


@dataclass
class Outcome:
    """Of some modules: whether all is well, which tests failed, what was skipped and why, and each module's seconds."""

    well: bool = True
    failed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, int] = field(default_factory=dict)


class Modules(unittest.TestSuite):
    """Runs the tests of one module after those of another, and looks at what each of them leaves behind."""

    def __init__(self, modules: Iterable[Module], watch: Watch) -> None:
        super().__init__()
        self._modules = modules
        self._watch = watch
        self.seconds: dict[str, int] = {}

    def run(self, result: unittest.TestResult, debug: bool = False) -> unittest.TestResult:
        for tests in self._modules:
            name = _module(tests[0])
            threads, descriptors = set(threading.enumerate()), _descriptors()
            start = time.monotonic()
            # A run of its own: it ends with tearDownClass and tearDownModule.
            unittest.TestSuite(tests).run(result, debug)
            self.seconds[name] = round(time.monotonic() - start)
            left = self._left(threads, descriptors)
            if left:
                unittest.FunctionTestCase(_raises(left), description=f"{name} leaves nothing behind").run(result)
            if result.shouldStop:
                break
        return result

    def _left(self, threads: set[threading.Thread], descriptors: set[tuple[int, str]]) -> list[str]:
        noted = self._watch.taken()
        give_up = time.monotonic() + END_SECONDS
        for thread in set(threading.enumerate()) - threads:
            thread.join(max(0.0, give_up - time.monotonic()))
        left = [f"a thread:\n{_standing(thread)}" for thread in set(threading.enumerate()) - threads]
        left += [f"descriptor {number}: {what}" for number, what in sorted(_descriptors() - descriptors)]
        # Once more: a thread may have ended with an exception meanwhile.
        return noted + self._watch.taken() + left


class Result(unittest.TextTestResult):
    """Prints a failure at once, and not at the end of the run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._printed = [0, 0]

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # unittest's name
        super().stopTest(test)
        self.printErrors()

    def printErrors(self) -> None:  # noqa: N802  # unittest's name
        for kind, (flavour, found) in enumerate((("ERROR", self.errors), ("FAIL", self.failures))):
            new, self._printed[kind] = found[self._printed[kind] :], len(found)
            self.printErrorList(flavour, new)


def run(modules: Iterable[Module], watch: Watch) -> Outcome:
    """Run them in this process, and print what fails."""
    # What nobody expects to be logged (`assertLogs`) is not printed among the dots.
    logging.getLogger("c42_proxy").addHandler(logging.NullHandler())
    # multiprocessing keeps a pipe to a process of its own from its first use on: it is not a test's.
    resource_tracker.ensure_running()
    # So does libuv, for signals, from its first loop on.
    uvloop.new_event_loop().close()
    suite = Modules(modules, watch)
    result = unittest.TextTestRunner(resultclass=Result).run(suite)
    # Of a subtest, the whole test: only that can be named to run it again.
    failed = {getattr(test, "test_case", test).id() for test, _ in (*result.failures, *result.errors)}
    return Outcome(result.wasSuccessful(), sorted(failed), skipped(result), suite.seconds)


def run_in_jobs(number: int, modules: int, command: list[str]) -> Outcome:
    """Run them in so many processes, each with `command`. Whichever is free takes the next module."""
    whole = Outcome()
    reading, writing = os.pipe()
    # All of it fits into the pipe.
    os.write(writing, b"".join(index.to_bytes(TURN_BYTES) for index in range(modules)))
    os.close(writing)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(job)) for job in range(number)]
        jobs = [
            subprocess.Popen([*command, "--turns", str(reading), "--outcome", file], pass_fds=[reading])
            for file in files
        ]
        for job, file in zip(jobs, files, strict=True):
            job.wait()
            died = Outcome(well=False, failed=["a process that died"])
            part = Outcome(**json.loads(file.read_text())) if file.exists() else died
            whole.well &= part.well
            whole.failed += part.failed
            whole.skipped |= part.skipped
            whole.seconds |= part.seconds
    os.close(reading)
    return whole


def pass_alone(failed: list[str]) -> bool:
    """Whether the tests that failed pass in a process of their own, without others beside them."""
    if not 0 < len(failed) <= MOST_RERUN:
        return False
    print("Once more, alone:", *failed, flush=True)
    if subprocess.run([sys.executable, "-m", "harness.runner", "--once", *failed], check=False).returncode:
        return False
    for name in failed:
        print(f"flaky: {name}")
    return True


def turns(descriptor: int) -> Iterator[int]:
    """The numbers of the modules that this process takes."""
    while turn := os.read(descriptor, TURN_BYTES):
        yield int.from_bytes(turn)


def flat(suite: Iterable[Any]) -> Iterator[unittest.TestCase]:
    """The tests of a suite and of those in it."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def shuffled(tests: Iterable[unittest.TestCase], seed: int) -> list[unittest.TestCase]:
    """The tests in another order. Those of a class, and the classes of a module, stay together: they share fixtures."""
    chance = random.Random(seed)
    ranks: dict[str, float] = {}

    def rank(test: unittest.TestCase) -> tuple[float, ...]:
        names = (_module(test), strclass(type(test)), test.id())
        return tuple(ranks.setdefault(name, chance.random()) for name in names)

    return sorted(sorted(tests, key=unittest.TestCase.id), key=rank)


def skipped(result: unittest.TestResult) -> dict[str, str]:
    """What was skipped, and why: a class, where all of it was, or a test."""
    found = {}
    for test, reason in result.skipped:
        whole = getattr(type(test), "__unittest_skip__", False)
        found[strclass(type(test)) if whole else test.id()] = reason
    return found


def expected_skips(platform: str) -> dict[str, str]:
    """What is to be skipped on a platform, and why."""
    lists = tomllib.loads(SKIPS.read_text())["skipped"]
    return {name: each["why"] for each in lists if platform in each["on"] for name in each["tests"]}


def differences(found: dict[str, str], expected: dict[str, str], *, whole: bool) -> list[str]:
    """The differences between what was skipped and what is listed; `whole` says that all tests were to run."""
    wrong = [f"skipped, and not listed: {name} ({why})" for name, why in found.items() - expected.items()]
    if whole:
        wrong += [f"listed, and not skipped: {name} ({why})" for name, why in expected.items() - found.items()]
    return sorted(wrong)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.runner", description="Run the unit tests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a module, a class or a test; default: all")
    parser.add_argument("--seed", type=int, help="of the order of an earlier run")
    parser.add_argument("--jobs", type=int, default=1, help="so many processes; default: this one")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--turns", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--outcome", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed

    watch = Watch()
    loader = unittest.TestLoader()
    if options.names:
        tests = list(flat(loader.loadTestsFromNames(options.names)))
    else:
        tests = [test for folder in FOLDERS for test in flat(loader.discover(folder, top_level_dir=str(ROOT)))]
    modules = [list(module) for _, module in groupby(shuffled(tests, seed), _module)]
    modules.sort(key=lambda module: _module(module[0]) not in LONGEST)
    if options.turns is not None:
        outcome = run((modules[index] for index in turns(options.turns)), watch)
        options.outcome.write_text(json.dumps(asdict(outcome)))
        return 0
    print(f"The order is that of seed {seed}: --seed {seed} (make unit SEED={seed}) gives it again.", flush=True)
    if options.jobs == 1:
        outcome = run(modules, watch)
    else:
        command = [sys.executable, "-m", "harness.runner", *options.names, "--seed", str(seed)]
        outcome = run_in_jobs(options.jobs, len(modules), command)
    slowest = sorted(outcome.seconds.items(), key=itemgetter(1), reverse=True)[:SLOWEST]
    print("The slowest:", ", ".join(f"{name} {seconds} s" for name, seconds in slowest))

    platform = os.environ.get(PLATFORM, "")
    for name, reason in sorted(outcome.skipped.items()):
        print(f"skipped: {name}: {reason}")
    wrong = []
    if os.environ.get(REQUIRE_ALL) == "1":
        outcome.well = outcome.well or (not options.once and pass_alone(outcome.failed))
        wrong = differences(outcome.skipped, expected_skips(platform), whole=not options.names)
        for line in wrong:
            print(f"tests/skips.toml, {platform or 'no platform'}: {line}")
    if wrong or not outcome.well:
        print(f"This was seed {seed}.")
        return 1
    return 0


def _module(test: unittest.TestCase) -> str:
    return type(test).__module__


def _descriptors() -> set[tuple[int, str]]:
    """The files and sockets that are open, but for those that are kept."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # that of the listing
            continue
        if not KEPT.search(what):
            found.add((int(name), what))
    return found


def _standing(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return f"{thread!r}\n" + "".join(traceback.format_stack(frame, 3) if frame else [])


def _raises(left: list[str]) -> Any:
    def fail() -> None:
        raise LeftBehind("\n\n".join(left))

    return fail


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
