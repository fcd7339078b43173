"""Redis far away: each command takes a round trip, and nothing that is kept there may depend on how long that is."""

import logging
import multiprocessing
import sys
import time
import unittest
from collections import Counter
from concurrent.futures import wait
from contextlib import closing
from multiprocessing.synchronize import Barrier, Event
from types import SimpleNamespace
from typing import ClassVar

from c42_proxy.caching.circuit_breaker import CircuitBreaker
from c42_proxy.caching.freshness import Freshness
from c42_proxy.caching.limits import FETCHES_AT_ONCE
from c42_proxy.events import Events
from c42_proxy.observability.metrics import Metrics
from c42_proxy.redis_url import RedisUrl
from c42_proxy.server.worker import SWITCH_SECONDS
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.stores.redis import LEASE_SECONDS, RedisStore
from c42_proxy.stores.redis_clients import new_server
from c42_proxy.stores.redis_cluster import Cluster
from c42_proxy.stores.tiered import TieredStore
from c42_proxy.upstream.combine import Combined
from harness.distance import Distance
from harness.needs import needs
from harness.redis_server import RedisServer

from .neighbour import LIFETIME, NAMESPACE, entry

EVENTS = 300


class SlowC42:
    """C42 takes half a second for each event, and records for which events it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def combined(self, event_id: str) -> Combined:
        self.asked.append(event_id)
        began = time.time()
        time.sleep(0.5)  # in a process of its own, where nobody could open a gate
        return Combined(entry(event_id, began), 200)


class Log(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


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
        fork = multiprocessing.get_context("fork")
        have_all, over = fork.Barrier(6), fork.Event()
        processes = [fork.Process(target=hold_leases, args=(url, f"{number}", have_all, over)) for number in range(5)]
        for process in processes:
            process.start()
        have_all.wait(20)
        fewest = 5 * FETCHES_AT_ONCE
        # The leases expire by Redis's clock, which is the machine's.
        give_up = time.monotonic() + 3 * LEASE_SECONDS
        while time.monotonic() < give_up:
            fewest = min(fewest, self.leases())
            time.sleep(0.05)
        over.set()
        for process in processes:
            process.join(10)
            self.assertEqual(0, process.exitcode)
        self.assertEqual(5 * FETCHES_AT_ONCE, fewest)

    def test_two_hosts(self) -> None:
        """Two hosts, six milliseconds away, that are asked for the same 300 events at once fetch each of them once.

        As long as Redis answers in time, that is. Where all of this is one busy machine, it may not, up to twice.
        """
        for _attempt in range(3):
            self.redis.command("FLUSHALL")
            asked, outcomes, log = self.two_hosts()
            if not any("Timeout reading from socket" in line for line in log):
                break
        self.assertEqual([], log)
        self.assertEqual(EVENTS, len(set(asked)))
        self.assertEqual(EVENTS, len(asked), "some were fetched twice")
        self.assertEqual(EVENTS, outcomes["miss"])
        self.assertEqual(EVENTS, outcomes["collapsed"] + outcomes["hit"], outcomes)

    def test_one_round_trip(self) -> None:
        """To read many entries and texts takes about as long as to read one."""
        with closing(RedisStore(self.far(0.05), namespace=NAMESPACE, lifetime=LIFETIME)) as store:
            kept = entry("a", time.time())
            store.put("a", kept, kept.fetched_at)
            for _ in range(20):
                began = time.monotonic()
                found = store.read(["a", *(f"event {number}" for number in range(29))], ["a text"])
                if time.monotonic() - began < 0.1:
                    break
            else:
                self.fail("each took two round trips or more")
        self.assertEqual([kept], [each for each in found.entries.values() if each])

    def test_one_round_trip_for_all_nodes(self) -> None:
        """So it is if each entry is at another node of a cluster: all of them are asked before the first answer."""
        servers = {f"{number}": new_server(RedisUrl.parsed(self.far(0.05))) for number in range(5)}
        cluster = Cluster(RedisUrl.parsed("redis+cluster://127.0.0.1"))
        # As redis-py's client, which finds the nodes of a real cluster by itself.
        cluster._cluster = SimpleNamespace(
            get_node_from_key=str, get_redis_connection=servers.get, get_nodes=list, get_primaries=list
        )
        for _ in range(20):
            began = time.monotonic()
            self.assertEqual(5 * [None], cluster.at_once({key: ("GET", key) for key in servers}))
            if time.monotonic() - began < 0.1:
                break
        else:
            self.fail("each took two round trips or more")
        for server in servers.values():
            server.leave()

    def two_hosts(self) -> tuple[list[str], Counter[str], list[str]]:
        """What both hosts asked C42, how their clients were answered, and what their logs say."""
        urls = [self.far(0.006) for _ in range(2)]
        fork = multiprocessing.get_context("fork")
        begin, told = fork.Barrier(2), fork.SimpleQueue()
        hosts = [fork.Process(target=lambda url=url: told.put(ask_for_all(url, begin))) for url in urls]
        for host in hosts:
            host.start()
        for host in hosts:
            host.join(30)
            self.assertEqual(0, host.exitcode)
        (one, its_outcomes, its_log), (other, other_outcomes, other_log) = told.get(), told.get()
        return [*one, *other], its_outcomes + other_outcomes, its_log + other_log


def hold_leases(url: str, name: str, have_all: Barrier, over: Event) -> None:
    """What one process does: it gets as many leases as it may fetch events at once, and holds them until it is over."""
    sys.setswitchinterval(SWITCH_SECONDS)
    with closing(RedisStore(url, namespace=NAMESPACE, lifetime=LIFETIME)) as store:
        for number in range(FETCHES_AT_ONCE):
            assert store.lease(f"{name}-{number}") is not None
        have_all.wait(20)
        assert over.wait(20)


def ask_for_all(url: str, begin: Barrier) -> tuple[list[str], Counter[str], list[str]]:
    """What one host does: the events for which it asked C42, how its clients were answered, and what its log says."""
    c42, metrics, log = SlowC42(), Metrics(), Log()
    logging.getLogger("c42_proxy").addHandler(log)
    sys.setswitchinterval(SWITCH_SECONDS)
    with closing(RedisStore(url, namespace=NAMESPACE, lifetime=LIFETIME)) as store:
        tiered = TieredStore(MemoryStore(1 << 26), store, clock=time.time, metrics=metrics)
        breaker = CircuitBreaker(tiered, clock=time.time, threshold=5, probe_seconds=8, metrics=metrics)
        freshness = Freshness(252, 3600)
        events = Events(c42, tiered, breaker, freshness=freshness, budget=4, clock=time.time, metrics=metrics)
        with closing(events):
            begin.wait(10)
            pending = [events.coalesce(f"event-{number}") for number in range(EVENTS)]
            wait([each.search for each in pending], 10)
            replies = [events.reply_for(each) for each in pending]
    return c42.asked, Counter(reply.outcome for reply in replies), log.lines
