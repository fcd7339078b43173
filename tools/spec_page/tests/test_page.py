"""The page for the product owner: what is on it, and that it works in a real browser."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import unittest
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from behave.runner import Context
from playwright.sync_api import Browser
from pydantic import SecretStr

from c42_proxy.settings import Settings
from c42_proxy.version import __version__
from features.support.expectations import lasting
from harness.browser import chromium, opened
from harness.needs import needs, one_platform_is_enough
from harness.processes import ROOT, clean_environ
from tools.spec_page.anchors import Anchors
from tools.spec_page.failure import without_places
from tools.spec_page.render import render
from tools.spec_page.specification import LAST, READING_ORDER, specification
from tools.spec_page.tests.feature_runs import BEGAN, page_of
from tools.spec_page.tests.html_tree import Element, parsed

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


def words(page: Element) -> list[str]:
    """What came of the features, rules and scenarios, from the top down."""
    return [word.text for section in page.all("section", class_="feature") for word in _headed(section)]


def _headed(section: Element) -> list[Element]:
    return [word for part in (*section.all("header"), *section.all("article")) for word in _own_word(part)]


def _own_word(part: Element) -> list[Element]:
    return [
        child
        for child in part.children
        if isinstance(child, Element) and child.attributes.get("class", "").startswith("word")
    ]


class TestWhatCameOfIt(unittest.TestCase):
    def outcome(self, *lines: str, **options: Any) -> tuple[str, str]:
        """What the page says of the one scenario in `lines`, and of what broke in it."""
        page = tree(feature("Scenario: S", *lines), **options)
        article = page.find("article")
        failures = article.all("div", class_="failure")
        return _own_word(article)[0].text, " | ".join(failure.find("pre").text for failure in failures)

    def test_a_scenario_of_which_all_steps_passed_has_held(self) -> None:
        """A scenario whose steps have all passed has held."""
        self.assertEqual(("held", ""), self.outcome("Given it holds", "Then it holds"))

    def test_whatever_breaks_a_step_breaks_the_scenario(self) -> None:
        """A failed assertion, an error, a step that nobody has defined and one that is pending: all are broken."""
        for step, message in (
            ("it breaks", "two answers are not one"),
            ("it errs", "LookupError: nothing there"),
            ("nobody knows it", "Nobody has written down how to try this step."),
            ("it is pending", "StepNotImplementedError: later"),
        ):
            with self.subTest(step):
                self.assertEqual(("broken", message), self.outcome("Given it holds", f"When {step}", "Then it holds"))

    def test_each_step_of_a_broken_scenario_says_how_far_it_came(self) -> None:
        """In a broken scenario each step says whether it held, broke or was not run."""
        article = tree(feature("Scenario: S", "Given it holds", "When it breaks", "Then it holds")).find("article")
        steps = article.find("ol", class_="steps").all("span")
        self.assertEqual(["held", "broken", "not run"], [step.text for step in steps])
        self.assertIn("Broken at: When it breaks", article.find("div", class_="failure").text)

    def test_what_was_not_run_is_not_held(self) -> None:
        """A scenario that was skipped, that a tag excluded, that has no steps, or whose steps are pending."""
        self.assertEqual(("not run", ""), self.outcome("Given it is skipped", "Then it holds"))
        self.assertEqual(("not run", ""), self.outcome("Given it holds", options=("--tags", "other")))
        self.assertEqual(("not run", ""), self.outcome())
        page = tree(feature("Background:", "Given it holds", "Scenario: S"))
        self.assertEqual(["not run"] * 3, words(page))
        page = tree(feature("@wip", "Scenario: S", "Given it holds", "Then it is pending"))
        self.assertEqual(["not run"] * 3, words(page))

    def test_the_reason_for_a_skip_is_told(self) -> None:
        """A scenario that was skipped says why, and so does a row."""
        page = tree(feature("Scenario: S", "Given it is skipped"))
        self.assertEqual("Not run: C42 is on holiday", page.find("p", class_="reason").text)
        page = tree(feature("Scenario Outline: S", "Given <what>", "Examples:", "| what |", "| it is skipped |"))
        self.assertEqual("it is skipped not run C42 is on holiday", page.find("tr", class_="case").text)

    def test_a_dry_run_holds_and_breaks_nothing(self) -> None:
        """After a dry run nothing has held, and a step that nobody has defined has not broken anything."""
        for step in ("it holds", "nobody knows it"):
            self.assertEqual(("not run", ""), self.outcome(f"Given {step}", options=("--dry-run",)))

    def test_an_error_in_a_hook_breaks_what_it_belongs_to(self) -> None:
        """An error around a step or a scenario breaks the scenario, and its message is shown."""

        def hook(*_arguments: object) -> None:
            raise OSError("no room")

        for name in ("before_scenario", "after_scenario", "before_step", "after_step"):
            with self.subTest(name):
                self.assertEqual(("broken", "OSError: no room"), self.outcome("Given it holds", hooks={name: hook}))
        for name, expected in (
            ("before_feature", ["broken", "not run", "not run"]),
            ("after_feature", ["broken", "held", "held"]),
            ("before_rule", ["broken", "broken", "not run"]),
            ("after_rule", ["broken", "broken", "held"]),
        ):
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

        def leaves(context: Context) -> None:
            context.add_cleanup(stuck)

        self.assertEqual(
            ("broken", "It could not be cleaned up after: OSError: stuck"),
            self.outcome("Given it leaves something", steps={"it leaves something": leaves}),
        )

    def test_what_breaks_in_a_background_is_told_by_the_scenario(self) -> None:
        """A step of the background that breaks, breaks the scenario, which names that step."""
        page = tree(feature("Background:", "Given it breaks", "Scenario: S", "Given it holds"))
        self.assertEqual(["broken"] * 3, words(page))
        self.assertIn("Broken at: Given it breaks", page.find("article").text)

    def test_a_rule_has_held_only_as_a_whole(self) -> None:
        """A rule and a feature say when a part of them was not run, and are broken when any part is."""
        held, skipped, broken = (["Scenario: S", f"Given it {what}"] for what in ("holds", "is skipped", "breaks"))
        for scenarios, word in (
            ([*held, *held], "held"),
            ([*held, *skipped], "not all run"),
            ([*skipped], "not run"),
            ([*held, *skipped, *broken], "broken"),
            ([], "not run"),
        ):
            with self.subTest(word):
                self.assertEqual([word, word], words(tree(feature(*scenarios)))[:2])

    def test_the_top_counts_rules_and_scenarios(self) -> None:
        """The top counts what held, broke and was not run; each row of an outline is a scenario."""
        summary = tree(MIXED, HELD).find("div", class_="summary broken")
        rows = [[cell.text for cell in (*row.all("th"), *row.all("td"))] for row in summary.find("tbody").all("tr")]
        self.assertEqual([["rules", "1", "2", "1"], ["scenarios", "6", "2", "1"]], rows)
        self.assertEqual("Something is broken.", summary.find("p", class_="verdict").text)
        self.assertEqual(["it breaks in the middle", "number is even"], [link.text for link in summary.all("a")])

    def test_the_top_says_it_in_a_sentence(self) -> None:
        """The top says whether all held."""
        self.assertEqual("Every rule held.", tree(HELD).find("p", class_="verdict").text)
        page = tree(HELD, options=("--dry-run",))
        self.assertEqual("Not everything was run.", page.find("p", class_="verdict").text)
        self.assertEqual("Not everything was run.", tree().find("p", class_="verdict").text)

    def test_features_that_a_broken_off_run_did_not_come_to_are_on_the_page(self) -> None:
        """A run that stops at the first failure leaves nothing out."""
        page = tree(
            feature("Scenario: S", "Given it breaks"),
            "Feature: Later\nScenario: L\nGiven it holds",
            options=("--stop",),
        )
        self.assertEqual(["F", "Later"], [heading.text for heading in page.all("h1")])
        self.assertEqual(["broken"] * 3 + ["not run"] * 3, words(page))


class TestOutlines(unittest.TestCase):
    def setUp(self) -> None:
        page = tree(MIXED)
        self.outline = next(one for one in page.all("article") if "is even" in one.find("h3").text)

    def test_an_outline_is_told_once(self) -> None:
        """An outline's steps are there once, with what the rows fill in marked."""
        self.assertEqual(1, len(self.outline.all("ol", class_="steps")))
        self.assertEqual(["number"] * 4, [name.text for name in self.outline.all("var")])
        self.assertEqual("broken", _own_word(self.outline)[0].text)

    def test_each_examples_is_a_table_with_its_name(self) -> None:
        """Each Examples is a table: its name as caption, its headings with a scope, a result for each row."""
        tables = self.outline.all("table", class_="examples")
        self.assertEqual(["small ones", "Examples"], [table.find("caption").text for table in tables])
        headings = [[(cell.text, cell.attributes) for cell in table.all("th")] for table in tables]
        scope = {"scope": "col"}
        self.assertEqual([("number", scope), ("result", scope)], headings[0])
        self.assertEqual([("number", scope), ("why <not>", scope), ("result", scope)], headings[1])
        rows = [[cell.text for cell in row.all("td")] for row in self.outline.all("tr", class_="case")]
        self.assertEqual([["2", "held"], ["3", "broken"], ["4", "<b>four</b>", "held"]], rows)

    def test_a_broken_row_says_why(self) -> None:
        """What broke a row is shown below it, with the row's own values and its traceback folded."""
        failure = self.outline.all("tr", data_verdict="broken")[1].find("div")
        self.assertIn("Broken at: Given 3 is even", failure.text)
        self.assertEqual("3 is odd", failure.find("pre").text)
        self.assertEqual({}, failure.find("details").attributes)

    def test_an_outline_without_rows_is_not_run(self) -> None:
        """An outline without a row proves nothing."""
        page = tree(feature("Scenario Outline: <a>", "Given it holds", "Examples:", "| a |"))
        self.assertEqual(["not run"] * 3, words(page))
        self.assertIn("There are no examples yet.", page.find("article").text)


