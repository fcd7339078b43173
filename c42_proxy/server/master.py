"""gunicorn's master: it goes on if the machine lacks something, and reports to systemd."""

import logging
import os

from click import ClickException
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

log = logging.getLogger(__name__)


class Master(Arbiter):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's master, which would end if the machine has no process or no file for a worker."""

    _lacks = ""
    """Why the last process could not be started; empty if it could."""

    def manage_workers(self) -> None:
        """Called by gunicorn at least once a second: it starts the workers that are missing."""
        super().manage_workers()
        self.app.systemd.report(self.num_workers)

    def spawn_worker(self) -> int | None:
        """Called by gunicorn for each worker."""
        umask = os.umask(0o077)
        os.umask(umask)
        try:
            pid: int = super().spawn_worker()
        except (OSError, RuntimeError) as exc:
            if not self.app.is_lack(exc):
                raise
            self._go_on_without(exc)
            # gunicorn has not put it back.
            os.umask(umask)
            self.app.worker_not_started(self.WORKERS.values())
            return None
        self._lacks = ""
        return pid

    def reexec(self) -> None:
        """Called by gunicorn at a SIGUSR2."""
        try:
            super().reexec()
        except Exception as exc:  # noqa: BLE001  # whatever it is, this process must end, or the master go on
            if os.getpid() != self.pid:
                # The main loop would end the workers of the old master, which this process has inherited.
                log.error("the new master cannot be started (%s)", exc)
                logging.shutdown()
                os._exit(1)
            self._go_on_without(exc)

    def _go_on_without(self, error: Exception) -> None:
        """Log once that no process can be started. Raises `error` in a process that has been started."""
        if os.getpid() != self.pid:
            raise error
        if str(error) != self._lacks:
            log.warning("no process can be started for now (%s)", error)
        self._lacks = str(error)


class RunsMaster(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """Where an `Application` finds the master that it runs."""

    def run(self) -> None:
        """Called by `Application.run`."""
        try:
            Master(self).run()
        except (OSError, RuntimeError) as exc:  # a pid file that cannot be written, or that of another process
            raise ClickException(f"gunicorn: {exc}") from exc
