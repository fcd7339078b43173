"""Tests that need a program which not every machine has."""

import os
import shutil
import unittest
from collections.abc import Callable
from typing import TypeVar

REQUIRE_ALL = "C42_REQUIRE_ALL"

TestClass = TypeVar("TestClass", bound=type[unittest.TestCase])


def needs(program: str) -> Callable[[TestClass], TestClass]:
    """Skip a test class, saying why, where `program` is not there. With C42_REQUIRE_ALL=1 that is a failure."""

    def mark(test_class: TestClass) -> TestClass:
        if shutil.which(program):
            return test_class
        if os.environ.get(REQUIRE_ALL) == "1":
            # Not here: the other classes of the module can do without.
            test_class.setUpClass = classmethod(_fail_for(program))  # type: ignore[method-assign,assignment]  # so
            return test_class
        return unittest.skip(f"{program} is not there")(test_class)

    return mark


def _fail_for(program: str) -> Callable[[object], None]:
    def fail(_class: object) -> None:
        raise AssertionError(f"{program} is not there, and {REQUIRE_ALL}=1")

    return fail
