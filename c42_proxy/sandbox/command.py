"""The command `sandbox`: the stand-in C42, served by gunicorn until it is told to stop."""

import os
import re
from types import FrameType

import click
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from .app import create_sandbox
from .events import BABEL, BASEBALL, COFFEE, DELETED, DINNER, UNTITLED
from .state import Fault

SANDBOX_TOKEN = "sandbox-token"  # noqa: S105 - no secret: it opens nothing but sample events
SANDBOX_BIND = "127.0.0.1:4244"

_HELP = f"""Run a stand-in for the C42 API, with sample events.

\b
Examples:
  c42-proxy sandbox
  c42-proxy sandbox --latency 0.5
  c42-proxy sandbox --fault 503 --retry-after 30
  curl -H 'Authorization: Token {SANDBOX_TOKEN}' \\
    http://{SANDBOX_BIND}/api/v2/events/{COFFEE}/

\b
Events to ask for:
  {COFFEE}  one subscriber
  {DINNER}  8: removed, nameless and namesakes
  {BASEBALL}  250, three pages
  {BABEL}  other scripts
  {UNTITLED}  no title
  {DELETED}  deleted

\b
While it runs, see what it was asked, and change how it behaves:
  curl http://{SANDBOX_BIND}/sandbox/
  curl -X PUT http://{SANDBOX_BIND}/sandbox/ -d '{{"latency": 2, "calls": "reset"}}'
  curl -X PUT http://{SANDBOX_BIND}/sandbox/ -d '{{"fault": {{"status": 500, "call": "events"}}}}'
  curl -X PUT http://{SANDBOX_BIND}/sandbox/ -d '{{"fault": null}}'
"""


class _Worker(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """A worker that ends at once: it has nothing to save, and a slow call may take an hour."""

    def handle_exit(self, _signal: int, _frame: FrameType | None) -> None:
        os._exit(0)

    handle_quit = handle_exit


class _Server(BaseApplication):  # type: ignore[misc] # gunicorn ships no types
    def __init__(self, app: Flask, bind: str) -> None:
        self._app = app
        self._bind = bind
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": self._bind,
            "worker_class": _Worker,
            # One worker, because each would count its own calls; enough threads for many slow ones.
            "workers": 1,
            "threads": 1024,
            "worker_connections": 4096,
            "keepalive": 75,
            "graceful_timeout": 1,
            "loglevel": "warning",
            "control_socket_disable": True,
            "post_worker_init": _say_where,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._app


def _say_where(worker: _Worker) -> None:
    """The listening socket knows the port, also where port 0 left the choice to the system."""
    click.echo(f"sandbox C42 on {worker.sockets[0]}/api/v2/")


def _address(_context: click.Context, _option: click.Parameter, value: str) -> str:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/\s]+):([0-9]{1,5})", value)
    if not match or int(match[2]) > 65535:
        raise click.BadParameter("give HOST:PORT, for example 127.0.0.1:4244; port 0 takes a free one.")
    return value


@click.command("sandbox", help=_HELP)
@click.option(
    "--bind",
    metavar="HOST:PORT",
    default=SANDBOX_BIND,
    show_default=True,
    callback=_address,
    help="Listen here.",
)
@click.option("--token", default=SANDBOX_TOKEN, show_default=True, help="The token that calls have to carry.")
@click.option(
    "--latency",
    metavar="SECONDS",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    help="How long each call takes.",
)
@click.option("--fault", metavar="STATUS", type=click.IntRange(300, 599), help="Answer every call with this status.")
@click.option("--retry-after", metavar="SECONDS", type=click.IntRange(0), help="Send Retry-After with the fault.")
def sandbox(bind: str, token: str, latency: float, fault: int | None, retry_after: int | None) -> None:
    if retry_after is not None and fault is None:
        raise click.UsageError("--retry-after goes with --fault: there is no fault to send it with.")
    planned = None if fault is None else Fault(status=fault, retry_after=retry_after)
    _Server(create_sandbox(token=token, latency=latency, fault=planned), bind).run()
