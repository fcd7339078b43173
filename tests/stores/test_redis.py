"""Redis as it fails in life: absent, killed, hung, emptied under us; and leases that outlast a slow C42."""

import multiprocessing
import re
import socket
import socketserver
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from typing import Any, ClassVar
from unittest.mock import patch

from c42_proxy.errors import StoreError, StoreNotReached
from c42_proxy.observability.metrics import Metrics
from c42_proxy.stores.contract import STORE_SECONDS, Read
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.stores.records import to_bytes
from c42_proxy.stores.redis import LEASE_SECONDS, RENEW_SECONDS, RedisStore
from c42_proxy.stores.redis_clients import Pool
from c42_proxy.stores.tiered import RETRY_SECONDS, TieredStore
from harness.needs import needs
from harness.processes import until
from harness.redis_server import RedisServer
from tests.test_threads import no_new_thread

from .neighbour import LIFETIME, NAMESPACE, NOW, entry

IN_TIME = 0.5
"""Seconds: twice as long as an operation may take before it counts as failed."""


def named_cache(port: Callable[[], int]) -> AbstractContextManager[object]:
    """Let the name cache.example be that of a server of this machine, and of another one later."""
    resolve = socket.getaddrinfo

    def at(host: str, *arguments: object, **words: object) -> object:
        if host != "cache.example":
            return resolve(host, *arguments, **words)  # type: ignore[arg-type]  # as they came
        return resolve("127.0.0.1", port(), type=socket.SOCK_STREAM)

    return patch("socket.getaddrinfo", at)


class RedisTest(unittest.TestCase):
    redis: ClassVar[RedisServer]

    def open_at(self, url: str) -> RedisStore:
        return self.enterContext(closing(RedisStore(url, namespace=NAMESPACE, lifetime=LIFETIME)))

    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = cls.enterClassContext(RedisServer())

    def setUp(self) -> None:
        self.redis.command("FLUSHALL")
        self.store = self.open_at(self.redis.url)

    def key(self, kind: str, name: str) -> str:
        return f"c42-proxy:{NAMESPACE}:{kind}:{name}"

    def assert_works(self, store: RedisStore) -> None:
        self.assertTrue(store.put("works", entry("works"), NOW))
        self.assertEqual(entry("works"), store.get("works"))

    def assert_fails(self, store: RedisStore, *, says: str = "") -> None:
        """Every use fails in time, with an error that says where, and not the password."""
        uses: list[Callable[[], object]] = [
            lambda: store.get("a"),
            lambda: store.put("a", entry("a"), NOW),
            lambda: store.read_state("a"),
            lambda: store.change_state("a", lambda _held: "x", 60),
            lambda: store.lease("a"),
            lambda: list(store.listed()),
            store.try_all,
        ]
        for use in uses:
            started = time.monotonic()
            with self.assertRaises(StoreError) as caught:
                use()
            self.assertLess(time.monotonic() - started, IN_TIME)
            self.assertIn(says, str(caught.exception))
            self.assertIsNotNone(caught.exception.__cause__)


