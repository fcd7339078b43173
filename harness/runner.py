"""All unit tests, in an order by chance, in a run that leaves nothing open: `python -m harness.runner [NAME...]`.

A NAME is a module, a class or a test, as unittest has it. The order of the modules, of the classes in each and of their
tests comes from a seed, which is printed; `--seed` gives the same order again. It fails, too, where a warning is given,
where a thread ends with an exception, and where a module leaves a thread or a file descriptor behind.

What is skipped is listed. With C42_REQUIRE_ALL=1 it must be what `tests/skips.toml` has for this platform
(C42_PLATFORM, which `scripts/platform` sets).
"""

import argparse
import logging
import os
import random
import re
import sys
import threading
import time
import tomllib
import traceback
import unittest
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any
from unittest.util import strclass

from .needs import PLATFORM, REQUIRE_ALL
from .watch import Watch

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tests", "tools")
SKIPS = ROOT / "tests" / "skips.toml"

END_SECONDS = 5.0
"""For a thread that ends by itself."""

KEPT = re.compile(r"-leases( \(deleted\))?$|^/dev/shm/pym-")
"""What a process keeps open until it ends: lock files (see `c42_proxy.stores.locks`), and multiprocessing's memory."""


SLOWEST = 20
"""So many modules are named with the time that they took."""


class LeftBehind(AssertionError):
    """What a module of tests did not close."""


class Modules(unittest.TestSuite):
    """Runs the tests of one module after those of another, and looks at what each of them leaves behind."""

    def __init__(self, tests: Iterable[unittest.TestCase], watch: Watch) -> None:
        super().__init__(tests)
        self._watch = watch
        self.seconds: Counter[str] = Counter()
        """How long each module took."""

    def run(self, result: unittest.TestResult, debug: bool = False) -> unittest.TestResult:
        for name, tests in groupby(list(flat(self)), _module):
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
    """Where what was skipped is not what is listed; `whole` says that all tests were to run."""
    wrong = [f"skipped, and not listed: {name} ({why})" for name, why in found.items() - expected.items()]
    if whole:
        wrong += [f"listed, and not skipped: {name} ({why})" for name, why in expected.items() - found.items()]
    return sorted(wrong)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.runner", description="Run the unit tests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a module, a class or a test; default: all")
    parser.add_argument("--seed", type=int, help="of the order of an earlier run")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed

    watch = Watch()
    # What nobody expects to be logged (`assertLogs`) is not printed among the dots.
    logging.getLogger("c42_proxy").addHandler(logging.NullHandler())
    # multiprocessing keeps a pipe to a process of its own from its first use on: it is not a test's.
    resource_tracker.ensure_running()
    loader = unittest.TestLoader()
    if options.names:
        tests = list(flat(loader.loadTestsFromNames(options.names)))
    else:
        tests = [test for folder in FOLDERS for test in flat(loader.discover(folder, top_level_dir=str(ROOT)))]
    print(f"The order is that of seed {seed}: --seed {seed} (make unit SEED={seed}) gives it again.", flush=True)
    modules = Modules(shuffled(tests, seed), watch)
    result = unittest.TextTestRunner(verbosity=1).run(modules)
    print("The slowest:", ", ".join(f"{name} {seconds} s" for name, seconds in modules.seconds.most_common(SLOWEST)))

    found = skipped(result)
    platform = os.environ.get(PLATFORM, "")
    for name, reason in sorted(found.items()):
        print(f"skipped: {name}: {reason}")
    wrong = []
    if os.environ.get(REQUIRE_ALL) == "1":
        wrong = differences(found, expected_skips(platform), whole=not options.names)
        for line in wrong:
            print(f"tests/skips.toml, {platform or 'no platform'}: {line}")
    if wrong or not result.wasSuccessful():
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
