"""Erasure: what nobody may be given any more is gone within a minute, also where nobody asks for anything."""

import logging
from collections.abc import Callable
from threading import Event, Lock, Thread

from .forks import after_fork

log = logging.getLogger(__name__)

ERASE_SECONDS = 20.0
"""A third of the minute: with `READ_STATE_SECONDS`, and a few attempts that fail, it is still within it."""

RETRY_SECONDS = 2.0


class Eraser:
    """Calls `erase` again and again, in a thread of its own, from `start` to `close`.

    `erase` says whether all is done; else it is called again soon.
    """

    def __init__(self, erase: Callable[[], bool]) -> None:
        self._erase = erase
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        """In a child, the thread is not here."""
        self._lock = Lock()
        self._over = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin, unless this process has begun already. Where the system gives no thread, another call may get one."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                thread = Thread(target=self._run, args=(self._over,), name="c42-erase", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    log.warning("no thread can be started now: what is over is erased later")
                    return
                self._thread = thread

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._over.set()
            if self._thread is not None:
                self._thread.join()

    def step(self) -> float:
        """Erase once; the seconds until the next time."""
        try:
            return ERASE_SECONDS if self._erase() else RETRY_SECONDS
        except Exception:
            # Whatever it is, what is over must not stay for ever.
            log.exception("what is over could not be erased: it is tried again")
            return ERASE_SECONDS

    def _run(self, over: Event) -> None:
        # Nobody waits for the interval but `close`, which ends it.
        while not over.wait(self.step()):
            pass
