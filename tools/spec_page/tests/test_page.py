"""The page for the product owner: what is on it."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import unittest
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from behave.runner import Context
from pydantic import SecretStr

from c42_proxy.settings import Settings
from c42_proxy.version import __version__
from features.support.expectations import lasting
from harness.processes import ROOT, clean_environ
from tools.spec_page.anchors import Anchors
from tools.spec_page.failure import without_places
from tools.spec_page.render import render
from tools.spec_page.specification import LAST, READING_ORDER, specification
from tools.spec_page.tests.feature_runs import BEGAN, page_of
from tools.spec_page.tests.html_tree import Element, parsed
from tools.spec_page.tried import tried

RUN_SECONDS = 30

MIXED = """
Feature: Sparing C42, naïvely & <script>alert("it")</script>
  In order to get by
  As the operator
  I want little to be asked
  More is said of it here, on
  two lines.

  Background:
    Given it holds

  Scenario: on its own
    Given it holds

  Rule: What holds <b>holds</b>
    Two lines that are
    one paragraph.

    Background:
      Given it holds

    Scenario: all is well
      A scenario may be described.
      Given it holds
      Then it holds
        \"\"\"
        a <text>
          of two lines
        \"\"\"
      And it holds
        | Name | drink |
        | Zoë  | <tea> |

    Scenario: it breaks in the middle
      Given it holds
      When it breaks
      Then it holds

  Rule: Numbers
    Scenario Outline: <number> is even
      Given <number> is even
      And it holds
        | a <number> |
        | b <number> |

      Examples: small ones
        | number |
        | 2      |
        | 3      |

      Examples:
        | number | why <not>  |
        | 4      | <b>four</b> |

  Rule: Numbers
    Scenario: it is skipped
      Given it is skipped
      Then it holds
"""

LEAVES = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "li", "caption", "span"}

SEEN = """
p: Feature
h1: Sparing C42, naïvely & <script>alert("it")</script>
span: broken
span: In order to get by
span: As the operator
span: I want little to be asked
p: More is said of it here, on two lines.
p: Before each scenario
li: Given it holds
h2: Without a rule
span: held
h3: on its own
li: Given it holds
p: Rule
h2: What holds <b>holds</b>
span: broken
p: Two lines that are one paragraph.
p: Before each scenario
li: Given it holds
h3: all is well
span: held
p: A scenario may be described.
li: Given it holds
li: Then it holds a <text> of two lines
li: And it holds Namedrink Zoë<tea>
h3: it breaks in the middle
span: broken
li: Given it holds held
li: When it breaks broken
li: Then it holds not run
p: Broken at: When it breaks
pre: two answers are not one
p: Rule
h2: Numbers
span: broken
h3: number is even
span: broken
li: Given number is even
li: And it holds a number b number
caption: small ones
number | result
2 | held
3 | broken
p: Broken at: Given 3 is even
pre: 3 is odd
caption: Examples
number | why <not> | result
4 | <b>four</b> | held
p: Rule
h2: Numbers
span: not run
h3: it is skipped
span: not run
p: Not run: C42 is on holiday
li: Given it is skipped
li: Then it holds
"""

SCRIPT = 'Sparing C42, naïvely & <script>alert("it")</script>'
HOLDS = "What holds <b>holds</b>"

HELD = """
Feature: Combining
  Rule: An answer is whole
    Scenario: coffee
      Given it holds
    Scenario: tea
      Given it holds
