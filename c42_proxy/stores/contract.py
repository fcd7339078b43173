"""What the stores hold, and the contract that all of them keep."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

STORE_SECONDS = 0.25
"""How long an operation on a store may take before it counts as failed."""

Lease = AbstractContextManager[object]
"""The right to fetch an event, for as long as its `with` block lasts."""

CLOCK_SKEW = 1.0
"""Seconds by which the clocks of two hosts may differ."""


def is_ahead(instant: float, now: float) -> bool:
    """Whether an instant lies so far ahead that it was noted before a clock was set back: it says nothing then."""
    return instant > now + CLOCK_SKEW


@dataclass(frozen=True, slots=True)
class Entry:
    """A cached entry: what C42 said of one event. A combined answer, or (404) that there is no such event.

    `body` is the answer as it is sent, empty for a 404. `fetched_at` is the instant, in seconds since the epoch,
    at which we began to ask: from it alone follows until when the entry is fresh. `prepared` is the head and the body
    of the response for as long as the entry is fresh, where the memory tier keeps them (see `MemoryStore`).
    """

    status: Literal[200, 404]
    body: bytes
    fetched_at: float
    prepared: tuple[bytes, bytes] | None = field(default=None, compare=False, repr=False)

    def is_newer_than(self, other: "Entry", now: float) -> bool:
        """Whether `other` may not replace this one: it was fetched later, by a clock that can be believed."""
        return other.fetched_at < self.fetched_at and not is_ahead(self.fetched_at, now)


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry as a list shows it: without its body, which has `size` bytes."""

    event_id: str
    status: Literal[200, 404]
    fetched_at: float
    size: int


class SharedStates(Protocol):
    """Short texts, each with a name, that all who share a store see."""

    def read_state(self, name: str) -> str | None:
        """The text of that name; None where there is none."""
        ...

    def change_state(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        """Replace a text by what `change` makes of it, with no other change in between; None removes it.

        `change` may be called more than once. The text may be forgotten after `lifetime` seconds. Returns the new one.
        """
        ...


class Store(SharedStates, Protocol):
    """A place that several threads, processes or hosts may share.

    It may forget anything at any time, and what it gives back may be anybody's: each reader checks it. A method that
    fails raises StoreError, within `STORE_SECONDS`, or within a time of its own where a disk has its say.
    """

    def get(self, event_id: str) -> Entry | None:
        """The entry of an event, fresh or not; None where there is none, or nothing that is one."""
        ...

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        """Keep `entry`, unless a newer one is there (see `Entry.is_newer_than`); whether it is kept."""
        ...

    def lease(self, event_id: str) -> Lease | None:
        """The right to fetch an event, until it is left or its holder dies; None while another holder has it."""
        ...

    def erase(self, now: float) -> bool:
        """Erase what nobody may be given any more at the instant `now`: it is in no file and no memory then.

        That is what is older than the store's lifetime, or was written before a clock was set back, of any namespace.
        False where it has to be tried again in a moment, because somebody else is reading.
        """
        ...

    def close(self) -> None:
        """Close the connections and end the threads that this process has here. Another use would open them again."""
        ...


class SharedStore(Store, Protocol):
    """A store outside this process, which can be looked into as a whole."""

    def listed(self) -> Iterator[Listed]:
        """All entries, fresh or not, the newest first.

        It only reads: it creates nothing, mends nothing, and delays no other process. It keeps no bodies in memory. An
        entry that is replaced meanwhile may be missing. Raises StoreError, at any point of the iteration.
        """
        ...
