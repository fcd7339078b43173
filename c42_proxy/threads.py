"""Threads: for work that goes on although its client has gone, and for work that knows no time-out."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

R = TypeVar("R")


class Threads:
    """At most `limit` threads, started when they are needed, and kept for the work to come."""

    def __init__(self, limit: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix=name)

    def start(self, work: Callable[..., R], /, *args: object) -> Future[R]:
        """Begin `work` in another thread, for the same request: its log lines and its calls carry the request's id."""
        return self._pool.submit(copy_context().run, work, *args)

    def close(self) -> None:
        """Wait for the work under way, and end the threads. Nothing may be started any more."""
        self._pool.shutdown()


def in_thread(work: Callable[..., R], /, *args: object) -> Future[R]:
    """Begin `work` in a thread of its own. Nothing ends it: the caller waits as long as it likes, and no longer."""
    outcome: Future[R] = Future()

    def run() -> None:
        try:
            outcome.set_result(work(*args))
        except BaseException as exc:  # noqa: BLE001  # the thread that waits raises it
            outcome.set_exception(exc)

    Thread(target=run, name="c42-bounded", daemon=True).start()
    return outcome


def result_within(seconds: float, work: Callable[..., R], /, *args: object) -> R:
    """What `work` returns or raises; TimeoutError where it takes longer than `seconds`. Its thread then goes on alone.

    For what knows no time-out of its own: the resolution of a name, for one.
    """
    return in_thread(work, *args).result(seconds)
