"""The rules that spare C42, over real gunicorn workers, stores and hosts, while parts of them fail."""

import os
import re
import signal
import sqlite3
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from c42_proxy.sandbox.events import BASEBALL, COFFEE, DINNER
from c42_proxy.stores.sqlite import FILE_SECONDS
from harness.cluster import Answer, Cluster, Host
from harness.needs import needs
from harness.processes import until
from harness.redis_server import RedisServer

BUDGET = 4.0
STORM = 100
TTL = 1.5


class FaultsTest(unittest.TestCase):
    """Each test has a C42 and stores of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = self.folder / "cache.sqlite3"
        self.sqlite = f"sqlite:///{self.file}"
        self.cluster = self.enterContext(Cluster())
        self.c42 = self.cluster.sandbox

    def fetched_each(self, events: int, clients: int, name: str = "event") -> dict[str, int]:
        """So many events, each asked for by so many clients at once, over all hosts: the calls that C42 got."""
        names = {f"{name}-{number}": {"title": "Tea", "names": ["Arthur"]} for number in range(events)}
        self.c42.set(events=names, latency=0.5, calls="reset")
        answers = self.cluster.storm(events * clients, *names)
        self.assertEqual({answer.status for answer in answers}, {200})
        return self.c42.calls

    def assert_all_named(self, answers: list[Answer]) -> None:
        self.assertEqual({answer.status for answer in answers}, {200}, answers)
        self.assertEqual(len({answer.body for answer in answers}), 1)

    def wait_until_shared(self, one: Host, other: Host) -> None:
        """What one host fetches is a hit for the other."""
        numbers = iter(range(10_000))

        def shared() -> bool:
            event_id = f"shared-{next(numbers)}"
            return one.get(event_id).status == 404 and "hit" in other.get(event_id).cache_status

        until(shared, "a shared store", 10)

    def worker_of(self, host: Host) -> int:
        ((pid, _began),) = host.process.descendants()
        return pid

    def kill_worker(self, host: Host) -> None:
        os.kill(self.worker_of(host), signal.SIGKILL)


class StormTest(FaultsTest):
    def test_cold(self) -> None:
        """A hundred clients of four workers ask for a cold event: one call for it, and one for each hundred names."""
        self.cluster.add_host(self.sqlite, workers=4)
        self.c42.set(latency=0.3)
        answers = self.cluster.storm(STORM, BASEBALL)
        self.assert_all_named(answers)
        self.assertEqual(len(answers[0].names), 238)
        self.assertEqual(self.c42.calls, {"events": 1, "subscriptions": 3})

    def test_expiry(self) -> None:
        """The same at the very moment at which an answer expires."""
        host = self.cluster.add_host(self.sqlite, workers=4, C42_CACHE_TTL=str(TTL))
        self.c42.set(latency=0.1)
        asked_at = time.monotonic()
        host.get()
        self.c42.set(calls="reset")
        # The storm begins a few milliseconds before the answer expires, and goes on after it.
        time.sleep(asked_at + TTL - time.monotonic())
        self.assert_all_named(self.cluster.storm(120))
        self.assertEqual(self.c42.calls, {"events": 1, "subscriptions": 1})

    def test_many_events(self) -> None:
        """A burst of many events at once is no failure of the store: each is fetched once."""
        self.cluster.add_host(self.sqlite, workers=4)
        self.assertEqual({"events": 120, "subscriptions": 120}, self.fetched_each(events=120, clients=4))

    def test_late(self) -> None:
        """An answer that is out of date when it arrives is one for all workers, not asked for by each in turn."""
        self.cluster.add_host(self.sqlite, workers=4, C42_CACHE_TTL="0.5")
        self.c42.set(latency=1)
        self.assert_all_named(self.cluster.storm(40))
        self.assertEqual(self.c42.calls, {"events": 1, "subscriptions": 1})

    def test_failure(self) -> None:
        """If a fetch fails after a second, the hundred clients that wait for it all fail soon; C42 is hardly asked."""
        self.cluster.add_host(self.sqlite, workers=4)
        self.c42.set(latency=1, fault={"status": 500})
        answers = self.cluster.storm(STORM)
        self.assertEqual({answer.status for answer in answers}, {502})
        self.assertLess(max(answer.seconds for answer in answers), BUDGET)
        self.assertLessEqual(self.c42.calls["events"], 2)

    def test_restart(self) -> None:
        """What was fetched before a restart is a hit after it."""
        first = self.cluster.add_host(self.sqlite)
        self.assertIn("stored", first.get().cache_status)
        first.process.close()
        second = self.cluster.add_host(self.sqlite)
        self.assertIn("hit", second.get().cache_status)
        self.assertEqual(self.c42.calls["events"], 1)


class DeathTest(FaultsTest):
    def test_kill(self) -> None:
        """Where the one who fetches is killed, one of those who wait takes over at once, with a full budget."""
        doomed, other = self.cluster.add_two_hosts(self.sqlite)
        self.c42.set(latency=2)
        lost = self.cluster.later(doomed)
        self.c42.wait_for_call()
        waiting = [self.cluster.later(other) for _ in range(20)]
        self.kill_worker(doomed)
        killed_at = time.monotonic()
        self.assertEqual(lost.result().status, 0)
        self.assert_all_named([each.result() for each in waiting])
        self.assertLess(time.monotonic() - killed_at, 2 + 1)
        self.assertEqual(self.c42.calls["events"], 2)

    def test_terminate(self) -> None:
        """SIGTERM in the middle of a fetch: its client is answered, then the proxy ends with 0."""
        host = self.cluster.add_host(self.sqlite)
        self.c42.set(latency=1)
        waiting = self.cluster.later(host)
        self.c42.wait_for_call()
        host.process.send(signal.SIGTERM)
        self.assertEqual(waiting.result().status, 200)
        self.assertEqual(host.process.wait(), 0, host.process.output())

    def two_workers(self, host: Host, old: set[tuple[int, str]]) -> set[tuple[int, str]] | None:
        """Both workers, as soon as none of the old ones is among them."""
        new = host.process.descendants()
        return new if len(new) == 2 and not new & old else None

    def test_reload(self) -> None:
        """HUP under load loses no request, and asks C42 nothing that it would not have asked without."""
        host = self.cluster.add_host(self.sqlite, workers=2)
        host.get()
        workers = until(partial(self.two_workers, host, set()), "both workers")
        stop = threading.Event()
        answers: list[Answer] = []

        def load() -> None:
            while not stop.is_set():
                answers.append(host.get())

        with ThreadPoolExecutor(8) as clients:
            for _ in range(8):
                clients.submit(load)
            try:
                for _ in range(3):
                    host.process.send(signal.SIGHUP)
                    workers = until(partial(self.two_workers, host, workers), "new workers")
            finally:
                stop.set()
        self.assertGreater(len(answers), 50)
        self.assertEqual({answer.status for answer in answers}, {200})
        self.assertEqual(self.c42.calls["events"], 1)


class SqliteFaultTest(FaultsTest):
    def test_locked_by_a_stranger(self) -> None:
        """Another program's lock on the database slows one miss down, not every one; then the file is used again."""
        one, other = self.cluster.add_two_hosts(self.sqlite)
        one.get(DINNER)
        stranger = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(stranger.close)
        stranger.execute("BEGIN EXCLUSIVE")
        first, second = one.get("unknown-1"), one.get("unknown-2")
        self.assertEqual((first.status, second.status), (404, 404))
        self.assertLess(first.seconds, FILE_SECONDS + 0.55)
        self.assertLess(second.seconds, 0.2)
        self.assertIn("hit", one.get(DINNER).cache_status)
        stranger.execute("ROLLBACK")
        self.wait_until_shared(one, other)

    def test_corrupt(self) -> None:
        """A corrupt file is set aside; four workers make one new one, and everything is answered."""
        self.file.write_bytes(b"no database at all" * 500)
        self.cluster.add_host(self.sqlite, workers=4)
        self.assert_all_named(self.cluster.storm(40))
        self.assertEqual(self.c42.calls["events"], 1)

    def test_no_folder(self) -> None:
        """Where the file cannot be, each worker goes on by itself, after one warning."""
        (self.folder / "file").touch()
        host = self.cluster.add_host(f"sqlite:///{self.folder}/file/cache.sqlite3", workers=1)
        self.assert_all_named(self.cluster.storm(40))
        self.assertEqual(self.c42.calls["events"], 1)
        self.assertEqual(host.process.output().count("the shared store fails"), 1)


