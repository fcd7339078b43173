"""The page of the demo, in a browser: it shows both sides live, and changes C42's."""

import json
import re
import time
import unittest
import urllib.request
from typing import Any, ClassVar

from playwright.sync_api import Browser, Locator

from c42_proxy.sandbox.events import BABEL, BASEBALL, COFFEE, DELETED, DINNER, SAMPLES, UNTITLED
from harness.browser import Opened, chromium, opened
from harness.needs import needs, one_platform_is_enough
from harness.processes import C42_PROXY, Process, ProcessTestCase, clean_environ, free_port, until
from harness.stack import ask, path_of

READY = "Ctrl-C ends both."
SEEN_SECONDS = 5


def page_address(demo: Process) -> str:
    """The address that a demo prints first, when it is ready."""
    demo.wait_until_says(READY)
    found = re.search(r"^  (http://127\.0\.0\.1:[0-9]+/)$", demo.output(), re.MULTILINE)
    assert found, demo.output()
    return found[1]


def event(tab: Opened, event_id: str) -> Locator:
    return tab.page.locator("article", has_text=event_id)


def asked(tab: Opened, event_id: str, mark: str) -> str:
    """What the page shows of the proxy's answer, once that has come with this mark."""
    event(tab, event_id).get_by_role("button", name="Ask the proxy").click()
    event(tab, event_id).locator(".cache-status", has_text=mark).wait_for()
    return event(tab, event_id).locator(".proxy").inner_text()


