"""A headless Chromium, which records what a page prints on the console and which addresses it asks for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
START_MILLISECONDS = 20_000
PATIENCE_MILLISECONDS = 5_000


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """The machine's own Chromium, with a profile of its own that is gone afterwards. Nothing is downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*FLAGS, *flags], timeout=START_MILLISECONDS
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page, with all that it has said on the console and all addresses that it has asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MILLISECONDS)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def visible(self, selector: str) -> list[str]:
        """The first lines of the elements that take up room."""
        found: list[str] = self.page.eval_on_selector_all(
            selector,
            "all => all.filter(one => one.getClientRects().length).map(one => one.innerText.split('\\n')[0].trim())",
        )
        return found

    def barriers(self) -> str:
        """The rules of the WCAG and of good practice that the page breaks, by axe; empty if there are none."""
        results = Axe().run(self.page)
        return results.generate_report() if results.violations_count else ""


@contextmanager
def opened(browser: Browser, page: Path | str, query: str = "", **options: Any) -> Iterator[Opened]:
    """A file, or what is at an address, in a tab of its own. `options` are those of a Playwright context."""
    context = browser.new_context(**options)
    try:
        tab = Opened(context.new_page())
        tab.page.goto((page if isinstance(page, str) else page.as_uri()) + query)
        yield tab
    finally:
        context.close()