@needs("redis-server")
class RedisFaultTest(FaultsTest):
    def setUp(self) -> None:
        super().setUp()
        self.redis = self.enterContext(RedisServer())

    def hosts(self, *, workers: int = 1, **settings: str) -> tuple[Host, Host]:
        return self.cluster.add_two_hosts(self.redis.url, workers=workers, **settings)

    def time_outs(self, *hosts: Host) -> int:
        """How often they have said that Redis did not answer in time, or that too many waited for it."""
        late = re.compile("the shared store fails.*(Timeout|has waited too long)|leases lost")
        return sum(len(late.findall(host.process.output())) for host in hosts)

    def test_two_hosts(self) -> None:
        """Two hosts on one Redis make one fetch of a storm."""
        self.hosts(workers=2)
        self.c42.set(latency=0.3)
        self.assert_all_named(self.cluster.storm(STORM))
        self.assertEqual(self.c42.calls, {"events": 1, "subscriptions": 1})

    def test_many_events(self) -> None:
        """A burst of many events at once is no failure of Redis: each is fetched once.

        As long as Redis answers in time, that is. Where all of this is one busy machine, it may not, up to twice.
        """
        one, other = self.hosts(workers=2)
        for attempt in range(3):
            before = self.time_outs(one, other)
            calls = self.fetched_each(events=120, clients=4, name=f"event-{attempt}")
            if self.time_outs(one, other) == before:
                break
            self.wait_until_shared(one, other)
        self.assertEqual({"events": 120, "subscriptions": 120}, calls)

    def test_slow(self) -> None:
        """The lease is renewed: a fetch that takes three seconds is still the only one."""
        self.hosts()
        self.c42.set(latency=3)
        self.assert_all_named(self.cluster.storm(20))
        self.assertEqual(self.c42.calls["events"], 1)

    def test_kill(self) -> None:
        """Where the one who fetches is killed on one host, the other takes over within a second."""
        doomed, other = self.hosts()
        self.c42.set(latency=2)
        self.cluster.later(doomed)
        self.c42.wait_for_call()
        waiting = self.cluster.later(other)
        self.kill_worker(doomed)
        killed_at = time.monotonic()
        self.assertEqual(waiting.result().status, 200)
        self.assertLess(time.monotonic() - killed_at, 1 + 2 + 0.7)
        self.assertEqual(self.c42.calls["events"], 2)

    def test_told_to_wait(self) -> None:
        """Where C42 tells one host to wait, the other waits, too."""
        one, other = self.hosts()
        self.c42.set(fault={"status": 429, "retry_after": 30})
        self.assertEqual(one.get(COFFEE).status, 503)
        self.c42.set(fault=None, calls="reset")
        answer = other.get(DINNER)
        self.assertEqual(answer.status, 503)
        self.assertIn("told-to-wait", answer.cache_status)
        self.assertEqual(self.c42.calls["events"], 0)

    def test_down(self) -> None:
        """Failures that two hosts saw between them count together, and both leave C42 alone."""
        one, other = self.hosts(C42_BREAKER_THRESHOLD="4")
        self.c42.set(fault={"status": 500})
        for number in range(4):
            (one, other)[number % 2].get(f"event-{number}")
        self.c42.set(fault=None, calls="reset")
        for host in (one, other):
            self.assertIn("c42-down", host.get(COFFEE).cache_status)
        self.assertEqual(self.c42.calls["events"], 0)
        until(lambda: other.get(COFFEE).status == 200, "that the breaker closes", 7)
        self.assertEqual(one.get(DINNER).status, 200)

    def test_hung(self) -> None:
        """A hung Redis slows no hit down, and one miss by half a second, not every one; then it is used again."""
        one, other = self.hosts()
        one.get(DINNER)
        self.redis.hang()
        self.assertLess(one.get(DINNER).seconds, 0.2)
        first, second = one.get("unknown-1"), one.get("unknown-2")
        self.assertEqual((first.status, second.status), (404, 404))
        self.assertLess(first.seconds, 0.8)
        self.assertLess(second.seconds, 0.2)
        self.assert_all_named([one.get(COFFEE), other.get(COFFEE)])
        self.redis.go_on()
        self.wait_until_shared(one, other)

    def test_absent_at_the_start(self) -> None:
        """Without Redis at the start the proxy answers, after one warning; when it comes, it is used."""
        self.redis.stop()
        one, other = self.hosts()
        self.assert_all_named([one.get(COFFEE), other.get(COFFEE)])
        self.assertEqual(one.process.output().count("the shared store fails"), 1)
        self.redis.start()
        self.wait_until_shared(one, other)

    def test_died_and_returned(self) -> None:
        """Redis that dies and returns, empty, costs no answer."""
        one, other = self.hosts()
        self.assert_all_named([one.get(COFFEE), other.get(COFFEE)])
        self.redis.stop()
        self.assertEqual(other.get(DINNER).status, 200)
        self.redis.start()
        self.wait_until_shared(one, other)
