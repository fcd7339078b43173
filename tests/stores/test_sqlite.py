"""The SQLite file: whose it is, how large it gets, and what becomes of it when things go wrong."""

import ctypes
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from c42_proxy.errors import StoreError
from c42_proxy.observability.metrics import Metrics
from c42_proxy.stores.locks import FileLocks, make_folder
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.stores.records import to_bytes
from c42_proxy.stores.sqlite import FILE_SECONDS, HOUSEKEEPING, SET_UP, SqliteStore
from c42_proxy.stores.tiered import TieredStore

from .neighbour import LIFETIME, NAMESPACE, NOW, Neighbour, entry

NOBODY = 65534
IN_TIME = 2 * FILE_SECONDS
"""Seconds: twice as long as an operation may take before it counts as failed."""


class SqliteTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = NOW
        # Not made yet: the store has to.
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())) / "deep" / "folder"
        self.path = self.folder / "cache.sqlite3"
        self.store = self.open()

    def open(self, max_bytes: int = 1 << 26, lifetime: float = LIFETIME, path: Path | None = None) -> SqliteStore:
        store = SqliteStore(
            path or self.path, namespace=NAMESPACE, max_bytes=max_bytes, lifetime=lifetime, clock=lambda: self.now
        )
        return self.enterContext(closing(store))

    def stranger(self) -> sqlite3.Connection:
        """Somebody else's connection to the file."""
        return self.enterContext(closing(sqlite3.connect(self.path, isolation_level=None, timeout=0)))

    def assert_works(self, store: SqliteStore, event_id: str = "works") -> None:
        self.assertTrue(store.put(event_id, entry(event_id), NOW))
        self.assertEqual(entry(event_id), store.get(event_id))
        self.assertEqual("x", store.change_state(event_id, lambda _held: "x", 60))

    def assert_fails(self, store: SqliteStore) -> None:
        """Everything but the lease fails with a StoreError that names the file."""
        for use in (
            lambda: store.get("a"),
            lambda: store.put("a", entry("a"), NOW),
            lambda: store.read_state("a"),
            lambda: store.change_state("a", lambda _held: "x", 60),
        ):
            with self.assertRaises(StoreError) as caught:
                use()
            self.assertIn(str(store._path), str(caught.exception))
            self.assertIsNotNone(caught.exception.__cause__)

    def in_child(self, work: Callable[[], object]) -> None:
        """Do something in a fork of this process; fails as `work` fails."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work()
                status = 0
            except BaseException as exc:  # noqa: BLE001  # the parent is to see it
                os.write(write, repr(exc).encode()[:4000])
            os._exit(status)
        os.close(write)
        with os.fdopen(read) as said:
            why = said.read()
        self.assertEqual(0, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), why)


class FileTest(SqliteTest):
    def test_lazy(self) -> None:
        """Nothing is made or opened before the first use."""
        self.assertFalse(self.folder.parent.exists())
        self.store.get("a")
        self.assertTrue(self.path.exists())

    def test_modes(self) -> None:
        """The files are this user's alone, in folders of this user's alone, whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        self.assert_works(self.store)
        self.assertIsNotNone(self.store.lease("a"))
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in self.folder.iterdir()}
        names = {f"cache.sqlite3{suffix}" for suffix in ("", "-wal", "-shm", "-leases")}
        self.assertEqual(dict.fromkeys(names, 0o600), files)
        for folder in (self.folder, self.folder.parent):
            self.assertEqual(0o700, stat.S_IMODE(folder.stat().st_mode))

    def test_mode_at_first(self) -> None:
        """The file is this user's alone from the moment that it is made."""
        self.addCleanup(os.umask, os.umask(0))
        self.store.get("a")
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    def test_modes_of_what_is_there(self) -> None:
        """A file that others could read no longer can be; a folder that is there is left as it is."""
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        self.path.touch(0o644)
        self.assert_works(self.store)
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual(0o755, stat.S_IMODE(self.folder.stat().st_mode))

    def test_journal(self) -> None:
        """Readers and a writer do not wait for each other: the database has a write-ahead log."""
        self.store.put("a", entry("a"), NOW)
        writer = self.stranger()
        writer.execute("BEGIN IMMEDIATE")
        self.assertEqual(("wal",), writer.execute("PRAGMA journal_mode").fetchone())
        self.assertEqual(entry("a"), self.store.get("a"))

    def test_after_a_fork(self) -> None:
        """A child uses nothing of its parent's connection and leases, and harms neither."""
        self.assert_works(self.store, "a")
        lease = self.store.lease("a")
        assert lease is not None

        def child() -> None:
            assert self.store.lease("a") is None
            self.assert_works(self.store, "b")
            assert self.store.lease("b") is not None
            assert self.store._inherited
            assert self.store._connection not in self.store._inherited

        self.in_child(child)
        self.assertEqual(entry("b"), self.store.get("b"))
        self.assert_works(self.store, "c")
        self.in_child(child)
        with lease:
            pass
        self.assertIsNotNone(self.store.lease("a"))

    def test_fork_in_the_middle(self) -> None:
        """A child need not wait for what a thread of its parent was at when it was forked: that thread is not there."""
        self.assert_works(self.store, "a")
        with self.store._limit:
            self.in_child(partial(self.assert_works, self.store, "b"))

    def test_threads_of_a_child(self) -> None:
        """The threads of a child wait for each other as those of its parent do."""

        def one_more(held: str | None) -> str:
            time.sleep(0.01)  # so that the others come in the meantime
            return str(int(held or 0) + 1)

        def child() -> None:
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda _thread: self.store.change_state("count", one_more, 60), range(8)))
            self.assertEqual("8", self.store.read_state("count"))

        self.assert_works(self.store)
        self.in_child(child)


