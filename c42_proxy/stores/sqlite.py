"""A store in an SQLite file: for all processes of one machine. It survives restarts."""

import hashlib
import logging
import math
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from io import DEFAULT_BUFFER_SIZE
from pathlib import Path
from typing import TypeVar

from ..errors import StoreError
from .contract import CLOCK_SKEW, Entry, Lease, Listed, Read, store_error
from .forks import after_fork
from .limit import StoreLimit
from .locks import FileLocks
from .records import from_bytes, to_bytes

log = logging.getLogger(__name__)

T = TypeVar("T")

_Row = tuple[object] | None
"""A row with one column; of what we wrote, bytes (`text_factory`)."""

HOUSEKEEPING = 0
"""The number of the lock for opening the file and setting it aside; the other numbers are for events."""

FILE_SECONDS = 1.0
"""How long an operation on the file may take: on a cloud's disk, one fsync takes 0.4 s, and there may be two."""

POLL_SECONDS = 0.005

ERASED_AT_ONCE = 100
"""Rows of each table that one transaction erases at most, so that no transaction takes long."""

MAX_STATE_SECONDS = 3600.0
"""No text is kept for longer; a longer one was written before the clock was set back."""

SECURE = 1
"""The `user_version` of a file in which all removed bytes are overwritten. Version 0.1 did not overwrite them."""

WAL_SECONDS = 0.05
"""How long emptying the write-ahead log (WAL) waits for readers. Our reads take less; nobody can write meanwhile."""

LISTED_AT_ONCE = 100
"""Entries that one transaction reads when all are listed: a longer one would keep the WAL from being emptied."""

# The unary plus stops SQLite from using the index on `key`, after which it would sort all matches.
NEWEST_FIRST = """
    SELECT fetched_at, rowid, key, record FROM entries_1
    WHERE (fetched_at, rowid) < (?, ?) AND +key >= ? AND +key < ?
    ORDER BY fetched_at DESC, rowid DESC LIMIT ?
"""

SELECT_ENTRY = "SELECT record FROM entries_1 WHERE key = ? AND fetched_at > ?"
SELECT_STATE = "SELECT note FROM notes_1 WHERE key = ? AND until > ?"

CORRUPT = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

SET_UP = """
    PRAGMA secure_delete = ON;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 256;
    PRAGMA journal_size_limit = 1048576;
    CREATE TABLE IF NOT EXISTS entries_1 (
        key TEXT NOT NULL UNIQUE,
        fetched_at REAL NOT NULL,
        record BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS entries_1_by_age ON entries_1 (fetched_at);
    CREATE TABLE IF NOT EXISTS notes_1 (
        key TEXT NOT NULL PRIMARY KEY,
        until REAL NOT NULL,
        note TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS notes_1_by_age ON notes_1 (until);
"""


