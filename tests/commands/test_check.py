"""`c42-proxy check --online`: what works, what does not, and nothing left behind."""

import socket
import sqlite3
import tempfile
import time
import unittest
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

from click.testing import Result

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.settings import Settings
from c42_proxy.stores.contract import SharedStore
from c42_proxy.stores.opening import failing_sentinels, open_shared
from harness import wire
from harness.needs import needs
from harness.processes import C42_PROXY, Process, clean_environ, free_port
from harness.redis_deployments import Watched
from harness.redis_server import RedisServer
from harness.wire import Behaviour, Wire
from tests.test_threads import no_new_thread

from .command_line import c42_proxy

TOKEN = "s3kr3t-t0k3n"
NOTHING_LISTENS = "127.0.0.1:1"
REDIS_SENTINEL = f"redis+sentinel://{NOTHING_LISTENS}/mymaster"


class OnlineTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = self.folder / "cache.sqlite3"
        self.url = f"sqlite:///{self.file}"

    def check(self, api_url: str, cache_url: str = "memory://", **variables: str) -> Result:
        given = {"C42_API_TOKEN": TOKEN, "C42_API_URL": api_url, "C42_CACHE_URL": cache_url, "C42_BIND": "127.0.0.1:0"}
        given["C42_OPS_BIND"] = ""
        given |= variables
        result = c42_proxy("check", "--online", **given)
        self.assertNotIn(given["C42_API_TOKEN"], result.output.replace("sandbox-token", "") + repr(result.exception))
        return result

    def assert_found(self, result: Result, *, store: str, c42: str) -> None:
        """The lines below the settings match; the status is 1 where one of them tells a failure."""
        lines = result.stdout.splitlines()
        self.assertTrue(lines[-4].startswith("C42_LOG_LEVEL"), result.output)
        self.assertRegex(lines[-3], "^C42_BIND +works  127.0.0.1:0: is free$")
        self.assertRegex(lines[-2], f"^store +{store}$")
        self.assertRegex(lines[-1], f"^C42 +{c42}$")
        self.assertEqual("FAILS" in store + c42, bool(result.exit_code), result.output)
        self.assertIn(result.exit_code, {0, 1})
        self.assertEqual("", result.stderr)