"""


def tree(*texts: str, **options: Any) -> Element:
    return parsed(page_of(*texts, **options))


def feature(*lines: str) -> str:
    """A feature of one rule, with `lines` of scenarios in it."""
    return "\n".join(["Feature: F", "Rule: R", *lines])


def texts(element: Element, tag: str, **attributes: str) -> list[str]:
    return [found.text for found in element.all(tag, **attributes)]


def lines(element: Element) -> list[str]:
    """What a reader sees of an element, line by line, with the names of the tags; what is folded is not there."""
    found = []
    for child in element.children:
        if isinstance(child, str) or child.tag == "details":
            continue
        if child.tag == "tr" and (element.tag == "thead" or "class" in child.attributes):
            found.append(" | ".join(cell.text for cell in child.children if isinstance(cell, Element)))
        elif child.tag in LEAVES and child.attributes.get("class") != "story":
            found.append(f"{child.tag}: {child.text}")
        else:
            found += lines(child)
    return found


def real_features() -> list[str]:
    return [path.read_text("utf-8") for path in (ROOT / "features").glob("*.feature")]


def seen(page: Element, tag: str) -> list[str]:
    """The lines of one tag among the features, from the top down."""
    start = f"{tag}: "
    content = lines(page.find("div", id="page_content"))
    return [line.removeprefix(start) for line in content if line.startswith(start)]


def words(page: Element) -> list[str]:
    """What came of the features, rules and scenarios."""
    return seen(page, "span")


class TestWhatCameOfIt(unittest.TestCase):
    def assert_outcome(self, verdict: str, message: str, *lines: str, **options: Any) -> None:
        """What the page says of the one scenario in `lines`, and of what broke in it."""
        page = tree(feature("Scenario: S", *lines), **options)
        self.assertEqual((verdict, message), (words(page)[-1], " | ".join(seen(page, "pre"))))

    def test_a_scenario(self) -> None:
        """It has held if all steps passed; it is broken by each kind of failure; what was not run is not held."""
        for verdict, message, *lines in (
            ("held", "", "Given it holds", "Then it holds"),
            ("broken", "two answers are not one", "Given it holds", "When it breaks", "Then it holds"),
            ("broken", "LookupError: nothing there", "Given it holds", "When it errs"),
            ("broken", "Nobody has written down how to try this step.", "When nobody knows it"),
            ("broken", "StepNotImplementedError: later", "When it is pending"),
            ("not run", "", "Given it is skipped", "Then it holds"),
            ("not run", ""),
        ):
            with self.subTest(lines):
                self.assert_outcome(verdict, message, *lines)
        # After a dry run nothing has held, and a step that nobody has defined has not broken anything.
        for options, step in ((("--tags", "other"), "it holds"), (("--dry-run",), "it holds"), (("--dry-run",), "x")):
            self.assert_outcome("not run", "", f"Given {step}", options=options)

    def test_what_holds_scenarios(self) -> None:
        """A rule and a feature say when a part of them was not run, and are broken when any part is."""
        held, skipped, broken = (["Scenario: S", f"Given it {what}"] for what in ("holds", "is skipped", "breaks"))
        for lines, expected in (
            ([*held, *held], ["held"] * 2),
            ([*held, *skipped], [*["held (1 scenario not run)"] * 2, "held", "not run"]),
            ([*held, *skipped, *skipped], [*["held (2 scenarios not run)"] * 2, "held", "not run", "not run"]),
            (skipped, ["not run"] * 3),
            ([*held, *skipped, *broken], ["broken", "broken", "held", "not run", "broken"]),
            ([], ["not run"] * 2),
            (["Background:", "Given it holds", "Scenario: S"], ["not run"] * 3),
            (["Background:", "Given it breaks", *held], ["broken"] * 3),
            (["@wip", "Scenario: S", "Given it holds", "Then it is pending"], ["not run"] * 3),
            (["Scenario Outline: <a>", "Given it holds", "Examples:", "| a |"], ["not run"] * 3),
        ):
            with self.subTest(lines):
                self.assertEqual(expected, words(tree(feature(*lines))))

    def test_why_a_row_was_not_run(self) -> None:
        """A row that was skipped says why, as a scenario does."""
        page = tree(feature("Scenario Outline: S", "Given <what>", "Examples:", "| what |", "| it is skipped |"))
        self.assertEqual("it is skipped not run C42 is on holiday", page.find("tr", class_="case").text)

    def test_a_row_is_named(self) -> None:
        """A broken row is named by the outline's name, filled in, and by the cells that are not in it."""
        outline = [
            "Scenario Outline: <a> is even",
            "Given <a> is even",
            "Examples:",
            "| a | b |",
            "| 2 | x |",
            "| 3 | y |",
        ]
        page = tree(feature(*outline))
        (link,) = page.find("ul", class_="broken-list").all("a")
        self.assertEqual("3 is even (b: y)", link.text)
        row = next(row for row in page.all("tr") if row.attributes.get("id") == link.attributes["href"][1:])
        self.assertEqual("3 y broken", row.text)

    def test_examples_that_all_held_are_folded(self) -> None:
        """They are counted on one line, without a result for each; where one did not hold, all are there."""
        outline = ["Scenario Outline: S", "Given <a> is even", "Examples:", "| a |", "| 2 |"]
        rows = tree(feature(*outline, "| 4 |")).find("details", class_="rows")
        self.assertEqual("2 examples", rows.find("summary").text)
        self.assertEqual(["a"], texts(rows, "th"))
        self.assertEqual([], tree(feature(*outline, "| 3 |")).all("details", class_="rows"))

    def test_an_error_in_a_hook_breaks_what_it_belongs_to(self) -> None:
        """An error around a step or a scenario breaks the scenario, another the rule or the feature, and is shown."""

        def hook(*_arguments: object) -> None:
            raise OSError("no room")

        all_broken = dict.fromkeys(("before_scenario", "after_scenario", "before_step", "after_step"), ["broken"] * 3)
        for name, expected in {
            **all_broken,
            "before_feature": ["broken", "not run", "not run"],
            "after_feature": ["broken", "held"],
            "before_rule": ["broken", "broken", "not run"],
            "after_rule": ["broken", "broken", "held"],
        }.items():
            with self.subTest(name):
                page = tree(feature("Scenario: S", "Given it holds"), hooks={name: hook})
                self.assertEqual(expected, words(page))
                self.assertEqual("OSError: no room", page.find("div", class_="failure").find("pre").text)
                self.assertEqual("Something is broken.", page.find("p", class_="verdict").text)
                self.assertEqual(1, len(page.find("ul", class_="broken-list").all("a")))

    def test_what_cannot_be_cleaned_up_after_is_broken(self) -> None:
        """A scenario whose cleaning up fails is broken, and says with what."""

        def stuck() -> None:
            raise OSError("stuck")

        self.assert_outcome(
            "broken",
            "It could not be cleaned up after: OSError: stuck",
            "Given it leaves something",
            steps={"it leaves something": lambda context: context.add_cleanup(stuck)},
        )

    def test_the_top(self) -> None:
        """The top says whether all held, counts rules and scenarios (each row is one), and lists what is broken."""
        summary = tree(MIXED, HELD).find("div", class_="summary broken")
        rows = [[cell.text for cell in (*row.all("th"), *row.all("td"))] for row in summary.find("tbody").all("tr")]
        self.assertEqual([["rules", "1", "2", "1"], ["scenarios", "6", "2", "1"]], rows)
        self.assertEqual(["it breaks in the middle", "3 is even"], [link.text for link in summary.all("a")])
        left_out = "@left_out\nFeature: Left out\nScenario: L\nGiven it holds"
        without = tree(HELD, left_out, options=("--tags", "not @left_out"))
        for page, sentence in (
            (tree(MIXED, HELD), "Something is broken."),
            (tree(HELD), "Every rule held."),
            (tree(HELD, options=("--dry-run",)), "Not everything was run."),
            (tree(), "Not everything was run."),
            (without, "What was run held. 1 of 3 scenarios were not run."),
        ):
            self.assertEqual(sentence, page.find("p", class_="verdict").text)

    def test_a_run_that_was_broken_off(self) -> None:
        """A run that stops at the first failure leaves nothing out."""
        broken, later = feature("Scenario: S", "Given it breaks"), "Feature: Later\nScenario: L\nGiven it holds"
        page = tree(broken, later, options=("--stop",))
        self.assertEqual(["F", "Later"], texts(page, "h1"))
        self.assertEqual(["broken"] * 3 + ["not run"] * 3, words(page))