class TestTexts(unittest.TestCase):
    def setUp(self) -> None:
        self.html = page_of(MIXED)
        self.page = parsed(self.html)

    def test_features_rules_and_scenarios_are_headings(self) -> None:
        """A feature is an h1, a rule an h2, a scenario an h3; no level is left out, and nothing else is a heading."""
        self.assertEqual([SCRIPT], self.headings("h1"))
        self.assertEqual(["Without a rule", HOLDS, "Numbers", "Numbers"], self.headings("h2"))
        self.assertEqual(
            ["on its own", "all is well", "it breaks in the middle", "number is even", "it is skipped"],
            self.headings("h3"),
        )
        self.assertEqual([], [tag for tag in ("h4", "h5", "h6") if self.page.all(tag)])

    def headings(self, tag: str) -> list[str]:
        return [heading.text for heading in self.page.all(tag)]

    def test_what_a_feature_is_for_is_told_line_by_line(self) -> None:
        """In order to, As a and I want are lines; what comes after is a paragraph."""
        header = self.page.find("section", class_="feature").find("header")
        lines = [line.text for line in header.find("p", class_="story").all("span")]
        self.assertEqual(["In order to get by", "As the operator", "I want little to be asked"], lines)
        self.assertEqual("More is said of it here, on two lines.", header.find("p", class_="prose").text)

    def test_descriptions_are_prose(self) -> None:
        """The description of a rule is one paragraph, and so is that of a scenario."""
        prose = [paragraph.text for paragraph in self.page.all("p", class_="prose")]
        self.assertEqual(["Two lines that are one paragraph.", "A scenario may be described."], prose[1:])

    def test_backgrounds_are_told_where_they_belong(self) -> None:
        """The background of a feature or of a rule is shown once, in its head."""
        self.assertEqual(2, self.page.text.count("Before each scenario"))

    def test_texts_and_tables_of_a_step_are_told_with_it(self) -> None:
        """A step's text keeps its lines, and its table is one."""
        article = next(one for one in self.page.all("article") if one.find("h3").text == "all is well")
        self.assertEqual(["a <text>\n  of two lines"], article.find("pre").children)
        self.assertEqual(["Name", "drink"], [cell.text for cell in article.all("th", scope="col")])
        self.assertEqual(["Zoë", "<tea>"], [cell.text for cell in article.all("td")])

    def test_what_rows_fill_in_is_marked_in_tables_of_steps_too(self) -> None:
        """The parameters in an outline's step tables are marked; the same text outside an outline is not."""
        for markup in (
            '<th scope="col">a <var>number</var></th>',
            "<td>b <var>number</var></td>",
            "<td>&lt;tea&gt;</td>",
        ):
            self.assertTrue(markup in self.html, markup)

    def test_no_text_of_a_feature_becomes_markup(self) -> None:
        """The page's own script is the only one."""
        self.assertEqual(1, len(self.page.all("script")))
        self.assertEqual(0, len(self.page.find("main").all("script")))

    def test_tags_are_not_shown(self) -> None:
        """Tags are for those who run the features."""
        self.assertNotIn("@", tree(feature("@driver.x", "Scenario: S", "Given it holds")).find("main").text)

    def test_another_language_is_named(self) -> None:
        """A feature in another language says so."""
        text = "# language: de\nFunktionalität: Ein Ding\n  Szenario: geht\n    Angenommen it holds"
        section = tree(text).find("section", class_="feature")
        self.assertEqual("de", section.attributes["lang"])
        self.assertEqual("Angenommen", section.find("b").text)

    def test_small_features_are_whole(self) -> None:
        """A feature without scenarios, a rule without any, and one without a description are on the page."""
        page = tree("Feature: Nothing", "Feature: Little\n  Rule: Empty")
        self.assertEqual(["not run"] * 3, words(page))
        self.assertEqual(2, page.text.count("There are no scenarios yet."))
        self.assertEqual([], page.all("p", class_="prose"))

    def test_when_and_what_was_tried_are_told(self) -> None:
        """The page says when the run began, in UTC, and for which version."""
        self.assertEqual(
            f"Version {__version__}, tried on 21 October 2016 at 15:00 UTC", self.page.find("p", class_="when").text
        )
        self.assertEqual("2016-10-21T15:00:00Z", self.page.find("time").attributes["datetime"])

    def test_the_same_run_makes_the_same_page(self) -> None:
        """Two runs of the same features differ in their time alone."""
        later = page_of(MIXED, began=datetime(2017, 1, 2, 3, 4, 5, tzinfo=UTC))
        self.assertEqual(self.html, page_of(MIXED))
        self.assertEqual(
            self.html.replace("2016-10-21T15:00:00Z", "").replace("21 October 2016 at 15:00", ""),
            later.replace("2017-01-02T03:04:05Z", "").replace("2 January 2017 at 03:04", ""),
        )

    def test_nothing_is_fetched(self) -> None:
        """The page asks for nothing, and its policy forbids it."""
        self.assertEqual(["data:,"], [link.attributes["href"] for link in self.page.all("link")])
        self.assertEqual([], self.page.all("img"))
        self.assertEqual({}, self.page.find("script").attributes)
        policy = next(meta.attributes["content"] for meta in self.page.all("meta") if "http-equiv" in meta.attributes)
        self.assertTrue(policy.startswith("default-src 'none';"), policy)
        self.assertEqual("en", self.page.find("html").attributes["lang"])
        self.assertEqual(
            "width=device-width, initial-scale=1", self.page.find("meta", name="viewport").attributes["content"]
        )


