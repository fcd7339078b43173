"""What the page says of the commit that was tried, of another one, and of the problems and settings of rules."""

import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from behave.model_type import Status
from behave.parser import parse_feature
from behave.runner_util import load_step_modules
from behave.step_registry import StepRegistry

from c42_proxy.settings import Settings
from features.drivers import STORES as DRIVERS
from features.support import parameters
from features.support.answers import PROBLEMS
from harness.needs import needs, one_platform_is_enough
from harness.processes import ROOT, clean_environ
from tools.spec_page.changes import Changes, changes
from tools.spec_page.mentions import problems, settings
from tools.spec_page.since import Earlier
from tools.spec_page.specification import Specification, specification
from tools.spec_page.tests.html_tree import Element, parsed
from tools.spec_page.tests.test_page import STEPS, real_features
from tools.spec_page.tried import Commit, tried
from tools.spec_page.verdict import Verdict

THEN = """
Feature: F
  Rule: An answer is reused for 4 minutes
    Scenario: early
      Given it holds
    Scenario Outline: <when>
      Given it holds
      Examples: late
        | when  |
        | later |
        | last  |
  Rule: Each event has 4.2 minutes of its own
    Scenario: two
      Given one thing
  Rule: C42 is asked once, however many people open the invitation at once
    Scenario: many people
      Given "Tea" is requested by 100 people at once
  Rule: Gone
    Scenario: gone
      Given it holds
  Rule: The same
    # A comment is for those who run it.
    Scenario: the same
      Given it holds
"""
NOW = """
Feature: F
  Rule: The same
    @tag
    Scenario: the same
      Given it holds
  Rule: New
    Scenario: new
      Given it is something else by far
  Rule: An answer is reused for 4 minutes
    Scenario: early
      Given it holds for ever
    Scenario Outline: <when>
      Given it holds
      Examples: late
        | when  |
        | later |
        | last  |
  Rule: Each event has 4 minutes 12 s of its own
    Scenario: others
      Then another one is otherwise
  Rule: C42 is asked once, however many people open it at once
    Scenario: many people
      Given "Tea" is requested by 100 people at once
"""
TWO = """
Feature: F
  Rule: R
    Scenario: one
      Given it holds
    Scenario: two
      Given it holds
"""
STATUS = {Verdict.HELD: Status.passed, Verdict.BROKEN: Status.failed, Verdict.NOT_RUN: Status.untested}
COMMIT = Commit("abc1234", "2016-10-21", "Begin")
COMMAND = [sys.executable, "-m", "behave", "--format", "tools.spec_page:PageFormatter", "--outfile", "page.html"]
SECONDS = 120


def written(text: str, *verdicts: Verdict) -> Specification:
    """The specification in `text`, whose scenarios came out so in their order."""
    feature = parse_feature(text, filename="f.feature")
    for scenario, verdict in zip(feature.walk_scenarios(), verdicts, strict=False):
        for step in scenario.steps:
            step.status = STATUS[verdict]
    return specification([feature])


def compared(verdicts: dict[str, Verdict] | None) -> Changes:
    return changes(written(NOW), Earlier(COMMIT, written(THEN), verdicts))


