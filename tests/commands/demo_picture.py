"""`python -m tests.commands.demo_picture FILE`: the picture of the demo's page in the README."""

import sys

from c42_proxy.sandbox.events import BASEBALL, COFFEE, DINNER
from harness.browser import chromium, opened
from harness.processes import C42_PROXY, Process, clean_environ, free_port
from tests.commands.test_demo_page import asked, page_address

with (
    Process([*C42_PROXY, "demo"], clean_environ(C42_BIND=f"127.0.0.1:{free_port()}")) as demo,
    chromium() as browser,
    opened(browser, page_address(demo), viewport={"width": 1100, "height": 820}) as tab,
):
    tab.page.locator("article").first.wait_for()
    asked(tab, COFFEE, "fwd=uri-miss; stored")
    tab.page.get_by_label("New title").first.fill("Drink a cup of tea")
    tab.page.get_by_role("button", name="Rename").first.click()
    asked(tab, COFFEE, "hit; ttl=")
    asked(tab, DINNER, "fwd=uri-miss; stored")
    tab.page.get_by_role("button", name="Break C42").click()
    tab.page.get_by_text("C42 answers every call with status 500").wait_for()
    asked(tab, BASEBALL, "fwd-status=500")
    tab.page.evaluate("scrollTo(0, 0)")
    tab.page.screenshot(path=sys.argv[1])