class AskingC42Test(OnlineTest):
    def assert_c42(self, behaviour: Behaviour, says: str, **variables: str) -> None:
        with Wire(behaviour) as c42:
            self.assert_found(self.check(c42.url, **variables), store="works .*", c42=says)
            self.assertEqual({"page 0": 1}, c42.calls)

    def test_works(self) -> None:
        """A C42 that answers as C42 does works; one call is made for that."""
        self.assert_c42(
            wire.c42(), r"works  http://127.0.0.1:\d+/api/v2/: answers within \d+ ms, and accepts the token"
        )

    def test_failures(self) -> None:
        """Each kind of failure is named."""
        for status, says in (
            ("401 Unauthorized", r"refuses the token \(status 401\)"),
            ("403 Forbidden", r"refuses the token \(status 403\)"),
            ("500 Oops", "status 500$"),
            ("404 Not Found", r"the answer is not C42's \(it was a 404 .*\): is C42_API_URL right\?"),
            ("200 OK", r"the answer is not C42's \(it is not JSON\): is C42_API_URL right\?"),
            ("302 Found", r"the answer is not C42's \(status 302\): is C42_API_URL right\?"),
        ):
            with self.subTest(status):
                # The body is an echo of the request, with the token in it.
                self.assert_c42(wire.says(TOKEN.encode(), status), f"FAILS  http://.*{says}")
        self.assert_c42(
            wire.says({}, "429 Slow", "Retry-After: 7"), r"FAILS  .* accepts no call for 7 s \(status 429\);.*"
        )
        self.assert_c42(wire.closes, "FAILS  .*: connection closed without an answer")
        self.assert_c42(
            wire.DAWDLING["a body that drips"],
            r"FAILS  .*: timed out, no complete answer within 0.3 s \(C42_TIMEOUT\)",
            C42_TIMEOUT="0.3",
        )

    def test_unreachable(self) -> None:
        """If nothing listens, the line says so; a name that does not resolve ends the check in time."""
        result = self.check(f"http://{NOTHING_LISTENS}/")
        self.assert_found(result, store="works .*", c42=f"FAILS  http://{NOTHING_LISTENS}/: connection refused")
        began = time.monotonic()
        with patch("socket.getaddrinfo", side_effect=lambda *_args, **_kwargs: time.sleep(3)):
            result = self.check("http://name.example/", C42_TIMEOUT="0.2")
        self.assert_found(result, store="works .*", c42=r"FAILS  .*: timed out, no complete answer within 0.2 s .*")
        self.assertLess(time.monotonic(), began + 2)

    def test_http_proxy(self) -> None:
        """If the HTTP proxy is the cause, the line says what to look at, without the password."""
        for status, says in (
            ("401 No", "wants another user and password"),
            ("407 No", "wants another user and password"),
            ("403 No", "forbids CONNECT to the host or the port of C42"),
            ("502 No", "cannot reach C42"),
            ("404 No", None),
        ):
            with self.subTest(status), Wire(wire.says(TOKEN.encode(), status)) as proxy:
                result = self.check(
                    f"https://{NOTHING_LISTENS}/", C42_PROXY_URL=f"http://u:pa55@127.0.0.1:{proxy.port}"
                )
                where = rf"127.0.0.1:{proxy.port} \(C42_PROXY_URL\)"
                hint = rf"is {where} right\?" if says is None else f"{where} {says}"
                self.assert_found(
                    result, store="works .*", c42=f"FAILS  https://.*: HTTP proxy: status {status[:3]}: {hint}"
                )

    def test_sandbox(self) -> None:
        """The sandbox, which answers as C42 does, accepts its token and refuses another."""
        port = free_port()
        with Process([*C42_PROXY, "sandbox", "--bind", f"127.0.0.1:{port}"], clean_environ()) as sandbox:
            url = f"http://127.0.0.1:{port}/api/v2/"
            sandbox.wait_until_answers(url)
            works = self.check(url, C42_API_TOKEN=SANDBOX_TOKEN)
            self.assert_found(works, store="works .*", c42="works .* accepts the token")
            self.assert_found(self.check(url), store="works .*", c42=r"FAILS  .*refuses the token \(status 401\)")
            elsewhere = self.check(url.removesuffix("v2/"), C42_API_TOKEN=SANDBOX_TOKEN)
            self.assert_found(elsewhere, store="works .*", c42="FAILS .* is C42_API_URL right.*")

    def test_told_to_wait(self) -> None:
        """A wish of C42 to wait is noted for the workers; while it lasts, C42 is not asked."""
        self.shared().get("a")
        with Wire(wire.says({}, "429 Slow", "Retry-After: 60")) as c42:
            self.assert_found(self.check(c42.url, self.url), store="works .*", c42=r"FAILS .*for 60 s.*")
            again = self.check(c42.url, self.url)
            self.assert_found(again, store="works .*", c42="FAILS  not asked: C42 asks us to wait. .* 60 s.")
            self.assertEqual({"page 0": 1}, c42.calls)

    def test_no_thread(self) -> None:
        """Where the system gives no thread to ask in, a sentence for each says so."""
        bind = self.enterContext(Wire()).url.split("/")[2]
        with no_new_thread():
            result = self.check(f"http://{NOTHING_LISTENS}/", REDIS_SENTINEL, C42_BIND=bind)
        *_, listens, store, c42 = result.stdout.splitlines()
        self.assertRegex(listens, f"^C42_BIND +FAILS  {bind}: cannot listen ")
        self.assertRegex(store, "^store +FAILS  Redis at .*: this process can start no thread$")
        self.assertRegex(c42, "^C42 +FAILS  not asked: The proxy has too much to do at once")
        settings = Settings.model_validate({"api_token": TOKEN, "cache_url": REDIS_SENTINEL})
        with no_new_thread():
            self.assertEqual(["Sentinels: this process can start no thread"], failing_sentinels(settings))

    def test_wrong_settings(self) -> None:
        """With a wrong setting nothing is tried."""
        with Wire() as c42:
            self.assertEqual(2, self.check(c42.url, self.url, C42_TIMEOUT="x").exit_code)
            self.assertEqual({}, c42.calls)
        self.assertEqual([], list(self.folder.iterdir()))

    def test_offline(self) -> None:
        """Without --online, neither is touched."""
        with Wire() as c42:
            given = {"C42_API_TOKEN": TOKEN, "C42_API_URL": c42.url, "C42_CACHE_URL": self.url}
            result = c42_proxy("check", **given)
            self.assertEqual(0, result.exit_code)
            self.assertRegex(result.stderr, "^The settings are right. With --online, ")
            self.assertEqual({}, c42.calls)
        self.assertEqual([], list(self.folder.iterdir()))

    def shared(self) -> SharedStore:
        store = open_shared(Settings.model_validate({"api_token": TOKEN, "cache_url": self.url}), time.time)
        assert store is not None
        return self.enterContext(closing(store))