class LocksTest(SqliteTest):
    def test_two_make_the_folder(self) -> None:
        """A folder that another process makes at the same moment is as good as our own."""
        self.folder.mkdir(parents=True)
        with patch("pathlib.Path.is_dir", side_effect=[False, True, True]):
            make_folder(self.folder)

    def test_both_answers(self) -> None:
        """The system reports the lock of another process by one of two errors (fcntl(2)); neither is a failure."""
        for answer in (BlockingIOError, PermissionError):
            with patch("fcntl.lockf", side_effect=answer):
                self.assertIsNone(self.store.lease("a"))

    def test_number_of_an_event(self) -> None:
        """An event's lease is always the same lock: workers of the version before and after an update keep to it."""
        lock = FileLocks(Path(f"{self.path}-leases")).take(1_660_579_824_893_100_881)
        assert lock is not None
        with lock:
            self.assertIsNone(self.store.lease("a"))
        self.assertIsNotNone(self.store.lease("a"))

    def test_neighbours(self) -> None:
        """A lock is of one number: to take it and to leave it leaves the next one as it is."""
        path = self.folder / "a-leases"

        def is_free(number: int) -> None:
            self.assertIsNotNone(FileLocks(path).take(number))

        def is_taken(number: int) -> None:
            self.assertIsNone(FileLocks(path).take(number))

        locks = FileLocks(path)
        one, three = locks.take(1), locks.take(3)
        assert one is not None
        assert three is not None
        for number, state in ((0, is_free), (1, is_taken), (2, is_free), (3, is_taken), (4, is_free)):
            self.in_child(partial(state, number))
        two = locks.take(2)
        assert two is not None
        with three:
            with one, two:
                pass
            for number, state in ((1, is_free), (2, is_free), (3, is_taken)):
                self.in_child(partial(state, number))


class ListTest(SqliteTest):
    def files(self) -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in self.folder.iterdir()}

    def test_no_file(self) -> None:
        """Where there is no file, none is made, nor a folder for it."""
        self.assertEqual([], list(self.store.listed()))
        self.assertFalse(self.folder.parent.exists())

    def test_other_files(self) -> None:
        """A file without our table holds nothing, and gets none."""
        self.folder.mkdir(parents=True)
        self.path.touch()
        self.assertEqual([], list(self.store.listed()))
        self.assertEqual([], self.stranger().execute("SELECT * FROM sqlite_master").fetchall())

    def test_corrupt(self) -> None:
        """A corrupt file is reported as corrupt, and stays where and as it is."""
        self.folder.mkdir(parents=True)
        self.path.write_bytes(b"This is no database. " * 500)
        before = self.files()
        for look in (lambda: list(self.store.listed()), self.store.try_all):
            with self.assertRaisesRegex(StoreError, rf"{self.path}: file is not a database"):
                look()
        self.assertEqual(before, self.files())

    def test_unreadable(self) -> None:
        """A folder in the place of the file, or a file in the place of its folder, is a StoreError."""
        self.path.mkdir(parents=True)
        for path in (self.path, Path(__file__) / "cache.sqlite3"):
            with self.assertRaisesRegex(StoreError, str(path)):
                list(self.open(path=path).listed())

    def test_holds_up_nobody(self) -> None:
        """Between two entries of a list, workers write, and the log can be emptied; no other file is made."""
        for number in range(150):
            self.store.put(f"{number}", entry(f"{number}", NOW - number), NOW)
        names = set(self.files())
        reader = self.open()
        listed = reader.listed()
        self.assertEqual("0", next(listed).event_id)
        self.assertTrue(self.store.put("new", entry("new"), NOW))
        busy, _pages, _moved = self.stranger().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.assertEqual(0, busy)
        self.assertEqual(149, len(list(listed)))
        self.assertEqual(names, set(self.files()))

    def test_changes_nothing(self) -> None:
        """If a crash left the file with its log, the list includes what is in the log, and neither file changes."""
        self.assert_works(self.store, "a")
        crashed = self.folder / "crashed.sqlite3"
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{crashed}{suffix}")
        before = crashed.read_bytes(), Path(f"{crashed}-wal").read_bytes()
        self.assertEqual(["a"], [listed.event_id for listed in self.open(path=crashed).listed()])
        self.assertEqual(before, (crashed.read_bytes(), Path(f"{crashed}-wal").read_bytes()))

    def test_no_leases_of_a_stranger(self) -> None:
        """Where the file of the leases is missing, it is not made: it would be the looker's, not the workers'."""
        self.assert_works(self.store, "a")
        leases = Path(f"{self.path}-leases")
        leases.unlink()
        self.assertEqual(["a"], [listed.event_id for listed in self.open().listed()])
        self.assertFalse(leases.exists())

    def test_waits_for_who_opens(self) -> None:
        """While another process opens the file or sets it aside, it is not opened; after a while that is an error."""
        self.assert_works(self.store, "a")
        # The same number in every version: workers of two of them share the file during an update.
        lock = FileLocks(Path(f"{self.path}-leases")).take(0)
        assert lock is not None
        with lock, self.assertRaisesRegex(StoreError, "takes too long"):
            list(self.open().listed())

    def test_waits_a_moment_for_who_opens(self) -> None:
        """A store waits for another process that will have opened the file in a moment."""
        self.assert_works(self.store, "a")
        lock = FileLocks(Path(f"{self.path}-leases")).take(HOUSEKEEPING)
        assert lock is not None
        opened = threading.Timer(0.05, lock.__exit__, (None, None, None))
        opened.start()
        self.addCleanup(opened.join)
        self.assertEqual(["a"], [listed.event_id for listed in self.open().listed()])


