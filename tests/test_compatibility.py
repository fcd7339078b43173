"""docs/compatibility.md promises what there is, and what is promised stays; the version is the same everywhere."""

import logging
import re
import shutil
import tempfile
import unittest
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import get_args

from c42_proxy import __version__
from c42_proxy.commands.cache import Row
from c42_proxy.observability import correlation
from c42_proxy.observability.logs import log_request
from c42_proxy.observability.metrics import Metrics
from c42_proxy.settings import FIELDS, FILE_VARIABLES
from c42_proxy.web.ops import Part, Status
from harness.openapi import REASONS
from harness.processes import ROOT, clean_environ, free_port, run
from tests.commands.command_line import c42_proxy
from tests.observability.test_logs import LogsTest

PAGE = (ROOT / "docs" / "compatibility.md").read_text()


class PromisedTest(LogsTest):
    """A new name is promised, too. Whoever takes one off these lists breaks a promise: that needs a major version."""

    def assert_listed(self, what: str, there: Collection[str]) -> None:
        listed = re.findall(rf"^\*\*{what}:\*\* (.*?)\.$", PAGE, re.MULTILINE | re.DOTALL)
        self.assertEqual(sorted(there), re.findall("`(.+?)`", listed[0]), what)

    def test_names(self) -> None:
        """Reasons, settings, metrics, the words of the ops port, and the members of `cache --json`."""
        exposed = re.findall(r"^# TYPE (c42_proxy_\S+)", Metrics().exposition().decode(), re.MULTILINE)
        self.assert_listed("Reasons", REASONS)
        self.assert_listed("Settings", {*FIELDS, *FILE_VARIABLES})
        self.assert_listed("Metrics", {name for name in exposed if not name.endswith("_created")})
        self.assert_listed("Words of the ops port", {*get_args(Status), *get_args(Part)})
        self.assert_listed("Members of `cache --json`", [field.name for field in fields(Row)])

    def test_log(self) -> None:
        """The members of a log line, and of that of a request."""
        self.configure("json")
        correlation.begin("mine", f"00-{1:032x}-{1:016x}-01")
        self.addCleanup(correlation.end)
        log_request(
            method="GET",
            path="/",
            status=502,
            outcome="error",
            seconds=1,
            request_id="mine",
            upstream_seconds=1,
            cause="timed out",
        )
        correlation.end()
        logging.getLogger("c42_proxy").info("another line")
        of_request, another = (set(line) for line in self.objects)
        self.assert_listed("Members of each log line", another)
        self.assert_listed("In the line of a request also", of_request - another)

    def test_exit_statuses(self) -> None:
        """Success, a failure and a mistake (tests/test_starts.py and tests/server/ have many more, of real servers)."""
        bind = f"127.0.0.1:{free_port()}"
        ends = (
            c42_proxy("--version"),
            c42_proxy("healthcheck", C42_BIND=bind),
            c42_proxy("check"),
            c42_proxy("swerve"),
        )
        self.assertEqual([0, 1, 2, 2], [end.exit_code for end in ends])
        self.assert_listed("Exit statuses", {f"{end.exit_code}" for end in ends})


class VersionTest(unittest.TestCase):
    def test_follows(self) -> None:
        """`make version` has set it everywhere (tests/web/test_openapi.py looks at openapi.yaml)."""
        label = re.findall(r"(?m)^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text())
        self.assertEqual([__version__], label)
        newest = re.findall(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text())[1:2]
        self.assertIn(__version__, newest if "dev" not in __version__ else [__version__])

    def test_is_set_everywhere_or_nowhere(self) -> None:
        """`make version VERSION=…` sets it in four files; without a version it says so and changes none."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        files = ("c42_proxy/version.py", "openapi.yaml", "Dockerfile", "CHANGELOG.md")
        (folder / "c42_proxy").mkdir()
        for file in files:
            shutil.copy(ROOT / file, folder / file)
        make = ("make", "--file", str(ROOT / "Makefile"), "version")
        # Without what a `make` around this test hands on.
        environ = clean_environ(MAKEFLAGS="", VERSION="")
        done = run(*make, environ=environ, cwd=folder)
        self.assertEqual((2, True), (done.returncode, "make version VERSION=1.0.0" in done.stderr))
        for file in files:
            self.assertEqual((ROOT / file).read_text(), (folder / file).read_text())
        self.assertEqual(0, run(*make, "VERSION=98.7.6", environ=environ, cwd=folder).returncode)
        for file in files:
            self.assertIn("98.7.6", (folder / file).read_text())


if __name__ == "__main__":
    unittest.main()
