"""The list of subscriptions is read to its end, wherever C42 lets its pages end; the calls that this takes are few."""

import unittest
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c42_proxy.errors import InvalidAnswer, UpstreamUnavailable
from c42_proxy.upstream.client import PAGE_LIMIT, Page, Subscription
from c42_proxy.upstream.pages import PAGES_AT_ONCE, PageCall, SubscriptionList


def people(numbers: Sequence[int]) -> list[Subscription]:
    return [Subscription(str(number), str(number)) for number in numbers]


@dataclass
class FakeCalls:
    """C42's lists, one for each reading. `limits` says how many it gives on the page at an offset, if fewer than 100.

    A page shows what the list is when its call begins. `failing` has the offsets whose calls fail, `counts` those of
    which the page has another count than the true one.
    """

    lists: Sequence[int]
    limits: dict[int, int] = field(default_factory=dict)
    counts: dict[int, int | None] = field(default_factory=dict)
    failing: frozenset[int] = frozenset()
    asked: Counter[int] = field(default_factory=Counter)
    under_way: int = 0
    most_at_once: int = 0

    def read(self) -> list[int]:
        return [int(each.id) for each in SubscriptionList(self.first, self.ask).read()]

    def first(self) -> Page:
        return self.ask(0)()

    def ask(self, offset: int) -> PageCall:
        self.asked[offset] += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        size = self.lists[min(self.asked[0], len(self.lists)) - 1]
        limit = self.limits.get(offset, PAGE_LIMIT)
        found = Page(people(range(offset, size)[:limit]), self.counts.get(offset, size))

        def wait() -> Page:
            self.under_way -= 1
            if offset in self.failing:
                raise UpstreamUnavailable
            return found

        return wait


class ShortPageTest(unittest.TestCase):
    def test_in_the_middle(self) -> None:
        """Behind a short page, the rest is asked for again from where that page ended."""
        calls = FakeCalls([250], limits={100: 60, 200: 50})
        self.assertEqual(list(range(250)), calls.read())
        self.assertEqual({0: 1, 100: 1, 200: 1, 160: 1}, calls.asked)

    def test_many_more(self) -> None:
        """Of those behind it, the first comes alone; where that is full, the others come together again."""
        calls = FakeCalls([1500], limits={300: 99})
        self.assertEqual(list(range(1500)), calls.read())
        together = dict.fromkeys(range(0, 1100, 100), 1)
        self.assertEqual(together | dict.fromkeys(range(399, 1500, 100), 1), calls.asked)
        self.assertEqual(PAGES_AT_ONCE, calls.most_at_once)

    def test_each(self) -> None:
        """Where each page is short, each comes alone: nothing is asked for in vain, but behind the first."""
        calls = FakeCalls([1000], limits=dict.fromkeys(range(0, 1000, 50), 50))
        self.assertEqual(list(range(1000)), calls.read())
        self.assertEqual(dict.fromkeys(range(0, 1000, 50), 1), calls.asked)
        self.assertEqual(1, calls.most_at_once)

    def test_any(self) -> None:
        """However long the list and however short its pages, all are there, in order, by few calls at a time."""

        @settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
        @given(
            st.sampled_from([0, 1, 99, 100, 101, 250, 800, 1101]),
            st.dictionaries(st.integers(0, 1101) | st.sampled_from(range(0, 1101, 100)), st.integers(1, 100)),
        )
        def check(size: int, limits: dict[int, int]) -> None:
            calls = FakeCalls([size], limits=limits)
            self.assertEqual(list(range(size)), calls.read())
            self.assertLessEqual(calls.most_at_once, PAGES_AT_ONCE)
            self.assertEqual({1}, set(calls.asked.values()))
            self.assertEqual(0, calls.under_way)

        check()

    def test_a_page_in_vain_fails(self) -> None:
        """A page that fails fails the list, even where the one before it makes it useless; nothing more is asked."""
        calls = FakeCalls([300], limits={100: 60}, failing=frozenset({200}))
        with self.assertRaises(UpstreamUnavailable):
            calls.read()
        self.assertEqual({0: 1, 100: 1, 200: 1}, calls.asked)

    def test_all_are_awaited(self) -> None:
        """Where a page fails, the calls under way are awaited: one of them may fail in a way that takes precedence."""
        calls = FakeCalls([900], failing=frozenset({200}))
        with self.assertRaises(UpstreamUnavailable):
            calls.read()
        self.assertEqual(0, calls.under_way)


