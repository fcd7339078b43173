"""docs/compatibility.md promises what there is, and what is promised stays; the version is the same everywhere."""

import re
import shutil
import tempfile
import unittest
from pathlib import Path

from c42_proxy import __version__
from c42_proxy.observability.metrics import Metrics
from c42_proxy.settings import FIELDS, FILE_VARIABLES
from harness.openapi import REASONS
from harness.processes import ROOT, clean_environ, run

PAGE = (ROOT / "docs" / "compatibility.md").read_text()


class PromisedTest(unittest.TestCase):
    def test_names(self) -> None:
        """A new name is promised, too. Whoever takes one off this list breaks a promise: that needs a major version."""
        exposed = re.findall(r"^# TYPE (c42_proxy_\S+)", Metrics().exposition().decode(), re.MULTILINE)
        for what, there in (
            ("Reasons", {*REASONS}),
            ("Settings", {*FIELDS, *FILE_VARIABLES}),
            ("Metrics", {name for name in exposed if not name.endswith("_created")}),
        ):
            with self.subTest(what):
                listed = re.findall(rf"^\*\*{what}:\*\* (.*?)\.$", PAGE, re.MULTILINE | re.DOTALL)
                self.assertEqual(sorted(there), re.findall("`(.+?)`", listed[0]))


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