class TestTexts(unittest.TestCase):
    def setUp(self) -> None:
        self.html = page_of(MIXED)
        self.page = parsed(self.html)

    def test_what_a_reader_sees(self) -> None:
        """Features, rules and scenarios are headings, each with its word; a broken scenario says how far it came.

        Backgrounds, texts, tables and descriptions stand where they belong; an outline is told once, with a result and
        a failure for each row.
        """
        self.assertEqual(SEEN.strip().splitlines(), lines(self.page.find("div", id="page_content")))

    def test_markup_of_steps(self) -> None:
        """A step's text keeps its lines; parameters are marked, in tables too, but in an outline alone."""
        self.assertEqual(
            ["a <text>\n  of two lines"],
            next(step for step in self.page.all("li") if step.all("pre")).find("pre").children,
        )
        self.assertEqual(["number"] * 4, texts(self.page, "var"))
        for markup in (
            '<th scope="col">a <var>number</var></th>',
            '<th scope="col">why &lt;not&gt;</th>',
            "<td>b <var>number</var></td>",
            "<td>&lt;tea&gt;</td>",
            "<details><summary>",
        ):
            self.assertIn(markup, self.html)

    def test_no_text_of_a_feature_becomes_markup(self) -> None:
        """The page's own script is the only one; tags are for those who run the features."""
        self.assertEqual(1, len(self.page.all("script")))
        self.assertEqual(0, len(self.page.find("main").all("script")))
        self.assertNotIn("@", tree(feature("@driver.x", "Scenario: S", "Given it holds")).find("main").text)

    def test_another_language_is_named(self) -> None:
        """A feature in another language says so."""
        text = "# language: de\nFunktionalität: Ein Ding\n  Szenario: geht\n    Angenommen it holds"
        section = tree(text).find("section", class_="feature")
        self.assertEqual("de", section.attributes["lang"])
        self.assertEqual("Angenommen", section.find("b").text)

    def test_what_is_missing_is_told(self) -> None:
        """A feature without scenarios, a rule or an outline without any, and one without a description are there."""
        page = tree("Feature: Nothing", "Feature: Little\n  Rule: Empty")
        self.assertEqual(["not run"] * 3, words(page))
        self.assertEqual(2, page.text.count("There are no scenarios yet."))
        self.assertEqual([], page.all("p", class_="prose"))
        page = tree(feature("Scenario Outline: <a>", "Given it holds", "Examples:", "| a |"))
        self.assertIn("There are no examples yet.", page.find("article").text)

    def test_when_and_what_was_tried_are_told(self) -> None:
        """The page says when the run began, in UTC, and for which version; two runs differ in that alone."""
        when = self.page.find("p", class_="when").text
        self.assertTrue(when.startswith(f"Version {__version__}, "), when)
        end = ", tried on 21 October 2016 at 15:00 UTC with the driver flask and the store memory."
        self.assertTrue(when.endswith(end), when)
        later = page_of(MIXED, began=datetime(2017, 1, 2, 3, 4, 5, tzinfo=UTC))
        self.assertEqual(
            self.html.replace("2016-10-21T15:00:00Z", "").replace("21 October 2016 at 15:00", ""),
            later.replace("2017-01-02T03:04:05Z", "").replace("2 January 2017 at 03:04", ""),
        )

    def test_another_program_is_not_called_the_proxy(self) -> None:
        """The version and the commit are those of the specification then."""
        lead, when = "whether it held when it was tried on {}.", "{} {}, "
        for options, program, version in (
            ((), "the proxy itself", "Version"),
            (("-D", "driver=command", "-D", "command=x"), "another program", "By the specification of version"),
        ):
            page = tree(MIXED, options=options)
            self.assertTrue(page.find("p", class_="lead").text.endswith(lead.format(program)))
            self.assertTrue(page.find("p", class_="when").text.startswith(when.format(version, __version__)))

    def test_the_reference_beside_it(self) -> None:
        """Where the reference of the address stands beside the page, the page leads to it."""
        self.assertNotIn("The reference", self.page.text)
        page = tree(MIXED, options=("-D", "reference=api.html"))
        self.assertEqual(["The reference of the address"], texts(page, "a", href="api.html"))

    def test_nothing_is_fetched(self) -> None:
        """The page asks for nothing, and its policy forbids it."""
        self.assertEqual(["data:,"], [link.attributes["href"] for link in self.page.all("link")])
        self.assertEqual([], self.page.all("img"))
        self.assertEqual({}, self.page.find("script").attributes)
        policy = next(meta.attributes["content"] for meta in self.page.all("meta") if "http-equiv" in meta.attributes)
        self.assertTrue(policy.startswith("default-src 'none';"), policy)