class TestAnchors(unittest.TestCase):
    def test_they_are_made_of_names(self) -> None:
        """An anchor is made of the letters and digits of the names, whatever their script, and is given once."""
        anchors = Anchors()
        given = [anchors.give(name, "f") for name in ("Reuse for 4.2 min!", "Καφές", "☕", "_", "a", "A", "a 2", "a")]
        self.assertEqual(
            ["f/reuse-for-4-2-min", "f/καφές", "f/unnamed", "f/unnamed-2", "f/a", "f/a-2", "f/a-2-2", "f/a-3"], given
        )

    def test_equal_names_have_different_anchors(self) -> None:
        """Rules and scenarios of one name have anchors of their own, and every link leads somewhere."""
        page = tree(MIXED, MIXED, feature("Scenario: S", "Given it holds", "Scenario: S", "Given it holds"))
        ids = [one.attributes["id"] for tag in ("header", "article", "div", "p", "input", "title", "desc")
               for one in page.all(tag) if "id" in one.attributes]  # fmt: skip
        self.assertEqual(sorted(set(ids)), sorted(ids))
        links = [link.attributes["href"] for link in page.all("a")]
        self.assertEqual(set(), {link.removeprefix("#") for link in links} - set(ids))

    def test_the_contents_list_features_and_rules(self) -> None:
        """The contents name each feature and each rule, and say which of them did not hold."""
        contents = tree(MIXED, HELD).find("nav")
        self.assertEqual(
            ["Combining", "An answer is whole", SCRIPT, "Without a rule", HOLDS, "Numbers", "Numbers"],
            [link.text for link in contents.all("a")],
        )
        self.assertEqual(["broken", "broken", "broken", "not run"], [word.text for word in contents.all("span")])

    def test_they_stay_when_something_is_added_before(self) -> None:
        """A scenario, a rule and a feature keep their anchors when others are added before them."""
        before = tree(HELD)
        more = HELD.replace("Scenario: coffee", "Scenario: water\n      Given it holds\n    Scenario: coffee")
        more = more.replace("  Rule:", "  Rule: First of all\n    Scenario: tea\n      Given it holds\n  Rule:")
        after = tree("Feature: Combined\nScenario: tea\nGiven it holds", more)
        self.assertEqual(3, len(places(before)))
        self.assertLess(places(before).items(), places(after).items())


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
        self.assertEqual([*names[6:1:-1], "Asking", "Zeal", "Settling x"], [heading.text for heading in page.all("h1")])

    def test_the_order_names_features_that_exist(self) -> None:
        """Each word of the order begins the name of one feature."""
        page = tree(*real_features(), options=("--dry-run",))
        first = [heading.text.split()[0].casefold() for heading in page.all("h1")]
        self.assertEqual([*READING_ORDER, LAST], [*first[: len(READING_ORDER)], first[-1]])

    def test_every_rule_of_the_project_is_on_the_page(self) -> None:
        """Nothing that the features say is a rule, a scenario or a row is left out."""
        texts = real_features()
        page = tree(*texts, options=("--dry-run",))
        self.assertEqual(len(re.findall(r"^ *Rule:", "\n".join(texts), re.MULTILINE)), len(page.all("h2")))
        self.assertEqual(len(re.findall(r"^ *Scenario", "\n".join(texts), re.MULTILINE)), len(page.all("h3")))


