"""`c42-proxy cache`: what the store holds, told as the proxy would use it, and without being in anybody's way."""

import json
import sqlite3
import subprocess
import tempfile
import unittest
from contextlib import closing
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

from click.testing import Result

from c42_proxy.app import build
from c42_proxy.settings import Settings
from c42_proxy.stores.contract import Entry, SharedStore
from c42_proxy.stores.opening import open_shared
from c42_proxy.stores.records import fingerprint, to_bytes
from harness.needs import needs
from harness.processes import C42_PROXY, clean_environ
from harness.redis_deployments import Nodes
from harness.redis_server import RedisServer
from tests.stores.neighbour import NOW, entry

from .command_line import c42_proxy

TOKEN = "s3kr3t-t0k3n"
UNREACHABLE = "http://127.0.0.1:1/"
TTL, STALE = 252.0, 3600.0

TABLE = """\
STATE    AGE FRESH STALE BYTES EVENT
fresh     0s  251s   64m    54 new
fresh    10s  242s     - (404) gone
stale   400s     -   57m    54 old
too old 500s     -     - (404) gone-long
"""


def settings_of(url: str, **values: object) -> Settings:
    return Settings.model_validate({"api_url": UNREACHABLE, "api_token": TOKEN, "cache_url": url, **values})


def cache(url: str, *options: str, **variables: str) -> Result:
    """`c42-proxy cache`, at the instant NOW."""
    given = {"C42_API_URL": UNREACHABLE, "C42_API_TOKEN": TOKEN, "C42_CACHE_URL": url, **variables}
    with patch("time.time", return_value=NOW):
        return c42_proxy("cache", *options, **given)


class CacheTest(unittest.TestCase):
    def store_of(self, url: str) -> SharedStore:
        store = open_shared(settings_of(url), lambda: NOW)
        assert store is not None
        return self.enterContext(closing(store))

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.url = f"sqlite:///{self.folder}/cache.sqlite3"

    def fill(self, url: str) -> None:
        store = self.store_of(url)
        for event_id, given_entry in {
            "old": entry("old", NOW - 400),
            "gone": Entry(404, b"", NOW - 10),
            "new": entry("new", NOW - 0.5),
            "gone-long": Entry(404, b"", NOW - 500),
        }.items():
            self.assertTrue(store.put(event_id, given_entry, NOW))

    def assert_fails(self, result: Result, says: str) -> None:
        """The only output is one line that says why; the exit status is 1."""
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertIsInstance(result.exception, SystemExit)
        self.assertRegex(result.stderr, rf"^Error: .*{says}.*\n$")
        self.assertNotIn(TOKEN, result.output)


