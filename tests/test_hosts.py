"""Hosts that share one Redis: how many commands a request costs it, and how many calls it costs C42."""

import re
import unittest
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from c42_proxy.app import Proxy, build
from c42_proxy.settings import Settings
from harness.needs import needs
from harness.redis_server import RedisServer
from harness.sandbox import Sandbox

MISS = 14
"""What Redis executes for a miss, in scripts too, while no other host asks and C42 is fast."""
RENEWALS = 3
"""What it executes to renew a lease, once in the time that C42 takes here."""
WAIT = 20
"""What a host may add at most that waits for another one's fetch, while C42 takes 0.3 s."""


@needs("redis-server")
class HostsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.redis = self.enterContext(RedisServer())
        self.c42 = self.enterContext(Sandbox())

    def hosts(self, count: int) -> list[Proxy]:
        """Each with a memory of its own, after its first request, which connects it."""
        settings = Settings.from_env({**self.c42.variables, "C42_CACHE_URL": self.redis.url, "C42_TIMEOUT": "5"})
        hosts = [self.enterContext(closing(build(settings))) for _ in range(count)]
        self.ask(hosts, self.c42.new_event())
        return hosts

    def ask(self, hosts: Sequence[Proxy], event_id: str) -> tuple[dict[str, int], dict[str, int]]:
        """Ask all hosts at once. Returns what Redis has executed for it, and which calls C42 has had."""
        self.redis.command("CONFIG", "RESETSTAT")
        self.c42.set(calls="reset")
        with ThreadPoolExecutor(len(hosts)) as threads:
            outcomes = list(threads.map(lambda host: host.events.reply(event_id).outcome, hosts))
        self.assertNotIn("error", outcomes)
        found = re.findall(r"cmdstat_([a-z]+):calls=([0-9]+)", self.redis.command("INFO", "commandstats").decode())
        return {name: int(calls) for name, calls in found if "config" not in name}, self.c42.calls

    def test_hits(self) -> None:
        """A hit in memory costs Redis nothing, and one that another host has fetched costs it one read."""
        one, other = self.hosts(2)
        event_id = self.c42.new_event()
        self.ask([one], event_id)
        self.assertEqual({}, self.ask([one], event_id)[0])
        self.assertEqual({"get": 1}, self.ask([other], event_id)[0])
        self.assertEqual({}, self.ask([other], event_id)[0])

    def test_miss(self) -> None:
        """What a miss costs Redis is bounded."""
        [host] = self.hosts(1)
        commands, _calls = self.ask([host], self.c42.new_event())
        self.assertLessEqual(sum(commands.values()), MISS, commands)

    def test_waiting(self) -> None:
        """However many hosts ask at once, C42 is asked once, and each that waits costs Redis few commands."""
        hosts = self.hosts(8)
        for count in (1, 8):
            event_id = self.c42.new_event()
            with self.c42.with_latency(0.3):
                commands, calls = self.ask(hosts[:count], event_id)
            self.assertEqual({1}, set(calls.values()), count)
            self.assertLessEqual(sum(commands.values()), MISS + RENEWALS + (count - 1) * WAIT, commands)