def real_features() -> list[str]:
    return [path.read_text("utf-8") for path in (ROOT / "features").glob("*.feature")]


class TestLifetime(unittest.TestCase):
    def figure(self, **settings: float) -> Element:
        return parsed(render(specification([]), Settings(api_token=SecretStr("s3kr3t"), **settings), BEGAN)).find(
            "figure"
        )

    def test_it_is_drawn_from_the_defaults(self) -> None:
        """The page draws the life of an answer with the settings that the proxy has when nobody sets any."""
        for figure in (self.figure(), tree().find("figure")):
            moments = [text.text for text in figure.find("svg").all("text")]
            self.assertEqual(
                [
                    "reused",
                    "if C42 fails",
                    "asked",
                    "0 s",
                    "expires",
                    "4 minutes 12 s",
                    "gone",
                    "1 hour 4 minutes 12 s",
                ],
                moments,
            )
            self.assertEqual(
                "C42 is asked at 0 s; the answer is reused until it expires at 4 minutes 12 s, "
                "given while C42 fails until it is gone at 1 hour 4 minutes 12 s.",
                figure.find("desc").text,
            )
            self.assertEqual(5, len(figure.all("dd")))

    def test_other_settings_draw_another_line(self) -> None:
        """The times are those of the settings, in the drawing and in the text below it."""
        figure = self.figure(cache_ttl=60, stale_if_error=90.5)
        for part in (figure.find("svg"), figure.find("dl")):
            self.assertIn("1 minute", part.text)
            self.assertIn("2 minutes 30.5 s", part.text)
            self.assertNotIn("4 minutes", part.text)

    def test_without_stale_answers_none_is_drawn(self) -> None:
        """Where an expired answer is never given, it is gone when it has expired."""
        figure = self.figure(stale_if_error=0)
        self.assertNotIn("fails", figure.text.casefold())
        self.assertIn("expires and is gone 4 minutes 12 s", figure.find("svg").text)

    def test_times_are_read_out(self) -> None:
        """A time span is shown in days, hours, minutes and seconds, without those that are 0."""
        for seconds, told in (
            (0, "0 s"),
            (0.5, "0.5 s"),
            (60, "1 minute"),
            (252, "4 minutes 12 s"),
            (3852.25, "1 hour 4 minutes 12.25 s"),
            (59.9999, "1 minute"),
            (366 * 86_400, "366 days"),
            (90_000, "1 day 1 hour"),
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


@one_platform_is_enough
@needs("chromium")
class TestInABrowser(unittest.TestCase):
    browser: ClassVar[Browser]
    mixed: ClassVar[Path]
    real: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            cls.mixed, cls.real = folder / "mixed.html", folder / "real.html"
            cls.mixed.write_text(page_of(MIXED, HELD), "utf-8")
            cls.real.write_text(page_of(*real_features(), options=("--dry-run",)), "utf-8")
            cls.browser = stack.enter_context(chromium())
            cls.addClassCleanup(stack.pop_all().close)

    def test_it_is_quiet_and_asks_for_nothing(self) -> None:
        """The page says nothing on the console, and asks for nothing but itself."""
        for file in (self.mixed, self.real):
            with opened(self.browser, file) as tab:
                tab.page.locator("#page_search").fill("i")
                tab.page.locator("h3 a:visible").first.click()
                for status in tab.page.get_by_role("radio").all():
                    status.check()
                self.assertEqual([], tab.said)
                self.assertEqual([file.as_uri()], tab.asked)

    def test_there_are_no_barriers(self) -> None:
        """axe finds nothing to say: contrast, names, landmarks, headings, tables; light, dark and narrow."""
        for file, options in (
            (self.mixed, {}),
            (self.mixed, {"color_scheme": "dark"}),
            (self.mixed, {"viewport": {"width": 400, "height": 800}}),
        ):
            with self.subTest(file=file.name, **options), opened(self.browser, file, **options) as tab:
                tab.page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
                self.assertEqual("", tab.barriers())

    def test_a_narrow_screen_needs_no_sideways_scrolling(self) -> None:
        """At 400 px, and at the 320 that the WCAG ask for, the page is as wide as the screen."""
        for file in (self.mixed, self.real):
            for width in (400, 320):
                with opened(self.browser, file, viewport={"width": width, "height": 800}) as tab:
                    self.assertEqual(width, tab.page.evaluate("document.documentElement.scrollWidth"))

    def test_the_time_line_can_be_read_on_a_narrow_screen(self) -> None:
        """At 400 px no word of the time line is small, cut off or on another."""
        with opened(self.browser, self.mixed, viewport={"width": 400, "height": 800}) as tab:
            sizes = tab.page.eval_on_selector_all(
                "svg text", "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))"
            )
            self.assertGreaterEqual(min(sizes), 13)
            boxes = tab.page.eval_on_selector_all(
                "svg, svg text",
                "all => all.map(one => one.getBoundingClientRect()).map(b => [b.left, b.top, b.right, b.bottom])",
            )
            outer, *texts = boxes
            for number, (left, top, right, bottom) in enumerate(texts):
                self.assertTrue(outer[0] <= left + 1 and right <= outer[2] and outer[1] <= top and bottom <= outer[3])
                for other in texts[number + 1 :]:
                    apart = right <= other[0] or other[2] <= left or bottom <= other[1] + 4 or other[3] <= top + 4
                    self.assertTrue(apart, (texts[number], other))

    def test_search_shows_what_has_all_words(self) -> None:
        """Search goes by a scenario's words, its rule's and its feature's; the address says so, and restores it."""
        with opened(self.browser, self.mixed) as tab:
            search = tab.page.locator("#page_search")
            self.assertEqual("9 scenarios", tab.page.get_by_role("status").inner_text())
            search.fill("HOLDS  middle")
            self.assertEqual(["it breaks in the middle"], tab.visible("h3"))
            self.assertEqual([HOLDS], tab.visible("h2"))
            self.assertEqual("1 of 9 scenarios", tab.page.get_by_role("status").inner_text())
            self.assertEqual([SCRIPT, HOLDS], tab.visible("nav a"))
            self.assertEqual("?search=HOLDS++middle", tab.page.evaluate("location.search"))
            tab.page.reload()
            self.assertEqual(["it breaks in the middle"], tab.visible("h3"))
            search.fill("combining")
            self.assertEqual(["coffee", "tea"], tab.visible("h3"))
            search.fill("no such word")
            self.assertEqual([], tab.visible("h1, h2, h3, nav a"))
            self.assertEqual("0 of 9 scenarios", tab.page.get_by_role("status").inner_text())
            search.fill("")
            self.assertEqual(7, len(tab.visible("h3")))
            self.assertEqual(self.mixed.as_uri(), tab.page.url)

    def test_a_status_shows_what_it_fits(self) -> None:
        """The filter shows scenarios and rows of one status; the address says so, and restores it."""
        with opened(self.browser, self.mixed, "?status=not-run") as tab:
            self.assertEqual(["it is skipped"], tab.visible("h3"))
            tab.page.get_by_role("radio", name="broken").check()
            self.assertEqual(["it breaks in the middle", "number is even"], tab.visible("h3"))
            self.assertEqual(["3"], tab.visible("tr.case td:first-child"))
            self.assertEqual(["small ones"], tab.visible("caption")[1:])
            self.assertEqual(2, len(tab.visible(".failure > pre")))
            self.assertEqual("?status=broken", tab.page.evaluate("location.search"))
            tab.page.get_by_role("radio", name="held").check()
            self.assertEqual(["2", "4"], tab.visible("tr.case td:first-child"))
            self.assertEqual([], tab.visible(".failure"))
            tab.page.get_by_role("radio", name="all").check()
            self.assertEqual(self.mixed.as_uri(), tab.page.url)
        with opened(self.browser, self.mixed, "?status=nonsense&search=coffee") as tab:
            self.assertEqual(["coffee"], tab.visible("h3"))
            self.assertTrue(tab.page.get_by_role("radio", name="all").is_checked())

    def test_going_back_restores_the_view(self) -> None:
        """Back and forward restore what was searched for at each place."""
        with opened(self.browser, self.mixed, "?search=coffee") as tab:
            tab.page.locator("article h3 a:visible").click()
            self.assertTrue(tab.page.url.endswith("?search=coffee#combining/an-answer-is-whole/coffee"), tab.page.url)
            tab.page.locator("#page_search").fill("tea")
            tab.page.go_back()
            self.assertEqual(["coffee"], tab.visible("h3"))
            self.assertEqual("coffee", tab.page.input_value("#page_search"))
            tab.page.go_forward()
            self.assertEqual(["tea"], [name for name in tab.visible("h3") if name == "tea"])

    def test_an_anchor_is_shown_whatever_the_filters_say(self) -> None:
        """A link to an anchor that the filters hide shows the anchor, with the filters off."""
        anchor = "#combining/an-answer-is-whole/tea"
        with opened(self.browser, self.mixed, "?search=coffee" + anchor) as tab:
            self.assertIn("tea", tab.visible("h3"))
            self.assertEqual(self.mixed.as_uri() + anchor, tab.page.url)
            self.assertTrue(tab.page.evaluate("scrollY") > 0)
        with opened(self.browser, self.mixed, "?search=coffee") as tab:
            tab.page.evaluate(f"location.hash = {anchor!r}")
            tab.page.locator(f"[id='{anchor[1:]}']").wait_for()
            self.assertEqual("", tab.page.input_value("#page_search"))
        with opened(self.browser, self.mixed, "?search=tea" + anchor) as tab:
            self.assertEqual(["tea"], [name for name in tab.visible("h3") if name in {"tea", "coffee"}])

    def test_it_is_whole_without_javascript(self) -> None:
        """Without JavaScript everything is there, but for the search and the filters."""
        with opened(self.browser, self.mixed, "?search=coffee", java_script_enabled=False) as tab:
            self.assertTrue(tab.page.locator("h3").last.is_visible())
            self.assertEqual(
                tab.page.locator("h1, h2, h3, .case, nav a").count(),
                tab.page.locator(":is(h1, h2, h3, .case, nav a):visible").count(),
            )
            self.assertFalse(tab.page.locator("#page_filters").is_visible())
            self.assertEqual([], tab.said)

    def test_print_shows_all(self) -> None:
        """On paper everything is there, whatever is filtered; not so the search, and what only a screen can unfold."""
        with opened(self.browser, self.mixed, "?search=coffee") as tab:
            tab.page.emulate_media(media="print")
            self.assertEqual(7, len(tab.visible("h3")))
            self.assertEqual(9, len(tab.visible(".case")))
            self.assertEqual(7, len(tab.visible("nav a")))
            self.assertEqual([], tab.visible("#page_filters, details, .skip"))
            self.assertEqual(2, len(tab.visible(".failure pre")))

    def test_the_keyboard_reaches_everything(self) -> None:
        """Tab goes from the skip link to the search, the filters and the contents, each marked where it is."""
        with opened(self.browser, self.mixed) as tab:
            stops = []
            for _ in range(9):
                tab.page.keyboard.press("Tab")
                where, marked = tab.page.evaluate(FOCUS)
                stops.append(where)
                self.assertTrue(marked, where)
            self.assertEqual("Skip to the features", stops[0])
            self.assertLess(stops.index("page_search"), stops.index("status"))
            self.assertIn("Combining", stops)
            tab.page.locator("[name=status]").first.focus()
            tab.page.keyboard.press("ArrowRight")
            self.assertEqual("?status=held", tab.page.evaluate("location.search"))
            tab.page.locator(".skip").focus()
            tab.page.keyboard.press("Enter")
            self.assertEqual("page_content", tab.page.evaluate("document.activeElement.id"))
            tab.page.keyboard.press("Tab")
            self.assertEqual("Combining", tab.page.evaluate(FOCUS)[0])


FOCUS = """() => {
    const one = document.activeElement, style = getComputedStyle(one);
    return [one.id || one.name || one.innerText, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
}"""


if __name__ == "__main__":
    unittest.main()
