"""The reference in a browser: it explains things where a reader looks, its examples work, and it asks nobody."""

import json
import re
import shlex
import tempfile
import unittest
from pathlib import Path
from typing import ClassVar

from playwright.sync_api import Locator

from c42_proxy.sandbox.events import COFFEE
from harness.browser import Opened, chromium, opened
from harness.cluster import Cluster
from harness.needs import needs
from harness.openapi import DOCUMENT, REASONS, RESPONSES
from harness.processes import run
from tools.clients import __main__ as reference
from tools.clients import environ

METHODS = ("GET", "HEAD")
COMPONENTS = DOCUMENT["components"]
PATIENCE_MILLISECONDS = 30_000
ANNOUNCES_ITSELF = re.compile(r"@scalar/api-reference@[\d.]+")


def plain(markdown: str) -> str:
    """The text as a page shows it."""
    return " ".join(re.sub(r"\[(.+?)\]\(.+?\)|^- ", r"\1", markdown, flags=re.MULTILINE).replace("`", "").split())


@needs("chromium")
@needs("curl")
class Reference(unittest.TestCase):
    """One page for all tests: they open parts of it, and change nothing else."""

    tab: ClassVar[Opened]
    file: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.file = Path(cls.enterClassContext(tempfile.TemporaryDirectory()), "api.html")
        reference.write(cls.file)
        cls.tab = cls.enterClassContext(opened(cls.enterClassContext(chromium()), cls.file))
        # Five megabytes of script take their time on a busy machine. The page fills itself when its reader comes near.
        cls.tab.page.set_default_timeout(PATIENCE_MILLISECONDS)
        for method in reversed(METHODS):
            summary = DOCUMENT["paths"]["/events-with-subscriptions/{event_id}/"][method.lower()]["summary"]
            cls.tab.page.get_by_role("link", name=summary).click()
            cls.operation(method).locator('[id$=".responses.504"]').wait_for()

    @classmethod
    def operation(cls, method: str) -> Locator:
        """The part of the page about a method."""
        return cls.tab.page.locator(f'section[id$="{method}/events-with-subscriptions/{{event_id}}/"]')

    def response(self, status: int) -> Locator:
        """The part about an answer to GET."""
        name = self.tab.page.locator(f'[id$=".responses.{status}"]')
        return self.operation("GET").locator("li", has=name)

    def text(self, part: Locator) -> str:
        return " ".join(part.inner_text().split())

    def test_stands_alone(self) -> None:
        """It asks for nothing but itself, complains of nothing, and keeps out nobody."""
        self.assertEqual(self.tab.asked, [self.file.as_uri()])
        self.assertEqual([said for said in self.tab.said if not ANNOUNCES_ITSELF.fullmatch(said)], [])
        self.assertEqual(self.tab.barriers(), "")

    def test_parameters(self) -> None:
        """At each method each parameter has its name and its description."""
        for method in METHODS:
            text = self.text(self.operation(method))
            for name, parameter in COMPONENTS["parameters"].items():
                with self.subTest(method, parameter=name):
                    shown = self.operation(method).locator(f'[id$=".{name}"]').first
                    self.assertEqual(self.text(shown), name)
                    self.assertIn(plain(parameter["description"]), text)

    def test_examples(self) -> None:
        """The requests that it shows work, but for the port, which here is another."""
        shown = {
            method: self.operation(method).locator("code.language-curl, code.language-shell") for method in METHODS
        }
        with Cluster() as cluster:
            address = f"127.0.0.1:{cluster.add_host('memory://').port}"
            said = {}
            for method, code in shown.items():
                command = shlex.split(code.inner_text().replace("127.0.0.1:4242", address))
                said[method] = run(*command, environ=environ()).stdout
        self.assertEqual(json.loads(said["GET"])["id"], COFFEE)
        self.assertRegex(said["HEAD"], r"^HTTP/1.1 200 OK\r?\n")

    def test_reasons(self) -> None:
        """At each answer that is a problem it explains every reason."""
        description = COMPONENTS["schemas"]["Problem"]["properties"]["reason"]["description"]
        explained = [plain(each) for each in re.findall(r"^- .*(?:\n  .*)*", description, re.MULTILINE)]
        self.assertEqual([each.split()[0] for each in explained], list(REASONS))
        for status in sorted(set(RESPONSES) - {200, 304}):
            text = self.text(self.response(status))
            with self.subTest(status=status):
                self.assertEqual([each for each in explained if each not in text], [])

    def test_headers(self) -> None:
        """Where a reader opens the headers of an answer, each is explained: `Cache-Status` word for word."""
        for status, response in RESPONSES.items():
            self.response(status).get_by_role("button", name="Headers", exact=True).click()
            text = self.text(self.response(status))
            for header in response["headers"].values():
                name = header["$ref"].rpartition("/")[2]
                with self.subTest(status=status, header=name):
                    self.assertIn(plain(COMPONENTS["headers"][name]["description"]), text)


if __name__ == "__main__":
    unittest.main()