class ChangesTest(unittest.TestCase):
    def test_texts(self) -> None:
        """Rules are added, removed or reworded, also where the name is another; not so by tags and comments."""
        found = compared(None)
        self.assertEqual(["New"], [rule.name for rule in found.added])
        self.assertEqual(["Gone"], [rule.name for rule in found.removed])
        reworded = {one.rule.name: one for one in found.reworded}
        self.assertEqual(
            {
                "An answer is reused for 4 minutes": "An answer is reused for 4 minutes",
                "Each event has 4 minutes 12 s of its own": "Each event has 4.2 minutes of its own",
                "C42 is asked once, however many people open it at once": "C42 is asked once, however many people "
                "open the invitation at once",
            },
            {name: one.was for name, one in reworded.items()},
        )
        self.assertEqual(
            [
                ("", "Scenario: early"),
                ("-", "Given it holds"),
                ("+", "Given it holds for ever"),
                ("", "Scenario Outline: <when>"),
            ],
            reworded["An answer is reused for 4 minutes"].lines,
        )

    def test_lines_left_out(self) -> None:
        """A mark stands for lines that are left out, before the first change as well; the name is beside it."""
        scenario = "    Scenario: first\n      Given it holds\n      And it holds\n      And it holds\n"
        then, now = feature(A="it holds"), feature(A="it breaks")
        for before, first in (("", ("", "Scenario: S")), (scenario, ("…", ""))):
            with self.subTest(before=before):
                old, new = (text.replace("    Scenario: S", f"{before}    Scenario: S") for text in (then, now))
                (one,) = changes(written(new), Earlier(COMMIT, written(old), None)).reworded
                self.assertEqual(first, one.lines[0])

    def test_what_held(self) -> None:
        """A rule of the other commit held if all its scenarios did, each row one of them."""
        self.assertEqual((None, []), (compared(None).held, compared(None).turned))
        lines = [number for number, line in enumerate(THEN.splitlines(), 1) if "Scenario:" in line or "| la" in line]
        all_held = {f"f.feature:{line}": Verdict.HELD for line in lines}
        self.assertEqual((5, 5), (compared(all_held).rules, compared(all_held).held))
        row = f"f.feature:{lines[2]}"
        self.assertEqual(4, compared({**all_held, row: Verdict.BROKEN}).held)
        self.assertEqual(4, compared({place: held for place, held in all_held.items() if place != row}).held)

    def test_what_turned(self) -> None:
        """A rule is compared by what was run of it, then as now; one that was not run at all is not compared."""
        held, broken, untried = Verdict.HELD, Verdict.BROKEN, Verdict.NOT_RUN
        for then, now, turned in (
            ([held, broken], [held, held], ["broken"]),
            ([held, untried], [broken, held], ["held (1 scenario not run)"]),
            ([broken, untried], [held, untried], ["broken"]),
            ([held, held], [held, untried], []),
            ([held, held], [untried, untried], []),
            ([untried, untried], [broken, held], []),
            ([held, held], [held, held], []),
        ):
            with self.subTest(then=then, now=now):
                told = written(TWO, *now)
                old = dict(zip(("f.feature:4", "f.feature:6"), then, strict=True))
                found = changes(told, Earlier(COMMIT, written(TWO), old))
                self.assertEqual(turned, [one.was for one in found.turned])


