"""A store in Redis: for the processes of several hosts."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import ceil
from queue import Empty
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import urlsplit

import redis

from ..errors import StoreError
from .contract import STORE_SECONDS, Entry, Lease, Listed
from .forks import after_fork
from .limit import StoreLimit
from .records import from_bytes, to_bytes
from .redis_connection import connection_class

COMMANDS_AT_ONCE = 16
"""More would not make Redis faster, and their threads would hold up those that answer."""

OPERATION_SECONDS = 2 * STORE_SECONDS
"""Where none has ended for so long, others wait no more: an operation may have to connect before it is sent."""

SPARE_CONNECTIONS = 2
"""For the renewal of leases, which must not wait for its turn."""

LEASE_SECONDS = 1.0
RENEW_SECONDS = 0.3

SCANNED_AT_ONCE = 1000
READ_AT_ONCE = 100
"""Keys that Redis looks through, and entries that it sends, in one go: others wait for that long."""

MAX_CHANGES = 100
"""Attempts at most to change a key that other processes change as well."""

MAX_PAUSE_MICROSECONDS = 2000
"""Before another attempt, by chance up to this long: else the fastest process would win each time."""

DEMOTED = (redis.ReadOnlyError, redis.exceptions.MasterDownError)
"""What a server says that is a replica. In scripts, Redis 6 says READONLY in the middle of another error."""

REPLACE = """
    local held = ''
    if redis.call('TYPE', KEYS[1]).ok == 'string' then held = '=' .. redis.call('GET', KEYS[1]) end
    if held ~= ARGV[1] then return 0 end
    if ARGV[2] == '' then
        redis.call('DEL', KEYS[1])
    else
        redis.call('SET', KEYS[1], string.sub(ARGV[2], 2), 'PX', ARGV[3])
    end
    return 1
"""
"""Replace what a key holds if it is still this: '' for nothing (or what is no string), else '=' and the bytes."""

RENEW = """
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
    return 0
