"""Threads for work that goes on although its client has gone."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
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
