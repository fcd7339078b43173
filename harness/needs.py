"""Tests that need a program which not every machine has, and tests that one platform is enough for."""

import os
import shutil
import socket
import unittest
from collections.abc import Callable
from typing import TypeVar

REQUIRE_ALL = "C42_REQUIRE_ALL"
"""With 1, nothing may be skipped but what `tests/skips.toml` lists: see `harness.runner`."""

PLATFORM = "C42_PLATFORM"
"""Set by `scripts/platform` to the name of a platform beside the machine itself."""

Test = TypeVar("Test", bound=Callable[..., object])
TestClass = TypeVar("TestClass", bound=type[unittest.TestCase])


def needs(program: str) -> Callable[[Test], Test]:
    """Skip a test, or a class of them, if `program` is not installed, and say why.

    Raises TypeError for anything else: a helper would skip the test that calls it, wherever that is.
    """

    def decorate(test: Test) -> Test:
        if not (test.__name__.startswith("test_") or (isinstance(test, type) and issubclass(test, unittest.TestCase))):
            raise TypeError(f"{test.__qualname__} is no test")
        return unittest.skipUnless(shutil.which(program), f"{program} is not there")(test)

    return decorate


def one_platform_is_enough(test_class: TestClass) -> TestClass:
    """Skip a test class on the platforms beside the machine itself: what it tries is the same on all of them."""
    return unittest.skipIf(os.environ.get(PLATFORM), "one platform is enough")(test_class)


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 address to listen at."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
