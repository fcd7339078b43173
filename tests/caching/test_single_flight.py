"""Within one process, one flight for all who ask for an event at the same time."""

import unittest

from c42_proxy.caching.single_flight import SingleFlight


class SingleFlightTest(unittest.TestCase):
    def setUp(self) -> None:
        self.flights: SingleFlight[str] = SingleFlight()

    def test_joined(self) -> None:
        """Whoever comes while an event has a flight joins that one; the first to come leads it."""
        first, leads = self.flights.join("tea")
        self.assertTrue(leads)
        for _ in range(3):
            self.assertEqual((first, False), self.flights.join("tea"))
        self.assertFalse(first.done())
        self.flights.land("tea", "landed")
        self.assertEqual("landed", first.result(0))

    def test_events_apart(self) -> None:
        """Each event has a flight of its own."""
        tea, _ = self.flights.join("tea")
        coffee, leads = self.flights.join("coffee")
        self.assertTrue(leads)
        self.flights.land("coffee", "coffee")
        self.assertEqual("coffee", coffee.result(0))
        self.assertFalse(tea.done())

    def test_crash_is_shared(self) -> None:
        """All who joined a flight raise what it crashed with, and none of it is left."""
        flights = [self.flights.join("tea")[0] for _ in range(3)]
        self.flights.crash("tea", ZeroDivisionError())
        for flight in flights:
            self.assertIsInstance(flight.exception(0), ZeroDivisionError)
        self.assertTrue(self.flights.join("tea")[1])

    def test_begun_anew(self) -> None:
        """After a flight has landed, the next to come leads another one, and does not see the result of the first."""
        self.flights.join("tea")
        self.flights.land("tea", "old")
        again, leads = self.flights.join("tea")
        self.assertTrue(leads)
        self.assertFalse(again.done())

    def test_under_way(self) -> None:
        """Those that have not ended are known."""
        tea, _ = self.flights.join("tea")
        self.flights.join("coffee")
        self.flights.land("coffee", "landed")
        self.assertEqual([tea], self.flights.under_way())


if __name__ == "__main__":
    unittest.main()