class IgnoredTest(OnlineTest):
    def test_proxies(self) -> None:
        """A proxy of the environment is ignored, and `check` says so, without its address."""
        address = "http://user:s3kr3t-p4ssw0rd@proxy.example:3128"
        with Wire(wire.c42()) as c42:
            result = self.check(c42.url, https_proxy=address, ALL_PROXY=address, HTTP_PROXY="", NO_PROXY="*")
        says = "is set, and is ignored: only C42_PROXY_URL names an HTTP proxy on the way to C42."
        self.assertEqual(result.stderr, f"warning: ALL_PROXY {says}\nwarning: https_proxy {says}\n")
        self.assertEqual(0, result.exit_code, result.output)


class ListeningTest(OnlineTest):
    def assert_bind(self, bind: str, says: str, status: int) -> None:
        with Wire(wire.c42()) as c42:
            result = self.check(c42.url, C42_BIND=bind)
        self.assertEqual(status, result.exit_code, result.output)
        self.assertRegex(result.stdout.splitlines()[-3], f"^C42_BIND +{says}$")

    def test_taken(self) -> None:
        """A C42_BIND that somebody else has is a failure, with its cause."""
        with Wire(wire.c42()) as other:
            bind = other.url.split("/")[2]
            self.assert_bind(bind, rf"FAILS  {bind}: cannot listen \(Address already in use\)", 1)
        self.assert_bind("192.0.2.1:80", r"FAILS  192.0.2.1:80: cannot listen \(Cannot assign .*\)", 1)

    def test_ops_port(self) -> None:
        """So is an ops port that somebody else has."""
        with Wire(wire.c42()) as c42:
            for status, ops_bind, says in (
                (0, f"127.0.0.1:{free_port()}", "works  {}: is free"),
                (1, f"127.0.0.1:{c42.port}", r"FAILS  {}: cannot listen \(Address .* in use\)"),
            ):
                result = self.check(c42.url, C42_BIND="127.0.0.1:0", C42_OPS_BIND=ops_bind)
                self.assertEqual(status, result.exit_code, result.output)
                self.assertRegex(result.stdout.splitlines()[-3], f"^C42_OPS_BIND +{says.format(ops_bind)}$")

    def test_our_own(self) -> None:
        """It is no failure if the proxy itself listens there, and at the ops port."""
        problem = "Content-Type: application/problem+json"
        with Wire(wire.says(b"/events-with-subscriptions/", "404 Not Found", problem)) as proxy:
            bind = proxy.url.split("/")[2]
            self.assert_bind(bind, f"works  {bind}: a worker answers", 0)
            with Wire(wire.c42()) as c42:
                result = self.check(c42.url, C42_BIND=bind, C42_OPS_BIND=f"127.0.0.1:{c42.port}")
            self.assertRegex(result.stdout, f"(?m)^C42_OPS_BIND +works  127.0.0.1:{c42.port}: is taken, as it is while")