class TestAnchors(unittest.TestCase):
    def test_they_are_made_of_names(self) -> None:
        """An anchor is made of the letters and digits of the names, whatever their script, and is given once."""
        anchors = Anchors()
        given = [anchors.give(name, "f") for name in ("Reuse for 4.2 min!", "Καφές", "☕", "_", "a", "A", "a 2", "a")]
        self.assertEqual(
            ["f/reuse-for-4-2-min", "f/καφές", "f/unnamed", "f/unnamed-2", "f/a", "f/a-2", "f/a-2-2", "f/a-3"], given
        )

    def test_every_link_leads_somewhere(self) -> None:
        """Rules and scenarios of one name have anchors of their own."""
        page = tree(MIXED, MIXED, feature("Scenario: S", "Given it holds", "Scenario: S", "Given it holds"))
        tags = ("header", "article", "div", "p", "tr", "input", "title", "desc")
        ids = [one.attributes["id"] for tag in tags for one in page.all(tag) if "id" in one.attributes]
        self.assertEqual(sorted(set(ids)), sorted(ids))
        self.assertEqual(set(), {link.attributes["href"].removeprefix("#") for link in page.all("a")} - set(ids))

    def test_the_contents_list_features_and_rules(self) -> None:
        """The contents name each feature and each rule, and say which of them did not hold."""
        contents = tree(MIXED, HELD).find("nav")
        names = ["Combining", "An answer is whole", SCRIPT, "Without a rule", HOLDS, "Numbers", "Numbers"]
        self.assertEqual(names, texts(contents, "a"))
        self.assertEqual(["broken", "broken", "broken", "not run"], texts(contents, "span"))

    def test_they_stay_when_something_is_added_before(self) -> None:
        """A scenario, a rule and a feature keep their anchors when others are added before them."""
        more = HELD.replace("Scenario: coffee", "Scenario: water\n      Given it holds\n    Scenario: coffee")
        more = more.replace("  Rule:", "  Rule: First of all\n    Scenario: tea\n      Given it holds\n  Rule:")
        before, after = places(tree(HELD)), places(tree("Feature: Combined\nScenario: tea\nGiven it holds", more))
        self.assertEqual(3, len(before))
        self.assertLess(before.items(), after.items())