class TellingTest(CacheTest):
    def test_table(self) -> None:
        """A line for each answer, the newest first; where they are and how many goes to standard error."""
        self.fill(self.url)
        result = cache(self.url)
        self.assertEqual((0, TABLE), (result.exit_code, result.stdout))
        self.assertEqual(f"{self.url}: 4 answers (2 fresh, 1 stale, 1 too old)\n", result.stderr)

    def test_width(self) -> None:
        """Every line fits 80 columns with the longest ids that C42 gives, whatever its times and sizes."""
        event = f"{'c0ffee42' * 4}_14770730026240"
        for number, (age, size) in enumerate(((0, 0), (999, 99_000), (86_400 * 300, 4_000_000), (-2, 100_000))):
            name = f"{event[:-1]}{number}"
            self.assertTrue(self.store_of(self.url).put(name, entry(name, NOW - age, "x" * size), NOW - age))
        shown = cache(self.url, C42_STALE_IF_ERROR="31622400").stdout
        self.assertEqual(5, len(shown.splitlines()), shown)
        self.assertLessEqual(max(map(len, shown.splitlines())), 80, shown)

    def test_json(self) -> None:
        """The same for machines: a list with an object on each line, instants to the last digit."""
        self.fill(self.url)
        result = cache(self.url, "--json")
        self.assertEqual(0, result.exit_code)
        told = json.loads(result.stdout)
        self.assertEqual(["new", "gone", "old", "gone-long"], [each["event"] for each in told])
        self.assertEqual(6, len(result.stdout.splitlines()))
        self.assertEqual(
            {
                "event": "new",
                "status": 200,
                "state": "fresh",
                "fetched_at": NOW - 0.5,
                "fresh_until": NOW - 0.5 + TTL,
                "stale_until": NOW - 0.5 + TTL + STALE,
                "bytes": 54,
            },
            told[0],
        )
        self.assertEqual((404, None, 0), (told[1]["status"], told[1]["stale_until"], told[1]["bytes"]))

    def test_as_the_proxy_uses_it(self) -> None:
        """What the proxy answers as a hit is fresh, what it tells while C42 fails is stale, the rest is neither."""
        ages = (-2, -1.001, -1, 0, TTL - 0.001, TTL, TTL + 1, TTL + STALE - 0.001, TTL + STALE, TTL + STALE + 1)
        for number, (age, status, stale) in enumerate((a, b, c) for a in ages for b in (200, 404) for c in (STALE, 0)):
            with self.subTest(age=age, status=status, stale_if_error=stale):
                url = f"sqlite:///{self.folder}/{number}.sqlite3"
                held = entry("a", NOW - age) if status == 200 else Entry(404, b"", NOW - age)
                self.store_of(url).put("a", held, NOW)
                told = json.loads(cache(url, "--json", C42_STALE_IF_ERROR=f"{stale}").stdout)[0]
                proxy = self.enterContext(closing(build(settings_of(url, stale_if_error=stale), clock=lambda: NOW)))
                answer = proxy.flask.test_client().get("/events-with-subscriptions/a/")
                used = "fresh" if answer.status_code == status and "Expires" in answer.headers else "stale"
                expected = {used} if answer.status_code == status else {"too old", "ahead"}
                self.assertIn(told["state"], expected)
                self.assertEqual(age < -1, told["state"] == "ahead")

    def test_another_time(self) -> None:
        """How long answers are fresh and stale is as it is set."""
        self.fill(self.url)
        told = json.loads(cache(self.url, "--json", C42_CACHE_TTL="5", C42_STALE_IF_ERROR="0").stdout)
        self.assertEqual(["fresh", "too old", "too old", "too old"], [each["state"] for each in told])
        self.assertEqual({None}, {each["stale_until"] for each in told})
        self.assertEqual(NOW + 4.5, told[0]["fresh_until"])

    def test_ours_alone(self) -> None:
        """Answers of another C42 or for another token are not listed."""
        self.fill(self.url)
        for other in ({"C42_API_TOKEN": "other"}, {"C42_API_URL": "https://other.example/"}):
            for options, stdout in (((), ""), (("--json",), "[]\n")):
                result = cache(self.url, *options, **other)
                self.assertEqual((0, stdout), (result.exit_code, result.stdout))
                self.assertEqual(f"{self.url}: no answers of this C42 and token\n", result.stderr)

    def test_what_nobody_can_ask_for(self) -> None:
        """An id that no address can have is not told: others put it there, and it may do things to a terminal."""
        self.fill(self.url)
        for event_id in ("\x1b[31mred", "a b", "", "x" * 129):
            self.assertTrue(self.store_of(self.url).put(event_id, entry(event_id), NOW))
        self.assertEqual(TABLE, cache(self.url).stdout)

    def test_far_away(self) -> None:
        """An instant that no calendar has is shown as a number."""
        self.store_of(self.url).put("a", entry("a", 1e300), NOW)
        self.assertRegex(cache(self.url).stdout, r"\nahead +-1\.16e\+295d +- +- +\d+ a\n$")


class FailingTest(CacheTest):
    def test_no_file(self) -> None:
        """Where there is no file yet nothing is held; looking makes none."""
        url = f"sqlite:///{self.folder}/deep/cache.sqlite3"
        for options, stdout in (((), ""), (("--json",), "[]\n")):
            result = cache(url, *options)
            self.assertEqual((0, stdout), (result.exit_code, result.stdout))
            self.assertEqual(f"{url}: there is no such file yet\n", result.stderr)
        self.assertEqual([], list(self.folder.iterdir()))

    def test_memory(self) -> None:
        """What each worker has for itself cannot be told, which is not the same as nothing: the status is 1."""
        for options in ((), ("--json",)):
            self.assert_fails(cache("memory://", *options), "each worker has a memory of its own")

    def test_broken_file(self) -> None:
        """A file that is no database is named in one line, and left as it is."""
        file = self.folder / "cache.sqlite3"
        file.write_bytes(b"no database " * 500)
        for options in ((), ("--json",)):
            self.assert_fails(cache(self.url, *options), f"{file}: file is not a database")
        self.assertEqual([file], list(self.folder.iterdir()))

    def test_settings(self) -> None:
        """Wrong settings are reported as by the other commands."""
        self.assertEqual(2, cache(self.url, C42_TIMEOUT="x").exit_code)


