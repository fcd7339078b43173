"""Redis as it is deployed: a socket, users, certificates, Sentinels, a cluster. (Elections are in `elections.py`.)"""

import multiprocessing
import os
import re
import shutil
import socket
import socketserver
import ssl
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from statistics import median
from typing import ClassVar
from unittest.mock import patch

from c42_proxy.errors import StoreError
from c42_proxy.observability.metrics import Metrics
from c42_proxy.redis_url import RedisUrl
from c42_proxy.stores.contract import STORE_SECONDS
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.stores.redis import LEASE_SECONDS, RedisStore
from c42_proxy.stores.redis_clients import failing_sentinels
from c42_proxy.stores.redis_cluster import Cluster
from c42_proxy.stores.tiered import TieredStore
from harness.needs import needs
from harness.processes import free_port, until
from harness.redis_deployments import Nodes, Watched
from harness.redis_server import RedisServer
from harness.tls import Authority
from tests.test_threads import no_new_thread

from .neighbour import LIFETIME, NAMESPACE, NOW, Neighbour, entry

PASSWORD = "s3kr3t/p4ssw0rd"
ENCODED = "s3kr3t%2Fp4ssw0rd"
GUIDE = Path(__file__).parents[2] / "docs" / "operating.md"


def rights() -> list[str]:
    """Those that a user needs, as docs/operating.md says."""
    line = re.search(r"ACL SETUSER c42 on >password (.*)", GUIDE.read_text())
    assert line is not None
    return line[1].split()


def more_rights(of: str) -> list[str]:
    found = re.search(rf"{of}.* needs? `([^`]*)`", GUIDE.read_text())
    assert found is not None
    return found[1].split()


class DeploymentTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.authority: Authority | None = None

    def open_at(self, url: str) -> RedisStore:
        return self.enterContext(closing(RedisStore(url, namespace=NAMESPACE, lifetime=LIFETIME)))

    def assert_works(self, url: str) -> RedisStore:
        store = self.open_at(url)
        self.assert_put(store, "works")
        self.assertEqual(entry("works"), store.get("works"))
        self.assertEqual("x", store.change_state("works", lambda _held: "x", 60))
        self.assertIn("works", [listed.event_id for listed in store.listed()])
        lease = store.lease("works")
        assert lease is not None
        with lease:
            self.assertIsNone(store.lease("works"))
        return store

    def assert_put(self, store: RedisStore, name: str) -> None:
        """On a busy machine, to begin TLS may take longer than the store waits."""

        def is_put() -> bool:
            try:
                return store.put(name, entry(name), NOW)
            except StoreError as error:
                if "Timeout" in str(error):
                    return False
                raise

        until(is_put, f"a Redis at {store._url}")

    def assert_fails(self, url: str, says: str) -> None:
        """On a busy machine, it may be too late at first for another reason, as above."""

        def fails_so() -> bool:
            with self.assertRaises(StoreError) as caught:
                self.open_at(url).get("a")
            for secret in (PASSWORD, ENCODED, "wr0ng"):
                self.assertNotIn(secret, f"{caught.exception!r} {caught.exception.__cause__!r}")
            if "Timeout" in str(caught.exception) and not re.search(says, str(caught.exception)):
                return False
            self.assertRegex(str(caught.exception), says)
            return True

        until(fails_so, says)

    def certificate(self) -> str:
        """Of its own authority, for servers and clients; with its key."""
        if self.authority is None:
            self.authority = Authority(self.folder)
        return f"{self.authority.file}"

    def tls(self, port: int) -> tuple[str, ...]:
        """The options of a server that wants a certificate from its clients at this port."""
        file = self.certificate()
        names = (("tls-cert-file", file), ("tls-key-file", file), ("tls-ca-cert-file", file), ("tls-port", str(port)))
        return tuple(word for name, value in names for word in (f"--{name}", value))


