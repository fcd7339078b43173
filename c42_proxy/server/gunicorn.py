"""The proxy under gunicorn: our defaults, each with its reason. `GUNICORN_CMD_ARGS` and `WEB_CONCURRENCY` override."""

import argparse
import errno
import logging
import os
import resource
import socket
import tempfile
from collections.abc import Callable, Collection, Iterable
from inspect import signature
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click import ClickException
from gunicorn.app.base import Application
from gunicorn.workers.base import Worker as AnyWorker
from gunicorn.workers.gasgi import ASGIWorker
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker

from ..address import Address
from ..errors import SettingsError
from ..observability.tracing import spans_from_env
from ..settings import Settings
from ..threads import end_at_once
from .file_checks import check_files
from .gunicorn_lines import GunicornLines
from .master import RunsMaster, ThreadedWorker, controls_master
from .start_checks import check_ports, check_tls, check_worker_count, configured, wrong_configuration
from .systemd import Systemd
from .worker import Worker

if TYPE_CHECKING:
    from ..observability.multiprocess import SharedValues
    from ..observability.otel import Spans

# What only a right configuration needs is imported late: to load all libraries takes longer than to say what is wrong.
# ruff: noqa: PLC0415

log = logging.getLogger(__name__)

THREADS = 1344
"""For `--worker-class gthread` alone: 256 requests may wait for C42 and 1,000 for a slot; the others are for hits."""

SD_LISTEN_FDS_START = 3
"""The first socket that systemd passes (sd_listen_fds(3))."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # gunicorn's files there have unique names

LACKS = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT}
"""A machine without another process, memory, descriptor or room for a file; or a folder that has been lost."""

ON_ASGI = (Worker, ASGIWorker)
ON_WSGI = (SyncWorker, ThreadWorker)
"""The worker classes that tell an app on which socket a request arrived, and that let our threads run.

