"""The page for the product owner works in a real browser."""

import re
import subprocess
import tempfile
import unittest
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from playwright.sync_api import Browser

from harness.browser import chromium, opened
from harness.needs import needs, one_platform_is_enough
from tools.spec_page.tests.feature_runs import page_of
from tools.spec_page.tests.test_page import HELD, HOLDS, MIXED, SCRIPT, real_features

PAPER = (673, 1001)
"""What an A4 page has room for, in CSS pixels."""
NARROW = {"width": 400, "height": 800}


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
            (self.mixed, {"viewport": NARROW}),
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
        with opened(self.browser, self.mixed, viewport=NARROW) as tab:
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
            nothing = "No scenario has all of these words, in itself, its rule or its feature: no such word."
            self.assertEqual([nothing], tab.visible("#page_nothing"))
            search.fill("")
            self.assertEqual([], tab.visible("#page_nothing"))
            self.assertEqual(7, len(tab.visible("h3")))
            self.assertEqual(self.mixed.as_uri(), tab.page.url)

    def test_found_words_are_marked_and_counted(self) -> None:
        """Each place of each word is marked, whatever its case, and the contents count them for each feature."""
        with opened(self.browser, self.mixed) as tab:
            self.assertEqual(["2", "7"], tab.visible("nav .count"))
            tab.page.locator("#page_search").fill("coffee whole")
            self.assertEqual(["1 of 2"], tab.visible("nav .count"))
            marked = "[...CSS.highlights.get('found')].map(range => range.toString().toLowerCase())"
            self.assertEqual({"coffee", "whole"}, set(tab.page.evaluate(marked)))
            tab.page.locator("#page_search").fill("(")
            self.assertEqual({"("}, set(tab.page.evaluate(marked)))
            tab.page.locator("#page_search").fill("")
            self.assertIsNone(tab.page.evaluate("CSS.highlights.get('found') ?? null"))

    def test_the_contents_say_where_the_reader_is(self) -> None:
        """The entry of the rule that is being read is marked in the contents, and can be seen there."""
        with opened(self.browser, self.real) as tab:
            for number in (3, 40, 9):
                link = tab.page.locator("nav a").nth(number)
                tab.page.evaluate("anchor => { location.hash = anchor; }", link.get_attribute("href"))
                tab.page.locator(f"nav a[aria-current][href='{link.get_attribute('href')}']").wait_for()
                self.assertEqual(1, tab.page.locator("nav [aria-current]").count())
                top, bottom = tab.page.evaluate(
                    "() => { const b = document.querySelector('[aria-current]').getBoundingClientRect();"
                    " return [b.top, innerHeight - b.bottom]; }"
                )
                self.assertTrue(top > 0 and bottom > 0, (top, bottom))

    def test_examples_are_unfolded_where_a_word_is_in_them(self) -> None:
        """Examples that all held are folded, and open where one has a word that is searched for, and on paper."""
        held = "Feature: F\nRule: R\nScenario Outline: S\nGiven <a> is even\nExamples:\n| a |\n| 2 |\n| 42 |"
        file = self.mixed.with_name("held.html")
        file.write_text(page_of(held), "utf-8")
        with opened(self.browser, file) as tab:
            row, search = tab.page.locator("tr.case").last, tab.page.locator("#page_search")
            self.assertFalse(row.is_visible())
            search.fill("42")
            self.assertTrue(row.is_visible())
            search.fill("")
            self.assertFalse(row.is_visible())
            tab.page.emulate_media(media="print")
            self.assertTrue(row.is_visible())

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

    def test_print_leaves_no_page_half_empty(self) -> None:
        """Nothing begins a page of its own, or stays on one page and is higher than 0.4 of it; pages are 0.8 full."""
        with opened(self.browser, self.real, viewport={"width": PAPER[0], "height": PAPER[1]}) as tab:
            tab.page.emulate_media(media="print")
            breaks, height, text = tab.page.evaluate(KEPT_TOGETHER)
            self.assertEqual([], breaks)
            self.assertLess(height, PAPER[1] * 0.4, text)
            pages = re.findall(rb"/Type /Page\b", tab.page.pdf(prefer_css_page_size=True))
            self.assertLess(len(pages), tab.page.evaluate("document.body.scrollHeight") / PAPER[1] / 0.8)

    @needs("pdftotext")
    def test_print_numbers_the_pages(self) -> None:
        """Each printed page says which one it is, of how many."""
        with opened(self.browser, self.real) as tab:
            pdf = tab.page.pdf(prefer_css_page_size=True)
        text = subprocess.run(["pdftotext", "-", "-"], input=pdf, capture_output=True, check=True, timeout=30).stdout
        pages = text.decode().split("\f")[:-1]
        self.assertGreater(len(pages), 1)
        for number, page in enumerate(pages, 1):
            self.assertIn(f"{number} / {len(pages)}", page.splitlines())

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


KEPT_TOGETHER = """() => {
    const all = [...document.querySelectorAll('main *')], style = (one) => getComputedStyle(one);
    const kept = all.filter((one) => one.closest('#page_content') && style(one).breakInside === 'avoid')
        .map((one) => [one.getBoundingClientRect().height, one.textContent]).sort((a, b) => b[0] - a[0]);
    return [all.filter((one) => style(one).breakBefore !== 'auto').map((one) => one.className), ...kept[0]];
}"""
FOCUS = """() => {
    const one = document.activeElement, style = getComputedStyle(one);
    return [one.id || one.name || one.innerText, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
}"""


if __name__ == "__main__":
    unittest.main()