class ManyTest(CacheTest):
    COUNT = 2000

    def setUp(self) -> None:
        super().setUp()
        self.store_of(self.url).get("a")
        namespace = fingerprint(UNREACHABLE, TOKEN)
        rows = []
        for number in range(self.COUNT):
            event_id, fetched_at = f"event-{number:04}", NOW - number / 10
            rows.append((f"{namespace}:{event_id}", fetched_at, to_bytes(event_id, entry(event_id, fetched_at))))
        with closing(sqlite3.connect(self.folder / "cache.sqlite3")) as db, db:
            db.executemany("INSERT INTO entries_1 VALUES (?, ?, ?)", rows)

    def start(self, *options: str) -> "subprocess.Popen[str]":
        environ = clean_environ(C42_API_URL=UNREACHABLE, C42_API_TOKEN=TOKEN, C42_CACHE_URL=self.url)
        return self.enterContext(
            subprocess.Popen(
                [*C42_PROXY, "cache", *options],
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def test_all(self) -> None:
        """Thousands of answers are listed, each once and in order."""
        expected = [f"event-{number:04}" for number in range(self.COUNT)]
        self.assertEqual(expected, [line.split()[-1] for line in cache(self.url).stdout.splitlines()[1:]])
        self.assertEqual(expected, [each["event"] for each in json.loads(cache(self.url, "--json").stdout)])

    def test_half_read(self) -> None:
        """The list begins before all is read. Where nobody reads on, workers write and the log can be emptied."""
        process = self.start("--json")
        assert process.stdout is not None
        self.assertEqual("[\n", process.stdout.readline())
        self.assertTrue(self.store_of(self.url).put("a", entry("a"), NOW))
        with closing(sqlite3.connect(self.folder / "cache.sqlite3", timeout=5)) as db:
            db.execute("DELETE FROM entries_1 WHERE fetched_at < ?", (NOW - 190,))
            db.commit()
            self.assertEqual(0, db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        rest = process.stdout.read()
        # It had not come to them: a pipe holds some hundred lines.
        self.assertNotIn(f"event-{self.COUNT - 1}", rest)
        self.assertEqual(self.COUNT - 99, len(rest.splitlines()) - 1)

    def test_cut_short(self) -> None:
        """A reader that has seen enough, as `head` has, is no reason for a traceback."""
        process = self.start()
        assert process.stdout is not None
        self.assertTrue(process.stdout.readline().startswith("STATE"))
        process.stdout.close()
        assert process.stderr is not None
        self.assertEqual("", process.stderr.read())
        self.assertEqual(1, process.wait(20))


@needs("redis-server")
class RedisTest(CacheTest):
    redis: ClassVar[RedisServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = cls.enterClassContext(RedisServer("pa55"))

    def test_table(self) -> None:
        """A Redis is listed like a file, and its address is shown without the password."""
        self.fill(self.redis.url)
        result = cache(self.redis.url)
        self.assertEqual((0, TABLE), (result.exit_code, result.stdout))
        self.assertRegex(
            result.stderr, r"^redis://\*\*\*@127.0.0.1:\d+/0: 4 answers \(2 fresh, 1 stale, 1 too old\)\n$"
        )

    def test_gone(self) -> None:
        """A Redis that does not answer, or wants another password, is named in one line."""
        self.assert_fails(cache("redis://:pa55@127.0.0.1:1/0"), "Redis at 127.0.0.1:1: ")
        result = cache(self.redis.url.replace("pa55", "wr0ng"))
        self.assert_fails(result, "Redis at 127.0.0.1:")
        self.assertNotIn("wr0ng", result.output)

    def test_cluster(self) -> None:
        """Of a cluster, the answers of all nodes are listed."""
        with Nodes() as redis:
            self.fill(redis.url)
            self.assertGreater(sum(node.command("DBSIZE") != b":0\r\n" for node in redis.nodes), 1)
            result = cache(redis.url)
        self.assertEqual((0, TABLE), (result.exit_code, result.stdout))
        self.assertEqual(f"{redis.url}: 4 answers (2 fresh, 1 stale, 1 too old)\n", result.stderr)


del CacheTest
