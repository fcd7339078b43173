import asyncio
import unittest
from collections.abc import Sequence
from itertools import pairwise

from c42_proxy.web.pace import pace


async def passes(event_ids: Sequence[str]) -> list[int]:
    """In which pass of the loop each of these searches, which all come in one pass, may begin."""
    loop = asyncio.get_running_loop()
    now = 0

    def count() -> None:
        nonlocal now
        now += 1
        loop.call_soon(count)

    async def began(event_id: str) -> int:
        await pace().may_begin(event_id)
        return now

    loop.call_soon(count)
    return await asyncio.gather(*map(began, event_ids))


class PaceTest(unittest.TestCase):
    def test_one_after_the_other(self) -> None:
        """Searches that come at once begin in turn, with passes of the event loop in between; the first at once."""
        began = asyncio.run(passes("abcde"))
        self.assertEqual(sorted(began), began)
        self.assertLessEqual(began[0], 1)
        for one, next_one in pairwise(began[1:]):
            self.assertEqual(2, next_one - one)

    def test_one_event(self) -> None:
        """Requests for one event begin together."""
        _first, *began = asyncio.run(passes("abbb"))
        self.assertEqual(1, len(set(began)))

    def test_too_many(self) -> None:
        """What would wait for a slot anyway, or be refused, does not wait here."""
        began = asyncio.run(passes(list(map(str, range(256 + 3)))))
        self.assertEqual(3, sum(each == began[0] for each in began))

    def test_a_loop_that_has_ended(self) -> None:
        """Each event loop has a pace of its own, and a request that has gone stops no other one."""

        async def leave() -> None:
            tasks = [asyncio.create_task(pace().may_begin(event_id)) for event_id in "abc"]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await tasks[2]

        for _ in range(2):
            asyncio.run(leave())