@needs("redis-server")
class OneServerTest(DeploymentTest):
    def test_socket_and_user(self) -> None:
        """A socket, with a user who may do no more than the documentation says, and a database of its own."""
        socket = f"{self.folder}/redis sock"
        with RedisServer("", "--unixsocket", socket) as redis:
            redis.command("ACL", "SETUSER", "c42", "on", f">{PASSWORD}", *rights())
            redis.command("ACL", "SETUSER", "default", "resetpass", "-@all", "+ping")
            url = f"unix://c42:{ENCODED}@{socket.replace(' ', '%20')}?db=3"
            self.assert_works(url)
            self.assert_works(f"redis://c42:{ENCODED}@127.0.0.1:{redis.port}/3")
            self.assertIsNone(self.open_at(url.replace("db=3", "db=0")).get("works"))
            self.assert_fails(url.replace(ENCODED, "wr0ng"), f"Redis at {socket}: .*password")
            self.assert_fails(f"unix://{socket}".replace(" ", "%20"), f"Redis at {socket}: .*Authentication required")
        self.assert_fails(f"unix://{self.folder}/none.sock", "none.sock: .*No such file or directory")

    @needs("openssl")
    def test_certificates(self) -> None:
        """A private authority, and a certificate of ours for a server that asks for one."""
        port, file = free_port(), self.certificate()
        with RedisServer("", *self.tls(port)):
            url, ours = f"rediss://127.0.0.1:{port}/0", f"ssl_certfile={file}&ssl_keyfile={file}"
            self.assert_works(f"{url}?ssl_ca_certs={file}&{ours}")
            self.assert_works(f"{url.replace('redis', 'valkey')}?ssl_ca_certs={file}&{ours}")
            self.assert_fails(f"{url}?{ours}", "certificate verify failed")
            self.assert_fails(f"{url}?ssl_ca_certs={file}", "certificate required|reset|closed|EOF")
            self.assert_fails(url.replace("rediss", "redis"), f"Redis at 127.0.0.1:{port}: ")
            # To read the authorities takes long: all connections share what was read, until a file changes.
            reads = self.enterContext(patch("ssl.create_default_context", wraps=ssl.create_default_context))

            def reads_files() -> bool:
                reads.reset_mock()
                self.assert_works(f"{url}?ssl_ca_certs={file}&{ours}")
                return reads.called

            for changed_at in (NOW, NOW + 1):
                os.utime(file, (changed_at, changed_at))
                self.assertTrue(reads_files())
                until(lambda: not reads_files(), "a connection that reads no file")

    def test_valkey(self) -> None:
        """Valkey goes by its own name. Where it is not there, a Redis must do."""
        program = "valkey-server" if shutil.which("valkey-server") else "redis-server"
        with RedisServer(program=program) as server:
            self.assert_works(server.url.replace("redis", "valkey"))


@needs("redis-server")
class SentinelTest(DeploymentTest):
    def test_causes(self) -> None:
        """An error says whether no Sentinel answers, none knows the name, or the primary is down."""
        self.assert_fails("redis+sentinel://127.0.0.1:1/mymaster", "Sentinel 127.0.0.1:1: .*Connection refused")
        with Watched(down_after=0.2) as redis:
            self.assert_works(redis.url.replace("://", "://127.0.0.1:1,"))
            self.assert_fails(redis.url.replace("mymaster", "other"), "Sentinel 127.*: it watches no other")
            redis.primary.hang()
            store = self.open_at(redis.url)
            deadline = time.monotonic() + 10
            says = ""
            while "mymaster is down, and no other is elected yet" not in says:
                self.assertLess(time.monotonic(), deadline, says)
                with self.assertRaises(StoreError) as caught:
                    store.get("a")
                says = str(caught.exception)

    def test_dawdles(self) -> None:
        """A Sentinel that sends a byte now and then is not waited for longer than one that hangs."""

        ended = threading.Event()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(1000)
                with suppress(OSError):
                    while not ended.wait(STORE_SECONDS / 5):  # often enough for a wait that begins anew with each byte
                        self.request.sendall(b"+")

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.addCleanup(ended.set)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            began = time.monotonic()
            url = f"redis+sentinel://127.0.0.1:{server.server_address[1]}/mymaster"
            self.assert_fails(url, "no Sentinel answers in time")
            self.assertLess(time.monotonic() - began, 8 * STORE_SECONDS)
            self.assertRegex(failing_sentinels(RedisUrl.parsed(url))[0], "no answer in time")
            server.shutdown()

    def test_two_hang(self) -> None:
        """Sentinels that hang cost no time. If all hang, that is told."""
        with Watched(sentinels=3) as redis:
            redis.hang(0)
            redis.hang(1)
            took = []
            for _attempt in range(5):
                began = time.monotonic()
                self.assertIsNone(self.open_at(redis.url).get("a"))
                took.append(time.monotonic() - began)
            self.assertLess(median(took), 2 * STORE_SECONDS, f"most have waited for each: {took}")
            with no_new_thread():
                self.assert_fails(redis.url, "this process can start no thread")
            redis.hang(2)
            self.assert_fails(redis.url, "Sentinel 127.*: Timeout|no Sentinel answers in time")

    @needs("openssl")
    def test_passwords_and_certificates(self) -> None:
        """Sentinels have a user and a password of their own, and the same certificates as the servers."""
        tls, file = free_port(), self.certificate()
        ours = f"ssl_ca_certs={file}&ssl_certfile={file}&ssl_keyfile={file}"
        settings = [f"tls-port {tls}", *(f"tls-{name}-file {file}" for name in ("cert", "key", "ca-cert"))]
        settings += [f"user c42 on >{PASSWORD} {' '.join(more_rights('that user'))}", "tls-replication yes"]
        primary = free_port()
        with Watched(settings=settings, options=self.tls(primary), monitored=primary):
            login = f"sentinel_username=c42&sentinel_password={ENCODED}"
            url = f"rediss+sentinel://127.0.0.1:{tls}/mymaster/2?{ours}&{login}"
            self.assert_works(url)
            self.assert_fails(url.replace(ENCODED, "wr0ng"), f"Sentinel 127.0.0.1:{tls}: .*password")