def places(page: Element) -> dict[str, tuple[str, str, str]]:
    """Where the anchors of rules and scenarios lead: to a feature, a rule and, if it is one, a scenario."""
    found = {}
    for section in page.all("section", class_="feature"):
        for rule in section.all("section", class_="rule"):
            names = section.find("h1").text, rule.find("h2").text
            found[rule.find("header").attributes["id"]] = (*names, "")
            for article in rule.all("article"):
                found[article.attributes["id"]] = (*names, article.find("h3").text)
    return found


class TestOrder(unittest.TestCase):
    def test_features_come_in_reading_order(self) -> None:
        """From what the proxy is for to what can go wrong, then what is new, by name; the rare cases come last."""
        names = ["Settling x", "Zeal", "Explaining x", "Riding x", "Sparing x", "Reusing x", "Combining x", "Asking"]
        page = tree(*(f"Feature: {name}" for name in names))
        self.assertEqual([*names[6:1:-1], "Asking", "Zeal", "Settling x"], texts(page, "h1"))

    def test_the_projects_own_features(self) -> None:
        """Each word of the order begins the name of one feature; no rule, scenario or outline is left out."""
        page = tree(*real_features(), options=("--dry-run",))
        first = [name.split()[0].casefold() for name in texts(page.find("div", id="page_content"), "h1")]
        self.assertEqual([*READING_ORDER, LAST], [*first[: len(READING_ORDER)], first[-1]])
        text = "\n".join(real_features())
        self.assertEqual(len(re.findall(r"^ *Rule:", text, re.MULTILINE)), len(page.all("h2")))
        self.assertEqual(len(re.findall(r"^ *Scenario", text, re.MULTILINE)), len(page.all("h3")))


class TestLifetime(unittest.TestCase):
    def figure(self, **settings: float) -> Element:
        told = Settings(api_token=SecretStr("s3kr3t"), **settings)
        return parsed(render(specification([]), told, BEGAN, tried=tried({}))).find("figure")

    def test_it_is_drawn_from_the_defaults(self) -> None:
        """The page draws the life of an answer with the settings that the proxy has when nobody sets any."""
        moments = ["asked", "0 s", "expires", "4 minutes 12 s", "gone", "1 hour 4 minutes 12 s"]
        for figure in (self.figure(), tree().find("figure")):
            self.assertEqual(["reused", "if C42 fails", *moments], texts(figure.find("svg"), "text"))
            self.assertEqual(
                "C42 is asked at 0 s; the answer is reused until it expires at 4 minutes 12 s, "
                "given while C42 fails until it is gone at 1 hour 4 minutes 12 s.",
                figure.find("desc").text,
            )
            self.assertEqual(5, len(figure.all("dd")))

    def test_other_settings_draw_another_line(self) -> None:
        """The times are those of the settings; without stale answers, an answer is gone when it has expired."""
        figure = self.figure(cache_ttl=60, stale_if_error=90.5)
        for part in (figure.find("svg"), figure.find("dl")):
            self.assertIn("1 minute", part.text)
            self.assertIn("2 minutes 30.5 s", part.text)
            self.assertNotIn("4 minutes", part.text)
        figure = self.figure(stale_if_error=0)
        self.assertNotIn("fails", figure.text.casefold())
        self.assertIn("expires and is gone 4 minutes 12 s", figure.find("svg").text)

    def test_times_are_read_out(self) -> None:
        """A time span is shown in days, hours, minutes and seconds, without those that are 0."""
        for seconds, told in (
            *((0, "0 s"), (0.5, "0.5 s"), (60, "1 minute"), (252, "4 minutes 12 s"), (59.9999, "1 minute")),
            *((3852.25, "1 hour 4 minutes 12.25 s"), (366 * 86_400, "366 days"), (90_000, "1 day 1 hour")),
        ):
            self.assertEqual(told, lasting(timedelta(seconds=seconds)))


