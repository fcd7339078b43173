"""The proxy under gunicorn: our defaults, each with its reason. `GUNICORN_CMD_ARGS` and `WEB_CONCURRENCY` win."""

import argparse
import logging
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import Application
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker as AnyWorker
from gunicorn.workers.gasgi import ASGIWorker
from prometheus_client.multiprocess import mark_process_dead
from uvicorn_worker import UvicornWorker

from ..address import Address
from ..app import build
from ..observability.logs import configure_logs
from ..observability.multiprocess import can_count_together, count_in
from ..settings import Settings
from ..stores.opening import open_shared
from ..threads import end_at_once
from ..upstream.transport import adapter_class
from ..web.asgi import Asgi, AsgiApp, Receive, Scope, Send, WsgiAsAsgi
from .gunicorn_lines import GunicornLines
from .worker import Worker, http_and_server

log = logging.getLogger(__name__)

THREADS = 1344
"""For `--worker-class gthread` alone: 256 requests may wait for C42 and 1,000 for a turn; the others are for hits."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # what is put there has names of its own
OPS_THREADS = 2

INHERITED = "GUNICORN_FD"
"""Set by gunicorn where a new master takes over the sockets of an old one (USR2)."""


class Server(Application):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn, with the settings already checked: a wrong one must stop the start, not a worker.

    With `ops`, the workers listen on the ops port as well, and count for it in files of one folder.
    """

    def __init__(self, settings: Settings, *, ops: bool) -> None:
        self._settings = settings
        self._ops_bind = settings.ops_bind if ops else None
        self._folder: Path | None = None
        self._slots: dict[AnyWorker, int] = {}
        super().__init__("%(prog)s serve", prog="c42-proxy")

    def init(self, _parser: argparse.ArgumentParser, _options: argparse.Namespace, _args: list[str]) -> dict[str, Any]:
        """What gunicorn starts from; its own configuration file and environment come on top."""
        return {
            "bind": self._settings.bind,
            "worker_class": Worker,
            "threads": THREADS,
            # For other worker classes, which stop accepting beyond this.
            "worker_connections": 4096,
            # A storm comes at once: what does not fit here is refused, or tried again by its client a second later.
            "backlog": 4096,
            # Longer than nginx's 60 s towards us, so that it is never the proxy that closes a connection in use.
            "keepalive": 75,
            # A worker that does not even say so for this long is hung. It is no bound on requests.
            "timeout": 30,
            # Time for the requests under way at a stop: nobody waits longer than twice the budget, and a moment.
            "graceful_timeout": int(2 * self._settings.timeout) + 5,
            # Headers of clients say nothing about where we are: no prefix, no scheme is taken from them.
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "secure_scheme_headers": {},
            # Its socket has a fixed place in the user's home: two proxies would fight for it.
            "control_socket_disable": True,
            # The heartbeat file must not wait for a disk.
            "worker_tmp_dir": str(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None,
            "logger_class": GunicornLines,
            "loglevel": self._settings.log_level,
            "proc_name": "c42-proxy",
            "on_starting": self._make_folder,
            "pre_fork": self._give_slot,
            "post_fork": self._count_in_slot,
            "child_exit": self._free_slot,
            "worker_int": lambda _worker: end_at_once(),
            "on_exit": self._remove_folder,
        }

    @property
    def _ops_port(self) -> int | None:
        return None if self._ops_bind is None else Address.parsed(self._ops_bind).port

    def load_config(self) -> None:
        """As gunicorn does, and the ops port besides wherever that made it listen."""
        super().load_config()
        if self._ops_bind is not None:
            self.cfg.set("bind", [*self.cfg.bind, self._ops_bind])

    def load(self) -> Callable[..., Any]:
        """The app, made in each worker after the fork: threads and connections do not survive one."""
        proxy = build(self._settings)
        if issubclass(self.cfg.worker_class, UvicornWorker | ASGIWorker):
            return _asgi_by_port(proxy.asgi, WsgiAsAsgi(proxy.ops, OPS_THREADS), self._ops_port)
        return _wsgi_by_port(proxy.flask, proxy.ops, self._ops_port)

    def _make_folder(self, _arbiter: Arbiter) -> None:
        if self._ops_bind is None or not can_count_together():
            return
        parent = SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())
        name = f"c42-proxy-{os.getuid()}-"
        for left_behind in parent.glob(f"{name}*"):
            # A master that was killed could not remove its own.
            pid = left_behind.name.removeprefix(name)
            if pid.isdecimal() and not _is_running(int(pid)):
                shutil.rmtree(left_behind, ignore_errors=True)
        self._folder = parent / f"{name}{os.getpid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def _give_slot(self, _arbiter: Arbiter, worker: AnyWorker) -> None:
        """A worker counts in files of the lowest free number: one that is replaced is continued, not added to."""
        taken = set(self._slots.values())
        self._slots[worker] = next(number for number in range(len(taken) + 1) if number not in taken)

    def _count_in_slot(self, _arbiter: Arbiter, worker: AnyWorker) -> None:
        slot = self._slots[worker]
        if self._folder is not None:
            count_in(self._folder, slot)

    def _free_slot(self, _arbiter: Arbiter, worker: AnyWorker) -> None:
        slot = self._slots.pop(worker, None)
        if self._folder is not None and slot is not None:
            # What it was doing, it no longer does. What it has counted stays.
            mark_process_dead(slot, self._folder)  # type: ignore[no-untyped-call]  # the library lacks it

    def _remove_folder(self, _arbiter: Arbiter) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    configure_logs(settings)
    settings.log_warnings()
    _check_libraries(settings)
    _allow_many_connections()
    Server(settings, ops=settings.ops_bind is not None and _is_free(settings.ops_bind)).run()


def _check_libraries(settings: Settings) -> None:
    """Look here whether libraries have changed inside: it is told once, and not by each worker."""
    http_and_server()
    adapter_class()
    open_shared(settings, time.time)


def _allow_many_connections() -> None:
    """Each client that waits takes a descriptor: what the system allows by default, 1,024, is soon too few."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _is_free(bind: str) -> bool:
    """Whether the ops port can be had. It is no reason not to answer: another proxy of this machine may have it."""
    if INHERITED in os.environ:
        return True
    try:
        Address.parsed(bind).listener().close()
    except OSError as exc:
        log.warning("C42_OPS_BIND: cannot listen on %s (%s): there are no metrics", bind, exc.strerror)
        return False
    return True


def _asgi_by_port(app: AsgiApp, ops: Asgi, ops_port: int | None) -> Asgi:
    if ops_port is None:
        return app

    def by_port(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Where the connection came in, by its socket: no header has a say.
        server = scope.get("server")
        return (ops if server is not None and server[1] == ops_port else app)(scope, receive, send)

    return by_port


def _wsgi_by_port(app: Flask, ops: Flask, ops_port: int | None) -> Callable[..., Any]:
    if ops_port is None:
        return app

    def by_port(environ: dict[str, Any], start_response: Any) -> Any:
        return (ops if environ["SERVER_PORT"] == str(ops_port) else app)(environ, start_response)

    return by_port
