"""Within one process, one search for all who ask for an event at the same time."""

import unittest

from c42_proxy.caching.single_flight import SingleFlight


class SingleFlightTest(unittest.TestCase):
    def setUp(self) -> None:
        self.searches: SingleFlight[str] = SingleFlight()

    def test_joined(self) -> None:
        """Whoever comes while an event has a search shares that one; the first to come leads it."""
        first, leads = self.searches.coalesce("tea")
        self.assertTrue(leads)
        for _ in range(3):
            self.assertEqual((first, False), self.searches.coalesce("tea"))
        self.assertFalse(first.done())
        self.searches.finish("tea", "found")
        self.assertEqual("found", first.result(0))

    def test_events_apart(self) -> None:
        """Each event has a search of its own."""
        tea, _ = self.searches.coalesce("tea")
        coffee, leads = self.searches.coalesce("coffee")
        self.assertTrue(leads)
        self.searches.finish("coffee", "coffee")
        self.assertEqual("coffee", coffee.result(0))
        self.assertFalse(tea.done())

    def test_crash_is_shared(self) -> None:
        """All who share a search raise the error that ended it, and none of it is left."""
        searches = [self.searches.coalesce("tea")[0] for _ in range(3)]
        self.searches.fail("tea", ZeroDivisionError())
        for search in searches:
            self.assertIsInstance(search.exception(0), ZeroDivisionError)
        self.assertTrue(self.searches.coalesce("tea")[1])

    def test_begun_anew(self) -> None:
        """After a search has ended, the next to come leads another one, and does not see the result of the first."""
        self.searches.coalesce("tea")
        self.searches.finish("tea", "old")
        again, leads = self.searches.coalesce("tea")
        self.assertTrue(leads)
        self.assertFalse(again.done())

    def test_under_way(self) -> None:
        """Those that have not ended are known."""
        tea, _ = self.searches.coalesce("tea")
        self.searches.coalesce("coffee")
        self.searches.finish("coffee", "found")
        self.assertEqual([tea], self.searches.under_way())


if __name__ == "__main__":
    unittest.main()