Not uvicorn's own: it adds headers, ignores QUIT, and bounds no head.
"""


class Server(Application, RunsMaster):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn, with settings that are already checked: a wrong one must stop the start, not a worker.

    With `ops`, the workers also listen on the ops port, and count in shared memory.
    """

    cfg: Any
    """gunicorn's configuration."""

    def __init__(self, settings: Settings, *, ops: bool) -> None:
        self.folder = os.getcwd()
        self._settings = settings
        self._ops_bind = settings.ops_bind if ops else None
        self._values: SharedValues | None = None
        self._segments: dict[AnyWorker, int] = {}
        self._segment = 0
        self._heartbeats: str | None = None
        self._has_told_loss = False
        self._spans: Spans | None = None
        self.systemd = Systemd()
        self._hooks: dict[str, Callable[..., None]] = {
            "on_starting": self._share_values,
            "pre_fork": self._give_segment,
            "post_fork": self._take_segment,
            "child_exit": self._worker_ended,
            "worker_exit": self._end_spans,
            "worker_int": lambda _worker: end_at_once(),
        }
        super().__init__("%(prog)s serve", prog="c42-proxy")

    def init(self, _parser: argparse.ArgumentParser, _options: argparse.Namespace, _args: list[str]) -> dict[str, Any]:
        """Our defaults. gunicorn's configuration file and environment override them."""
        self._heartbeats = _folder_of_heartbeats()
        return {
            "bind": self._settings.bind,
            "worker_class": Worker,
            "threads": THREADS,
            # For other worker classes: they accept no more connections than this.
            "worker_connections": 4096,
            # Many clients may come at once: a connection that does not fit is refused, or tried again a second later.
            "backlog": 4096,
            # Longer than nginx's 60 s, so that it is never the proxy that closes a connection in use.
            "keepalive": 75,
            # A worker that sends no heartbeat for this long is hung. It does not limit requests.
            "timeout": 30,
            # For the requests under way at a stop: none waits longer than twice the budget, and a moment.
            "graceful_timeout": int(2 * self._settings.timeout) + 5,
            # For other worker classes, too: an unknown method is refused by the app, with its problem.
            "permit_unconventional_http_method": True,
            # No prefix and no scheme is taken from clients' headers.
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "secure_scheme_headers": {},
            # Its socket has a fixed place in the user's home: two proxies would fight for it.
            "control_socket_disable": True,
            # The heartbeat file must not wait for a disk.
            "worker_tmp_dir": self._heartbeats,
            "logger_class": GunicornLines,
            "loglevel": self._settings.log_level,
            "proc_name": "c42-proxy",
            **self._hooks,
        }

    @property
    def _ops_port(self) -> int | None:
        return None if self._ops_bind is None else Address.parsed(self._ops_bind).port

    def can_read_anew(self) -> bool:
        """Called at a SIGHUP, before new workers are forked. They ask C42 with the token that its file holds now.

        If the configuration cannot be used any more, that is logged, and all is as before.
        """
        from ..observability.logs import configure_logs

        before = self.cfg
        try:
            configured(self.do_load_config)
            self.check_config(listening=before.address)
        except ClickException as error:
            self.cfg = before
            os.chdir(before.chdir)
            log.error("nothing is reloaded: %s", error.lines[0] if isinstance(error, SettingsError) else error.message)
            return False
        try:
            settings = self._settings.with_token_read_anew()
        except SettingsError as error:
            log.error("the token stays as it was: %s", error.lines[0])
        else:
            if settings.api_token != self._settings.api_token:
                self._settings = settings
                configure_logs(settings)
                log.info("the token has been read anew: the cache is empty at first")
            else:
                log.info("the token is the same as before")
        return True

    def reload(self) -> None:
        """Called by gunicorn at a SIGHUP. Our master has called `can_read_anew` before."""
        if not controls_master():
            self.can_read_anew()

    def load_config(self) -> None:
        """Load gunicorn's configuration, then listen on the ops port in addition."""
        # `--chdir` has changed the folder when this is called again.
        os.chdir(self.folder)
        super().load_config()
        self._tell_loss()
        for name, ours in self._hooks.items():
            theirs = getattr(self.cfg, name)
            if theirs != ours:
                # A hook in the operator's configuration file has replaced ours.
                self.cfg.set(name, _both(theirs, ours))
        if self._ops_bind is not None:
            self.cfg.set("bind", [*self.cfg.bind, self._ops_bind])
        # `--preload` would build the app in the master, whose threads, connections and metrics are of no use to a
        # worker. The modules are loaded in the master anyway.
        self.cfg.set("preload_app", False)
        if self._has_known_worker_class() and self.cfg.worker_class is ThreadWorker:
            self.cfg.set("worker_class", ThreadedWorker)

    def check_config(self, listening: Collection[object] = ()) -> None:
        """Raises SettingsError for what cannot work, and ClickException for a port that is taken.

        `listening` are the addresses at which this process listens already.
        """
        if not self._has_known_worker_class():
            name = self.cfg.worker_class_str
            raise wrong_configuration(f"--worker-class {name}: allowed are gthread, sync, asgi, and to leave it out")
        if [address[1] for address in self.cfg.address if isinstance(address, tuple)].count(self._ops_port) > 1:
            raise wrong_configuration(f"--bind: port {self._ops_port} is that of C42_OPS_BIND. Choose another one")
        if self.cfg.worker_tmp_dir is not None and not os.path.isdir(self.cfg.worker_tmp_dir):
            raise wrong_configuration(f"--worker-tmp-dir {self.cfg.worker_tmp_dir}: there is no such folder")
        # gunicorn has closed the descriptors of `--bind fd://` that were passed.
        check_files(self.cfg, opens_sockets=not listening and _inherited() is None)
        check_worker_count(self.cfg)
        check_tls(self.cfg)
        if _inherited() is None:
            check_ports(self.cfg, self._settings, listening)

    def _has_known_worker_class(self) -> bool:
        try:
            return issubclass(self.cfg.worker_class, (*ON_ASGI, *ON_WSGI))
        except RuntimeError:  # there is no such class
            return False

    def load(self) -> Callable[..., Any]:
        """Called by gunicorn in each worker, after the fork."""
        from ..observability.metrics import Metrics
        from .worker_app import app_of_worker

        self._spans = spans_from_env()
        metrics = Metrics(self._values, self._segment)
        is_asgi = issubclass(self.cfg.worker_class, ON_ASGI)
        app = app_of_worker(self._settings, metrics, self._spans, is_asgi=is_asgi, ops_port=self._ops_port)
        self.systemd.worker_is_up()
        return app

    def _share_values(self, _arbiter: object) -> None:
        from .worker_app import share_values

        self._values = None if self._ops_bind is None else share_values()

    def _give_segment(self, _arbiter: object, worker: AnyWorker) -> None:
        """Let a worker count in the lowest free segment, on top of the counts of earlier workers."""
        from ..observability.multiprocess import MASTERS_SEGMENT

        taken = set(self._segments.values())
        self._segments[worker] = next(number for number in count(MASTERS_SEGMENT + 1) if number not in taken)

    def _take_segment(self, _arbiter: object, worker: AnyWorker) -> None:
        self._segment = self._segments[worker]

    def _worker_ended(self, _arbiter: object, worker: AnyWorker) -> None:
        self._free_segment(worker)
        self._repair_heartbeats()

    def _end_spans(self, _arbiter: object, _worker: AnyWorker) -> None:
        """Called in a worker that ends."""
        if self._spans is not None:
            self._spans.close()

    def is_lack(self, error: Exception) -> bool:
        """Whether a worker could not start because the machine lacks something. Else the configuration is wrong."""
        is_ours = self.cfg.worker_tmp_dir == self._heartbeats
        return is_ours if isinstance(error, RuntimeError) else getattr(error, "errno", None) in LACKS

    def worker_not_started(self, workers: Iterable[AnyWorker]) -> None:
        """Called by the master when the machine has no process or no file for a worker beside these `workers`."""
        for worker in self._segments.keys() - set(workers):
            worker.tmp.close()
            self._free_segment(worker)
        self._repair_heartbeats()

    def _free_segment(self, worker: AnyWorker) -> None:
        segment = self._segments.pop(worker, None)
        if self._values is not None and segment is not None:
            self._values.worker_has_ended(segment)

    def _repair_heartbeats(self) -> None:
        """If the folder has been lost, the next worker needs another one."""
        if self.cfg.worker_tmp_dir == self._heartbeats:
            self._heartbeats = _folder_of_heartbeats()
            self.cfg.set("worker_tmp_dir", self._heartbeats)
            self._tell_loss()

    def _tell_loss(self) -> None:
        is_lost = self.cfg.worker_tmp_dir is None
        if is_lost and not self._has_told_loss:
            log.warning("%s cannot be used: gunicorn's heartbeats go to %s", SHARED_MEMORY, tempfile.gettempdir())
        self._has_told_loss = is_lost


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    spans = spans_from_env()
    ops_bind = settings.ops_bind
    # If sockets are passed, gunicorn opens none in addition: the proxy starts without metrics.
    lacks_ops = ops_bind is not None and not _can_have(ops_bind)
    server = configured(lambda: Server(settings, ops=ops_bind is not None and not lacks_ops))
    server.check_config()
    from .worker_app import prepare

    prepare(settings)
    if spans is not None:
        log.info("OpenTelemetry: the spans go to %s", spans.collector)
    # With `--bind`, gunicorn has other addresses than this one.
    if settings.bind in server.cfg.bind and not _can_have(settings.bind):
        log.warning("C42_BIND: %s is not among the sockets that were passed: nothing listens there", settings.bind)
    if lacks_ops:
        log.warning("C42_OPS_BIND: %s is not among the sockets that were passed: there are no metrics", ops_bind)
    elif ops_bind is not None and server.cfg.is_ssl:
        log.warning("C42_OPS_BIND: %s speaks TLS as well, with the same certificate", ops_bind)
    _allow_many_connections()
    server.run()


