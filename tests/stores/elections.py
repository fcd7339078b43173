"""What takes real time: a primary of Redis is killed under load, and another one is elected.

`make elections` prints what that costs in calls to C42. It takes a minute, and at most two.
"""

import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from threading import Event

from c42_proxy.errors import StoreError
from c42_proxy.stores.redis import RedisStore
from harness.cluster import Cluster, Host
from harness.needs import needs
from harness.processes import until
from harness.redis_deployments import NAME, Nodes, Watched
from harness.redis_server import RedisServer, command

from .neighbour import NOW, entry

SECONDS = 15.0
"""Within these, the hosts share again."""
QUIET_SECONDS = 3.0
"""If everything was shared for so long, the hosts share again: more than the pause before a store is tried again."""
EVENTS = 5000
CLIENTS = 4


@dataclass(frozen=True)
class Visit:
    """An event that was requested from one host, and then from the other one."""

    ended: float
    statuses: frozenset[int]
    shared: bool
    """Whether the second host knew the answer of the first one."""


@needs("redis-server")
class ElectionTest(unittest.TestCase):
    def setUp(self) -> None:
        self.cluster = self.enterContext(Cluster())
        self.c42 = self.cluster.sandbox
        self.names = [f"event-{number}" for number in range(EVENTS)]
        self.c42.set(events={name: {"title": "Tea", "names": ["Arthur"]} for name in self.names}, latency=0.05)
        self.visits: list[Visit] = []
        self.over = Event()

    def visit(self, numbers: "count[int]", hosts: tuple[Host, Host]) -> None:
        """What a client does until it is over: it requests new events, each from both hosts."""
        while not self.over.is_set():
            number = next(numbers)
            one, other = hosts if number % 2 else hosts[::-1]
            first, second = one.get(self.names[number]), other.get(self.names[number])
            statuses, shared = frozenset({first.status, second.status}), "; hit" in second.cache_status
            self.visits.append(Visit(time.monotonic(), statuses, shared))

    def unshared(self) -> list[Visit]:
        return [visit for visit in self.visits if not visit.shared]

    def assert_survives(self, what: str, url: str, primary: RedisServer) -> None:
        hosts = self.cluster.add_two_hosts(url)
        numbers = count()
        with ThreadPoolExecutor(CLIENTS) as clients:
            self.addCleanup(self.over.set)
            working = [clients.submit(self.visit, numbers, hosts) for _ in range(CLIENTS)]
            try:
                until(lambda: len(self.visits) > 50, "clients")
                self.assertEqual([], self.unshared())
                primary.stop()
                killed = time.monotonic()
                until(self.unshared, "a loss")
                until(lambda: self.unshared()[-1].ended < time.monotonic() - QUIET_SECONDS, "an election", 2 * SECONDS)
            finally:
                self.over.set()
            for client in working:
                client.result()
        seconds, twice = self.unshared()[-1].ended - killed, len(self.unshared())
        during = sum(killed < visit.ended <= killed + seconds for visit in self.visits)
        sys.stderr.write(
            f"\n{what}: the primary was killed; {seconds:.1f} s later the hosts shared again. "
            f"Of {during} events that were requested meanwhile, {twice} were asked twice.\n"
        )
        self.assertEqual({200}, set().union(*(visit.statuses for visit in self.visits)))
        self.assertLess(seconds, SECONDS)
        self.assertEqual(len(self.visits) + twice, self.c42.calls["events"])

    def test_sentinels(self) -> None:
        """No client notices that the primary is killed. When the Sentinels have elected another one, it is shared."""
        with Watched(replicas=1, sentinels=3, down_after=3) as redis:
            self.assert_survives("Sentinels", redis.url, redis.primary)
            self.assertEqual(redis.replicas[0].port, redis.named())

    def test_cluster(self) -> None:
        """The same with a node of a cluster, whose replica takes its place."""
        with Nodes(replica=True) as redis:
            self.assert_survives("Cluster", redis.url, redis.nodes[0])
            self.assertIn(b"role:master", redis.nodes[3].command("INFO", "replication"))


@needs("redis-server")
class PlannedTest(unittest.TestCase):
    def test_sentinels(self) -> None:
        """An operator lets a replica take over. Until the former primary becomes a replica, a host may stay with it."""
        with Watched(replicas=1) as redis, closing(RedisStore(redis.url, namespace="n", lifetime=60)) as store:
            self.assertTrue(store.put("before", entry("before"), NOW))
            key = "c42-proxy:n:event:before"
            until(lambda: redis.replicas[0].command("EXISTS", key) == b":1\r\n", "the entry at the replica")
            failover = ("SENTINEL", "FAILOVER", NAME)
            until(lambda: command(redis.ports[0], *failover) == b"+OK\r\n", "a replica that can take over")
            names = count()

            def is_at_the_new_one() -> bool:
                name = f"{next(names)}"
                with suppress(StoreError):
                    store.put(name, entry(name), NOW)
                return redis.replicas[0].command("EXISTS", f"c42-proxy:n:event:{name}") == b":1\r\n"

            until(lambda: redis.named() == redis.replicas[0].port, "another primary")
            until(is_at_the_new_one, "an entry at the other primary", SECONDS)
            self.assertEqual(entry("before"), store.get("before"))
