"""Redis far away: each command takes a round trip, and nothing that is kept there may depend on how long that is."""

import time
import unittest
from typing import ClassVar

from c42_proxy.stores.redis import LEASE_SECONDS
from harness.distance import Distance
from harness.needs import needs
from harness.redis_server import RedisServer

from .neighbour import Neighbour


@needs("redis-server")
class FarRedisTest(unittest.TestCase):
    redis: ClassVar[RedisServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = cls.enterClassContext(RedisServer())

    def setUp(self) -> None:
        self.redis.command("FLUSHALL")

    def leases(self) -> int:
        """How many leases Redis knows of."""
        return int(self.redis.command("DBSIZE")[1:-2])

    def far(self, round_trip: float) -> str:
        """The URL at which Redis is so many seconds away."""
        return f"redis://127.0.0.1:{self.enterContext(Distance(self.redis.port, round_trip)).port}/0"

    def test_many_leases(self) -> None:
        """Five processes with 256 leases each, ten milliseconds away, lose none while they hold them."""
        url = self.far(0.01)
        neighbours = [self.enterContext(Neighbour(url)) for _ in range(5)]
        for number, neighbour in enumerate(neighbours):
            neighbour.tell("leases", f"{number}", 256)
        self.assertEqual([256] * 5, [neighbour.answer() for neighbour in neighbours])
        fewest = 5 * 256
        # The leases expire by Redis's clock, which is the machine's.
        give_up = time.monotonic() + 3 * LEASE_SECONDS
        while time.monotonic() < give_up:
            fewest = min(fewest, self.leases())
            time.sleep(0.05)
        self.assertEqual(5 * 256, fewest)
