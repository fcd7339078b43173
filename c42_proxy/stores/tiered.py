"""The memory tier and the shared tier as one store, and the fallback while the shared tier fails."""

import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Literal, TypeVar

from ..errors import Overloaded, PartlyRead, StoreError, StoreNotReached
from ..observability import tracing
from ..observability.metrics import Metrics
from .contract import Entry, Lease, Read, Store, is_ahead
from .memory import MemoryStore, State

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 2.0
"""How long a store is not used after a failure."""

READ_STATE_SECONDS = 30.0
"""How long a text of the shared tier is kept in memory: short, because the text may expire and must then be erased."""

UNSHARED = "unshared:"
"""Begins the name, in the memory tier, of a text that was written while the shared tier failed. When that tier works
again and has no text of this name, this one is shared: a failure or a back-off of that time is still known. If it has
one, this one is dropped.
"""

FOR_A_FETCH = {"get", "lease"}
"""The operations without which a fetch may be one too many. Any read of entries, also with texts, is called `get`."""

Use = Literal["reading", "writing", "leasing"]


@dataclass(frozen=True, slots=True)
class Kept:
    """The result of `put`: the entry as the memory tier keeps it, and in which tiers it is.

    `shared` means that all processes on the store find it. While the store fails, or where nothing is shared, it means
    that this process finds it.
    """

    entry: Entry
    in_memory: bool
    shared: bool