@needs("redis-server")
class KeysTest(RedisTest):
    def remaining(self, key: str) -> float:
        """Seconds that Redis will keep a key."""
        return int(self.redis.command("PTTL", key)[1:-2]) / 1000

    def test_lifetimes(self) -> None:
        """All that is kept is kept for a time, whatever instant our clocks say."""
        self.store.put("a", entry("a", 1.0), 1.0)
        self.store.change_state("a", lambda _held: "x", 60.5)
        lease = self.store.lease("a")
        assert lease is not None
        with lease:
            for kind, seconds in (("event", LIFETIME), ("note", 60.5), ("lease", 1.0)):
                self.assertTrue(seconds - 1 < self.remaining(self.key(kind, "a")) <= seconds, kind)

    def test_an_entry_lives_from_its_fetch(self) -> None:
        """The later an entry is put, the sooner it expires; from a host whose clock is ahead, it lives no longer."""
        for fetched_at, seconds in ((NOW - 3600.5, LIFETIME - 3600.5), (NOW + 1, LIFETIME), (NOW + 1e6, LIFETIME)):
            with self.subTest(seconds=seconds):
                self.assertTrue(self.store.put("a", entry("a", fetched_at), NOW))
                self.assertTrue(seconds - 1 < self.remaining(self.key("event", "a")) <= seconds)
        self.store.put("over", entry("over", NOW - LIFETIME - 1), NOW)
        until(lambda: self.store.get("over") is None, "the end of an entry that was over when it was put")

    def test_a_put_that_loses(self) -> None:
        """An older entry that comes late does not let the newer one live longer."""
        self.assertTrue(self.store.put("a", entry("a", NOW), NOW))
        self.redis.command("PEXPIRE", self.key("event", "a"), "1000000")
        self.assertFalse(self.store.put("a", entry("a", NOW - 1), NOW))
        self.assertTrue(900 < self.remaining(self.key("event", "a")) <= 1000)

    def test_a_short_lifetime(self) -> None:
        """A note of no lifetime at all is an error of nobody."""
        self.assertEqual("x", self.store.change_state("a", lambda _held: "x", 0))

    def test_one_connection(self) -> None:
        """The commands of a thread go over one connection, and redis-py sends none of its own when it connects."""
        self.redis.command("CONFIG", "RESETSTAT")
        for _ in range(3):
            self.store.get("a")
        used = self.redis.command("INFO", "all")
        self.assertIn(b"\r\ntotal_connections_received:2\r\n", used)  # with that for INFO
        commands = set(re.findall(rb"cmdstat_([^:]+):", used))
        self.assertEqual({b"get"}, commands - {b"config|resetstat"})

    def test_left(self) -> None:
        """If a pool is left, its idle connections are closed at once, the others when they are idle."""
        pool = Pool(host="127.0.0.1", port=self.redis.port)
        busy: Any = pool.get_connection()  # redis-py has no types for what is done with it
        idle = pool.get_connection()

        def clients() -> int:
            return self.redis.command("CLIENT", "LIST").count(b"id=") - 1

        pool.release(idle)
        self.assertEqual(2, clients())
        pool.leave()
        until(lambda: clients() == 1, "the end of the idle connection")
        busy.send_command("PING")
        self.assertEqual(b"PONG", busy.read_response())
        pool.release(busy)
        until(lambda: clients() == 0, "the end of the other one")

    def test_prefix(self) -> None:
        """Every key says whose it is."""
        self.assert_works(self.store)
        self.store.change_state("a", lambda _held: "x", 60)
        self.store.lease("a")
        keys = self.redis.command("KEYS", "*").split(b"\r\n")[2::2]
        self.assertEqual(3, len(keys))
        for key in keys:
            self.assertTrue(key.startswith(f"c42-proxy:{NAMESPACE}:".encode()), key)

    def test_listing(self) -> None:
        """A list is read a few keys at a time, not with KEYS, which holds up all others; all of it is ours."""
        self.assert_works(self.store)
        self.redis.command("RPUSH", self.key("event", "a"), "x")
        self.redis.command("SET", "stranger", to_bytes("stranger", entry("stranger")))
        self.redis.command("CONFIG", "RESETSTAT")
        self.assertEqual(["works"], [listed.event_id for listed in self.store.listed()])
        used = self.redis.command("INFO", "commandstats")
        self.assertIn(b"cmdstat_scan:", used)
        self.assertNotIn(b"cmdstat_keys:", used)

    def test_wrong_types(self) -> None:
        """A key of another type is a miss, and gives way to what we put there."""
        self.store.put("b", entry("b"), NOW)
        for command in (("RPUSH", "x"), ("HSET", "x", "y"), ("SADD", "x"), ("ZADD", "1", "x")):
            with self.subTest(command[0]):
                for kind in ("event", "note"):
                    self.redis.command("DEL", self.key(kind, "a"))
                    self.redis.command(command[0], self.key(kind, "a"), *command[1:])
                self.assertIsNone(self.store.get("a"))
                read = self.store.read(["a", "b"], ["a"])
                self.assertEqual(Read({"a": None, "b": entry("b")}, {"a": None}), read)
                self.assertIsNone(self.store.read_state("a"))
                self.assertTrue(self.store.put("a", entry("a"), NOW))
                self.assertEqual("x", self.store.change_state("a", lambda held: "y" if held else "x", 60))
                self.assertEqual(entry("a"), self.store.get("a"))
                self.assertEqual("x", self.store.read_state("a"))

    def test_notes_that_are_no_text(self) -> None:
        """What somebody else left in place of a note is none, and gives way to one."""
        self.redis.command("SET", self.key("note", "a"), b"\xff\xfe")
        self.assertIsNone(self.store.read_state("a"))
        self.assertEqual("x", self.store.change_state("a", lambda held: "y" if held else "x", 60))

    def test_another_puts_in_between(self) -> None:
        """A newer entry that another host puts while we compare stays."""
        other = self.open_at(self.redis.url)
        read = self.store._read

        def read_and_let_another_put(key: str) -> bytes | None:
            held = read(key)
            self.assertTrue(other.put("a", entry("a", NOW), NOW) or held)
            return held

        with patch.object(self.store, "_read", read_and_let_another_put):
            self.assertFalse(self.store.put("a", entry("a", NOW - 1), NOW))
        self.assertEqual(entry("a", NOW), self.store.get("a"))

    def test_threads_change_in_turn(self) -> None:
        """Threads of one process that change the same note never get into each other's way."""
        with RedisServer() as server:
            store = self.open_at(server.url)

            def count(_thread: int) -> None:
                for _ in range(25):
                    store.change_state("count", lambda held: str(int(held or 0) + 1), 60)

            with ThreadPoolExecutor(8) as threads:
                list(threads.map(count, range(8)))
            self.assertIn(b"cmdstat_eval:calls=200,", server.command("INFO", "commandstats"))

    def test_others_change_all_the_time(self) -> None:
        """Where others are faster each time, a change fails in the end."""
        calls = iter(range(10_000))

        def change(_held: str | None) -> str | None:
            self.redis.command("SET", self.key("note", "a"), f"{next(calls)}")
            return "x"

        with patch("c42_proxy.stores.redis.MAX_CHANGES", 5), self.assertRaises(StoreError):
            self.store.change_state("a", change, 60)
        self.assertEqual(5, next(calls))


