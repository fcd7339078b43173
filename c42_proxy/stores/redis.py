"""A store in Redis: for the processes of several hosts."""

import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import ceil
from threading import Event, Lock, Thread
from typing import Any

import redis

from ..errors import PartlyRead, StoreError, StoreNotReached
from ..redis_url import RedisUrl
from .contract import STORE_SECONDS, Entry, Lease, Listed, Read, store_error
from .forks import after_fork
from .limit import StoreLimit
from .records import from_bytes, to_bytes
from .redis_clients import FAILURES, Client, new_server
from .redis_cluster import Cluster
from .redis_scripts import RENEW, REPLACE

log = logging.getLogger(__name__)

COMMANDS_AT_ONCE = 16
"""More would not make Redis faster; their threads would only slow down the event loop."""

OPERATION_SECONDS = 2 * STORE_SECONDS
"""If no operation ends for this long, waiters give up. Twice, because one may have to connect first."""

LEASE_SECONDS = 1.0
RENEW_SECONDS = 0.3

SCANNED_AT_ONCE = 1000
READ_AT_ONCE = 100
"""The most keys that one command scans, and the most entries that one reads: other clients of Redis wait for it."""

MAX_CHANGES = 100
"""Attempts to change a key that other processes change at the same time."""

MAX_PAUSE_MICROSECONDS = 2000
"""A random pause of up to this long before another attempt: else the fastest process would win each time."""

DEMOTED = (redis.ReadOnlyError, redis.exceptions.MasterDownError)
"""The errors of a server that is a replica. In scripts, Redis 6 has READONLY in the middle of another error."""


class _HasNewerError(Exception):
    """Not even the expiry of the entry that is kept may change."""


