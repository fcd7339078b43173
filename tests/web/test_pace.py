"""Fetches that are to begin at once begin one after the other; none is forgotten."""

import asyncio
import unittest
from collections import deque
from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from typing import Any

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
        self.assertEqual(0, began[0])
        for one, next_one in pairwise(began[1:]):
            self.assertEqual(2, next_one - one)
        self.assertIn(began[1], {2, 3})

    def test_too_many(self) -> None:
        """What would wait for a slot anyway, or be refused, does not wait here."""
        began = asyncio.run(passes(256 + 4))
        self.assertEqual(4 * [0], began[:4])
        self.assertEqual(256 + 1, len(set(began)))

    def test_the_next_time(self) -> None:
        """When all has begun, the next piece of work begins at once again."""

        async def later() -> list[str]:
            pace = Pace(asyncio.get_running_loop())
            began: list[str] = []
            for name in "ab":
                pace.begin_soon(partial(began.append, name))
            for _ in range(9):
                await asyncio.sleep(0)
            for name in "cd":
                pace.begin_soon(partial(began.append, name))
            return list(began)

        self.assertEqual(["a", "b", "c"], asyncio.run(later()))

    def test_order_and_request(self) -> None:
        """Work begins in the order in which it came, for the request for which it was asked."""
        began: list[str] = []

        async def run() -> None:
            pace = Pace(asyncio.get_running_loop())

            def ask() -> None:
                for name in "abc":
                    request.set(name)
                    pace.begin_soon(lambda: began.append(request.get()))

            await asyncio.to_thread(ask)
            while len(began) < 3:
                await asyncio.sleep(0)

        asyncio.run(run())
        self.assertEqual(["a", "b", "c"], began)

    def test_the_turn_ends_meanwhile(self) -> None:
        """Work that found the turn taken begins, also if the turn ended just before the work was among what waits."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        pace = Pace(loop)
        began: list[str] = []

        class EndsTurn(deque[Any]):
            def __len__(self) -> int:
                loop.run_until_complete(some_passes())
                return 0

        async def some_passes() -> None:
            for _ in range(9):
                await asyncio.sleep(0)

        pace._waiting = EndsTurn()
        for name in "abc":
            pace.begin_soon(partial(began.append, name))
            loop.run_until_complete(some_passes())
        pace.begin_soon(partial(began.append, "d"))
        pace.begin_soon(partial(began.append, "e"))
        loop.run_until_complete(some_passes())
        self.assertEqual(["a", "b", "c", "d", "e"], began)


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
        for name in "abc":
            self.ask(name)
        self.assertEqual(["a"], self.began)
        self.pace.close()
        self.assertEqual(["a", "b", "c"], self.began)
        self.ask("d")
        self.assertEqual(["a", "b", "c", "d"], self.began)

    def test_it_came_after_the_end(self) -> None:
        """What comes when the loop is closed begins at once, with what waited."""
        self.ask("a")
        self.ask("b")
        self.loop.close()
        self.ask("c")
        self.assertEqual(["a", "b", "c"], self.began)

    def test_none_has_begun(self) -> None:
        """The first piece of work, too."""
        self.loop.close()
        self.ask("a")
        self.ask("b")
        self.assertEqual(["a", "b"], self.began)
