"""Fetches that are to begin at once begin one after the other; none is forgotten."""

import asyncio
import unittest
from contextlib import closing
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

    pace = Pace(loop, lambda: 0.0)
    loop.call_soon(count)
    for _ in range(number):
        pace.begin_soon(lambda: began.append(now))
    while len(began) < number:
        await asyncio.sleep(0)
    return began


async def some_passes() -> None:
    for _ in range(9):
        await asyncio.sleep(0)


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
        """After a while, the next piece of work begins at once again, if the loop has begun all that waited."""
        now = 0.0

        async def later() -> list[str]:
            nonlocal now
            pace = Pace(asyncio.get_running_loop(), lambda: now)
            began: list[str] = []
            for name in "ab":
                pace.begin_soon(partial(began.append, name))
            now = 1.0
            pace.begin_soon(partial(began.append, "c"))
            self.assertEqual(["a"], began)
            await some_passes()
            self.assertEqual(["a", "b", "c"], began)
            for name in "de":
                pace.begin_soon(partial(began.append, name))
            return list(began)

        self.assertEqual(["a", "b", "c", "d"], asyncio.run(later()))

    def test_soon_again(self) -> None:
        """Work that comes too soon after the last one waits for the loop, also if nothing waits there."""

        async def soon() -> list[str]:
            pace = Pace(asyncio.get_running_loop(), lambda: 0.0)
            began: list[str] = []
            for name in "ab":
                pace.begin_soon(partial(began.append, name))
            await some_passes()
            pace.begin_soon(partial(began.append, "c"))
            self.assertEqual(["a", "b"], began)
            await some_passes()
            return began

        self.assertEqual(["a", "b", "c"], asyncio.run(soon()))

    def test_a_bug(self) -> None:
        """Work that fails keeps no other from its beginning."""

        async def run() -> list[str]:
            pace = Pace(asyncio.get_running_loop(), lambda: 0.0)
            began: list[str] = []
            for work in (int, partial(int, "x"), partial(began.append, "a")):
                pace.begin_soon(work)
            await some_passes()
            return began

        with self.assertLogs("asyncio", "ERROR"):
            self.assertEqual(["a"], asyncio.run(run()))

    def test_one_alone(self) -> None:
        """The loop has nothing to do for work that comes alone."""

        class Loop(asyncio.SelectorEventLoop):
            def call_soon_threadsafe(self, *_: Any, **__: Any) -> asyncio.Handle:  # type: ignore[override]  # as it comes
                raise AssertionError

        began: list[str] = []
        with closing(Loop()) as loop:
            Pace(loop).begin_soon(partial(began.append, "a"))
        self.assertEqual(["a"], began)

    def test_order_and_request(self) -> None:
        """Work begins in the order in which it came, for the request for which it was asked."""
        began: list[str] = []

        async def run() -> None:
            pace = Pace(asyncio.get_running_loop(), lambda: 0.0)

            def ask() -> None:
                for name in "abc":
                    request.set(name)
                    pace.begin_soon(lambda: began.append(request.get()))

            await asyncio.to_thread(ask)
            while len(began) < 3:
                await asyncio.sleep(0)

        asyncio.run(run())
        self.assertEqual(["a", "b", "c"], began)


class LoopThatHasEndedTest(unittest.TestCase):
    """Work that a loop no longer begins would never end, and a stop would wait for it."""

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.pace = Pace(self.loop, lambda: 0.0)
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

    def test_it_ends_meanwhile(self) -> None:
        """What comes while the loop is closed begins, with what waited."""

        class Loop(asyncio.SelectorEventLoop):
            def call_soon_threadsafe(self, *_: Any, **__: Any) -> asyncio.Handle:  # type: ignore[override]  # as it comes
                raise RuntimeError

        with closing(Loop()) as loop:
            self.pace = Pace(loop, lambda: 0.0)
            self.ask("a")
            self.ask("b")
        self.assertEqual(["a", "b"], self.began)