def renewals(node: RedisServer) -> int:
    """How many leases have been renewed at a node."""
    found = re.search(rb"cmdstat_eval:calls=([0-9]+)", node.command("INFO", "commandstats"))
    return int(found[1]) if found else 0


@needs("redis-server")
class ClusterTest(DeploymentTest):
    """Its nodes do not notice in time if one of them hangs, so that nothing else happens then."""

    redis: ClassVar[Nodes]

    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = cls.enterClassContext(Nodes("--cluster-node-timeout", "60000"))

    def setUp(self) -> None:
        super().setUp()
        self.redis.command("FLUSHALL")
        self.store = self.open_at(self.redis.url)

    def key(self, kind: str, name: str) -> str:
        return f"c42-proxy:{NAMESPACE}:{kind}:{name}"

    def slot(self, key: str) -> int:
        return int(self.redis.nodes[0].command("CLUSTER", "KEYSLOT", key)[1:])

    def test_closed(self) -> None:
        """A store that is closed leaves no connection open."""
        client = self.store._client  # as long as somebody has it, Python closes nothing by itself
        for number in range(9):
            self.store.get(f"event-{number}")

        def clients() -> list[int]:
            # Without the connections among the nodes, and the one for this command.
            return [node.command("CLIENT", "LIST", "TYPE", "normal").count(b"id=") - 1 for node in self.redis.nodes]

        self.assertGreater(max(clients()), 0)
        self.store.close()
        until(lambda: clients() == [0, 0, 0], "the end of all connections")
        del client

    def test_another_thread_connects(self) -> None:
        """A thread waits for another one that asks the nodes, but not for long."""
        assert isinstance(self.store._client, Cluster)
        began = time.monotonic()
        with self.store._client._lock, self.assertRaisesRegex(StoreError, "another thread is still asking"):
            self.store.get("a")
        self.assertGreater(time.monotonic() - began, STORE_SECONDS)
        self.assertLess(time.monotonic() - began, 8 * STORE_SECONDS)
        self.store.get("a")

    def test_spread(self) -> None:
        """Entries are spread over the nodes, and the list has those of all nodes."""
        names = {f"event-{number}" for number in range(60)}
        for name in names:
            self.assertTrue(self.store.put(name, entry(name), NOW))
        sizes = [int(node.command("DBSIZE")[1:]) for node in self.redis.nodes]
        self.assertEqual(60, sum(sizes))
        self.assertGreater(min(sizes), 5)
        self.assertEqual(names, {listed.event_id for listed in self.store.listed()})

    def test_renewed(self) -> None:
        """The leases of all nodes are renewed in one round, and the round has no failure."""
        for node in self.redis.nodes:
            node.command("CONFIG", "RESETSTAT")
        with self.assertNoLogs("c42_proxy", "WARNING"):
            for number in range(6):
                lease = self.store.lease(f"event-{number}")
                assert lease is not None
                self.enterContext(lease)
            until(lambda: sum(renewals(node) for node in self.redis.nodes) > 12, "a third round")

    def test_one_node_of_the_address_is_enough(self) -> None:
        """The others are found through it, also where the first of the address is not there."""
        self.assert_works(f"redis+cluster://127.0.0.1:1,127.0.0.1:{self.redis.nodes[2].port}")
        self.assert_fails("redis+cluster://127.0.0.1:1", "Redis at 127.0.0.1:1: .*refused")

    def test_user(self) -> None:
        """A user may do no more than the documentation says."""
        for node in self.redis.nodes:
            node.command("ACL", "SETUSER", "c42", "on", f">{PASSWORD}", *rights(), *more_rights("A cluster"))
        url = self.redis.url.replace("://", f"://c42:{ENCODED}@")
        self.assert_works(url)
        self.assert_fails(url.replace(ENCODED, "wr0ng"), "Redis at 127.*password")

    @needs("openssl")
    def test_certificates(self) -> None:
        """The nodes of a cluster tell clients that speak TLS their ports for TLS."""
        file, port = self.certificate(), free_port()
        with Nodes("--tls-cluster", "yes", tls=[self.tls(each) for each in (port, free_port(), free_port())]) as redis:
            query = f"?ssl_ca_certs={file}&ssl_certfile={file}&ssl_keyfile={file}"
            store = self.assert_works(f"rediss+cluster://127.0.0.1:{port}{query}")
            for number in range(30):
                self.assert_put(store, f"event-{number}")
            self.assertGreater(min(int(node.command("DBSIZE")[1:]) for node in redis.nodes), 0)

    def test_no_cluster(self) -> None:
        """A server that is no cluster fails, and says so."""
        with RedisServer() as server:
            self.assert_fails(f"redis+cluster://127.0.0.1:{server.port}", "Cluster mode is not enabled")

    def test_after_a_fork(self) -> None:
        """A child has connections of its own, and keeps its leases; it waits for nothing that its parent has begun."""
        self.assertIsNotNone(self.store.lease("a"))
        connecting = self.open_at(self.redis.url)
        assert isinstance(connecting._client, Cluster)
        lock = connecting._client._lock

        def child() -> None:
            assert self.store.lease("a") is None
            assert self.store.lease("b") is not None
            time.sleep(1.3 * LEASE_SECONDS)  # the lease expires by Redis's clock, which is the machine's
            assert self.store.lease("b") is None
            assert connecting.get("a") is None

        process = multiprocessing.get_context("fork").Process(target=child)
        with lock:
            process.start()
        process.join(10)
        self.assertEqual(0, process.exitcode)
        self.assertIsNone(self.store.lease("a"))

    def test_moved(self) -> None:
        """If none of the nodes answers that it knew, it asks those of the address again, by their names."""
        reads: tuple[Callable[[RedisStore], object], ...] = (
            lambda store: store.get("a"),
            lambda store: store.read("abc").entries,
        )
        for read in reads:
            self.assert_found_again(read)

    def assert_found_again(self, read: Callable[[RedisStore], object]) -> None:
        """The first time, `read` notices that all nodes have gone. From then on, all is found where it is now."""
        resolve = socket.getaddrinfo
        with Nodes("--cluster-announce-ip", "127.0.0.1", primaries=1) as old:
            named = old.nodes[0]

            def at(host: str, *arguments: object, **words: object) -> object:
                if host != "cache.example":
                    return resolve(host, *arguments, **words)  # type: ignore[arg-type]  # as they came
                return resolve("127.0.0.1", named.port, type=socket.SOCK_STREAM)

            self.enterContext(patch("socket.getaddrinfo", at))
            store = self.assert_works("redis+cluster://cache.example")
        named = self.redis.nodes[0]
        with self.assertRaises(StoreError):
            read(store)
        read(store)
        self.assertTrue(store.put("a", entry("a"), NOW))
        self.assertEqual(entry("a"), self.store.get("a"))

    def test_a_slot_moves(self) -> None:
        """While a slot moves to another node, and afterwards, entries are written and read, and a lease is kept."""
        entry_key, lease_key = self.key("event", "a"), self.key("lease", "a")
        lease = self.store.lease("a")
        assert lease is not None
        self.assertTrue(self.store.put("a", entry("a", NOW - 9), NOW))
        for key in (entry_key, lease_key):
            self.move(key, lambda: self.assertTrue(self.store.put("a", entry("a", NOW - 5), NOW)))
            self.assertEqual({"a": entry("a", NOW - 5), "b": None}, self.store.read("ab").entries)
        self.assertTrue(self.store.put("a", entry("a"), NOW))
        self.assertEqual(entry("a"), self.store.get("a"))
        give_up = time.monotonic() + 1.5 * LEASE_SECONDS
        while time.monotonic() < give_up:
            self.assertNotEqual(b":0\r\n", self.redis.command("EXISTS", lease_key))
            time.sleep(0.05)
        with lease:
            pass
        self.assertEqual(b":0\r\n", self.redis.command("EXISTS", lease_key))

    def move(self, key: str, meanwhile: Callable[[], object]) -> None:
        """Move the slot of a key to another node, as redis-cli does, and do something while the key is at neither."""
        slot = str(self.slot(key))
        source = next(node for node in self.redis.nodes if not node.command("GET", key).startswith(b"-MOVED"))
        target = next(node for node in self.redis.nodes if node is not source)
        of_source, of_target = (node.command("CLUSTER", "MYID").split(b"\r\n")[1] for node in (source, target))
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", of_source)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", of_target)
        source.command("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
        meanwhile()
        for node in (target, source):
            self.assertEqual(b"+OK\r\n", node.command("CLUSTER", "SETSLOT", slot, "NODE", of_target))

    def test_one_hangs(self) -> None:
        """While a node hangs, what the others have is found, also when the store is tried again."""
        names = [f"event-{number}" for number in range(60)]
        for name in names:
            self.store.put(name, entry(name), NOW)
            self.store.change_state(name, lambda _held: "theirs", 60)
        hanging = self.redis.nodes[0]
        texts_there = {
            name for name in names if not hanging.command("GET", self.key("note", name)).startswith(b"-MOVED")
        }
        there = {name for name in names if not hanging.command("GET", self.key("event", name)).startswith(b"-MOVED")}
        self.assertGreater(len(there), 5)
        seconds = 100.0
        self.addCleanup(hanging.go_on)
        hanging.hang()
        tiered = TieredStore(
            MemoryStore(1 << 20), self.store, clock=lambda: NOW, metrics=Metrics(), monotonic=lambda: seconds
        )
        with self.assertLogs("c42_proxy.stores.tiered", "WARNING"):
            found = tiered.read(names[:30], names[:30])
        self.assertEqual({name: None if name in there else entry(name) for name in names[:30]}, found.entries)
        self.assertEqual({name: None if name in texts_there else "theirs" for name in names[:30]}, found.texts)
        self.assertTrue(tiered.failed)
        seconds += 2.5
        found = tiered.read(names[30:])
        self.assertEqual({name: None if name in there else entry(name) for name in names[30:]}, found.entries)

    def test_hanging(self) -> None:
        """The leases at other nodes outlast one that hangs. Where all hang, every thread is told so in time.

        If all nodes are tried, the one that hangs is an error.
        """
        for number in range(30):
            self.assertIsNotNone(self.store.lease(f"event-{number}"))
        # The node of the first lease, which is renewed first.
        first = self.key("lease", "event-0")
        others = sorted(self.redis.nodes, key=lambda node: node.command("GET", first).startswith(b"-MOVED"))
        hanging = others.pop(0)

        def leases() -> list[set[bytes]]:
            return [set(re.findall(rb"c42-proxy:[^\r]+", node.command("KEYS", "*:lease:*"))) for node in others]

        before = leases()
        self.assertGreater(min(map(len, before)), 2)
        for node in self.redis.nodes:
            self.addCleanup(node.go_on)
        self.store.try_all()
        hanging.hang()
        with self.assertRaisesRegex(StoreError, "Timeout"):
            self.store.try_all()
        give_up = time.monotonic() + 1.5 * LEASE_SECONDS
        while time.monotonic() < give_up:
            self.assertEqual(before, leases())
            time.sleep(0.05)
        for node in others:
            node.hang()

        def get(number: int) -> float:
            began = time.monotonic()
            with self.assertRaises(StoreError):
                if number % 2:
                    self.store.get(f"event-{number}")
                else:
                    self.store.read([f"event-{number + each}" for each in range(9)])
            return time.monotonic() - began

        with ThreadPoolExecutor(64) as threads:
            longest = max(threads.map(get, range(64)))
        self.assertLess(longest, 8 * STORE_SECONDS)
        for node in self.redis.nodes:
            node.go_on()
        self.assertTrue(self.store.put("works", entry("works"), NOW))

    def test_public_names_alone(self) -> None:
        """Without a say in when the nodes are asked, leases at the others outlast one that hangs, too."""
        names = [f"event-{number}" for number in range(12)]
        hanging, *others = self.redis.nodes
        self.addCleanup(hanging.go_on)
        with Neighbour(self.redis.url, renamed="redis:nodes_manager") as process:
            until(process.warnings, "a warning at the start")
            for name in names:
                self.assertTrue(process.ask("lease", name))
            before = [node.command("DBSIZE") for node in others]
            hanging.hang()
            give_up = time.monotonic() + 1.5 * LEASE_SECONDS
            while time.monotonic() < give_up:
                self.assertEqual(before, [node.command("DBSIZE") for node in others])
                time.sleep(0.05)
            hanging.go_on()
            until(lambda: all(process.ask("put", name) is True for name in names), "a cluster that works")
            self.assertEqual(1, "\n".join(process.warnings()).count("no longer has the private names"))


del DeploymentTest
