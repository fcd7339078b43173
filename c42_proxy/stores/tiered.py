"""A shared store that may fail, and what this process remembers itself in the meantime."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import Lock
from typing import Literal

from ..errors import StoreError
from ..observability.metrics import Metrics
from .contract import Entry, Store

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""How long a store is left alone after a failure."""

Use = Literal["reading", "writing", "leasing"]


class SteadyStore:
    """Uses `shared`, and goes on with `local` while that fails: no method raises StoreError.

    A store that cannot be read is left alone altogether. One that can be read but not written (read-only, full,
    locked) is still read. After `RETRY_SECONDS` one caller tries again what failed, the others go on with `local`.
    One warning when it begins, one line when all works again. `monotonic` tells seconds.
    """

    def __init__(
        self,
        shared: Store,
        local: Store,
        *,
        metrics: Metrics,
        monotonic: Callable[[], float] = lambda: time.monotonic(),  # noqa: PLW0108  # a test may replace it later
    ) -> None:
        self._shared = shared
        self._local = local
        self._metrics = metrics
        self._monotonic = monotonic
        self._lock = Lock()
        self._retry_at: dict[Use, float] = {}

    @property
    def failed(self) -> bool:
        """Whether anything of the shared store is left alone at the moment."""
        return bool(self._retry_at)

    def get(self, event_id: str) -> Entry | None:
        with suppress(StoreError), self._using("reading") as shared:
            entry = shared.get(event_id)
            if entry is not None:
                return entry
        return self._local.get(event_id)

    def put(self, event_id: str, entry: Entry, now: float) -> bool:
        with suppress(StoreError), self._using("writing") as shared:
            # What the shared store has something newer for is old for this process, too.
            if not shared.put(event_id, entry, now):
                return False
        return self._local.put(event_id, entry, now)

    def read_note(self, name: str) -> str | None:
        # While notes cannot be changed there, those here are the newer ones.
        if "writing" in self._retry_at:
            return self._local.read_note(name)
        with suppress(StoreError), self._using("reading") as shared:
            note = shared.read_note(name)
            # What others have said is to outlive the store as well.
            return self._local.change_note(name, lambda _held: note, math.inf)
        return self._local.read_note(name)

    def change_note(self, name: str, change: Callable[[str | None], str | None], lifetime: float) -> str | None:
        with suppress(StoreError), self._using("writing") as shared:
            note = shared.change_note(name, change, lifetime)
            return self._local.change_note(name, lambda _held: note, lifetime)
        return self._local.change_note(name, change, lifetime)

    def lease(self, event_id: str) -> AbstractContextManager[None] | None:
        with suppress(StoreError), self._using("leasing") as shared:
            return shared.lease(event_id)
        return self._local.lease(event_id)

    def close(self) -> None:
        self._shared.close()
        self._local.close()

    @contextmanager
    def _using(self, use: Use) -> Iterator[Store]:
        """The shared store, if it is to be used for this now. Raises StoreError if not, and lets one pass."""
        tries_again = self._may_use(use)
        try:
            yield self._shared
        except StoreError as exc:
            self._has_failed(use, exc)
            raise
        if tries_again:
            self._works_again(use)

    def _may_use(self, use: Use) -> bool:
        """Whether this is the one caller that tries again; raises StoreError where the store is left alone."""
        if not self._retry_at:
            return False
        with self._lock:
            now = self._monotonic()
            if use != "reading" and "reading" in self._retry_at:
                raise StoreError("the shared store is left alone")
            if use not in self._retry_at:
                return False
            if now < self._retry_at[use]:
                raise StoreError("the shared store is left alone")
            self._retry_at[use] = now + RETRY_SECONDS
            return True

    def _has_failed(self, use: Use, error: StoreError) -> None:
        self._metrics.store_failures.inc()
        self._metrics.store_up.set(0)
        with self._lock:
            if not self._retry_at:
                log.warning("the shared store fails: each process goes on by itself until it works again (%s)", error)
            self._retry_at[use] = self._monotonic() + RETRY_SECONDS

    def _works_again(self, use: Use) -> None:
        with self._lock:
            self._retry_at.pop(use, None)
            if not self._retry_at:
                self._metrics.store_up.set(1)
                log.info("the shared store works again")