class SqliteStore:
    """Thread-safe. Nothing is opened before the first use, so that each worker has a connection of its own.

    Entries of another `namespace` are not seen. At most `max_bytes` of pages are used (24 KiB when empty); the oldest
    entries are dropped first. Entries older than `lifetime` seconds are not returned, and are erased. Next to the file
    are its write-ahead log (about 1 MiB), the index of that, and the lease file. `clock` returns the seconds since the
    epoch.
    """

    def __init__(
        self, path: Path, *, namespace: str, max_bytes: int, lifetime: float, clock: Callable[[], float]
    ) -> None:
        self._path = path.absolute()
        self._name = str(self._path)
        """The same: the file is looked at before each use, and a `Path` would make its text each time."""
        self._namespace = namespace
        self._max_bytes = max_bytes
        self._lifetime = lifetime
        self._clock = clock
        self._locks = FileLocks(Path(f"{self._path}-leases"))
        self._inherited: list[sqlite3.Connection] = []
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._busy_milliseconds: int | None = None
        self._limit = StoreLimit(1, FILE_SECONDS)
        after_fork(self._forget)

    def _forget(self) -> None:
        """In a forked child: closing the parent's connection here could remove the parent's locks and WAL."""
        if self._connection is not None:
            self._inherited.append(self._connection)
        self._connection = None
        self._limit = StoreLimit(1, FILE_SECONDS)

    def close(self) -> None:
        """As in the contract. The lease file stays open: closing it would drop the locks of other stores."""
        with self._limit:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def get(self, event_id: str) -> Entry | None:
        return self.read((event_id,)).entries[event_id]

    def read(self, event_ids: Collection[str], names: Collection[str] = ()) -> Read:
        now = self._clock()
        oldest = now - self._lifetime

        def read(db: sqlite3.Connection) -> tuple[list[_Row], list[_Row]]:
            return (
                [db.execute(SELECT_ENTRY, (self._key(event_id), oldest)).fetchone() for event_id in event_ids],
                [db.execute(SELECT_STATE, (self._key(name), now)).fetchone() for name in names],
            )

        records, texts = self._run(read)
        return Read(
            {
                event_id: None if row is None else from_bytes(event_id, row[0])
                for event_id, row in zip(event_ids, records, strict=True)
            },
            {name: _text(row) for name, row in zip(names, texts, strict=True)},
        )

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        key, record = self._key(event_id), to_bytes(event_id, entry)

        def put(db: sqlite3.Connection) -> bool:
            with _transaction(db):
                row = db.execute("SELECT record FROM entries_1 WHERE key = ?", (key,)).fetchone()
                kept = None if row is None else from_bytes(event_id, row[0])
                if kept is not None and kept.is_newer_than(entry, now):
                    return False
                db.execute("REPLACE INTO entries_1 VALUES (?, ?, ?)", (key, entry.fetched_at, record))
                self._make_room(db, key)
            return True

        def remove(db: sqlite3.Connection) -> bool:
            db.execute("DELETE FROM entries_1 WHERE key = ?", (key,))
            return False

        try:
            return self._run(put)
        except _NoRoomError:
            return self._run(remove)

    def read_state(self, name: str) -> str | None:
        return self.read((), (name,)).texts[name]

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        key, now = self._key(name), self._clock()

        def change_it(db: sqlite3.Connection) -> str | None:
            with _transaction(db):
                row = db.execute(SELECT_STATE, (key, now)).fetchone()
                text = change(_text(row))
                if text is None:
                    db.execute("DELETE FROM notes_1 WHERE key = ?", (key,))
                else:
                    db.execute("REPLACE INTO notes_1 VALUES (?, ?, ?)", (key, now + lifetime, text))
            return text

        return self._run(change_it)

    def lease(self, event_id: str) -> Lease | None:
        digest = hashlib.sha256(self._key(event_id).encode()).digest()
        try:
            return self._locks.take(1 + int.from_bytes(digest[:8]) // 4)
        except OSError as exc:
            raise store_error(f"{self._path}-leases", exc) from exc

    def erase(self, now: float) -> bool:
        """As in the contract. So is a corrupt file that was set aside: nobody may be given what is in it."""
        try:
            for file in self._path.parent.glob(f"{self._path.name}.corrupt*"):
                _overwrite_and_remove(file)
            if _identity(self._path) is None:
                return True
        except OSError as exc:
            raise store_error(self._path, exc) from exc
        while self._run(lambda db: self._erase_some(db, now)):
            pass
        if self._run(lambda db: db.execute("PRAGMA user_version").fetchone()) != (SECURE,):
            self._overwrite_all()
        return self._run(self._empty_wal)

    def try_all(self) -> None:
        """As in the contract. Raises if the file is corrupt; another use would set it aside."""
        next(self.listed(), None)

    def listed(self) -> Iterator[Listed]:
        """As in the contract. If no process has the file open, an empty WAL stays next to it, as after a crash."""
        try:
            if _identity(self._path) is None:
                return
            with closing(self._separate_connection(f"{self._path.as_uri()}?mode=ro")) as db:
                if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries_1'").fetchone() is None:
                    return
                # Keys begin with `namespace:`. The semicolon is the character after the colon, so it ends the range.
                prefix, behind = f"{self._namespace}:", f"{self._namespace};"
                at, rowid = math.inf, math.inf
                while rows := db.execute(NEWEST_FIRST, (at, rowid, prefix, behind, LISTED_AT_ONCE)).fetchall():
                    for at, rowid, key, record in rows:  # noqa: B007  # the next rows go on from here
                        event_id = (_text((key,)) or "").removeprefix(prefix)
                        entry = from_bytes(event_id, record)
                        if entry is not None:
                            yield Listed(event_id, entry.status, entry.fetched_at, len(entry.body))
        except (sqlite3.Error, OSError) as exc:
            raise store_error(self._path, exc) from exc

    def _key(self, name: str) -> str:
        return f"{self._namespace}:{name}"

    def _erase_some(self, db: sqlite3.Connection, now: float) -> bool:
        """Returns whether there may be more."""
        with _transaction(db):
            entries = db.execute(
                "DELETE FROM entries_1 WHERE rowid IN"
                " (SELECT rowid FROM entries_1 WHERE fetched_at <= ? OR fetched_at > ? LIMIT ?)",
                (now - self._lifetime, now + CLOCK_SKEW, ERASED_AT_ONCE),
            )
            states = db.execute(
                "DELETE FROM notes_1 WHERE key IN (SELECT key FROM notes_1 WHERE until <= ? OR until > ? LIMIT ?)",
                (now, now + MAX_STATE_SECONDS + CLOCK_SKEW, ERASED_AT_ONCE),
            )
        return ERASED_AT_ONCE in {entries.rowcount, states.rowcount}

    def _overwrite_all(self) -> None:
        """Once for a file of version 0.1, which did not overwrite the bytes that it removed.

        On a separate connection: it may take a second, and other threads of this process must not wait.
        """
        try:
            with closing(self._separate_connection(f"{self._path.as_uri()}?mode=rw")) as db:
                db.execute("PRAGMA secure_delete = ON")
                # Else VACUUM may copy all entries to a temporary file.
                db.execute("PRAGMA temp_store = MEMORY")
                db.execute("VACUUM")
                db.execute(f"PRAGMA user_version = {SECURE}")
        except (sqlite3.Error, OSError) as exc:
            raise store_error(self._path, exc) from exc

    def _empty_wal(self, db: sqlite3.Connection) -> bool:
        """Move the contents of the WAL into the file, and truncate the WAL. False while another process reads."""
        if Path(f"{self._path}-wal").stat().st_size == 0:
            return True
        self._wait_for_others(db, WAL_SECONDS)
        (busy, _pages, _moved) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def _make_room(self, db: sqlite3.Connection, key: str) -> None:
        """Remove the oldest entries, but not the one of `key`, until the pages in use are within the bound."""
        while (excess := _bytes_in_use(db) - self._max_bytes) > 0:
            oldest: list[tuple[int]] = []
            for rowid, length in db.execute(
                "SELECT rowid, length(record) FROM entries_1 WHERE key <> ? ORDER BY fetched_at", (key,)
            ):
                oldest.append((rowid,))
                excess -= length
                if excess <= 0:
                    break
            if not oldest:
                raise _NoRoomError
            db.executemany("DELETE FROM entries_1 WHERE rowid = ?", oldest)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` with the database; if that is corrupt, do it again with a new one."""
        with self._limit:
            give_up = time.monotonic() + FILE_SECONDS
            try:
                try:
                    return work(self._current_connection(give_up))
                except sqlite3.DatabaseError as exc:
                    if not _is_corrupt(exc):
                        raise
                    with self._housekeeping(give_up):
                        self._set_aside(exc)
                    return work(self._current_connection(give_up))
            except (sqlite3.Error, OSError) as exc:
                raise store_error(self._path, exc) from exc

    def _current_connection(self, give_up: float) -> sqlite3.Connection:
        """A connection to the file that has our name now: the old one may have been removed, or set aside."""
        db = self._connection
        # A transaction whose rollback has failed is still open; closing the connection ends it.
        if db is None or db.in_transaction or self._identity != _identity(self._name):
            if db is not None:
                # SQLite notices that its file is no longer in its place, and does not touch the WAL of the new one.
                db.close()
                self._connection = None
            with self._housekeeping(give_up):
                db = self._connection = self._open_file(give_up)
            self._busy_milliseconds = None
        # Opening the file may have taken some of the time. The rest is how long we wait for transactions of others.
        self._wait_for_others(db, _remaining(give_up))
        return db

    def _wait_for_others(self, db: sqlite3.Connection, seconds: float) -> None:
        """How long the next statements may wait for transactions of others. It is nearly always the same."""
        milliseconds = round(1000 * seconds)
        if milliseconds != self._busy_milliseconds:
            db.execute(f"PRAGMA busy_timeout = {milliseconds}")
            self._busy_milliseconds = milliseconds

    def _separate_connection(self, uri: str) -> sqlite3.Connection:
        """A further connection. Raises StoreError, sqlite3.Error and OSError."""
        # Without the lease file no process has the database open. It is not created here: it would belong to this
        # command's user.
        shared = Path(f"{self._path}-leases").exists()
        with self._housekeeping(time.monotonic() + FILE_SECONDS) if shared else nullcontext():
            db = sqlite3.connect(uri, uri=True, timeout=FILE_SECONDS)
            try:
                db.text_factory = bytes
                # SQLite opens the WAL at the first read.
                db.execute("SELECT 1 FROM sqlite_master").fetchone()
            except BaseException:
                db.close()
                raise
        return db

    def _open_file(self, give_up: float) -> sqlite3.Connection:
        is_new = _identity(self._path) is None
        if is_new:
            # The WAL of a removed database must not become a part of the new one.
            for suffix in ("-wal", "-shm"):
                _overwrite_and_remove(Path(f"{self._path}{suffix}"))
            # Only safe because the file is new: closing our descriptor drops SQLite's locks on an open file.
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL, 0o600))
        else:
            with suppress(OSError):
                self._path.chmod(0o600)
        self._identity = _identity(self._path)
        db = sqlite3.connect(self._path, timeout=_remaining(give_up), isolation_level=None, check_same_thread=False)
        try:
            # Invalid UTF-8, which somebody may have put there, must not fail in the database.
            db.text_factory = bytes
            db.executescript(SET_UP)
            if is_new:
                db.execute(f"PRAGMA user_version = {SECURE}")
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, why: sqlite3.DatabaseError) -> None:
        """Rename the corrupt file, unless another process has done so: then another file is in its place."""
        if self._identity is None or self._identity != _identity(self._path):
            return
        # The inode's number makes the name unique: a file that was set aside before must not be lost unerased.
        aside = Path(f"{self._path}.corrupt-{self._identity[1]}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").replace(f"{aside}{suffix}")
        log.warning("the cache file is corrupt (%s): it is erased, and a new one takes its place", why)

    def _housekeeping(self, give_up: float) -> Lease:
        """The right to open the file or to set it aside: a process that opens it must not see it half renamed."""
        for _ in range(round(FILE_SECONDS / POLL_SECONDS)):
            lock = self._locks.take(HOUSEKEEPING)
            if lock is not None:
                return lock
            if _remaining(give_up) < POLL_SECONDS:
                break
            # A byte-range lock does not notify those who wait for it.
            time.sleep(POLL_SECONDS)
        raise StoreError(f"{self._path}: another process takes too long to open it")


class _NoRoomError(Exception):
    """An entry is larger than `max_bytes` allows."""


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # If this fails, too, `_current_connection` closes the connection. The first error is the one to report.
        with suppress(sqlite3.Error):
            db.rollback()
        raise


def _overwrite_and_remove(file: Path) -> None:
    """Overwrite the bytes of a file, if it exists, and remove it. Raises OSError.

    In shared memory (`-shm`) is nothing of an entry, and another process may still have it mapped.
    """
    with suppress(FileNotFoundError):
        if not file.name.endswith("-shm"):
            with file.open("r+b") as opened:
                left = os.fstat(opened.fileno()).st_size
                while left:
                    left -= opened.write(bytes(min(left, DEFAULT_BUFFER_SIZE)))
                opened.flush()
                os.fsync(opened.fileno())
        file.unlink()


def _bytes_in_use(db: sqlite3.Connection) -> int:
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _text(row: _Row) -> str | None:
    try:
        return row[0].decode() if row and isinstance(row[0], bytes) else None
    except UnicodeDecodeError:
        return None


def _identity(path: Path | str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    # Details may follow the name (sqlite.org/rescode.html).
    return getattr(error, "sqlite_errorname", "").startswith(CORRUPT)


def _remaining(give_up: float) -> float:
    return max(0.001, give_up - time.monotonic())
