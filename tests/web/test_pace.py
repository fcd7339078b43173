"""Fetches that are to begin at once begin one after the other; none is forgotten."""

import asyncio
import threading
import unittest
from contextvars import ContextVar
from itertools import pairwise

from c42_proxy.web.pace import Pace

request: ContextVar[str] = ContextVar("request")


async def passes(number: int) -> list[int]:
    """In which pass of the loop each piece of work begins, if all are asked for in one pass."""
    loop = asyncio.get_running_loop()
    now = 0
    began: list[int] = []

    def count() -> None:
        nonlocal now
        now += 1
        loop.call_soon(count)

    pace = Pace(loop)
    loop.call_soon(count)
    for _ in range(number):
        pace.begin_soon(lambda: began.append(now))
    while len(began) < number:
        await asyncio.sleep(0)
    return began


class PaceTest(unittest.TestCase):
    def test_one_after_the_other(self) -> None:
        """What comes at once begins in turn, with passes of the event loop in between; the first at once."""
        began = asyncio.run(passes(5))
        self.assertLessEqual(began[0], 1)
        for one, next_one in pairwise(began):
            self.assertEqual(2, next_one - one)

    def test_too_many(self) -> None:
        """What would wait for a slot anyway, or be refused, does not wait here."""
        began = asyncio.run(passes(256 + 3))
        self.assertEqual(3 * [0], began[:3])
        self.assertEqual(256 + 3 - 2, len(set(began)))

    def test_the_next_time(self) -> None:
        """When all has begun, the next piece of work begins at once again."""

        async def twice() -> list[list[int]]:
            return [await passes(2), await passes(2)]

        first, second = asyncio.run(twice())
        self.assertEqual(first, second)

    def test_order_and_request(self) -> None:
        """Work begins in the order in which it came, for the request for which it was asked, in the loop's thread."""
        began = []

        async def run() -> None:
            pace = Pace(asyncio.get_running_loop())

            def ask() -> None:
                for name in "abc":
                    request.set(name)
                    pace.begin_soon(lambda: began.append((request.get(), threading.current_thread())))

            await asyncio.to_thread(ask)
            while len(began) < 3:
                await asyncio.sleep(0)

        asyncio.run(run())
        self.assertEqual([(name, threading.current_thread()) for name in "abc"], began)


class LoopThatHasEndedTest(unittest.TestCase):
    """Work that a loop no longer begins would never end, and a stop would wait for it."""

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.pace = Pace(self.loop)
        self.began: list[str] = []

    def ask(self, name: str) -> None:
        self.pace.begin_soon(lambda: self.began.append(name))

    def test_it_waited(self) -> None:
        """What waits when the loop ends begins then, and what comes later begins at once."""
        self.ask("a")
        self.ask("b")
        self.assertEqual([], self.began)
        self.pace.close()
        self.assertEqual(["a", "b"], self.began)
        self.ask("c")
        self.assertEqual(["a", "b", "c"], self.began)

    def test_it_came_after_the_end(self) -> None:
        """What comes when the loop is closed begins at once, with what waited."""
        self.ask("a")
        self.loop.close()
        self.ask("b")
        self.assertEqual(["a", "b"], self.began)