class RedisStore:
    """Thread-safe. Nothing is connected before the first use.

    `url` is one that `RedisUrl` knows. Entries of another `namespace` are not seen. Each command and each script has
    one key, so that a cluster can execute it at the node that has the key. Redis itself counts what is left of a key's
    lifetime (`lifetime` seconds from an entry's fetch), so for that the clocks of the hosts do not matter. The bound
    on memory is Redis' own (maxmemory).
    """

    def __init__(self, url: str, *, namespace: str, lifetime: float) -> None:
        self._url = RedisUrl.parsed(url)
        self._prefix = f"c42-proxy:{namespace}:"
        self._lifetime = lifetime
        self._forget()
        after_fork(self._forget)

    def _new_client(self) -> Client:
        return Cluster(self._url) if self._url.kind == "cluster" else new_server(self._url)

    def _forget(self) -> None:
        """In a forked child: connections, leases and the thread are the parent's."""
        self._client = self._new_client()
        self._leases: dict[str, bytes] = {}
        self._leases_lock = Lock()
        self._any_lease = Event()
        self._renewal: Thread | None = None
        self._closed = Event()
        self._commands = StoreLimit(COMMANDS_AT_ONCE, OPERATION_SECONDS)
        self._state_changes = StoreLimit(1, OPERATION_SECONDS)

    def close(self) -> None:
        """As in the contract. Leases that are still held expire."""
        with self._leases_lock:
            renewal = self._renewal
            self._closed.set()
            self._any_lease.set()
        if renewal is not None:
            renewal.join()
        self._client.leave()
        self._forget()

    def get(self, event_id: str) -> Entry | None:
        return from_bytes(event_id, self._read(self._key("event", event_id)))

    def read(self, event_ids: Collection[str], names: Collection[str] = ()) -> Read:
        events = {self._key("event", event_id): event_id for event_id in event_ids}
        texts = {self._key("note", name): name for name in names}
        with self._operation():
            values = self._client.at_once({key: ("GET", key) for key in (*events, *texts)})
        found = Read({}, {})
        failure: StoreError | None = None
        for key, value in zip((*events, *texts), values, strict=True):
            if isinstance(value, Exception) and failure is None:
                # Once more: with a single command, redis-py also finds out which node of a cluster has the key now.
                try:
                    value = self._read(key)  # noqa: PLW2901  # the same, read again
                except StoreNotReached:
                    raise
                except StoreError as exc:
                    failure = exc
            if isinstance(value, Exception):
                continue
            if key in events:
                found.entries[events[key]] = from_bytes(events[key], value)
            else:
                found.texts[texts[key]] = _text(value)
        if failure is not None:
            raise PartlyRead(failure, found)
        return found

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        record = to_bytes(event_id, entry)

        def newest(kept: bytes | None) -> bytes | None:
            kept_entry = from_bytes(event_id, kept)
            if kept_entry is not None and kept_entry.is_newer_than(entry, now):
                raise _HasNewerError
            return record

        age = max(0.0, now - entry.fetched_at)
        try:
            self._change(self._key("event", event_id), newest, self._lifetime - age)
        except _HasNewerError:
            return False
        return True

    def read_state(self, name: str) -> str | None:
        return _text(self._read(self._key("note", name)))

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        def change_bytes(kept: bytes | None) -> bytes | None:
            text = change(_text(kept))
            return None if text is None else text.encode()

        # Threads that change the same text wait for each other, instead of trying again.
        with self._state_changes:
            return _text(self._change(self._key("note", name), change_bytes, lifetime))

    def lease(self, event_id: str) -> Lease | None:
        key, value = self._key("lease", event_id), secrets.token_hex(16).encode()
        self._start_renewal()
        with self._operation():
            if not self._command("SET", key, value, "NX", "PX", _milliseconds(LEASE_SECONDS)):
                return None
        self._keep(key, value)
        lease = ExitStack()
        lease.callback(self._release, key)
        return lease

    def erase(self, now: float) -> bool:  # noqa: ARG002  # as the contract has it
        """Nothing to do: keys expire in Redis itself."""
        return True

    def try_all(self) -> None:
        with self._operation():
            for primary in self._client.primaries():
                primary.execute_command("SCAN", "0")

    def listed(self) -> Iterator[Listed]:
        """As in the contract. Redis keeps no order, so all entries are read before the first is returned."""
        found: dict[str, Listed] = {}
        with self._operation():
            primaries = self._client.primaries()
        for primary in primaries:
            for listed in self._listed_at(primary):
                found[listed.event_id] = listed
        yield from sorted(found.values(), key=lambda listed: listed.fetched_at, reverse=True)

    def _listed_at(self, primary: Client) -> Iterator[Listed]:
        prefix = self._key("event", "")
        cursor: object = "0"
        while cursor != 0:
            with self._operation():
                # Not KEYS: Redis would answer no other client until it has scanned everything.
                cursor, keys = primary.execute_command("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", SCANNED_AT_ONCE)
            for start in range(0, len(keys), READ_AT_ONCE):
                some = keys[start : start + READ_AT_ONCE]
                with self._operation():
                    records = primary.at_once({key: ("GET", key) for key in some})
                for key, record in zip(some, records, strict=True):
                    event_id = (_text(key) or "").removeprefix(prefix)
                    entry = from_bytes(event_id, record)
                    if entry is not None:
                        yield Listed(event_id, entry.status, entry.fetched_at, len(entry.body))

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}{kind}:{name}"

    def _read(self, key: str) -> bytes | None:
        """The value of a key; None if it is no string (somebody else's list, say)."""
        with self._operation():
            try:
                kept = self._command("GET", key)
            except redis.ResponseError as exc:
                if not str(exc).startswith("WRONGTYPE"):
                    raise
                kept = None
        return kept if isinstance(kept, bytes) else None

    def _change(self, key: str, change: Callable[[bytes | None], bytes | None], lifetime: float) -> bytes | None:
        """Atomically replace the value of a key by `change(value)`. Returns the new value."""
        for _ in range(MAX_CHANGES):
            kept = self._read(key)
            new = change(kept)
            if new is None and kept is None:
                return None
            with self._operation():
                if self._replace(key, kept, new, lifetime):
                    return new
            # A random pause, so that processes that collided do not collide again.
            time.sleep(secrets.randbelow(MAX_PAUSE_MICROSECONDS) / 1_000_000)
        raise StoreError(f"Redis at {self._url}: others change {key} all the time")

    def _replace(self, key: str, kept: bytes | None, new: bytes | None, lifetime: float) -> bool:
        words = (_argument(kept), _argument(new), _milliseconds(lifetime))
        return bool(self._command("EVAL", REPLACE, 1, key, *words))

    def _command(self, *words: object) -> Any:
        client = self._client
        try:
            return client.execute_command(*words)
        except redis.ResponseError as exc:
            self._leave_if_demoted(client, exc)
            raise

    def _leave_if_demoted(self, client: Client, error: object) -> None:
        """Leave a server that is no longer the primary: the name may belong to another one by now.

        redis-py would keep the connections.
        """
        if isinstance(error, DEMOTED) or "READONLY" in str(error) or "NOREPLICAS" in str(error):
            with self._leases_lock:
                if self._client is client:
                    self._client = self._new_client()
                    client.leave()

    @contextmanager
    def _operation(self) -> Iterator[None]:
        with self._commands:
            try:
                yield
            except FAILURES as exc:
                raise store_error(f"Redis at {self._url}", exc) from exc

    def _keep(self, key: str, value: bytes) -> None:
        with self._leases_lock:
            self._leases[key] = value
            self._any_lease.set()

    def _start_renewal(self) -> None:
        """Raises StoreNotReached if the system gives no thread: a lease that nobody renews would soon be lost."""
        with self._leases_lock:
            if self._renewal is None:
                renewal = Thread(target=self._renew, name="c42-lease", daemon=True)
                try:
                    renewal.start()
                except RuntimeError as exc:
                    raise StoreNotReached("no thread can be started that renews leases") from exc
                self._renewal = renewal

    def _renew(self) -> None:
        """Prolong the leases that are held: C42 may take longer than a lease lasts."""
        while True:
            self._any_lease.wait()
            # The pause between two rounds; `close` cuts it short.
            if self._closed.wait(RENEW_SECONDS):
                return
            with self._leases_lock:
                if self._closed.is_set():
                    return
                leases = dict(self._leases)
                if not leases:
                    self._any_lease.clear()
                    continue
            # A lease that cannot be prolonged is lost. Then another process may fetch, too; that makes no answer wrong.
            try:
                # All in one round trip for each node. An error for one does not stop the others.
                client, milliseconds = self._client, _milliseconds(LEASE_SECONDS)
                renewals = {key: ("EVAL", RENEW, 1, key, value, milliseconds) for key, value in leases.items()}
                results = client.at_once(renewals)
                for error in results:
                    self._leave_if_demoted(client, error)
                self._forget_lost(
                    key_value for key_value, result in zip(leases.items(), results, strict=True) if result == 0
                )
            except FAILURES:
                pass
            except Exception:
                # Even a bug must not end this thread: no later lease would be renewed.
                log.exception("leases could not be renewed; trying again in %g s", RENEW_SECONDS)

    def _forget_lost(self, lost: Iterable[tuple[str, bytes]]) -> None:
        """Log the leases that Redis has no more. One that was given back meanwhile is not lost."""
        with self._leases_lock:
            keys = [key for key, value in lost if self._leases.get(key) == value]
            for key in keys:
                del self._leases[key]
        if keys:
            log.info("leases lost, not renewed in time: %s; other processes may fetch these events, too", len(keys))

    def _release(self, key: str) -> None:
        """Give a lease back, unless it was lost: another process may have it now."""
        with self._leases_lock:
            value = self._leases.pop(key, None)
        if value is None:
            return
        # If this fails, the lease expires.
        with suppress(StoreError), self._operation():
            self._replace(key, value, None, LEASE_SECONDS)


def _milliseconds(seconds: float) -> int:
    return max(1, ceil(1000 * seconds))


def _argument(value: bytes | None) -> bytes:
    return b"" if value is None else b"=" + value


def _text(value: Any) -> str | None:
    try:
        return value.decode() if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None
