"""The command `sandbox`: serves the stand-in C42 until it is stopped."""

import re

import click

from ..address import Address
from .api import PROXY, Sandbox
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
  {DINNER}  8: one removed, two without a name, two with the same name
  {BASEBALL}  250, three pages
  {BABEL}  other scripts
  {UNTITLED}  no title
  {DELETED}  deleted

\b
While it runs, see which calls it got, and change how it behaves, in a browser or with curl:
  http://{SANDBOX_BIND}/
  curl http://{SANDBOX_BIND}/sandbox/
  curl -X PUT http://{SANDBOX_BIND}/sandbox/ -d '{{"latency": 2, "calls": "reset"}}'
  curl -X PUT http://{SANDBOX_BIND}/sandbox/ -d '{{"fault": {{"status": 500, "call": "events"}}}}'
  curl -X PUT http://{SANDBOX_BIND}/sandbox/ -d '{{"fault": null}}'
"""


def _address(_context: click.Context, _option: click.Parameter, value: str) -> Address:
    try:
        return Address.parsed(value)
    except ValueError:
        raise click.BadParameter("give HOST:PORT, for example 127.0.0.1:4244; port 0 takes a free one.") from None


def _origin(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", value):
        raise click.BadParameter(f"give http://HOST:PORT, for example {PROXY}.")
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
@click.option(
    "--proxy",
    metavar="URL",
    default=PROXY,
    show_default=True,
    callback=_origin,
    help="The proxy that the page in the browser asks. Its C42_ALLOW_ORIGINS has to list the page's address.",
)
def sandbox(
    *, bind: Address, token: str, latency: float, fault: int | None, retry_after: int | None, proxy: str
) -> None:
    if retry_after is not None and fault is None:
        raise click.UsageError("--retry-after goes with --fault: there is no fault to send it with.")
    # Only here: --help and wrong options need no uvicorn.
    from .server import serve  # noqa: PLC0415  # see above

    planned = None if fault is None else Fault(status=fault, retry_after=retry_after)
    serve(Sandbox(token=token, latency=latency, fault=planned, proxy=proxy), bind)