class BoundTest(SqliteTest):
    MAX_BYTES = 256 * 1024

    def test_bound(self) -> None:
        """The file stays within its bound but for one entry, however many are put; the oldest are gone, no newer."""
        store = self.open(max_bytes=self.MAX_BYTES)
        count = 1500
        for number in range(count):
            # The order of their ids is not the order of their age.
            event_id = f"{number * 7919 % count}"
            self.assertTrue(store.put(event_id, entry(event_id, NOW + number / count, "x" * (number % 300)), NOW))
        held = [store.get(f"{number * 7919 % count}") is not None for number in range(count)]
        self.assertEqual(sorted(held), held, "an older one was kept")
        self.assertGreater(sum(held), self.MAX_BYTES / 1000)
        self.assertLessEqual(self.path.stat().st_size, self.MAX_BYTES + 3 * 4096)
        self.assertLessEqual(Path(f"{self.path}-wal").stat().st_size, 3 << 20)

    def test_large_entries(self) -> None:
        """A large entry makes as many go as it needs room for."""
        store = self.open(max_bytes=self.MAX_BYTES)
        for number in range(9):
            self.assertTrue(store.put(f"{number}", entry(f"{number}", NOW - 9 + number, "x" * 50_000), NOW))
        self.assertEqual("5678", "".join(f"{number}" for number in range(9) if store.get(f"{number}")))
        self.assertTrue(store.put("9", entry("9", NOW, "x" * 100_000), NOW))
        self.assertEqual("789", "".join(f"{number}" for number in range(10) if store.get(f"{number}")))

    def test_to_the_byte(self) -> None:
        """All stay while the pages in use come to the bound; else the oldest go until their records make up for it."""
        # With this title, a record leaves its last page almost full: the pages that it frees hold little more than it.
        title = "x" * 53_079
        record = len(to_bytes("0", entry("0", NOW, title)))
        for too_much, held in ((0, "0123"), (1, "012"), (record, "012"), (record + 1, "01")):
            with self.subTest(too_much=too_much):
                path = self.folder / f"{too_much}.sqlite3"
                store = self.open(path=path)
                for age in (0, 1, 2, 3, 0):
                    self.assertTrue(store.put(f"{age}", entry(f"{age}", NOW - age, title), NOW))
                with closing(sqlite3.connect(path)) as db:
                    pages, free, size = (
                        db.execute(f"PRAGMA {name}").fetchone()[0]
                        for name in ("page_count", "freelist_count", "page_size")
                    )
                store = self.open(path=path, max_bytes=(pages - free) * size - too_much)
                self.assertTrue(store.put("0", entry("0", NOW, title), NOW))
                self.assertEqual(held, "".join(age for age in "0123" if store.get(age)))

    def test_too_large(self) -> None:
        """An entry larger than the bound is not held, the old one for its event is gone, the others stay."""
        store = self.open(max_bytes=self.MAX_BYTES)
        for event_id in ("a", "b"):
            store.put(event_id, entry(event_id, NOW - 1), NOW)
        self.assertFalse(store.put("a", entry("a", NOW, "x" * self.MAX_BYTES), NOW))
        self.assertIsNone(store.get("a"))
        self.assertEqual(entry("b", NOW - 1), store.get("b"))

    def test_too_large_but_older(self) -> None:
        """An older entry that would not fit anyway leaves the newer one where it is."""
        store = self.open(max_bytes=self.MAX_BYTES)
        store.put("a", entry("a"), NOW)
        self.assertFalse(store.put("a", entry("a", NOW - 1, "x" * self.MAX_BYTES), NOW))
        self.assertEqual(entry("a"), store.get("a"))

    def test_no_room_at_all(self) -> None:
        """A store of one byte keeps no entry, says so, and still has state texts and leases."""
        store = self.open(max_bytes=1)
        self.assertFalse(store.put("a", entry("a"), NOW))
        self.assertIsNone(store.get("a"))
        self.assertEqual("x", store.change_state("a", lambda _held: "x", 60))
        self.assertIsNotNone(store.lease("a"))

    def test_records_that_are_no_bytes(self) -> None:
        """What somebody else left in place of a record is a miss, and gives way to an entry."""
        for value in (7, 1.5, "text", ""):
            self.store.get("a")
            self.stranger().execute("REPLACE INTO entries_1 VALUES (?, 'x', ?)", (f"{NAMESPACE}:a", value))
            self.assertIsNone(self.store.get("a"))
            self.assert_works(self.store, "a")

    def test_notes_that_are_no_text(self) -> None:
        """What somebody else left in place of a state text is ignored, and replaced by the next change."""
        for value in (b"\xff\xfe", 7, 1.5):
            self.store.read_state("a")
            self.stranger().execute("REPLACE INTO notes_1 VALUES (?, 9e9, ?)", (f"{NAMESPACE}:a", value))
            self.assertIn(self.store.read_state("a"), {None, "7", "1.5"})
            self.stranger().execute("REPLACE INTO notes_1 VALUES (?, 9e9, CAST(x'fffe' AS TEXT))", (f"{NAMESPACE}:a",))
            self.assertIsNone(self.store.read_state("a"))
            self.assertEqual("x", self.store.change_state("a", lambda held: "y" if held else "x", 60))