@one_platform_is_enough
@needs("git")
class RunTest(unittest.TestCase):
    """A small project with two commits, and a page of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        Path(self.folder, "features", "steps").mkdir(parents=True)
        self.write("features/steps/steps.py", STEPS)
        self.git("init", "--quiet")

    def write(self, name: str, text: str) -> None:
        Path(self.folder, name).write_text(text)

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=Arthur", "-c", "user.email=arthur@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=self.folder, check=True, timeout=SECONDS, capture_output=True)

    def commit(self, text: str, subject: str) -> None:
        self.write("features/f.feature", text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", subject)

    def run_it(self, *options: str) -> subprocess.CompletedProcess[str]:
        environ = clean_environ(PYTHONPATH=str(ROOT))
        return subprocess.run(
            [*COMMAND, *options],
            cwd=self.folder,
            env=environ,
            check=False,
            timeout=SECONDS,
            capture_output=True,
            text=True,
        )

    def page(self, *options: str) -> Element:
        run = self.run_it(*options)
        self.assertTrue(Path(self.folder, "page.html").exists(), run.stdout + run.stderr)
        return parsed(Path(self.folder, "page.html").read_text("utf-8"))

    def test_since(self) -> None:
        """The features of the other commit are run with its own code, and the page says what came of them."""
        self.commit(feature(A="it breaks", B="it holds"), "Begin")
        self.commit(feature(A="it holds", C="it is quite another thing"), "Go on")
        changed = self.page("-D", "since=HEAD~1").find("section", class_="changes")
        self.assertIn("1 of its 2 rules held.", changed.text)
        self.assertIn("Rules that were run in both commits, with another result: 1", changed.text)
        self.assertIn("A: broken then, held now", changed.text)
        self.assertEqual(["A", "C"], [link.text for link in changed.all("a")][:2])
        self.assertIn("Rules removed: 1 B", changed.text)

    def test_code_that_cannot_be_run(self) -> None:
        """Where the features of the other commit cannot be run, the page says so, and compares the texts."""
        self.write("features/environment.py", "import no_such_library")
        self.commit(feature(A="it holds"), "Begin")
        self.write("features/environment.py", "")
        self.commit(feature(B="it is quite another thing"), "Go on")
        changed = self.page("-D", "since=HEAD~1").find("section", class_="changes")
        self.assertIn("could not be run", changed.text)
        self.assertIn("Rules added: 1 B Rules removed: 1 A", changed.text)

    def test_the_commit(self) -> None:
        """The page names the commit, and says where files are other than it has them."""
        self.commit(feature(A="it holds"), "Begin")
        when = self.page("--dry-run").find("p", class_="when").text
        self.assertRegex(when, r", commit [0-9a-f]{7,} of \d{4}-\d\d-\d\d \(“Begin”\), tried on ")
        self.write("features/f.feature", feature(B="it holds"))
        self.assertIn(
            "(“Begin”), with changes that are in no commit, tried on", self.page().find("p", class_="when").text
        )
        self.assertIn("through Flask alone", self.page().find("p", class_="how").text)

    def test_a_project_around_it(self) -> None:
        """The commit of a project in whose folders the files happen to lie is not named."""
        self.commit(feature(A="it holds"), "Begin")
        self.folder /= "unpacked"
        shutil.copytree(self.folder.parent / "features", self.folder / "features")
        when = self.page("--dry-run").find("p", class_="when").text
        self.assertIn(", of an unknown commit, tried on ", when)

    def test_no_such_commit(self) -> None:
        """A commit that is not there is told at once, in a line, and nothing is run."""
        self.commit(feature(A="it holds"), "Begin")
        run = self.run_it("-D", "since=nowhere")
        self.assertNotEqual(0, run.returncode)
        said = run.stdout + run.stderr
        self.assertIn("There is no commit nowhere in this clone.", said)
        self.assertNotIn("Traceback", said)


def in_a_dictionary(_context: object) -> dict[str, str]:
    return {"C42_TIMEOUT": "1"}


def feature(**rules: str) -> str:
    """A feature of rules of these names, each of one scenario with one step."""
    return "Feature: F\n" + "".join(
        f"  Rule: {name}\n    Scenario: S\n      Given {step}\n" for name, step in rules.items()
    )


class TriedTest(unittest.TestCase):
    def test_each_driver(self) -> None:
        """The page says how the proxy, C42 and time were, whichever the driver."""
        stopped, shown, read = "clock was stopped", "were shown one clock", "read the time from a file"
        inside, server = "so did a simulated C42", "C42 was simulated by a server"
        says = {
            "flask": ("through Flask alone", inside, stopped),
            "asgi": ("through its ASGI app", inside, stopped),
            "sockets": ("through its ASGI app", server, stopped),
            "live": ("workers of gunicorn", server, read),
            "stack": ("nginx, two hosts of the proxy and Redis", server, shown),
            "command": ("Another program", server, shown),
        }
        self.assertEqual(set(DRIVERS), set(says))
        for driver, stores in DRIVERS.items():
            one = tried({"driver": driver})
            self.assertEqual(stores[0], one.store)
            for words in says[driver]:
                self.assertIn(words, one.how)
        how = tried({"driver": "command", "command": f"{ROOT}/x.py --port 1", "store": "memory"}).how
        self.assertIn("Another program was tried, as it is: x.py --port 1.", how)


class MentionsTest(unittest.TestCase):
    def test_of_the_projects_own_rules(self) -> None:
        """Each problem that a rule names is listed, and each setting that a step of a rule sets, with the rules."""
        parameters.register()
        load_step_modules([str(ROOT / "features" / "steps")])
        told = specification(parse_feature(text, filename="f.feature") for text in real_features())
        reasons = {one.name: [rule.name for rule in one.rules] for one in problems(told)}
        self.assertIn("A mistake of the proxy is reported as one, without technical detail", reasons["internal-error"])
        self.assertEqual({one.reason for one in PROBLEMS.values()}, set(reasons))
        # Where C42 has asked to wait, but no app is told so.
        self.assertNotIn("While C42 may not be asked, an expired answer is given at once", reasons["c42-asks-to-wait"])
        found = {one.name: one for one in settings(told)}
        self.assertEqual("the proxy is set never to give an expired answer", found["C42_STALE_IF_ERROR"].words)
        self.assertLessEqual({name.removeprefix("C42_").lower() for name in found}, Settings.model_fields.keys())
        steps = "".join(file.read_text("utf-8") for file in (ROOT / "features" / "steps").glob("*.py"))
        self.assertEqual(set(re.findall(r"\bC42_[A-Z_]+\b", steps)), set(found))

    def test_a_setting_in_a_dictionary(self) -> None:
        """It makes no difference how a step writes the name of a setting."""
        known = StepRegistry()
        known.add_step_definition("given", "it holds", in_a_dictionary)
        self.assertEqual(["C42_TIMEOUT"], [one.name for one in settings(written(feature(A="it holds")), known)])


if __name__ == "__main__":
    unittest.main()