"""
"""Prolong a lease that is still ours. A Redis that is full does that, too: it needs no memory."""


class RedisStore:
    """Thread-safe. Nothing is connected before the first use.

    `url` is redis:// or rediss://, with a user and a password if there are. Entries of another `namespace` are not
    seen. All is kept for a time that Redis counts itself, entries for `lifetime` seconds: the clocks of the hosts
    have no say. How much there is room for is up to Redis (maxmemory).
    """

    def __init__(self, url: str, *, namespace: str, lifetime: float) -> None:
        address = urlsplit(url)
        self._address = f"{address.hostname}:{address.port or 6379}"
        self._prefix = f"c42-proxy:{namespace}:"
        self._lifetime = lifetime
        self._url = url
        self._client = self._new_client()
        self._forget()
        after_fork(self._forget)

    def _new_client(self) -> Any:  # its methods have no types
        """A client without connections: each of them resolves the name when it is made."""
        pool = _Pool.from_url(
            self._url,
            connection_class=connection_class(tls=self._url.startswith("rediss")),
            max_connections=COMMANDS_AT_ONCE + SPARE_CONNECTIONS,
            timeout=STORE_SECONDS,
            socket_timeout=STORE_SECONDS,
            socket_connect_timeout=STORE_SECONDS,
            # What redis-py would ask and tell at the start of each connection takes a time-out each.
            protocol=2,
            driver_info=None,
        )
        # Given a pool, redis-py does not try again: not ten times with pauses, as it does by default. Before each
        # command it looks whether the server has closed the connection, and takes a new one.
        return redis.Redis(connection_pool=pool)

    def _forget(self) -> None:
        """In a child (redis-py forgets the connections itself): the leases are the parent's, its thread is not here."""
        self._leases: dict[str, bytes] = {}
        self._leases_lock = Lock()
        self._any_lease = Event()
        self._renewal: Thread | None = None
        self._closed = Event()
        self._commands = StoreLimit(COMMANDS_AT_ONCE, OPERATION_SECONDS)
        self._state_changes = StoreLimit(1, OPERATION_SECONDS)

    def close(self) -> None:
        """As in the contract; leases that are still held end by themselves."""
        with self._leases_lock:
            renewal = self._renewal
        if renewal is not None:
            self._closed.set()
            self._any_lease.set()
            renewal.join()
        self._client.connection_pool.disconnect()
        self._forget()

    def get(self, event_id: str) -> Entry | None:
        return from_bytes(event_id, self._read(self._key("event", event_id)))

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        record = to_bytes(event_id, entry)
        if record is None:
            return False

        def newest(held: bytes | None) -> bytes | None:
            held_entry = from_bytes(event_id, held)
            return held if held_entry is not None and held_entry.is_newer_than(entry, now) else record

        return self._change(self._key("event", event_id), newest, self._lifetime) == record

    def read_state(self, name: str) -> str | None:
        return _text(self._read(self._key("note", name)))

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        def change_bytes(held: bytes | None) -> bytes | None:
            note = change(_text(held))
            return None if note is None else note.encode()

        # Threads that change the same note wait for each other, instead of trying again.
        with self._state_changes.slot():
            return _text(self._change(self._key("note", name), change_bytes, lifetime))

    def lease(self, event_id: str) -> Lease | None:
        key, value = self._key("lease", event_id), secrets.token_hex(16).encode()
        with self._errors():
            if not self._command("SET", key, value, "NX", "PX", round(1000 * LEASE_SECONDS)):
                return None
        self._keep(key, value)
        lease = ExitStack()
        lease.callback(self._release, key)
        return lease

    def erase(self, now: float) -> bool:  # noqa: ARG002  # as the contract has it
        """Nothing is to be done: Redis itself ends what is over."""
        return True

    def listed(self) -> Iterator[Listed]:
        """As in the contract. Redis keeps no order: the list begins when all is read."""
        prefix = self._key("event", "")
        found: dict[str, Listed] = {}
        cursor = None
        while cursor != 0:
            with self._errors():
                # Not KEYS: nobody else would be answered until it has looked through everything.
                cursor, keys = self._command("SCAN", cursor or 0, "MATCH", f"{prefix}*", "COUNT", SCANNED_AT_ONCE)
            for start in range(0, len(keys), READ_AT_ONCE):
                some = keys[start : start + READ_AT_ONCE]
                with self._errors():
                    records = self._command("MGET", *some)
                for key, record in zip(some, records, strict=True):
                    event_id = (_text(key) or "").removeprefix(prefix)
                    entry = from_bytes(event_id, record)
                    if entry is not None:
                        found[event_id] = Listed(event_id, entry.status, entry.fetched_at, len(entry.body))
        yield from sorted(found.values(), key=lambda listed: listed.fetched_at, reverse=True)

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}{kind}:{name}"

    def _read(self, key: str) -> bytes | None:
        """What a key holds; None where it is no string (somebody else's list, say)."""
        with self._errors():
            try:
                held = self._command("GET", key)
            except redis.ResponseError as exc:
                if not str(exc).startswith("WRONGTYPE"):
                    raise
                held = None
        return held if isinstance(held, bytes) else None

    def _change(self, key: str, change: Callable[[bytes | None], bytes | None], lifetime: float) -> bytes | None:
        """Replace what a key holds by what `change` makes of it, with nobody else in between."""
        for _ in range(MAX_CHANGES):
            held = self._read(key)
            new = change(held)
            if new is None and held is None:
                return None
            with self._errors():
                if self._replace(key, held, new, lifetime):
                    return new
            # Of those who got into each other's way, one shall come first the next time.
            time.sleep(secrets.randbelow(MAX_PAUSE_MICROSECONDS) / 1_000_000)
        raise StoreError(f"Redis at {self._address}: others change {key} all the time")

    def _replace(self, key: str, held: bytes | None, new: bytes | None, lifetime: float) -> bool:
        milliseconds = max(1, ceil(1000 * lifetime))
        return bool(self._command("EVAL", REPLACE, 1, key, _argument(held), _argument(new), milliseconds))

    def _command(self, *words: object) -> Any:
        client = self._client
        try:
            return client.execute_command(*words)
        except redis.ResponseError as exc:
            self._leave_if_demoted(client, exc)
            raise

    def _leave_if_demoted(self, client: Any, error: object) -> None:
        """Leave a server that is the primary no more: another one may have its name by now.

        redis-py would keep the connections.
        """
        if isinstance(error, DEMOTED) or "READONLY" in str(error) or "NOREPLICAS" in str(error):
            with self._leases_lock:
                if self._client is client:
                    self._client = self._new_client()
                    client.connection_pool.leave()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._commands.slot():
            try:
                yield
            except (redis.RedisError, OSError) as exc:
                raise StoreError(f"Redis at {self._address}: {exc}") from exc

    def _keep(self, key: str, value: bytes) -> None:
        with self._leases_lock:
            self._leases[key] = value
            self._any_lease.set()
            if self._renewal is None:
                renewal = Thread(target=self._renew, name="c42-lease", daemon=True)
                # Where the system gives no thread, the next lease tries again. A fetch would need threads, too.
                with suppress(RuntimeError):
                    renewal.start()
                    self._renewal = renewal

    def _renew(self) -> None:
        """Prolong the leases as long as they are held: C42 may be slower than a lease is long."""
        while True:
            self._any_lease.wait()
            # The interval of the renewals: nobody waits for it but `close`, which ends it.
            if self._closed.wait(RENEW_SECONDS):
                return
            with self._leases_lock:
                leases = dict(self._leases)
                if not leases:
                    self._any_lease.clear()
                    continue
            # A lease that cannot be prolonged is lost, and somebody else may fetch as well: no answer is wrong by that.
            with suppress(redis.RedisError, OSError):
                # All in one round trip. What Redis says against one of them does not keep it from the others.
                client = self._client
                renewals = client.pipeline(transaction=False)
                for key, value in leases.items():
                    renewals.execute_command("EVAL", RENEW, 1, key, value, round(1000 * LEASE_SECONDS))
                for error in renewals.execute(raise_on_error=False):
                    self._leave_if_demoted(client, error)

    def _release(self, key: str) -> None:
        """Give a lease back, unless it was lost and is somebody else's now."""
        with self._leases_lock:
            value = self._leases.pop(key)
        # Where this fails, the lease ends by itself.
        with suppress(StoreError), self._errors():
            self._replace(key, value, None, LEASE_SECONDS)


class _Pool(redis.BlockingConnectionPool):
    """redis-py's pool, which can also be left while others use its connections."""

    _left = False

    def leave(self) -> None:
        """Close each connection as soon as nobody uses it."""
        self._left = True
        idle = []
        with suppress(Empty):
            while True:
                idle.append(self.pool.get_nowait())
        for connection in idle:
            if connection is not None:
                connection.disconnect()
            self.pool.put_nowait(connection)

    def release(self, connection: Any) -> None:
        if self._left:
            connection.disconnect()
        super().release(connection)  # type: ignore[no-untyped-call]  # redis-py has no types here


def _argument(value: bytes | None) -> bytes:
    return b"" if value is None else b"=" + value


def _text(value: Any) -> str | None:
    try:
        return value.decode() if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None
