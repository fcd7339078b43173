"""The entries that stores keep, and the contract of all stores."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..errors import StoreError, StoreNotReached
from ..own_limits import is_our_own_limit

STORE_SECONDS = 0.25
"""How long Redis may take to connect, and for each command. SQLite has `FILE_SECONDS`."""


def store_error(store: object, error: Exception) -> StoreError:
    """Our error for one that a store has met."""
    return (StoreNotReached if is_our_own_limit(error) else StoreError)(f"{store}: {error}")


Lease = AbstractContextManager[object]
"""The right to fetch an event, for as long as its `with` block lasts."""

CLOCK_SKEW = 1.0
"""Seconds by which the clocks of two hosts may differ."""


def is_ahead(instant: float, now: float) -> bool:
    """Whether an instant is further in the future than clocks may differ.

    If so, it was written before the clock was set back, and is ignored.
    """
    return instant > now + CLOCK_SKEW


@dataclass(slots=True)
class Entry:
    """A cached entry: the combined answer for one event, or (404) that there is no such event.

    `body` is the answer as it is sent, empty for a 404. `fetched_at` is the instant, in seconds since the epoch, at
    which we began to ask C42; it alone determines until when the entry is fresh. `shared_head`, `own_head`
    and `prepared_body` are the response for a fresh entry, if the memory tier has prepared it (see `MemoryStore`). The
    first one is one object for all entries that expire in the same second. The three are no tuple: that would be one
    more object for each hit to fetch from memory (ADR 0019). `used` alone changes: it is larger than that of another
    entry if the memory tier was given, or asked for, this one later.
    """

    status: Literal[200, 404]
    body: bytes
    fetched_at: float
    shared_head: bytes | None = field(default=None, compare=False, repr=False)
    own_head: bytes = field(default=b"", compare=False, repr=False)
    prepared_body: bytes = field(default=b"", compare=False, repr=False)
    used: float = field(default=0.0, compare=False, repr=False)

    def is_newer_than(self, other: "Entry", now: float) -> bool:
        """Whether this entry was fetched later than `other`, so that `other` must not replace it.

        False if this one's `fetched_at` lies further in the future than clocks may differ.
        """
        return other.fetched_at < self.fetched_at and not is_ahead(self.fetched_at, now)


@dataclass(frozen=True, slots=True)
class Read:
    """What one operation has read: entries by their events, and texts by their names; None where there is none."""

    entries: dict[str, Entry | None]
    texts: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry in a list: without its body, which has `size` bytes."""

    event_id: str
    status: Literal[200, 404]
    fetched_at: float
    size: int


class SharedStates(Protocol):
    """Short texts, each with a name, that all processes on one store share."""

    def read_state(self, name: str) -> str | None:
        """The text of that name; None if there is none."""
        ...

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        """Atomically replace a text by `change(text)`; None removes it. Returns the new text.

        `change` may be called more than once. The text may be forgotten after `lifetime` seconds.
        """
        ...


class Store(SharedStates, Protocol):
    """A place that several threads, processes or hosts may share.

    It may forget anything at any time. Values that it returns may have been written by anybody: readers check them. A
    method that fails raises StoreError within a bounded time (`STORE_SECONDS` for each wait on the network; a store on
    disk has its own bound), or StoreNotReached if this process lacks what it takes to use the store.
    """

    def get(self, event_id: str) -> Entry | None:
        """The entry of an event, fresh or not; None if there is none, or nothing valid."""
        ...

    def read(self, event_ids: Collection[str], names: Collection[str] = ()) -> Read:
        """Entries and texts as from `get` and `read_state`, in one operation.

        Raises PartlyRead if a part of the store fails.
        """
        ...

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        """Keep `entry`, unless the store has a newer one (see `Entry.is_newer_than`). Returns whether it is kept.

        It is an answer for this event: who reads it checks that, not this method.
        """
        ...

    def lease(self, event_id: str) -> Lease | None:
        """The right to fetch an event, until the `with` block ends or its holder dies; None while another has it."""
        ...

    def erase(self, now: float) -> bool:
        """Erase the entries that may no longer be served at `now`, so that their bytes are in no file and no memory.

        These are entries, of any namespace, that are older than the store's lifetime or that were written before a
        clock was set back. Texts are erased likewise. False: try again soon, because somebody else is reading.
        """
        ...

    def close(self) -> None:
        """Close this process's connections and end its threads. The next use opens them again."""
        ...


class SharedStore(Store, Protocol):
    """A store outside this process, which an operator can look into."""

    def try_all(self) -> None:
        """Read a little of each part, each node of a cluster, say. It repairs nothing. Raises StoreError."""
        ...

    def listed(self) -> Iterator[Listed]:
        """All entries, fresh or not, the newest first.

        It changes and repairs nothing, and delays other processes for a moment at most. It keeps no bodies in memory.
        An entry that is replaced meanwhile may be missing. Raises StoreError, at any point of the iteration.
        """
        ...
