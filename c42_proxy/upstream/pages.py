"""Reads the list of subscriptions page by page, and once more if it changed meanwhile."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from ..errors import Cause, InvalidAnswer, Problem
from .client import PAGE_LIMIT, Page, Subscription

PAGES_AT_ONCE = 8
MAX_PAGES = 1000

PageCall = Callable[[], Page]
"""Waits for a page and returns it. Raises Problem."""


class SubscriptionList:
    """The list of one event. `first` waits for its first page; `ask` begins the call for the page at an offset."""

    def __init__(self, first: PageCall, ask: Callable[[int], PageCall]) -> None:
        self._ask = ask
        self._asked = 1
        self._ahead = deque([first])
        """The next pages in C42's order: asked for, but not read yet."""

    def read(self) -> list[Subscription]:
        """All subscriptions, in C42's order. One may come twice: a page may repeat the end of the page before.

        If the count differs between two pages, somebody has left or joined, and others may have moved to a page that
        was read before. The list is then read once more, and that reading is the answer, whatever its counts say.

        Raises the Problem of the first page that failed, or InvalidAnswer if MAX_PAGES calls, over both readings, do
        not reach the end.
        """
        pages: list[Page] = []
        counts: set[int] = set()
        for page in self._pages():
            pages.append(page)
            if page.count is not None:
                counts.add(page.count)
            if len(counts) > 1:
                self._drop_ahead()
                pages = list(self._pages())
                break
        return [subscription for page in pages for subscription in page.subscriptions]

    def _pages(self) -> Iterator[Page]:
        """The pages from the first to the last. Each begins where the one before has ended."""
        end, count, at_once = 0, None, PAGES_AT_ONCE
        while True:
            self._ask_ahead(end, count, at_once)
            page = self._next()
            yield page
            end += len(page.subscriptions)
            count = count if page.count is None else page.count
            if _is_last(page, end, count):
                return
            at_once = PAGES_AT_ONCE
            if len(page.subscriptions) < PAGE_LIMIT:
                # The pages ahead were asked for as if this page were full. The next page may be short as well, so it is
                # asked for alone.
                self._drop_ahead()
                at_once = 1

    def _ask_ahead(self, start: int, count: int | None, at_once: int) -> None:
        """Ask for the page at `start`, and for the pages after it that `count` announces."""
        if not self._ahead:
            if self._asked == MAX_PAGES:
                raise InvalidAnswer(Cause.ENDLESS_LIST, 200)
            self._begin(start)
        if count is None:
            return
        for offset in range(start, min(count, start + PAGE_LIMIT * at_once), PAGE_LIMIT)[len(self._ahead) :]:
            if self._asked == MAX_PAGES:
                return
            self._begin(offset)

    def _begin(self, offset: int) -> None:
        self._asked += 1
        self._ahead.append(self._ask(offset))

    def _next(self) -> Page:
        try:
            return self._ahead.popleft()()
        except Problem:
            # Wait for the other calls: their failures may take precedence.
            for call in self._ahead:
                with suppress(Problem):
                    call()
            raise

    def _drop_ahead(self) -> None:
        """Throw away the pages ahead. It waits for their calls, so that the number at a time stays within the limit."""
        while self._ahead:
            self._next()


def _is_last(page: Page, end: int, count: int | None) -> bool:
    """Whether the list ends with this page, which ends at `end`. An empty page ends it, whatever the count is."""
    if not page.subscriptions:
        return True
    if count is not None and end < count:
        return False
    # There is no count, or the list has reached or passed it. Unless it is exactly reached, another page may follow a
    # full one.
    return len(page.subscriptions) < PAGE_LIMIT or end == count
