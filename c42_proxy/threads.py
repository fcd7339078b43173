"""Threads: for work that goes on after its client has gone, and for work that has no time-out.

If the system gives no thread, `Overloaded` is raised at once and the work is never done, except in a pool that queues
and already has a thread: there the work waits.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar, copy_context
from functools import partial
from heapq import heappop, heappush
from itertools import count
from queue import Empty, SimpleQueue
from threading import Condition, Thread
from typing import ParamSpec, TypeVar

from .errors import Overloaded

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_Task = Callable[[], object]
_Inbox = SimpleQueue[_Task | None]

may_wait: ContextVar[bool] = ContextVar("may_wait", default=True)
"""Whether the request that is worked for may wait for C42. Not in a thread on which other requests depend."""

IDLE_SECONDS = 5.0
"""How long a thread without work stays."""


class Threads(Executor):
    """A pool of at most `limit` threads, started when they are needed. A thread idle for `idle_seconds` ends.

    If no thread is free, the work waits (`queues`), or `submit` raises Overloaded. A pool that queues keeps its last
    thread, so that queued work is done even while the system gives no new one. A thread that ends idle calls `on_idle`.

    Not a ThreadPoolExecutor: that keeps its threads for ever, and if it cannot start one, the work stays in its queue.
    """

    def __init__(
        self,
        limit: int,
        *,
        name: str,
        queues: bool = False,
        idle_seconds: float = IDLE_SECONDS,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._limit = limit
        self._name = name
        self._queues = queues
        self._idle_seconds = idle_seconds
        self._on_idle = on_idle
        self._waiting: deque[_Task] = deque()
        self._idle: list[_Inbox] = []
        """The thread that was used last is used next, so that those that are not needed end."""
        self._count = 0
        self._ending = 0
        """Threads that get no more work, but have not ended."""
        self._closed = False
        self._changed = Condition()

    def submit(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Begin `work` in another thread, for the same request: its log lines and calls have the request's id.

        Raises Overloaded.
        """
        outcome, task = _task(partial(work, *args, **kwargs))
        self._give(task)
        return outcome

    def begin(self, work: Callable[[], object]) -> None:
        """As `submit`, for work that has no result and raises nothing: less is to be done for it. Raises Overloaded."""
        self._give(partial(copy_context().run, work))

    def submit_both(self, work: Callable[[], R], other: Callable[[], S]) -> tuple[Future[R], Future[S]]:
        """Begin both in threads of their own, or neither. Raises Overloaded."""
        (outcome, task), (other_outcome, other_task) = _task(work), _task(other)
        self._give(task, other_task)
        return outcome, other_outcome

    def _give(self, *tasks: _Task) -> None:
        with self._changed:
            if self._closed:
                raise RuntimeError("no work may begin any more")
            self._make_idle(len(tasks))
            for task in tasks:
                if self._idle:
                    self._idle.pop().put(task)
                else:
                    self._waiting.append(task)

    def close(self) -> None:
        """Wait for the work under way, and end the threads. No work may begin any more."""
        with self._changed:
            self._closed = True
            for inbox in self._idle:
                inbox.put(None)
            self._changed.wait_for(lambda: self._count + self._ending == 0)

    def _make_idle(self, needed: int) -> None:
        """Start threads until `needed` are idle, or the work can wait for one. Raises Overloaded."""
        while len(self._idle) < needed:
            try:
                if self._count == self._limit:
                    raise Overloaded
                inbox: _Inbox = SimpleQueue()
                start_thread(partial(self._work, inbox), name=self._name)
            except Overloaded:
                if self._may_queue():
                    return
                raise
            self._count += 1
            self._idle.append(inbox)

    def _may_queue(self) -> bool:
        """Whether work may wait for one of the threads that there are."""
        return self._queues and self._count != 0

    def _work(self, inbox: _Inbox) -> None:
        while True:
            try:
                task = inbox.get(timeout=self._idle_seconds)
            except Empty:
                if self._may_end(inbox):
                    break
                continue
            while task is not None:
                try:
                    task()
                except BaseException:
                    # Not even a bug may make the pool smaller.
                    log.exception("work that should raise nothing has failed")
                task = self._next(inbox)
            if self._closed:
                with self._changed:
                    self._count -= 1
                    self._changed.notify_all()
                return
        try:
            self._on_idle()
        except Exception:
            log.exception("what was to be done at the end of an idle thread has failed")
        with self._changed:
            self._ending -= 1
            self._changed.notify_all()

    def _next(self, inbox: _Inbox) -> _Task | None:
        """The next queued task. If there is none, the thread of `inbox` is idle from now on."""
        with self._changed:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(inbox)
            return None

    def _may_end(self, inbox: _Inbox) -> bool:
        """Whether the thread of `inbox` may end. If so, it gets no more work."""
        with self._changed:
            if inbox not in self._idle or (self._queues and self._count == 1):
                return False
            self._idle.remove(inbox)
            # At once: two threads that are idle for equally long must not each take the other one for the last.
            self._count -= 1
            self._ending += 1
            return True