class TestPlaces(unittest.TestCase):
    def test_a_traceback_names_files_of_the_project_alone(self) -> None:
        """Neither what broke nor its traceback tells where on which machine it was tried."""

        def reads(_context: Context) -> None:
            try:
                Path("/etc/nowhere/token").read_text()
            except OSError as exc:
                raise RuntimeError(f"{Path.home()}/.netrc, {ROOT}/build, {socket.gethostname()}, {object()}") from exc

        failure = tree(feature("Scenario: S", "Given it reads"), steps={"it reads": reads}).find(
            "div", class_="failure"
        )
        message, trace = (part.text for part in failure.all("pre"))
        self.assertEqual("RuntimeError: .netrc, build, (this machine), <object object at 0x…>", message)
        self.assertIn('File "tools/spec_page/tests/test_page.py", line', trace)
        self.assertIn("No such file or directory: 'token'", trace)
        self.assertIn("The above exception was the direct cause", trace)
        for place in (str(ROOT), str(Path.home()) + "/", sys.prefix, "/etc", "behave"):
            self.assertNotIn(place, trace)

    def test_paths_are_told_from_addresses(self) -> None:
        """What is a path of this machine is cut to its file; what only looks like one stays."""
        for text, told in (
            (f'File "{ROOT}/features/steps/x.py", line 3', 'File "features/steps/x.py", line 3'),
            (f'File "{os.__file__}", line 3', 'File "os.py", line 3'),
            (f"{tempfile.gettempdir()}/a b/c.sock", "a b/c.sock"),
            ("/usr/share/zoneinfo/UTC:", "UTC:"),
            ("'/etc' and /usr/", "'(a folder)' and (a folder)"),
            ("/events-with-subscriptions/7/ and/or 4/2", "/events-with-subscriptions/7/ and/or 4/2"),
            ("http://127.0.0.1:4242/home/usr/x", "http://127.0.0.1:4242/home/usr/x"),
            ("application/json", "application/json"),
        ):
            self.assertEqual(told, without_places(text))


class TestCommand(unittest.TestCase):
    def test_a_run_with_failures_writes_the_page_and_fails(self) -> None:
        """behave writes the whole page in UTF-8, whatever the terminal knows, and its exit status stays."""
        for step, status in (("it holds", 0), ("it breaks", 1)):
            with self.subTest(step), tempfile.TemporaryDirectory() as folder:
                steps = Path(folder, "told", "steps")
                steps.mkdir(parents=True)
                Path(folder, "told", "one.feature").write_text(feature("Scenario: ☕", f"Given {step}"), "utf-8")
                Path(steps, "steps.py").write_text(STEPS, "utf-8")
                page = Path(folder, "build", "page.html")
                command = [sys.executable, "-m", "behave", "--format", "tools.spec_page:PageFormatter"]
                run = subprocess.run(
                    [*command, "--outfile", str(page), "told"],
                    check=False,
                    cwd=folder,
                    env=clean_environ(PYTHONIOENCODING="latin-1"),
                    capture_output=True,
                    text=True,
                    timeout=RUN_SECONDS,
                )
                self.assertEqual(status, run.returncode, run.stdout + run.stderr)
                html = page.read_text("utf-8")
                self.assertEqual("☕", parsed(html).find("h3").text)
                self.assertNotIn(folder, html)
                began = datetime.fromisoformat(parsed(html).find("time").attributes["datetime"])
                self.assertLess(abs((datetime.now(UTC) - began).total_seconds()), RUN_SECONDS + 1)


STEPS = """
from behave import step

@step("it holds")
def _(context):
    pass

@step("it breaks")
def _(context):
    raise AssertionError("broken in " + __file__)
"""