class EndTest(unittest.TestCase):
    def test_as_many_as_the_count_says(self) -> None:
        """A full page is the last one where the list is as long as C42 says: none is asked for in vain."""
        calls = FakeCalls([200])
        self.assertEqual(list(range(200)), calls.read())
        self.assertEqual({0: 1, 100: 1}, calls.asked)

    def test_more_than_the_count_says(self) -> None:
        """Behind a full page that the count does not announce, there may be another one."""
        calls = FakeCalls([250], counts=dict.fromkeys(range(0, 300, 100), 120))
        self.assertEqual(list(range(250)), calls.read())
        self.assertEqual({0: 1, 100: 1, 200: 1}, calls.asked)


class ChangedTest(unittest.TestCase):
    def test_read_again(self) -> None:
        """Where the count has changed, the list is read once more, with as many calls as that takes."""
        for before, after in ((250, 249), (250, 251), (101, 100), (250, 100), (200, 201), (101, 0), (300, 1)):
            with self.subTest(before=before, after=after):
                # What the first page shows is the list as it was; all else is the list as it is.
                calls = FakeCalls([after], counts={})
                changed = SubscriptionList(lambda before=before: FakeCalls([before]).first(), calls.ask)  # type: ignore[misc]
                self.assertEqual(list(range(after)), [int(each.id) for each in changed.read()])
                self.assertEqual(1, calls.asked[0])
                self.assertLessEqual(max(calls.asked.values()), 2)
                self.assertEqual(0, calls.under_way)

    def test_only_once(self) -> None:
        """What the second reading gives is the answer, whatever its counts say."""
        calls = FakeCalls([250, 251], counts={0: 250, 100: 249, 200: 251})
        self.assertEqual(list(range(251)), calls.read())
        self.assertEqual({0: 2, 100: 2, 200: 2}, calls.asked)

    def test_on_the_last_page(self) -> None:
        """A change that shows on the last page alone, or on an empty one behind the list, is a change."""
        for size, count in ((250, 251), (200, 250)):
            calls = FakeCalls([size], counts={0: count, 100: count})
            self.assertEqual(list(range(size)), calls.read())
            self.assertEqual({0: 2, 100: 2, 200: 2}, calls.asked)

    def test_no_count(self) -> None:
        """A page without a count says nothing of a change."""
        calls = FakeCalls([250], counts={100: None})
        self.assertEqual(list(range(250)), calls.read())
        self.assertEqual({0: 1, 100: 1, 200: 1}, calls.asked)

    def test_short_and_changed(self) -> None:
        """The second reading, too, goes on where a short page has ended."""
        calls = FakeCalls([250, 251], limits={100: 60}, counts={160: 251})
        self.assertEqual(list(range(251)), calls.read())
        self.assertEqual({0: 2, 100: 2, 200: 2, 160: 2}, calls.asked)

    def test_fails_in_vain(self) -> None:
        """A page of the first reading that fails fails the answer, and the list is not read again."""
        calls = FakeCalls([300], counts={100: 301}, failing=frozenset({200}))
        with self.assertRaises(UpstreamUnavailable):
            calls.read()
        self.assertEqual({0: 1, 100: 1, 200: 1}, calls.asked)

    def test_without_end(self) -> None:
        """Both readings together take a thousand calls at most."""
        endless = 1000 * PAGE_LIMIT + 1
        for counts in ({}, {100: endless - 1}):
            calls = FakeCalls([endless], counts=dict(counts))
            with self.assertRaises(InvalidAnswer) as caught:
                calls.read()
            self.assertEqual((1000, 200), (calls.asked.total(), caught.exception.upstream_status))

    def test_a_thousand_pages(self) -> None:
        """A list of as many pages as that is read to its end."""
        self.assertEqual(1000 * PAGE_LIMIT, len(FakeCalls([1000 * PAGE_LIMIT]).read()))


if __name__ == "__main__":
    unittest.main()