class Timer:
    """Begins work later, in one thread: work that must not block. The thread ends when nothing is due."""

    def __init__(self, *, name: str, idle_seconds: float = IDLE_SECONDS) -> None:
        self._name = name
        self._idle_seconds = idle_seconds
        self._due: list[tuple[float, int, _Task]] = []
        self._numbers = count()
        self._is_running = False
        self._changed = Condition()

    def later(self, seconds: float, work: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Begin `work` in `seconds` seconds, for the same request. Raises Overloaded."""
        context = copy_context()
        work_of_request = partial(work, *args, **kwargs)

        def task() -> None:
            context.run(work_of_request)

        with self._changed:
            if not self._is_running:
                start_thread(self._run, name=self._name)
                self._is_running = True
            heappush(self._due, (time.monotonic() + seconds, next(self._numbers), task))
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread. Work that is not due yet is never begun."""
        with self._changed:
            self._is_running = False
            self._changed.notify_all()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            task()

    def _next(self) -> _Task | None:
        """Wait for the next task that is due. None ends the thread."""
        with self._changed:
            while self._is_running:
                left = self._due[0][0] - time.monotonic() if self._due else self._idle_seconds
                if left <= 0:
                    return heappop(self._due)[2]
                if not self._changed.wait(left) and not self._due:
                    self._is_running = False
        return None


def start_thread(target: Callable[[], object], *, name: str) -> None:
    """Start a daemon thread. Raises Overloaded if the system gives none."""
    try:
        Thread(target=target, name=name, daemon=True).start()
    except RuntimeError as exc:
        raise Overloaded from exc


def in_thread(work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """Begin `work` in a thread of its own. The caller may stop waiting for the result; the thread goes on.

    Raises Overloaded.
    """
    outcome, task = _task(partial(work, *args, **kwargs))
    start_thread(task, name="c42-bounded")
    return outcome


def result_within(seconds: float, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of `work`, or its exception. Raises TimeoutError if it takes longer than `seconds`, or Overloaded.

    For work that has no time-out, such as resolving a host name. After a TimeoutError, its thread goes on.
    """
    return in_thread(work, *args, **kwargs).result(seconds)


def _task(work: Callable[[], R]) -> tuple[Future[R], _Task]:
    """The future result of `work`, and the task that does it for the request of the caller."""
    outcome: Future[R] = Future()
    return outcome, partial(_run, outcome, copy_context(), work)


def _run(outcome: Future[R], context: Context, work: Callable[[], R]) -> None:
    try:
        outcome.set_result(context.run(work))
    except BaseException as exc:  # noqa: BLE001  # the thread that waits raises it
        outcome.set_exception(exc)
        # The exception refers to this frame: the cycle would leave both to the garbage collector.
        del outcome


def end_at_once() -> None:
    """End the process. A normal exit would wait for gthread's threads, which may wait for C42."""
    logging.shutdown()
    os._exit(0)
