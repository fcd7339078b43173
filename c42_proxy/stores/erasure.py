"""Erasure: entries that may no longer be served are erased within a minute, also if no client asks for anything."""

import logging
from collections.abc import Callable
from threading import Event, Lock, Thread

from .forks import after_fork

log = logging.getLogger(__name__)

ERASE_SECONDS = 20.0
"""A text may stay in memory for `READ_STATE_SECONDS` (30 s), and then until the next erasure: 50 s, which leaves 10 s
of the minute for attempts that fail."""

RETRY_SECONDS = 2.0
"""The pause after an attempt that failed, or that a reader has kept from ending."""


class Eraser:
    """Calls `erase` every `ERASE_SECONDS` in a thread, from `start` to `close`.

    If `erase` returns False or raises, it is called again after `RETRY_SECONDS`.
    """

    def __init__(self, erase: Callable[[], bool]) -> None:
        self._erase = erase
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        """Called in a forked child, in which the thread does not run."""
        self._lock = Lock()
        self._closing = Event()
        self._thread: Thread | None = None
        self._lacks_thread = False

    def start(self) -> None:
        """Start the thread, if it does not run yet. If the system gives none, a later call tries again."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                thread = Thread(target=self._run, args=(self._closing,), name="c42-erase", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    if not self._lacks_thread:
                        log.warning("no thread can be started: this process erases no old entries for now")
                    self._lacks_thread = True
                    return
                self._thread = thread

    def close(self) -> None:
        with self._lock:
            self._closing.set()
            if self._thread is not None:
                self._thread.join()

    def step(self) -> float:
        """Erase once. Returns the seconds until the next time."""
        try:
            return ERASE_SECONDS if self._erase() else RETRY_SECONDS
        except Exception:
            # Even a bug must not keep old entries for ever.
            log.exception("old entries could not be erased; trying again in %g s", RETRY_SECONDS)
            return RETRY_SECONDS

    def _run(self, closing: Event) -> None:
        # The pause between two rounds; `close` cuts it short.
        while not closing.wait(self.step()):
            pass
