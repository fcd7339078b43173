"""The runner of the tests finds what a run of unittest alone would not."""

import re
import sys
import tempfile
import unittest
from pathlib import Path
from textwrap import dedent

from harness.needs import PLATFORM, REQUIRE_ALL
from harness.processes import ROOT, clean_environ, run
from harness.runner import differences, expected_skips

SECONDS = 60.0
HEAD = """\
import socket, sys, threading, unittest, warnings
done = []

class Small(unittest.TestCase):
"""


class RunnerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def write(self, name: str, body: str) -> None:
        """A module of tests: a class with this body."""
        lines = [f"    {line}" for line in dedent(body).splitlines()]
        (self.folder / f"{name}.py").write_text(HEAD + "\n".join(lines))

    def ran(self, body: str, *options: str, **variables: str) -> tuple[int, str]:
        """The exit status of a run of a class with this body, and what it said."""
        self.write("small", body)
        environ = clean_environ(**variables, PYTHONPATH=f"{ROOT}:{self.folder}", PYTHONDONTWRITEBYTECODE="1")
        done = run(sys.executable, "-m", "harness.runner", "small", *options, environ=environ, seconds=SECONDS)
        return done.returncode, done.stdout + done.stderr

    def assert_fails(self, test: str, says: str) -> None:
        status, said = self.ran(f"def test(self):\n    {test}")
        self.assertEqual(1, status, said)
        self.assertIn(says, said)

    def test_all_is_well(self) -> None:
        """What closes all that it opened passes."""
        status, said = self.ran("def test(self):\n    socket.socket().close()")
        self.assertEqual(0, status, said)

    def test_left_open(self) -> None:
        """What nobody closes fails the run, also where the object is gone."""
        self.assert_fails("done.append(socket.socket())", "descriptor")
        self.assert_fails("socket.socket()", "ResourceWarning: unclosed <socket")

    def test_a_thread(self) -> None:
        """A thread that an exception ends fails the run, and so does one that goes on."""
        self.assert_fails("threading.Thread(target=lambda: 1 / 0).start()", "ZeroDivisionError")
        self.assert_fails("threading.Thread(target=threading.Event().wait, daemon=True).start()", "a thread:")

    def test_a_warning(self) -> None:
        """A warning fails the test that it comes from."""
        self.assert_fails("warnings.warn('old', DeprecationWarning)", "DeprecationWarning: old")

    def test_at_once(self) -> None:
        """A failure is printed when it happens, once, and not at the end of the run."""
        status, said = self.ran("""
            def test(self):
                self.fail("a failure")
            @classmethod
            def tearDownClass(cls):
                print("the end", file=sys.stderr)
        """)
        self.assertEqual(1, status, said)
        self.assertRegex(said, "(?s)AssertionError: a failure.*the end")
        self.assertEqual(1, said.count("AssertionError: a failure"), said)

    def test_order(self) -> None:
        """A test that relies on another one fails with some seed; the same seed gives the same order."""
        pair = """
            def test_first(self):
                done.append(1)
            def test_second(self):
                self.assertTrue(done)
            def tearDown(self):
                print(self.id())
        """
        runs = {seed: self.ran(pair, "--seed", str(seed)) for seed in range(6)}
        self.assertEqual({0, 1}, {status for status, _said in runs.values()}, runs)
        self.assertEqual(_order(runs[3][1]), _order(self.ran(pair, "--seed", "3")[1]))
        self.assertIn("The order is that of seed 3", runs[3][1])

    def test_jobs(self) -> None:
        """Several processes run each module once between them; one that fails, or dies, fails the run."""
        self.write("other", "def test(self):\n    self.skipTest('no such program')")
        status, said = self.ran("def test(self):\n    self.skipTest('no such file')", "other", "--jobs", "2")
        self.assertEqual(0, status, said)
        self.assertIn("skipped: other.Small.test: no such program\nskipped: small.Small.test: no such file", said)
        self.assertEqual(2, sum(map(int, re.findall(r"Ran (\d+) test", said))), said)
        for end in ("self.fail()", "__import__('os')._exit(0)"):
            status, said = self.ran(f"def test(self):\n    {end}", "other", "--jobs", "2")
            self.assertEqual(1, status, said)

    def test_flaky(self) -> None:
        """Where all tests are required, one that failed runs once more, alone; if it passes, it is listed as flaky."""
        fails_once = """
            def test(self):
                import pathlib
                marker = pathlib.Path(__file__).with_suffix(".ran")
                with self.subTest(marker=str(marker)):
                    if not marker.exists():
                        marker.touch()
                        self.fail("the first time")
        """
        for options in ((), ("--jobs", "2")):
            status, said = self.ran(fails_once, *options, **{REQUIRE_ALL: "1"})
            self.assertEqual(0, status, said)
            self.assertIn("AssertionError: the first time", said)
            self.assertIn("\nflaky: small.Small.test\n", said)
            (self.folder / "small.ran").unlink()
        self.assertEqual(1, self.ran(fails_once)[0])
        for broken in ("1 / 0", "done.append(socket.socket())", "__import__('os')._exit(1)"):
            status, said = self.ran(f"def test(self):\n    {broken}", "--jobs", "2", **{REQUIRE_ALL: "1"})
            self.assertEqual(1, status, said)
            self.assertNotIn("flaky", said)

    def test_skipped(self) -> None:
        """A skipped test is reported; if all tests are required, it fails unless it is listed."""
        body = "def test(self):\n    self.skipTest('no such program')"
        status, said = self.ran(body)
        self.assertEqual(0, status, said)
        self.assertIn("skipped: small.Small.test: no such program", said)
        status, said = self.ran(body, **{REQUIRE_ALL: "1", PLATFORM: "trixie"})
        self.assertEqual(1, status, said)
        self.assertIn("trixie: skipped, and not listed: small.Small.test (no such program)", said)

    def test_listed(self) -> None:
        """A listed test that runs all the same is reported, too, if all tests were to run."""
        listed = {"a": "why"}
        self.assertEqual([], differences({"a": "why"}, listed, whole=True))
        self.assertEqual(["listed, and not skipped: a (why)"], differences({}, listed, whole=True))
        self.assertEqual([], differences({}, listed, whole=False))
        self.assertEqual(2, len(differences({"a": "another reason"}, listed, whole=True)))

    def test_platforms(self) -> None:
        """On the machine itself nothing is skipped; on each other platform something is listed."""
        self.assertEqual({}, expected_skips(""))
        for platform in ("forky", "lowest", "trixie"):
            self.assertTrue(expected_skips(platform), platform)


def _order(said: str) -> list[str]:
    return re.findall(r"small\.Small\.test_\w+(?= *$)", said, re.MULTILINE)


if __name__ == "__main__":
    unittest.main()
