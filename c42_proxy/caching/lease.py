"""The lease of an event: over all processes that share the store, one fetches at a time."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType

from ..stores.tiered import TieredStore

POLL_SECONDS = 0.02
MAX_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to fetch, until it is left. `waited` says whether somebody else had it first."""

    granted: AbstractContextManager[None]
    waited: bool

    def __enter__(self) -> None:
        self.granted.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.granted.__exit__(kind, error, traceback)


def wait_for_lease(store: TieredStore, event_id: str, *, patience: float) -> Lease | None:
    """The lease of an event; None where somebody else still has it after `patience` seconds."""
    give_up = time.monotonic() + patience
    waited = False
    pause = POLL_SECONDS
    while (granted := store.lease(event_id)) is None:
        waited = True
        if time.monotonic() >= give_up:
            return None
        # Neither a byte-range lock nor a key of Redis tells its waiters when it is free.
        time.sleep(pause)
        pause = min(1.5 * pause, MAX_POLL_SECONDS)
    return Lease(granted, waited)