@one_platform_is_enough
@needs("chromium")
class DemoPageTest(ProcessTestCase):
    browser: ClassVar[Browser]
    address: ClassVar[str]
    proxy: ClassVar[str]
    port: ClassVar[int]

    @classmethod
    def setUpClass(cls) -> None:
        cls.port = free_port()
        # The proxy listens everywhere, and the page asks it at an address that a browser can ask.
        cls.address = page_address(cls.start(*C42_PROXY, "demo", environ=clean_environ(C42_BIND=f":{cls.port}")))
        cls.proxy = f"http://127.0.0.1:{cls.port}/"
        cls.browser = cls.enterClassContext(chromium())

    def setUp(self) -> None:
        self.told({"fault": None, "latency": 0})
        self.tab = self.enterContext(opened(self.browser, self.address))
        self.tab.page.locator("article").nth(len(SAMPLES) - 1).wait_for()

    def told(self, change: object | None = None) -> Any:
        """What the sandbox has, after a change that comes from elsewhere than the page."""
        if change is not None:
            body = json.dumps(change).encode()
            urllib.request.urlopen(
                urllib.request.Request(f"{self.address}sandbox/", body, method="PUT"), timeout=SEEN_SECONDS
            ).close()
        with urllib.request.urlopen(f"{self.address}sandbox/live", timeout=SEEN_SECONDS) as answer:
            return json.load(answer)

    def test_what_c42_has_and_what_the_proxy_answers(self) -> None:
        """A renamed event keeps its old title at the proxy for the seconds that the page counts; C42 is not asked."""
        coffee = event(self.tab, COFFEE)
        self.told({"calls": "reset"})
        answer = asked(self.tab, COFFEE, "fwd=uri-miss; stored")
        self.assertIn("Status 200", answer)
        self.assertIn("Drink a cup of coffee with C42 Team: Michel", answer)
        self.assertRegex(answer, r"reuse it for another 2(49|5[0-2]) s")
        self.tab.page.get_by_text("1 for events, 1 for their subscriptions.").wait_for()
        calls = self.tab.page.locator("#calls").inner_text()
        self.assertRegex(calls, rf"200 GET /api/v2/event-subscriptions/\?event_ids=\S*{COFFEE}")
        coffee.get_by_label("New title").fill("<b>Tea</b>")
        coffee.get_by_role("button", name="Rename").click()
        coffee.locator(".title", has_text="<b>Tea</b>").wait_for()
        answer = asked(self.tab, COFFEE, "hit; ttl=")
        self.assertIn("Drink a cup of coffee with C42 Team: Michel (C42 says otherwise by now)", answer)
        coffee.locator(".life", has_text=re.compile("another 2(4[0-8]) s")).wait_for()
        self.assertEqual(self.told()["calls"], {"events": 1, "subscriptions": 1})
        self.assertEqual(self.tab.said, [])
        self.assertEqual({url for url in self.tab.asked if not url.startswith((self.address, self.proxy))}, set())

    def test_somebody_leaves(self) -> None:
        """The first who has a name leaves; with the last one, nobody is left who could."""
        for event_id, first, then in ((DINNER, "Arthur, Ford", "Ford, Zaphod"), (UNTITLED, "Agnes", "Deep")):
            names = event(self.tab, event_id).locator(".names")
            self.assertTrue(names.inner_text().startswith(first), names.inner_text())
            event(self.tab, event_id).get_by_role("button", name=f"{first.split(',')[0]} leaves").click()
            names.filter(has_text=re.compile(f"^{then}")).wait_for()
        self.assertEqual(self.told()["events"][DINNER]["names"], ["Ford", "Zaphod", "Tricia", None, "", "Arthur"])
        event(self.tab, UNTITLED).get_by_role("button", name="Deep leaves").click()
        event(self.tab, UNTITLED).get_by_text("nobody").wait_for()
        self.assertTrue(event(self.tab, UNTITLED).get_by_role("button", name="Somebody leaves").is_disabled())
        self.assertTrue(event(self.tab, DELETED).get_by_role("button", name="Rename").is_disabled())
        self.assertIn("and 230 more", event(self.tab, BASEBALL).inner_text())

    def test_c42_is_broken(self) -> None:
        """Each button changes how C42 is, and what the proxy answers then is a problem with its reason."""
        state = self.tab.page.locator("#state")
        for button, text in (
            ("Let C42 take 2 s", "C42 answers, after 2 s."),
            ("Let C42 ask to wait 10 s", "C42 answers every call with status 429 and Retry-After: 10, after 2 s."),
            ("Repair C42", "C42 answers."),
            ("Break C42", "C42 answers every call with status 500."),
        ):
            self.tab.page.get_by_role("button", name=button).click()
            state.get_by_text(text, exact=True).wait_for()
        for fault, calls in (
            ({"call": "events"}, "calls for events"),
            ({"call": "subscriptions"}, "calls for subscriptions"),
            ({"event_id": "a-1"}, "every call about a-1"),
            ({"call": "events", "event_id": "a-1"}, "calls for events about a-1"),
        ):
            self.told({"fault": {"status": 500, **fault}})
            state.get_by_text(f"C42 answers {calls} with status 500.", exact=True).wait_for()
        self.told({"fault": {"status": 500}})
        answer = self.new("new-1")
        self.assertIn("c42-unavailable", answer)
        self.assertIn("An app may not reuse it.", answer)
        # One second, in place of the button's ten.
        self.told({"fault": {"status": 429, "retry_after": 1}})
        answer = self.new("new-2")
        self.assertIn("c42-asks-to-wait", answer)
        self.assertIn("It may try again 1 s after the answer.", answer)
        self.told({"fault": None})
        until(lambda: ask(self.port, path_of("new-2")).status == 200, "C42 may be asked again")

    def new(self, event_id: str) -> str:
        """The answer for an event that comes to C42 while the page is open, and appears on it by itself."""
        self.told({"events": {event_id: {"title": event_id, "names": ["Ann"]}}})
        event(self.tab, event_id).wait_for()
        return asked(self.tab, event_id, "fwd-status")

    def test_another_name_for_this_machine(self) -> None:
        """A page of another site cannot change the sandbox, also where the site's name leads to this machine."""
        other = self.address.replace("127.0.0.1", "thief.localhost")
        with opened(self.browser, other) as tab:
            with tab.page.expect_response(re.compile("/sandbox/$")) as answer:
                tab.page.get_by_role("button", name="Break C42").click()
            self.assertEqual(answer.value.status, 403)
            tab.page.get_by_text("Nothing was changed. Pages of other sites may not change the sandbox.").wait_for()
            tab.page.get_by_text("Open its own page by localhost or an IP address.").wait_for()
        self.assertIsNone(self.told()["fault"])

    def test_the_sandbox_ends(self) -> None:
        """Where nothing answers any more, the page says so, also when a button is pressed."""
        self.tab.page.route("**/sandbox/**", lambda route: route.abort())
        self.tab.page.get_by_text("The stand-in for C42 has ended.").wait_for()
        self.tab.page.get_by_role("button", name="Break C42").click()
        self.tab.page.get_by_text("Nothing was changed.", exact=True).wait_for()
        self.assertEqual([said for said in self.tab.said if "ERR_FAILED" not in said], [])
        self.tab.page.unroute_all()
        self.tab.page.get_by_role("button", name="Repair C42").click()
        self.tab.page.locator("#refused", has_not_text="Nothing").wait_for(state="attached")

    def test_an_answer_expires(self) -> None:
        """The page counts to the moment that the answer names; what the proxy does afterwards, it cannot know."""
        asked(self.tab, BABEL, "c42-proxy; ")
        life = event(self.tab, BABEL).locator(".life")
        life.get_by_text("An app may reuse it for another").wait_for()
        self.tab.page.clock.set_fixed_time(time.time() + 252)
        life.get_by_text("An app may not reuse it any more.", exact=True).wait_for()

    def test_there_are_no_barriers(self) -> None:
        """axe finds nothing to say, light and dark; a narrow screen needs no sideways scrolling."""
        for options in ({"color_scheme": "dark"}, {"color_scheme": "light", "viewport": {"width": 320, "height": 800}}):
            with self.subTest(**options), opened(self.browser, self.address, **options) as tab:
                asked(tab, BASEBALL, "c42-proxy; ")
                asked(tab, DELETED, "c42-proxy; ")
                self.assertEqual(tab.barriers(), "")
                width = tab.page.evaluate("innerWidth - document.documentElement.scrollWidth")
                self.assertEqual(width, 0)


if __name__ == "__main__":
    unittest.main()