class UsingTheStoreTest(OnlineTest):
    def setUp(self) -> None:
        super().setUp()
        self.c42 = self.enterContext(Wire())

    def assert_store(self, cache_url: str, says: str) -> None:
        self.assert_found(self.check(self.c42.url, cache_url), store=says, c42="works .*")

    def test_memory(self) -> None:
        """There is nothing to try where nothing is shared."""
        self.assert_store("memory://", "works  memory://: each worker has its own, nothing to try")

    def test_no_file_yet(self) -> None:
        """A file that is not there yet is tried beside its place: neither it nor a folder for it is made."""
        self.assert_store(self.url, f"works  {self.url}: not there yet, and can be made")
        self.assert_store(f"sqlite:///{self.folder}/deep/down/c.db", "works  .*: not there yet, and can be made")
        self.assertEqual([], list(self.folder.iterdir()))

    def test_file(self) -> None:
        """A file that is there is read, written and leased from; all in it is as before."""
        settings = Settings.model_validate({"api_token": TOKEN, "api_url": self.c42.url, "cache_url": self.url})
        store = open_shared(settings, time.time)
        assert store is not None
        self.addCleanup(store.close)
        store.change_state("kept", lambda _held: "x", 60)
        with patch("c42_proxy.stores.sqlite.SqliteStore.lease", autospec=True, side_effect=type(store).lease) as lease:
            self.assert_store(self.url, f"works  {self.url}: can be read and written, and gives leases")
        self.assertEqual(1, lease.call_count)
        with closing(sqlite3.connect(self.file)) as db:
            self.assertEqual([("x",)], db.execute("SELECT note FROM notes_1").fetchall())
            self.assertEqual((0,), db.execute("SELECT count(*) FROM entries_1").fetchone())

    def test_forgetful(self) -> None:
        """A store that takes what it is given and does not have it afterwards fails, and so does one without leases."""
        for method, says in (("read_state", "a text .* not read back"), ("lease", "it refuses a lease .*")):
            with self.subTest(method), patch(f"c42_proxy.stores.sqlite.SqliteStore.{method}", return_value=None):
                self.assert_store(self.url, f"FAILS  sqlite:///.*: {says}")

    def test_no_place_for_a_file(self) -> None:
        """A folder in the place of the file, or a file in that of its folder, fails."""
        self.file.mkdir()
        self.assert_store(self.url, rf"FAILS  {self.file}: .+")
        (self.folder / "file").touch()
        self.assert_store(
            f"sqlite:///{self.folder}/file/c.db", r"FAILS  sqlite:///.*: cannot be made \(Not a directory\)"
        )

    def test_corrupt_file(self) -> None:
        """A corrupt file fails, and is left to the workers: what was made in its place would not be theirs."""
        self.file.write_bytes(b"no database " * 500)
        self.assert_store(self.url, "FAILS  .*file is not a database")
        self.assertEqual([self.file], list(self.folder.iterdir()))
        self.assertEqual(b"no database " * 500, self.file.read_bytes())

    def test_locked_file(self) -> None:
        """A file that can be read and not written fails."""
        with closing(sqlite3.connect(self.file, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            self.assert_store(self.url, "FAILS  .*database is locked")


@needs("redis-server")
class UsingRedisTest(OnlineTest):
    def test_redis(self) -> None:
        """A Redis works, with nothing left in it; a wrong password and one that is gone fail; no password is shown."""
        with Wire() as c42, RedisServer("pa55") as redis:
            result = self.check(c42.url, redis.url)
            self.assert_found(result, store=r"works  redis://\*\*\*@127.* can be read .*", c42="works .*")
            wrong = self.check(c42.url, redis.url.replace("pa55", "wr0ng"))
            self.assert_found(wrong, store="FAILS  Redis at 127.*password.*", c42="works .*")
            self.assertNotRegex(result.output + wrong.output, "pa55|wr0ng")
            self.assertEqual(b":0\r\n", redis.command("DBSIZE"))
            redis.stop()
            self.assert_found(self.check(c42.url, redis.url), store="FAILS  .*Connection refused.*", c42="works .*")

    def test_deployments(self) -> None:
        """Sentinels work, with their passwords masked, and a cause is told of what does not."""
        with Wire() as c42, Watched() as redis:
            for url, says in {
                f"{redis.url}?sentinel_password=": r"C42_CACHE_URL: the parameters that .* are sentinel_username, .*",
                "redis+cluster://127.0.0.1:1/3": "C42_CACHE_URL: a cluster has only database 0, as in .*",
            }.items():
                self.assertRegex(self.check(c42.url, url).output, says)
            with patch("c42_proxy.stores.redis.RedisStore.try_all") as all_nodes:
                works = self.check(c42.url, redis.url)
            self.assert_found(works, store="works  redis.sentinel://1.* read .*", c42="works .*")
            self.assertEqual(1, all_nodes.call_count)
            listener = self.enterContext(socket.create_server(("127.0.0.1", 0)))
            hangs = f"127.0.0.1:{listener.getsockname()[1]}"
            some = self.check(c42.url, redis.url.replace("://", f"://127.0.0.1:1,{hangs},"))
            self.assertEqual(0, some.exit_code, some.output)
            self.assertRegex(some.stdout, "(?m)^store +works  redis.sentinel://1.* read .*")
            warnings = [line for line in some.stdout.splitlines() if " warns " in line]
            self.assertEqual(2, len(warnings), some.output)
            for sentinel, why in (("127.0.0.1:1", "Connection refused"), (hangs, "(no answer in time|Timeout)")):
                self.assertRegex(some.stdout, f"(?m)^store +warns  Sentinel {sentinel}: .*{why}")
            for url, says in {
                f"{redis.url}?sentinel_password=pa55": r"FAILS  Redis at 127.*/mymaster: Sentinel 127.*: AUTH .*",
                redis.url.replace("my", "our"): "FAILS  Redis at 127.*: Sentinel 127.*: it watches no ourmaster",
                "redis+sentinel://127.0.0.1:1/mymaster": "FAILS  .*: Sentinel 127.0.0.1:1: .*Connection refused.*",
                "redis+cluster://127.0.0.1:1": "FAILS  Redis at 127.0.0.1:1: .*Connection refused.*",
                f"unix://{self.folder}/none": "FAILS  Redis at .*/none: .*No such file.*",
            }.items():
                result = self.check(c42.url, url)
                self.assert_found(result, store=says, c42="works .*")
                self.assertNotIn("pa55", result.output)


del OnlineTest
