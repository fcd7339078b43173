"""The only module that uses names of gunicorn that its documentation does not have: those of its master and threads.

They are checked at the start (`check`). Without them, gunicorn's own master runs (`controls_master`).
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import cache
from typing import Any, ParamSpec, TypeVar

from click import ClickException
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import ThreadWorker

from ..errors import Overloaded
from ..private_names import private_or_public
from ..threads import Threads, may_wait, start_thread

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

REPORT_SECONDS = 1.0


@cache
def controls_master() -> bool:
    """Whether gunicorn can run our master."""

    def private() -> bool:
        check()
        return True

    return private_or_public(
        "gunicorn",
        private,
        public=False,
        lost="the proxy ends if the machine has no process, thread or file for a worker, and a SIGUSR2 may fail.",
    )


def check() -> None:
    """Raises if gunicorn has changed. No master can be run just to try it, so this only looks for the names."""
    names = {"START_CTX", "WORKERS", "handle_hup", "manage_workers", "num_workers", "reexec", "reload", "spawn_worker"}
    missing = [*sorted(names - set(dir(Arbiter))), *sorted({"get_thread_pool"} - set(dir(ThreadWorker)))]
    if missing:
        raise LookupError(f"it has no {missing[0]}")
    used = ((Arbiter.run, "manage_workers"), (Arbiter.handle_hup, "reload"), (Arbiter.spawn_worker, "worker_age"))
    for function, name in used:
        if name not in function.__code__.co_names:
            raise LookupError(f"its master does not use {name}")


class Master(Arbiter):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's master, which would end if the machine has no process or no file for a worker."""

    _lacks = ""
    """Why the last process could not be started; empty if it could."""
    _outdated_age = 0
    """Workers up to this age, which is gunicorn's count of them, have the configuration of before the last SIGHUP."""
    _is_reloading = False

    def __init__(self, server: Any) -> None:
        self._server = server
        self._own_pid = os.getpid()
        super().__init__(server)

    def manage_workers(self) -> None:
        """Called by gunicorn at least once a second: it starts the workers that are missing."""
        outdated = sum(worker.age <= self._outdated_age for worker in self.WORKERS.values())
        # gunicorn ends the oldest workers when there are too many, but counts none as missing because it is outdated.
        for _ in range(min(outdated, self.num_workers - len(self.WORKERS) + outdated)):
            self.spawn_worker()
        super().manage_workers()
        self._server.systemd.report(self.num_workers)

    def spawn_worker(self) -> int | None:
        """Called by gunicorn for each worker."""
        umask = os.umask(0o077)
        os.umask(umask)
        try:
            pid: int = super().spawn_worker()
        except (OSError, RuntimeError) as exc:
            if not self._server.is_lack(exc):
                raise
            self._go_on_without(exc)
            # gunicorn has not put it back.
            os.umask(umask)
            self._server.worker_not_started(self.WORKERS.values())
            if self._is_reloading:
                raise  # else gunicorn would wait for the end of workers that must go on
            return None
        self._lacks = ""
        return pid

    def reload(self) -> None:
        """Called by gunicorn at a SIGHUP."""
        if not self._server.can_read_anew():
            return
        self._outdated_age, self._is_reloading = self.worker_age, True
        try:
            super().reload()
        except (OSError, RuntimeError) as exc:  # no process, or a pid file that cannot be written any more
            log.error("the reload has failed (%s): the old workers go on until others can be started", exc)
        finally:
            self._is_reloading = False

    def reexec(self) -> None:
        """Called by gunicorn at a SIGUSR2."""
        # gunicorn would run the module's path as a program (under `python -m c42_proxy`), in the folder of `--chdir`.
        self.START_CTX.update(args=[sys.executable, *sys.orig_argv[1:]], cwd=self._server.folder)
        try:
            super().reexec()
        except Exception as exc:  # noqa: BLE001  # whatever it is, this process must end, or the master go on
            if os.getpid() != self._own_pid:
                # The main loop would end the workers of the old master, which this process has inherited.
                log.error("the new master cannot be started (%s)", exc)
                logging.shutdown()
                os._exit(1)
            self._go_on_without(exc)

    def _go_on_without(self, error: Exception) -> None:
        """Log once that no process can be started. Raises `error` in a process that has been started."""
        if os.getpid() != self._own_pid:
            raise error
        if str(error) != self._lacks:
            log.warning("no process can be started for now (%s)", error)
        self._lacks = str(error)


class RunsMaster(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """Where an `Application` finds the master that it runs."""

    def run(self) -> None:
        """Called by `Application.run`."""
        own_pid = os.getpid()
        try:
            if controls_master():
                Master(self).run()
            else:
                with suppress(Overloaded):
                    start_thread(self._report, name="c42-systemd")
                super().run()
        except (OSError, RuntimeError) as exc:  # a pid file that cannot be written, or that of another process
            raise ClickException(f"gunicorn: {exc}") from exc
        except SystemExit as end:
            # gunicorn's own statuses (3: a worker failed to boot) are not documented, and here, 1 means a failure.
            # Workers are forked in here, too: gunicorn's master must see their statuses as they are.
            if end.code and os.getpid() == own_pid:
                raise SystemExit(1) from end
            raise

    def _report(self) -> None:
        while True:
            self.systemd.report(self.cfg.workers)
            time.sleep(REPORT_SECONDS)


class ThreadedWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's `gthread`, which would end if the system gives it no thread for a request."""

    def get_thread_pool(self) -> Threads:
        """Called by gunicorn."""
        return _RequestThreads(self.cfg.threads, name="c42-request", queues=True)


class _RequestThreads(Threads):
    def submit(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Answer in a thread of the pool. If the system gives none, answer here what needs no call to C42."""
        try:
            return super().submit(work, *args, **kwargs)
        except Overloaded:
            outcome: Future[R] = Future()
            context = copy_context()
            context.run(may_wait.set, False)
            try:
                outcome.set_result(context.run(work, *args, **kwargs))
            except Exception as exc:  # noqa: BLE001  # gunicorn reads it from the future
                outcome.set_exception(exc)
            return outcome

    def _may_queue(self) -> bool:
        # If there are fewer, the system gives no more, and all that there are may be waiting for C42.
        return self._count == self._limit