@needs("redis-server")
class LeaseTest(RedisTest):
    def test_outlasts_a_slow_fetch(self) -> None:
        """A lease is held for longer than its second, and the notes and entries beside it are not disturbed."""
        other = self.open_at(self.redis.url)
        lease = self.store.lease("a")
        assert lease is not None
        self.redis.command("CONFIG", "RESETSTAT")
        with lease:
            give_up = time.monotonic() + 1.5 * LEASE_SECONDS
            while time.monotonic() < give_up:
                self.assertIsNone(other.lease("a"))
                time.sleep(0.05)
        renewals = re.search(rb"cmdstat_eval:calls=([0-9]+)", self.redis.command("INFO", "commandstats"))
        assert renewals is not None
        self.assertLess(int(renewals[1]), 200, "they are to leave Redis alone in between")
        self.assertIsNotNone(other.lease("a"))

    def assert_outlasts(self, *names: str) -> None:
        """Leases are held for longer than a lease lasts by itself, by Redis's clock, which is the machine's."""
        give_up = time.monotonic() + 1.5 * LEASE_SECONDS
        while time.monotonic() < give_up:
            for name in names:
                self.assertNotIn(b":0", self.redis.command("EXISTS", self.key("lease", name)), name)
            time.sleep(0.05)

    def test_an_error_concerns_one_lease(self) -> None:
        """An error of Redis for one lease does not keep the store from renewing the others."""
        for name in "abc":
            self.assertIsNotNone(self.store.lease(name))
        for name in "ab":
            self.redis.command("DEL", self.key("lease", name))
            self.redis.command("RPUSH", self.key("lease", name), "somebody else's")
        self.assertIsNotNone(self.store.lease("d"))
        self.assert_outlasts("c", "d")

    def test_no_thread(self) -> None:
        """Where no thread can be started to renew a lease, there is no lease; the next one starts the thread."""
        self.store.get("a")
        with no_new_thread(), self.assertRaises(StoreNotReached):
            self.store.lease("a")
        for name in ("a", "b"):
            self.assertIsNotNone(self.store.lease(name))
        self.assert_outlasts("a", "b")

    def test_a_failure_that_nobody_expects(self) -> None:
        """A failure of a kind that we do not know is logged, and the leases are renewed afterwards, too."""
        renewals: list[bytes] = []

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while command := self.request.recv(10_000):
                    is_renewal = b"PEXPIRE" in command
                    renewals.extend([command] if is_renewal else [])
                    # redis-py raises a RecursionError for the first renewal: arrays in arrays in arrays.
                    nested = is_renewal and len(renewals) == 1
                    self.request.sendall(b"*1\r\n" * 5000 if nested else b"+OK\r\n")

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            store = self.open_at(f"redis://127.0.0.1:{server.server_address[1]}")
            with self.assertLogs("c42_proxy.stores", "ERROR") as logs:
                self.assertIsNotNone(store.lease("a"))
                until(lambda: len(renewals) > 1, "another renewal")
            self.assertIn("leases could not be renewed", logs.output[0])
            self.assertEqual(1, len(logs.output))
            store.close()
            server.shutdown()

    def test_no_redis(self) -> None:
        """What is not in Redis's protocol is a failure like any other."""

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(10_000)
                self.request.sendall(b":no number\r\n")

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            store = self.open_at(f"redis://127.0.0.1:{server.server_address[1]}")
            with self.assertRaises(StoreError):
                store.get("a")
            store.close()
            server.shutdown()

    def test_full(self) -> None:
        """A Redis that has no room left keeps the leases that it has granted."""
        self.assertIsNotNone(self.store.lease("a"))
        self.addCleanup(self.redis.command, "CONFIG", "SET", "maxmemory", "0")
        self.redis.command("CONFIG", "SET", "maxmemory", "1")
        self.assert_outlasts("a")

    def test_whose_it_is(self) -> None:
        """A lease is marked with sixteen random bytes: nobody takes it for one that was drawn elsewhere."""
        self.assertIsNotNone(self.store.lease("a"))
        self.assertRegex(self.redis.command("GET", self.key("lease", "a")), rb"\r\n[0-9a-f]{32}\r\n")

    def test_one_thread(self) -> None:
        """However many leases a process has, one thread renews them, and it keeps no process from ending.

        It ends when the store is closed, and the next use of the store starts another one.
        """
        for names in ("abc", "def"):
            before = set(threading.enumerate())
            for name in names:
                self.assertIsNotNone(self.store.lease(name))
            renewing = [thread for thread in set(threading.enumerate()) - before if thread.name == "c42-lease"]
            self.assertEqual([True], [thread.daemon for thread in renewing])
            self.store.close()
            self.assertFalse(renewing[0].is_alive())

    def test_closed_while_it_renews(self) -> None:
        """A store that is closed while Redis dawdles over a renewal ends with its thread."""
        renews = threading.Event()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while command := self.request.recv(10_000):
                    if b"PEXPIRE" in command:
                        renews.set()
                        self.request.recv(1)  # until the connection is closed
                    else:
                        self.request.sendall(b"+OK\r\n")

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            store = self.open_at(f"redis://127.0.0.1:{server.server_address[1]}")
            before = set(threading.enumerate())
            self.assertIsNotNone(store.lease("a"))
            renewing = [thread for thread in set(threading.enumerate()) - before if thread.name == "c42-lease"]
            self.assertTrue(renews.wait(10))
            store.close()
            self.assertEqual([False], [thread.is_alive() for thread in renewing])
            server.shutdown()

    def test_closed_at_the_last_moment(self) -> None:
        """A store ends also if it is closed in the instant in which its thread begins to look for leases."""

        class TooLate(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                super().wait(timeout and 10)
                return False

        store = self.open_at(self.redis.url)
        lease, store._closed = store.lease("a"), TooLate()
        assert lease is not None
        with lease:
            pass
        closing_it = threading.Thread(target=store.close, daemon=True)
        closing_it.start()
        closing_it.join(5)
        self.assertFalse(closing_it.is_alive(), "its thread waits for a lease")

    def test_after_a_fork(self) -> None:
        """A child has none of its parent's leases, and keeps its own for as long as it needs them."""
        other = self.open_at(self.redis.url)
        self.assertIsNotNone(self.store.lease("a"))

        def child() -> None:
            assert self.store.lease("a") is None
            assert self.store.lease("b") is not None
            time.sleep(1.5 * LEASE_SECONDS)  # the lease expires by Redis's clock, which is the machine's
            assert other.lease("b") is None

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(10)
        self.assertEqual(0, process.exitcode)

    def test_emptied_under_us(self) -> None:
        """A lease that was lost, and is somebody else's now, stays theirs when we leave ours."""
        lease, other = self.store.lease("a"), self.open_at(self.redis.url)
        assert lease is not None
        with lease:
            self.redis.command("FLUSHALL")
            theirs = other.lease("a")
            assert theirs is not None
        self.assertIsNone(self.store.lease("a"))
        with theirs:
            pass
        self.assertIsNotNone(self.store.lease("a"))

    def test_told(self) -> None:
        """A lease that was lost is told once; it is not given back, because another process may have it."""
        self.assertIsNotNone(self.store.lease("other"))
        lease = self.store.lease("a")
        assert lease is not None
        with self.assertLogs("c42_proxy.stores.redis", "INFO") as logs, lease:
            self.redis.command("SET", self.key("lease", "a"), "somebody else's")
            until(lambda: bool(logs.output), "the loss is told")
            time.sleep(RENEW_SECONDS + 0.1)  # the thread that renews would have told it again by now
        self.assertEqual(1, len(logs.output), logs.output)
        self.assertIn("leases lost, not renewed in time: 1;", logs.output[0])
        self.assertIn(b"somebody else's", self.redis.command("GET", self.key("lease", "a")))

    def test_ours_no_more(self) -> None:
        """A lease that is left is not renewed: it is free at once, and stays so."""
        lease = self.store.lease("a")
        assert lease is not None
        with lease:
            pass
        time.sleep(RENEW_SECONDS + 0.1)  # the thread that renews would have done so by now
        self.assertEqual(b":0\r\n", self.redis.command("EXISTS", self.key("lease", "a")))
        self.assertFalse(self.store._leases)
        give_up = time.monotonic() + 5
        while self.store._any_lease.is_set():
            self.assertLess(time.monotonic(), give_up, "the thread that renews does not rest")
            time.sleep(0.05)
        assert self.store._renewal is not None
        self.assertTrue(self.store._renewal.is_alive(), "no later lease is renewed")


@needs("redis-server")
class FailureTest(RedisTest):
    def test_refused(self) -> None:
        """A Redis that is not there fails at once, and is used when it comes."""
        server = RedisServer()
        self.addCleanup(server.close)
        store = self.open_at(server.url)
        self.assert_fails(store, says=f"127.0.0.1:{server.port}")
        server.start()
        self.assert_works(store)

    def test_who_has_failed(self) -> None:
        """An error says which Redis it is about, with its port also where the address has none, and what was wrong."""
        server = RedisServer()
        self.addCleanup(server.close)
        for url, why in (
            (server.url, f"127.0.0.1:{server.port}: .*refused"),
            ("redis://redis.invalid", "redis.invalid:6379: "),
        ):
            with self.assertRaisesRegex(StoreError, f"^Redis at {why}"):
                self.open_at(url).get("a")

    def test_killed_and_restarted(self) -> None:
        """A Redis that dies fails at once; of its next life the first use succeeds, on whatever old connection."""
        with RedisServer() as server:
            store = self.open_at(server.url)
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(store.get, ["a"] * 50))
            lease = store.lease("a")
            assert lease is not None
            with lease:
                server.stop()
                self.assert_fails(store)
            server.start()
            with ThreadPoolExecutor(8) as threads:
                self.assertEqual([None] * 8, list(threads.map(store.get, ["a"] * 8)))
            self.assert_works(store)
            self.assertIsNotNone(store.lease("a"))

    def test_hung(self) -> None:
        """A Redis that hangs (SIGSTOP) fails in time, on old and on new connections, and is used when it goes on."""
        with RedisServer() as server:
            store = self.open_at(server.url)
            lease = store.lease("a")
            assert lease is not None
            # That a lease cannot be renewed is no bug.
            with lease, self.assertNoLogs("c42_proxy.stores", "ERROR"):
                server.hang()
                self.assert_fails(store)
                self.assert_fails(self.open_at(server.url))
                started = time.monotonic()
            self.assertLess(time.monotonic() - started, IN_TIME)
            server.go_on()
            self.assert_works(store)

    def test_a_hundred_threads(self) -> None:
        """A hundred threads that meet a Redis that hangs have all failed in time."""
        with RedisServer() as server:
            store = self.open_at(server.url)
            server.hang()

            def get(_number: int) -> float:
                started = time.monotonic()
                with self.assertRaises(StoreError):
                    store.get("a")
                return time.monotonic() - started

            with ThreadPoolExecutor(100) as threads:
                self.assertLess(max(threads.map(get, range(100))), IN_TIME + 0.5)

    def test_steady(self) -> None:
        """Of a Redis that hangs one call takes notice, the others do not wait; when it goes on, it is taken back."""
        with RedisServer() as server:
            seconds = 100.0
            store = TieredStore(
                *(MemoryStore(1_000_000), self.open_at(server.url)),
                clock=lambda: NOW + 99,
                metrics=Metrics(),
                monotonic=lambda: seconds,
            )
            store.put("a", entry("a"), NOW)
            server.hang()
            with self.assertLogs("c42_proxy.stores", "INFO") as logs:
                started = time.monotonic()
                self.assertEqual(entry("a"), store.get("a"))
                self.assertLess(time.monotonic() - started, IN_TIME)
                started = time.monotonic()
                for number in range(100):
                    self.assertTrue(store.put("b", entry("b", NOW + number), NOW + number).in_memory)
                    self.assertEqual(entry("b", NOW + number), store.get("b"))
                    self.assertIsNotNone(store.lease("b"))
                self.assertLess(time.monotonic() - started, STORE_SECONDS)
                self.assertTrue(store.failed)
                server.go_on()
                seconds += RETRY_SECONDS
                self.assertEqual(entry("a"), store.get("a"))
            self.assertFalse(store.failed)
            self.assertEqual(["WARNING", "INFO"], [record.levelname for record in logs.records])
            store.put("b", entry("b"), NOW)
            self.assertEqual(entry("b"), self.open_at(server.url).get("b"))

    def test_moved(self) -> None:
        """A primary that became a replica is left: all is written to the one that has its name now, leases as well."""
        with RedisServer() as old, RedisServer() as new:
            named = old
            self.enterContext(named_cache(lambda: named.port))
            seconds = 100.0
            store = self.open_at("redis://cache.example/0")
            tiered = TieredStore(
                *(MemoryStore(1_000_000), store),
                clock=lambda: NOW,
                metrics=Metrics(),
                monotonic=lambda: seconds,
            )

            def is_written(name: str) -> bool:
                tiered.change_state(name, lambda _held: "x", 60)
                return tiered.put(name, entry(name), NOW).shared and not tiered.failed

            with ThreadPoolExecutor(8) as threads:
                list(threads.map(store.get, ["a"] * 50))
            self.assertTrue(is_written("a"))
            lease = tiered.lease("held")
            assert lease is not None
            old.command("REPLICAOF", "127.0.0.1", str(new.port))
            until(lambda: b"master_link_status:up" in old.command("INFO", "replication"), "a replica")
            with self.assertLogs("c42_proxy.stores", "INFO") as logs:
                self.assertFalse(is_written("b"))
                # Its name has not moved yet.
                seconds += RETRY_SECONDS
                self.assertFalse(is_written("b"))
                named = new
                seconds += RETRY_SECONDS
                self.assertTrue(is_written("b"))
            self.assertEqual(["WARNING", "INFO"], [record.levelname for record in logs.records])
            self.assertIsNotNone(tiered.lease("b"))
            for kind in ("event", "note", "lease"):
                self.assertEqual(b":1\r\n", new.command("EXISTS", self.key(kind, "b")), kind)
            # The one client is the one that asks for the list.
            until(lambda: old.command("CLIENT", "LIST", "TYPE", "normal").count(b"id=") == 1, "no other client")
            with lease:
                pass

    def test_moved_while_a_lease_is_held(self) -> None:
        """A primary that became a replica is left also if nothing but the renewal of a lease uses it."""
        with RedisServer() as old, RedisServer() as new:
            named = old
            self.enterContext(named_cache(lambda: named.port))
            self.assertIsNotNone(self.open_at("redis://cache.example/0").lease("a"))
            key = self.key("lease", "a")
            # The replica has the lease, too, and keeps it for long: only a renewal shortens it to LEASE_SECONDS.
            new.command("SET", key, old.command("GET", key).split(b"\r\n")[1], "PX", "60000")
            named = new
            old.command("REPLICAOF", "127.0.0.1", str(new.port))
            until(lambda: int(new.command("PTTL", key)[1:-2]) <= 1000 * LEASE_SECONDS, "a renewal at the new primary")

    def test_demoted(self) -> None:
        """A server that says that it is no primary is left: the next commands share a new connection."""
        for error, is_left in (
            ("READONLY You can't write against a read only replica.", True),
            ("ERR Error running script (call to f_1): -READONLY You can't write against a read only replica.", True),
            ("NOREPLICAS Not enough good replicas to write.", True),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", True),
            ("OOM command not allowed when used memory > 'maxmemory'.", False),
        ):
            connections: list[int] = []
            answers = iter([f"-{error}\r\n".encode(), *[b"$-1\r\n"] * 9])

            class Handler(socketserver.BaseRequestHandler):
                def setup(self, connections: list[int] = connections) -> None:
                    connections.append(1)

                def handle(self, answers: Iterator[bytes] = answers) -> None:
                    while sent := self.request.recv(10_000):
                        # Some versions of redis-py begin a connection with commands of their own.
                        for word in re.findall(rb"\*[0-9]+\r\n\$[0-9]+\r\n([A-Z]+)\r\n", sent):
                            self.request.sendall(next(answers) if word == b"GET" else b"+OK\r\n")

            with self.subTest(error), socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
                server.daemon_threads = True
                threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
                with closing(
                    RedisStore(f"redis://127.0.0.1:{server.server_address[1]}", namespace="n", lifetime=1)
                ) as store:
                    self.assertRaises(StoreError, store.get, "a")
                    for _ in range(2):
                        self.assertIsNone(store.get("a"))
                self.assertEqual(1 + is_left, len(connections))
                server.shutdown()

    def test_passwords(self) -> None:
        """With its password a Redis is used; without or with a wrong one it fails, and the error does not tell it."""
        with RedisServer("right&proper") as server:
            url = server.url.replace("&", "%26")
            self.assert_works(self.open_at(url))
            self.assert_fails(self.open_at(f"redis://127.0.0.1:{server.port}/0"), says="uthentication")
            wrong = self.open_at(url.replace("right", "wrong"))
            self.assert_fails(wrong)
            with self.assertRaises(StoreError) as caught:
                wrong.get("a")
            self.assertNotIn("wrong&proper", f"{caught.exception!r} {caught.exception.__cause__!r}")

    def test_databases(self) -> None:
        """The number in the address is that of the database; one that is not there fails."""
        other = self.open_at(self.redis.url.removesuffix("0") + "3")
        self.assert_works(other)
        self.assertIsNone(self.store.get("works"))
        self.assert_fails(self.open_at(self.redis.url.removesuffix("0") + "99"))

    def test_full(self) -> None:
        """A Redis that has no room left, and removes nothing, is still read."""
        with RedisServer() as server:
            store = self.open_at(server.url)
            self.assert_works(store)
            server.command("CONFIG", "SET", "maxmemory", "1")
            with self.assertRaises(StoreError):
                store.put("a", entry("a"), NOW)
            self.assertEqual(entry("works"), store.get("works"))

    def test_a_name_that_does_not_resolve(self) -> None:
        """A resolver that hangs is not waited for, and a connection that comes too late is closed."""
        resolve, asked, go_on = socket.getaddrinfo, threading.Event(), threading.Event()
        # The renewal of what other tests have leased goes on, and is not meant.
        server, mine = self.enterContext(RedisServer()), threading.local()
        late: list[socket.socket] = []
        daemons: list[bool] = []

        def hang(*arguments: object) -> object:
            if arguments[1] == server.port:
                mine.is_it = True
                daemons.append(threading.current_thread().daemon)
                asked.set()
                go_on.wait(10)
            return resolve(*arguments)  # type: ignore[arg-type]  # as they came

        def new_socket(*arguments: int) -> socket.socket:
            made = real_socket(*arguments)
            if getattr(mine, "is_it", False):
                late.append(made)
            return made

        real_socket = socket.socket
        store = self.open_at(server.url)
        with patch("redis.connection.socket.getaddrinfo", hang), patch("redis.connection.socket.socket", new_socket):
            started = time.monotonic()
            with self.assertRaises(StoreError):
                store.get("a")
            self.assertLess(time.monotonic() - started, IN_TIME)
            self.assertTrue(asked.is_set())
            self.assertTrue(all(daemons), "it would keep the process from ending")
            go_on.set()
            give_up = time.monotonic() + 5
            while not (late and late[0].fileno() == -1):
                self.assertLess(time.monotonic(), give_up, "the connection that came too late is still open")
                time.sleep(0.01)
        self.assert_works(store)

    def test_no_thread(self) -> None:
        """Where no thread can be started to bound the connecting, the store connects without one."""
        with no_new_thread():
            self.assert_works(self.store)

    def test_not_redis(self) -> None:
        """A server that speaks something else fails."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                for _ in range(8):
                    try:
                        connection, _address = server.accept()
                    except OSError:
                        return
                    with connection:
                        connection.recv(1000)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            self.assert_fails(self.open_at(f"redis://127.0.0.1:{server.getsockname()[1]}"))
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


del RedisTest
