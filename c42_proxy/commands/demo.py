"""`c42-proxy demo`: the sandbox C42 and the proxy in front of it, for a first look."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException

import click

from ..address import Address
from ..sandbox.command import SANDBOX_TOKEN
from ..sandbox.events import BABEL, BASEBALL, COFFEE
from ..settings import Settings

START_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, and a terminal that is closed."""

TRY = """\
The proxy answers for a stand-in C42. See both in a browser, break C42, and change its events:

  {sandbox}/

Or try, in another terminal:

  curl -i {url}{coffee}/   # one subscriber
  curl -i {url}{baseball}/   # 250: three pages at C42
  curl -i {url}{babel}/   # names from everywhere

and look at the headers:

  Cache-Status   "fwd=uri-miss; stored": C42 was asked. Ask again, and it says "hit; ttl=...": C42 was not asked.
  Expires        until then the answer may be reused: 1 to 2 s before it is 4.2 minutes old, when C42 is asked again.
  ETag           send it back as If-None-Match, and get a 304.

What C42 was asked so far: curl {sandbox}/sandbox/
Ctrl-C ends both.
"""


def run_demo() -> None:
    """Start both, say what to try, and end both on Ctrl-C, on SIGTERM, or when one of them ends by itself."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("C42_")}
    bind = os.environ.get("C42_BIND") or "127.0.0.1:4242"
    sandbox_bind = f"127.0.0.1:{_free_port()}"
    environ = {
        **own,
        "C42_API_URL": f"http://{sandbox_bind}/api/v2/",
        "C42_API_TOKEN": SANDBOX_TOKEN,
        "C42_BIND": bind,
        "C42_OPS_BIND": os.environ.get("C42_OPS_BIND", ""),
        "C42_CACHE_URL": "memory://",
        "C42_ALLOW_ORIGINS": f"http://{sandbox_bind}",
        "C42_LOG_LEVEL": "warning",
    }
    bind = Settings.to_serve(environ).bind
    _refuse_if_taken(bind)

    # The handlers raise nothing, so no second signal breaks off what the first one began.
    signals: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: signals.append(number))
    command = [sys.executable, "-m", "c42_proxy"]
    children: list[subprocess.Popen[bytes]] = []

    def goes_on() -> bool:
        return not signals and all(child.poll() is None for child in children)

    try:
        options = ["--bind", sandbox_bind, "--proxy", f"http://{_reached_at(bind)}"]
        children.append(subprocess.Popen([*command, "sandbox", *options], stdout=subprocess.DEVNULL))  # noqa: S603  # our own command line
        children.append(subprocess.Popen([*command, "serve"], env=environ))  # noqa: S603  # our own command line
        for address in (sandbox_bind, bind):
            if not _answers(address, goes_on) and not signals:
                raise click.ClickException(f"nothing answers on {address}: see above.")
        if signals:
            return
        click.echo(
            TRY.format(
                url=f"http://{bind}/events-with-subscriptions/",
                sandbox=f"http://{sandbox_bind}",
                coffee=COFFEE,
                baseball=BASEBALL,
                babel=BABEL,
            )
        )
        while goes_on():
            # Python cannot wait for the first of two processes, so this polls until one ends or Ctrl-C.
            time.sleep(POLL_SECONDS)
        if not signals:
            raise click.ClickException("one of the two ended by itself: see above.")
    finally:
        _end(children)


def _reached_at(bind: str) -> str:
    """Where a browser on this machine finds what listens at `bind`: "all addresses" is none that it can ask."""
    address = Address.parsed(bind)
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # these are replaced
    return str(address._replace(host=everywhere.get(address.host, address.host)))


def _free_port() -> int:
    with Address("127.0.0.1", 0).listener() as listener:
        return int(listener.getsockname()[1])


def _refuse_if_taken(bind: str) -> None:
    try:
        Address.parsed(bind).listener().close()
    except OSError as exc:
        raise click.ClickException(
            f"cannot listen on {bind} ({exc.strerror}). Set C42_BIND to another host:port."
        ) from exc


def _answers(bind: str, goes_on: Callable[[], bool]) -> bool:
    """Whether it answers in time, while `goes_on()`.

    An open port is not enough: gunicorn opens it before it knows whether a worker can start.
    """
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and goes_on():
        connection = HTTPConnection(*Address.parsed(bind), timeout=1)
        try:
            connection.request("HEAD", "/")
            connection.getresponse()
        except (OSError, HTTPException):
            time.sleep(POLL_SECONDS)
        else:
            return True
        finally:
            connection.close()
    return False


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    # Blocked: when Python ends, it restores the default handlers, and one more Ctrl-C would change the exit status.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
