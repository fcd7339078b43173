"""The proxy under gunicorn: our defaults, each with its reason. `GUNICORN_CMD_ARGS` and `WEB_CONCURRENCY` win."""

import argparse
from typing import Any

from flask import Flask
from gunicorn.app.base import Application
from gunicorn.workers.gasgi import ASGIWorker
from uvicorn_worker import UvicornWorker

from .app import create_app
from .front import Front
from .logs import GunicornLines, configure_logs
from .settings import Settings
from .worker import Worker

THREADS = 1344
"""For `--worker-class gthread` alone: 256 requests may wait for C42 and 1,000 for a turn; the others are for hits."""


class Server(Application):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn, with the settings already checked: a wrong one must stop the start, not a worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__("%(prog)s serve", prog="c42-proxy")

    def init(self, _parser: argparse.ArgumentParser, _options: argparse.Namespace, _args: list[str]) -> dict[str, Any]:
        """What gunicorn starts from; its own configuration file and environment come on top."""
        return {
            "bind": self._settings.bind,
            "worker_class": Worker,
            "threads": THREADS,
            # For other worker classes, which stop accepting beyond this.
            "worker_connections": 4096,
            # Longer than the 60 s of a front server, so that it is never the proxy that closes a connection in use.
            "keepalive": 75,
            # Headers of clients say nothing about where we are: no prefix, no scheme is taken from them.
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "secure_scheme_headers": {},
            # Its socket has a fixed place in the user's home: two proxies would fight for it.
            "control_socket_disable": True,
            # The heartbeat file must not wait for a disk.
            "worker_tmp_dir": "/dev/shm",  # noqa: S108  # gunicorn makes an unnamed file there
            "logger_class": GunicornLines,
            "loglevel": self._settings.log_level,
            "proc_name": "c42-proxy",
        }

    def load(self) -> Flask | Front:
        """The app, made in each worker after the fork: threads and connections do not survive one."""
        app = create_app(self._settings)
        return Front(app) if issubclass(self.cfg.worker_class, UvicornWorker | ASGIWorker) else app


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    configure_logs(settings)
    settings.log_warnings()
    Server(settings).run()