class ErasureTest(SqliteTest):
    def files(self) -> bytes:
        """All that is in the folder, as it is on the disk."""
        return b"".join(file.read_bytes() for file in self.folder.iterdir())

    def count(self, text: bytes) -> int:
        return self.files().count(text)

    def overwrite_nothing_unasked(self) -> None:
        """SQLite may be built in such a way that it overwrites what it removes. It is not so everywhere."""
        connect = sqlite3.connect

        def connect_elsewhere(*arguments: object, **words: object) -> sqlite3.Connection:
            db = connect(*arguments, **words)  # type: ignore[call-overload]  # as they came
            db.execute("PRAGMA secure_delete = OFF")
            assert isinstance(db, sqlite3.Connection)
            return db

        self.enterContext(patch("sqlite3.connect", connect_elsewhere))

    def test_not_given_any_more(self) -> None:
        """What is older than the lifetime is not given, whether it has been erased yet or not."""
        self.store.put("a", entry("a"), NOW)
        self.now = NOW + LIFETIME - 0.001
        self.assertEqual(entry("a"), self.store.get("a"))
        self.now = NOW + LIFETIME
        self.assertIsNone(self.store.get("a"))
        self.now = NOW + 30 * 86400
        self.assertIsNone(self.store.get("a"))

    def test_what_is_erased(self) -> None:
        """What is older than the lifetime goes, and what a clock that was set back left behind; nothing else does."""
        for event_id, fetched_at in (
            ("old", NOW - LIFETIME),
            ("ahead", NOW + 1.1),
            ("kept", NOW - LIFETIME + 0.1),
            ("skewed", NOW + 1),
        ):
            self.assertTrue(self.store.put(event_id, entry(event_id, fetched_at), NOW))
        for name, lifetime in (("over", 0), ("kept", 1), ("longest", 3601), ("set back", 3601.5)):
            self.store.change_state(name, lambda _held: "x", lifetime)
        self.assertTrue(self.store.erase(NOW))
        entries = {key for (key,) in self.stranger().execute("SELECT key FROM entries_1")}
        self.assertEqual({f"{NAMESPACE}:{event_id}" for event_id in ("kept", "skewed")}, entries)
        notes = {key for (key,) in self.stranger().execute("SELECT key FROM notes_1")}
        self.assertEqual({f"{NAMESPACE}:{name}" for name in ("kept", "longest")}, notes)

    def test_a_note_that_is_over(self) -> None:
        """A state text is no longer read when its lifetime is over."""
        self.store.change_state("short", lambda _held: "x", 2)
        self.now = NOW + 1.9
        self.assertEqual("x", self.store.read_state("short"))
        self.now = NOW + 2
        self.assertIsNone(self.store.read_state("short"))

    def test_no_trace(self) -> None:
        """Of many entries of all sizes that came, were replaced and made room, no byte of an old one stays anywhere."""
        self.overwrite_nothing_unasked()
        random = Random(14)
        store = self.open(max_bytes=1 << 20)
        for number in range(1500):
            age, word = random.choice(((LIFETIME, "OVER"), (0, "KEPT")))
            size = random.choice((1, 50, 500, 3000, 20_000))
            event_id = f"{word}-{random.randrange(600)}"
            store.put(event_id, entry(event_id, NOW - age, f"{word} {number} " * (size // 10 + 1)), NOW)
            if number % 500 == 499:
                self.assertTrue(store.erase(NOW))
        self.assertGreater(self.count(b"KEPT"), 0)
        self.assertEqual(0, self.count(b"OVER"))

    def test_while_somebody_reads(self) -> None:
        """While somebody reads, `erase` says that something is left, and nobody waits; later all is erased."""
        self.store.put("a", entry("a", title="Secret"), NOW)
        reader = self.stranger()
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries_1").fetchall()
        started = time.monotonic()
        self.assertFalse(self.store.erase(NOW + LIFETIME))
        self.assertLess(time.monotonic() - started, FILE_SECONDS / 2)
        self.assertGreater(self.count(b"Secret"), 0)
        self.assert_works(self.store)
        reader.execute("COMMIT")
        self.assertTrue(self.store.erase(NOW + LIFETIME))
        self.assertEqual(0, self.count(b"Secret"))

    def test_of_a_process_that_died(self) -> None:
        """What another process has removed, and did not live to take out of the log, is erased as well."""
        neighbour = self.enterContext(Neighbour(str(self.path)))
        self.assertIs(True, neighbour.ask("put", "Secret"))
        self.stranger().execute("DELETE FROM entries_1")
        neighbour.kill()
        self.assertGreater(self.count(b"Secret"), 0)
        self.assertTrue(self.store.erase(NOW))
        self.assertEqual(0, self.count(b"Secret"))

    def test_a_file_of_version_0_1(self) -> None:
        """What version 0.1 removed is still in its file, which is overwritten once, and keeps its entries."""
        self.overwrite_nothing_unasked()
        self.folder.mkdir(parents=True)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.executescript(SET_UP.replace("secure_delete = ON", "secure_delete = OFF"))
            # So many that SQLite would not keep a copy of them in memory by itself.
            titles = {"kept": "x", "gone": "Secret" * 2000} | {f"kept-{number}": "x" * 20_000 for number in range(300)}
            for event_id, title in titles.items():
                record = to_bytes(event_id, entry(event_id, title=title))
                db.execute("INSERT INTO entries_1 VALUES (?, ?, ?)", (f"{NAMESPACE}:{event_id}", NOW, record))
            db.execute("DELETE FROM entries_1 WHERE key LIKE '%gone'")
        self.assertGreater(self.count(b"Secret"), 0)
        elsewhere = Path(self.enterContext(tempfile.TemporaryDirectory()))
        before = elsewhere.stat().st_mtime_ns
        self.addCleanup(self.stranger().execute, "PRAGMA temp_store_directory = ''")
        self.stranger().execute(f"PRAGMA temp_store_directory = '{elsewhere}'")
        self.assertTrue(self.store.erase(NOW))
        self.assertEqual(before, elsewhere.stat().st_mtime_ns, "there was a temporary file")
        self.assertEqual(0, self.count(b"Secret"))
        self.assertEqual(entry("kept", title="x"), self.store.get("kept"))
        schema = self.stranger().execute("PRAGMA schema_version").fetchone()
        self.assertTrue(self.store.erase(NOW))
        self.assertEqual(schema, self.stranger().execute("PRAGMA schema_version").fetchone(), "it was written twice")
        self.assertTrue(self.store.erase(NOW + LIFETIME))
        self.assertEqual(0, self.count(b"kept-"), "overwriting the file has left copies of it in free space")

    def test_what_cannot_be_overwritten(self) -> None:
        """If something is left that cannot be overwritten, that is an error: not all is erased."""
        self.store.put("a", entry("a"), NOW)
        self.stranger().execute("PRAGMA user_version = 0")
        connect = sqlite3.connect
        for error in (sqlite3.OperationalError("disk I/O error"), OSError("Input/output error")):

            def connect_or_fail(
                *arguments: Any, error: Exception = error, uri: bool = False, **words: Any
            ) -> sqlite3.Connection:
                if uri:  # the connection that overwrites all
                    raise error
                connection: sqlite3.Connection = connect(*arguments, **words)
                return connection

            with patch("sqlite3.connect", connect_or_fail), self.assertRaisesRegex(StoreError, str(error)):
                self.store.erase(NOW)
        self.assertTrue(self.store.erase(NOW))
        self.path.with_name(f"{self.path.name}.corrupt-1").mkdir()
        with self.assertRaisesRegex(StoreError, f"{self.path}"):
            self.store.erase(NOW)

    def test_wait_after_erasing(self) -> None:
        """Erasing waits only shortly for others. What comes after it waits for as long as ever."""
        self.store.put("a", entry("a"), NOW)
        self.assertTrue(self.store.erase(NOW))
        stranger = self.enterContext(
            closing(sqlite3.connect(self.path, isolation_level=None, timeout=0, check_same_thread=False))
        )
        stranger.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.3, stranger.execute, ("ROLLBACK",))
        ending.start()
        self.addCleanup(ending.join)
        self.assertTrue(self.store.put("b", entry("b"), NOW))

    def test_a_new_file(self) -> None:
        """A new file is marked by the same number in every version: it need not be overwritten."""
        self.store.put("a", entry("a"), NOW)
        self.assertEqual((1,), self.stranger().execute("PRAGMA user_version").fetchone())
        schema = self.stranger().execute("PRAGMA schema_version").fetchone()
        self.assertTrue(self.store.erase(NOW))
        self.assertEqual(schema, self.stranger().execute("PRAGMA schema_version").fetchone())

    def test_no_file(self) -> None:
        """Where there is no file, none is made for that."""
        self.assertTrue(self.store.erase(NOW))
        self.assertFalse(self.folder.parent.exists())

    def test_set_aside(self) -> None:
        """The bytes of a corrupt file and of its log are overwritten: nobody may be given what is in them."""
        self.folder.mkdir(parents=True)
        names = []
        synced: dict[int, bytes] = {}

        def note(descriptor: int) -> None:
            synced[os.fstat(descriptor).st_ino] = os.pread(descriptor, 1 << 20, 0)

        for content in (b"one" * 1000, b"two" * 100_000):
            for suffix in ("", "-wal"):
                self.path.with_name(f"{self.path.name}{suffix}").write_bytes(content)
            with self.assertLogs("c42_proxy.stores", "WARNING"), closing(self.open()) as store:
                self.assert_works(store)
            names += [each for each in self.folder.iterdir() if ".corrupt" in each.name and each not in names]
        self.assertGreaterEqual(len(names), 2)
        with ExitStack() as stack:
            files = [stack.enter_context(name.open("rb")) for name in names]
            with patch("os.fsync", note):
                self.assertTrue(self.store.erase(NOW))
            self.assertFalse([name for name in names if name.exists()])
            self.assertEqual({0}, {byte for file in files for byte in file.read()})
            on_disk = {byte for file in files for byte in synced[os.fstat(file.fileno()).st_ino]}
            self.assertEqual({0}, on_disk, "the zeros might not reach the disk")

    def test_log_of_a_removed_file(self) -> None:
        """The log of a database that somebody has removed is overwritten, before a new one takes its name."""
        self.store.put("a", entry("a", title="Secret"), NOW)
        with Path(f"{self.path}-wal").open("rb") as log:
            self.assertIn(b"Secret", log.read())
            self.path.unlink()
            self.assert_works(self.open(), "b")
            log.seek(0)
            self.assertFalse(log.read().strip(b"\0"))

    def test_locked(self) -> None:
        """A file in which nobody can write is an error in time, and erased later."""
        self.store.put("a", entry("a"), NOW)
        stranger = self.stranger()
        stranger.execute("BEGIN IMMEDIATE")
        with self.assertRaises(StoreError):
            self.store.erase(NOW + LIFETIME)
        stranger.execute("ROLLBACK")
        self.assertTrue(self.store.erase(NOW + LIFETIME))


class CorruptTest(SqliteTest):
    def corrupt(self, content: bytes = b"this is no database" * 1000) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(content)

    def aside(self) -> Path:
        (file,) = (each for each in self.folder.glob("*.corrupt-*") if each.name.rpartition("-")[2].isdigit())
        return file

    def test_at_opening(self) -> None:
        """A file that is no database is set aside with one warning, and a new one takes its place."""
        self.corrupt()
        with self.assertLogs("c42_proxy.stores", "WARNING") as logs:
            self.assert_works(self.store)
        self.assertEqual(1, len(logs.records), logs.output)
        self.assertTrue(self.aside().read_bytes().startswith(b"this is no database"))
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    def test_empty(self) -> None:
        """An empty file becomes the database."""
        self.corrupt(b"")
        with self.assertNoLogs():
            self.assert_works(self.store)

    def test_in_use(self) -> None:
        """A file that is overwritten under us is set aside with its log, and the operation that met it succeeds."""
        for number in range(200):
            self.store.put(f"{number}", entry(f"{number}", title="x" * 1000), NOW)
        self.stranger().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        size = self.path.stat().st_size
        with self.path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xaa" * (size - 4096))
        with self.assertLogs("c42_proxy.stores", "WARNING") as logs:
            other = self.open()
            self.assertIsNone(other.get("7"))
            self.assert_works(other)
            self.assert_works(self.store)
        self.assertEqual(1, len(logs.records), logs.output)
        self.assertEqual(size, self.aside().stat().st_size)

    def test_four_processes(self) -> None:
        """Four processes that meet a corrupt file at once set it aside once, and share the new one."""
        neighbours = [self.enterContext(Neighbour(str(self.path))) for _ in range(4)]
        for neighbour in neighbours:
            # Nothing is opened by that, and the process is ready.
            self.assertIn("ValueError", neighbour.ask("ready", "?"))
        for attempt in range(3):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.corrupt()
            for number, neighbour in enumerate(neighbours):
                neighbour.tell("put", f"{attempt}-{number}")
            self.assertEqual([True] * 4, [neighbour.answer() for neighbour in neighbours])
            for neighbour in neighbours:
                self.assertEqual([True] * 4, [neighbour.ask("get", f"{attempt}-{number}") for number in range(4)])
            self.assertTrue(self.aside().read_bytes().startswith(b"this is no database"))
            warnings = [line for neighbour in neighbours for line in neighbour.warnings()]
            self.assertEqual(attempt + 1, len(warnings), warnings)

    def test_another_was_faster(self) -> None:
        """If another process has set the corrupt file aside already, the store uses the new one and leaves it there."""
        self.corrupt()
        set_aside, other = self.store._set_aside, self.open()

        def let_another_go_first(why: sqlite3.DatabaseError) -> None:
            with patch.object(other, "_housekeeping", lambda _give_up: nullcontext()):
                self.assert_works(other, "other")
            set_aside(why)

        with (
            self.assertLogs("c42_proxy.stores", "WARNING") as logs,
            patch.object(self.store, "_set_aside", let_another_go_first),
        ):
            self.assertEqual(entry("other"), self.store.get("other"))
        self.assertEqual(1, len(logs.records), logs.output)

    def test_a_closed_connection_leaves_the_new_log_alone(self) -> None:
        """A store that still has the old file open does not remove the new file's log when it changes to that file."""
        old = self.open()
        old.put("a", entry("a"), NOW)
        assert old._connection is not None
        self.path.rename(self.folder / "elsewhere")
        self.assert_works(self.store)
        log = Path(f"{self.path}-wal")
        inode = log.stat().st_ino
        old._connection.close()
        old._connection = None
        self.assertEqual(inode, log.stat().st_ino)
        self.assert_works(old, "b")
        self.assertEqual(entry("b"), self.open().get("b"))


class FailureTest(SqliteTest):
    def test_removed(self) -> None:
        """When the file or its folder is removed under us, all who use it go on with one new file."""
        other = self.open()
        for remove in (self.path.unlink, partial(shutil.rmtree, self.folder)):
            self.assert_works(self.store, "a")
            self.assertEqual(entry("a"), other.get("a"))
            remove()
            self.assertIsNone(other.get("a"))
            self.assert_works(self.store, "b")
            self.assertEqual(entry("b"), other.get("b"))
            self.assertEqual(entry("b"), self.open().get("b"))

    def test_what_is_left_of_a_removed_file(self) -> None:
        """A new file has nothing to do with what lies beside the removed one: others may still have that open."""
        other = self.open()
        self.assert_works(other)
        left = [Path(f"{self.path}{suffix}") for suffix in ("-wal", "-shm")]
        before = [file.stat().st_ino for file in left]
        self.path.unlink()
        self.assert_works(self.store, "a")
        for file, inode in zip(left, before, strict=True):
            self.assertNotEqual(inode, file.stat().st_ino, file)

    def test_hung(self) -> None:
        """While one thread is stuck in the database (a disk that hangs), the others have failed in time."""
        self.assert_works(self.store)
        with self.store._limit:
            started = time.monotonic()
            with self.assertRaises(StoreError):
                self.store.get("a")
            self.assertLess(time.monotonic() - started, IN_TIME + 0.2)
            self.assertIsNotNone(self.store.lease("a"))

    def test_leases_when_the_folder_is_removed(self) -> None:
        """A lease that was granted before the removal can be left; the next one is one for all again."""
        lease = self.store.lease("a")
        assert lease is not None
        shutil.rmtree(self.folder)
        other = self.open().lease("a")
        assert other is not None
        with lease:
            pass
        self.assertIsNone(self.store.lease("a"))
        with other:
            pass
        self.assertIsNotNone(self.store.lease("a"))

    def test_no_folder(self) -> None:
        """Where there can be no folder, everything fails, the lease as well."""
        file = Path(self.enterContext(tempfile.NamedTemporaryFile()).name)
        for path in (file / "cache.sqlite3", Path("/proc/c42_proxy/cache.sqlite3"), Path("/proc/version")):
            store = self.open(path=path)
            self.assert_fails(store)
            with self.assertRaises(StoreError):
                store.lease("a")

    def test_a_folder_in_its_place(self) -> None:
        """A folder in place of the file is left alone."""
        self.path.mkdir(parents=True)
        self.assert_fails(self.store)
        self.assertTrue(self.path.is_dir())

    def test_locked(self) -> None:
        """While a stranger holds the database, it is read; a change fails in time, and succeeds afterwards."""
        self.assert_works(self.store)
        stranger = self.stranger()
        stranger.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with self.assertRaises(StoreError):
            self.store.put("a", entry("a"), NOW)
        self.assertTrue(FILE_SECONDS * 0.8 < time.monotonic() - started < FILE_SECONDS + 0.2)
        self.assertEqual(entry("works"), self.store.get("works"))
        stranger.execute("ROLLBACK")
        self.assert_works(self.store, "a")

    def test_rollback_that_failed(self) -> None:
        """A transaction that could not be rolled back does not stay open: this process and others write again."""
        self.assert_works(self.store)
        assert self.store._connection is not None
        self.store._connection.execute("BEGIN IMMEDIATE")
        self.assert_works(self.store, "a")
        self.assert_works(self.open(), "b")

    def test_slow(self) -> None:
        """A disk whose fsync takes 0.4 s is no failure for those who wait, be it this process that writes or another.

        No disk can be made slow here. A process that holds the lock for writers makes them wait as long.
        """
        self.assert_works(self.store)
        hold = (
            f"import sqlite3, time; db = sqlite3.connect({str(self.path)!r}, isolation_level=None); "
            "db.execute('BEGIN IMMEDIATE'); print(flush=True); time.sleep(0.4); db.rollback()"
        )
        metrics, memory = Metrics(), MemoryStore(1_000_000)
        tiered = TieredStore(memory, self.store, clock=lambda: NOW, metrics=metrics)
        with ThreadPoolExecutor(20) as threads, self.assertNoLogs("c42_proxy.stores"):
            with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as other:
                assert other.stdout is not None
                other.stdout.readline()
                kept = list(threads.map(lambda number: tiered.put(f"{number}", entry(f"{number}"), NOW), range(20)))
            self.assertEqual([True] * 20, [each.shared for each in kept])
            with self.store._limit:
                found = [threads.submit(self.store.get, f"{number}") for number in range(20)]
                time.sleep(0.4)  # longer than Redis would be waited for, and shorter than a file is
            self.assertEqual([entry(f"{number}") for number in range(20)], [each.result() for each in found])

    def test_a_hundred_threads_behind_a_lock(self) -> None:
        """A hundred threads that meet a locked database at once have all failed within twice the time of one."""
        self.assert_works(self.store)
        self.stranger().execute("BEGIN EXCLUSIVE")

        def put(number: int) -> float:
            started = time.monotonic()
            with self.assertRaises(StoreError):
                self.store.put(f"{number}", entry(f"{number}"), NOW)
            return time.monotonic() - started

        with ThreadPoolExecutor(100) as threads:
            self.assertLess(max(threads.map(put, range(100))), IN_TIME)

    def test_locked_while_opening(self) -> None:
        """A database that cannot even be opened fails in time, and is opened later."""
        self.folder.mkdir(parents=True)
        stranger = self.stranger()
        stranger.execute("BEGIN EXCLUSIVE")
        stranger.execute("CREATE TABLE x (y)")
        started = time.monotonic()
        with self.assertRaises(StoreError):
            self.store.get("a")
        self.assertLess(time.monotonic() - started, IN_TIME)
        stranger.execute("COMMIT")
        self.assert_works(self.store)

    def test_not_left_open(self) -> None:
        """A file that turns out to be unusable is closed at once, by who looks into it and by who uses it."""
        self.folder.mkdir(parents=True)
        self.path.write_bytes(b"This is no database. " * 500)
        try:
            list(self.store.listed())
            self.fail("it was read")
        except StoreError:
            self.assertEqual(0, self.times_open())
        self.path.unlink()
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("CREATE TABLE entries_1_by_age (x)")  # where our index would be
        try:
            self.store.get("a")
            self.fail("it was used")
        except StoreError:
            self.assertEqual(0, self.times_open())

    def times_open(self) -> int:
        """How often this process has the file open."""
        descriptors = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        return [os.readlink(link) for link in descriptors if link.is_symlink()].count(str(self.path))

    def test_locked_while_it_is_opened(self) -> None:
        """A new file that is locked when it is first opened fails, and is used when it is free."""
        self.assert_works(self.store)
        for file in self.folder.glob("cache.sqlite3*"):
            if not file.name.endswith("-leases"):
                file.unlink()
        stranger = self.stranger()
        stranger.execute("BEGIN EXCLUSIVE")
        with self.assertRaises(StoreError):
            self.store.get("a")
        stranger.execute("ROLLBACK")
        self.assert_works(self.store)

    def test_another_process_takes_long_to_open(self) -> None:
        """If another process is opening the file, the store waits for it, but not for long."""
        with self.open()._housekeeping(time.monotonic() + 1):
            started = time.monotonic()
            with self.assertRaises(StoreError):
                self.store.get("a")
            self.assertLess(time.monotonic() - started, IN_TIME)
        self.assert_works(self.store)

    def test_full(self) -> None:
        """When the disk is full, a change fails and undoes nothing; what is there is read; later all works again."""
        self.assert_works(self.store)

        def child() -> None:
            # As a disk that is full: no file may grow.
            self.assert_works(self.store)
            size = Path(f"{self.path}-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            for attempt in range(2):
                with self.assertRaises(StoreError):
                    self.store.put("large", entry("large", title="x" * 1_000_000), NOW)
                self.assertIsNone(self.store.get("large"))
                self.assertEqual(entry("works"), self.store.get("works"))
                self.assertIsNotNone(self.store.lease(f"lease {attempt}"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            self.assertTrue(self.store.put("large", entry("large", title="x" * 1_000_000), NOW))

        self.in_child(child)
        self.assert_works(self.store)

    def test_a_full_disk(self) -> None:
        """The same with a small file system that really is full."""
        self.folder.mkdir(parents=True)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"tmpfs", bytes(self.folder), b"tmpfs", 0, b"size=600k") != 0:
            self.skipTest(f"no file system can be mounted: {os.strerror(ctypes.get_errno())}")
        self.addCleanup(libc.umount2, bytes(self.folder), 2)
        self.assert_works(self.store)
        ballast = self.folder / "ballast"
        with self.assertRaises(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        with self.assertRaises(StoreError):
            self.store.put("large", entry("large", title="x" * 100_000), NOW)
        self.assertEqual(entry("works"), self.store.get("works"))
        self.assertIsNotNone(self.store.lease("a"))
        with self.assertRaises(StoreError):
            self.open(path=self.folder / "second.sqlite3").get("a")
        ballast.unlink()
        self.assertTrue(self.store.put("large", entry("large", title="x" * 100_000), NOW))

    def test_not_ours_to_write(self) -> None:
        """Where the folder, or the file, may only be read, every use fails, and nothing is harmed."""
        self.assert_works(self.store)
        top = self.folder.parents[1]
        folder_only, nothing = self.folder, top / "other" / "cache.sqlite3"

        def child() -> None:
            if os.geteuid() == 0:
                # To root, all is allowed.
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            for path in (self.path, nothing):
                store = self.open(path=path)
                for use in (store.get, store.lease, store.read_state):
                    with self.assertRaises(StoreError):
                        use("a")

        modes = {top: 0o555, self.folder.parent: 0o555, folder_only: 0o555}
        for file in self.folder.iterdir():
            modes[file] = 0o444
        for path, mode in modes.items():
            path.chmod(mode)
        try:
            self.in_child(child)
        finally:
            for path in modes:
                path.chmod(0o700)
        self.assert_works(self.store, "b")

    def test_becomes_read_only(self) -> None:
        """A database that lets nobody write any more is still read."""
        self.assert_works(self.store)
        assert self.store._connection is not None
        self.store._connection.execute("PRAGMA query_only = 1")
        with self.assertRaises(StoreError):
            self.store.put("a", entry("a"), NOW)
        with self.assertRaises(StoreError):
            self.store.change_state("a", lambda _held: "x", 60)
        self.assertEqual(entry("works"), self.store.get("works"))


del SqliteTest