def _allow_many_connections() -> None:
    """Raise the limit of descriptors: each waiting client takes one, and the default of 1,024 is soon too low."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _both(first: Callable[..., None], then: Callable[..., None]) -> Callable[..., None]:
    """One hook of gunicorn that calls two. gunicorn counts its arguments."""

    def of_one(server: object) -> None:
        first(server)
        then(server)

    def of_two(server: object, worker: object) -> None:
        first(server, worker)
        then(server, worker)

    return of_one if len(signature(then).parameters) == 1 else of_two


def _folder_of_heartbeats() -> str | None:
    """A folder in memory, if there is one: a heartbeat must not wait for a disk."""
    try:
        tempfile.NamedTemporaryFile(dir=SHARED_MEMORY).close()
    except OSError:
        return None
    return str(SHARED_MEMORY)


def _can_have(bind: str) -> bool:
    """Not if sockets are passed, and it is not among them."""
    inherited = _inherited()
    return inherited is None or Address.parsed(bind).port in _ports(inherited)


def _inherited() -> Iterable[int] | None:
    """The sockets that gunicorn inherits instead of opening its own: systemd's, or an old master's (USR2)."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + int(os.environ.get("LISTEN_FDS", "0")))
    descriptors = os.environ.get("GUNICORN_FD")
    return None if descriptors is None else map(int, descriptors.split(","))


def _ports(descriptors: Iterable[int]) -> set[int]:
    ports = set()
    for descriptor in descriptors:
        with socket.socket(fileno=os.dup(descriptor)) as listener:
            name = listener.getsockname()
            if isinstance(name, tuple):
                ports.add(name[1])
    return ports