class TieredStore:
    """The memory tier of this process in front of the tier that it shares with others. Thread-safe.

    `shared` is None if nothing is shared. No method raises StoreError: while the shared tier fails, the memory tier is
    the fallback. A shared tier that cannot be read is not used at all. From one that can be read but not written
    (read-only, full, locked), entries are still read. After `RETRY_SECONDS` one caller tries the failed use again, the
    others go on with the fallback. One warning is logged when failing begins, one line when all works again.
    `monotonic` returns seconds.

    While this process lacks threads or descriptors to use the shared tier, that is no failure of it, and what reads
    entries or takes a lease raises Overloaded: with the memory alone, this process might fetch what another one fetches
    or has fetched.
    """

    def __init__(
        self,
        memory: MemoryStore,
        shared: Store | None,
        *,
        clock: Callable[[], float],
        metrics: Metrics,
        monotonic: Callable[[], float] = lambda: time.monotonic(),  # noqa: PLW0108  # a test may replace it later
    ) -> None:
        self.from_memory = memory.get
        """The entry of an event in the memory tier, fresh or not; None if there is none."""
        self._memory = memory
        self._shared = shared
        self._clock = clock
        self._metrics = metrics
        self._monotonic = monotonic
        self._lock = Lock()
        self._retry_at: dict[Use, float] = {}

    @property
    def failed(self) -> bool:
        """Whether any use of the shared tier is suspended after a failure."""
        return bool(self._retry_at)

    def get(self, event_id: str) -> Entry | None:
        """The newest entry of both tiers, fresh or not. It is put into the memory tier, too, unless it is ahead."""
        shared = self._shared
        if shared is None:
            return self._memory.get(event_id)
        found = None
        with suppress(StoreError):
            found = self._use("reading", "get", partial(shared.get, event_id))
        return self._newest(event_id, found)

    def read(self, event_ids: Collection[str], names: Collection[str] = ()) -> Read:
        """Entries and texts as from `get` and `read_state`, in one operation.

        While the shared tier cannot be written, texts are read from memory alone.
        """
        shared = self._shared
        shared_names = () if self._memory_has_newer_texts else names
        if shared is None or not (event_ids or shared_names):
            return self._memory.read(event_ids, names)
        seen = {key: self._memory.state(key) for name in shared_names for key in (name, UNSHARED + name)}
        found = Read({}, {})
        operation = "get" if event_ids else "read_state"
        try:
            found = self._use("reading", operation, partial(shared.read, event_ids, shared_names))
        except PartlyRead as exc:
            found = exc.found
        except StoreError:
            pass
        return Read(
            {event_id: self._newest(event_id, found.entries.get(event_id)) for event_id in event_ids},
            {name: self._newest_text(name, found.texts, seen) for name in names},
        )

    def _newest(self, event_id: str, found: Entry | None) -> Entry | None:
        """The newer one of the entry in memory and the one that was `found` in the shared tier."""
        mine = self._memory.get(event_id)
        now = self._clock()
        if found is not None and found != mine and not is_ahead(found.fetched_at, now):
            self._memory.put(event_id, found, now)
            mine = self._memory.get(event_id)
        if found is None or mine is None:
            return found or mine
        return found if is_ahead(mine.fetched_at, now) else mine

    def put(self, event_id: str, entry: Entry, now: float) -> Kept:
        """Keep an entry in each tier that has no newer one."""
        in_memory = self._memory.put(event_id, entry, now)
        mine = self._memory.get(event_id)
        kept = mine if mine == entry else entry
        shared = self._shared
        if shared is None:
            return Kept(kept, in_memory, in_memory)
        with suppress(StoreError):
            return Kept(kept, in_memory, self._use("writing", "put", partial(shared.put, event_id, entry, now)))
        return Kept(kept, in_memory, in_memory)

    def read_state(self, name: str) -> str | None:
        return self.read((), (name,)).texts[name]

    @property
    def _memory_has_newer_texts(self) -> bool:
        """While the shared tier cannot be written, the texts in memory are the newer ones."""
        return "writing" in self._retry_at

    def _newest_text(self, name: str, found: dict[str, str | None], seen: dict[str, State | None]) -> str | None:
        """The text that was `found` in the shared tier, or is written there now, or the one in memory, if it is newer.

        `seen` is what was in memory before the shared tier was read.
        """
        if name not in found:
            return self._memory.read_state(name)
        text = found[name]
        unshared = self._memory.state_with_seconds(UNSHARED + name)
        if unshared is not None and self._memory_has_newer_texts:
            return self._memory.read_state(name)
        if unshared is not None and text is None:
            return self.change_state(name, lambda before: before, unshared[1])
        if unshared is not None:
            self._drop_unshared(name, seen[UNSHARED + name])
        # Texts of other processes must stay for a while if the shared tier fails.
        return self._remember(name, text, READ_STATE_SECONDS, seen[name])

    def _drop_unshared(self, name: str, seen: State | None) -> None:
        """The shared tier has a text of that name. What this process could not share before, `seen`, is older."""
        self._memory.put_state(UNSHARED + name, None, READ_STATE_SECONDS, unless=lambda state: state is not seen)

    def _remember(self, name: str, text: str | None, lifetime: float, seen: State | None) -> str | None:
        """Put the text into memory that the shared tier has of that name, and return it.

        `seen` is what was in memory before the shared tier was used. If that has failed since, and another thread has
        put something into memory, be it only what it has read, that may be newer: it stays, and is returned.
        """

        def is_newer(state: State | None) -> bool:
            return state is not seen and not self._retry_at.keys().isdisjoint({"reading", "writing"})

        return self._memory.put_state(name, text, lifetime, unless=is_newer)

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        shared = self._shared
        if shared is None:
            return self._memory.change_state(name, change, lifetime)
        unshared = self._memory.state(UNSHARED + name)
        seen = self._memory.state(name)

        def change_shared(before: str | None) -> str | None:
            return change(unshared.text if before is None and unshared is not None else before)

        with suppress(StoreError):
            text = self._use("writing", "change_state", partial(shared.change_state, name, change_shared, lifetime))
            self._drop_unshared(name, unshared)
            self._remember(name, text, lifetime, seen)
            return text
        text = self._memory.change_state(name, change, lifetime)
        return self._memory.put_state(UNSHARED + name, text, lifetime)

    def lease(self, event_id: str) -> Lease | None:
        shared = self._shared
        if shared is None:
            return self._memory.lease(event_id)
        with suppress(StoreError):
            return self._use("leasing", "lease", partial(shared.lease, event_id))
        return self._memory.lease(event_id)

    def erase(self) -> bool:
        """As in the contract of a store, in both tiers. False also if the shared tier fails."""
        now = self._clock()
        self._memory.erase(now)
        shared = self._shared
        if shared is None:
            return True
        with suppress(StoreError):
            return self._use("writing", "erase", partial(shared.erase, now))
        return False

    def _use(self, use: Use, operation: str, work: Callable[[], T]) -> T:
        """The result of `work`, which uses the shared tier. Raises StoreError if that is not to be used now."""
        tries_again = self._claims_retry(use)
        try:
            with tracing.span(f"store {operation}", "client"):
                result = work()
        except StoreNotReached as exc:
            if operation in FOR_A_FETCH:
                raise Overloaded from exc
            raise
        except StoreError as exc:
            self._has_failed(use, exc)
            raise
        if tries_again:
            self._works_again(use)
        return result

    def _claims_retry(self, use: Use) -> bool:
        """Whether this is the one caller that tries again. Raises StoreError if the shared tier is not to be used."""
        if not self._retry_at:
            return False
        with self._lock:
            now = self._monotonic()
            if use != "reading" and "reading" in self._retry_at:
                raise StoreError("the shared store failed a moment ago")
            if use not in self._retry_at:
                return False
            if now < self._retry_at[use]:
                raise StoreError("the shared store failed a moment ago")
            self._retry_at[use] = now + RETRY_SECONDS
            return True

    def _has_failed(self, use: Use, error: StoreError) -> None:
        self._metrics.store_failures.inc()
        self._metrics.store_up.set(0)
        with self._lock:
            if not self._retry_at:
                log.warning(
                    "the shared store fails; until it works again, each process uses its memory for what fails (%s)",
                    error,
                )
            self._retry_at[use] = self._monotonic() + RETRY_SECONDS

    def _works_again(self, use: Use) -> None:
        with self._lock:
            self._retry_at.pop(use, None)
            if not self._retry_at:
                self._metrics.store_up.set(1)
                log.info("the shared store works again")
