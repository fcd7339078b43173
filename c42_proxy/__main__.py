"""The command line: `c42-proxy`, or `python -m c42_proxy`."""

import os
import time
from functools import partial

import click

from .errors import SettingsError
from .observability.tracing import spans_from_env
from .sandbox.command import sandbox
from .setting_values import SQLITE
from .settings import Settings
from .version import __version__

# What a command needs is imported when its settings are right: a wrong one is reported before the libraries are loaded.
# ruff: noqa: PLC0415

HELP = """\b
One Calendar42 event with its subscribers in one request, cached for 4.2 minutes.

\b
Examples:
  c42-proxy demo                           a stand-in C42 and the proxy, to try it
  C42_API_TOKEN=... c42-proxy serve        the proxy, on http://127.0.0.1:4242/
  c42-proxy check --online                 are the settings right, and do store and C42 answer?
  c42-proxy cache                          what is cached, and until when
  curl -i http://127.0.0.1:4242/events-with-subscriptions/<event_id>/

The settings are environment variables, C42_API_TOKEN the only one that must be set; `c42-proxy check` lists them all.
"""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="c42-proxy")
def main() -> None: ...


@main.command()
def serve() -> None:
    """Serve the proxy with gunicorn.

    \b
    Examples:
      C42_API_TOKEN=... c42-proxy serve
      C42_API_TOKEN_FILE=/run/secrets/c42 C42_BIND=0.0.0.0:8080 c42-proxy serve
      GUNICORN_CMD_ARGS="--workers 4" c42-proxy serve

    GUNICORN_CMD_ARGS and WEB_CONCURRENCY work as gunicorn documents them.
    """
    settings = Settings.to_serve()
    if not os.environ.get("WEB_CONCURRENCY"):
        # gunicorn reads it when it is imported, and an empty one is no number.
        os.environ.pop("WEB_CONCURRENCY", None)
    from .server.gunicorn import serve as serve_proxy

    serve_proxy(settings)


@main.command(short_help="Check the settings; with --online store and C42, too.")
@click.option("--online", is_flag=True, help="Try the store and C42 as well.")
def check(online: bool) -> None:
    """List each setting with its value and where it comes from, and everything that is wrong.

    \b
    Examples:
      C42_API_TOKEN=... c42-proxy check
      c42-proxy check --online

    With --online, it also says whether C42_BIND and C42_OPS_BIND are taken, reads and writes the store, takes a lease
    in it, and asks C42 once, with the token. It leaves nothing behind except a back-off that C42 has asked for. Run it
    as the user that the proxy runs as: it reads the files as they are now. The exit status is 2 if a setting is wrong,
    and 1 if something FAILS; what only warns does not stop the proxy.
    """
    try:
        settings = Settings.to_serve()
    except SettingsError as error:
        _print_settings(error.rows)
        raise
    from .commands.check import check_online, ignored_variables
    from .commands.healthcheck import check_health

    _print_settings(settings.explained())
    spans = spans_from_env()
    if spans is not None:
        click.echo(f"OpenTelemetry is on: the spans go to {spans.collector}")
    warnings = [*settings.warnings, *ignored_variables(os.environ)]
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if online:
        failures = 0
        for result in check_online(settings, time.time, partial(check_health, {"C42_BIND": settings.bind})):
            click.echo(f"{result.what:<22} {result.verdict}  {result.text}")
            failures += result.verdict == "FAILS"
        if failures:
            raise click.exceptions.Exit(1)
    elif not warnings:
        click.echo("The settings are right. With --online, the store and C42 are tried as well.", err=True)


def _print_settings(rows: list[tuple[str, str, str]]) -> None:
    from .stores.opening import default_file

    default = {("C42_CACHE_URL", "default"): f"{SQLITE}{default_file()}"}
    values = [default.get((variable, source), value) for variable, value, source in rows]
    width = max(40, *map(len, values))
    for (variable, _value, source), value in zip(rows, values, strict=True):
        click.echo(f"{variable:<22} {value:<{width}} {source}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="A list of objects, with seconds since the epoch.")
def cache(as_json: bool) -> None:
    """List the entries of the store, the newest first.

    \b
    Examples:
      c42-proxy cache
      c42-proxy cache | head
      c42-proxy cache --json | jq -r '.[] | select(.state == "fresh") | .event'

    \b
    The state of an answer:
      fresh    served from the cache (a hit)
      stale    expired; served only while C42 fails or is not asked
      too old  expired; not served any more
      ahead    not served: the clock was set back after it was fetched

    The list has the entries of this C42 and this token. AGE is the time since C42 was asked. FRESH and STALE say for
    how long the entry is still fresh, and for how long it may still be served while C42 fails; the instants are in
    --json. BYTES is the size of the answer, or (404) for an event that C42 does not have. Each worker also has a memory
    tier of its own, which may still have an entry that the store has lost. With memory:// there is no store to list:
    the exit status is 1. The command disturbs no worker.
    """
    from .commands.cache import print_entries

    print_entries(Settings.from_env(), time.time, as_json=as_json)


@main.command()
def healthcheck() -> None:
    """Check whether the proxy answers at C42_BIND.

    \b
    Examples:
      c42-proxy healthcheck
      C42_BIND=0.0.0.0:8080 c42-proxy healthcheck
      HEALTHCHECK CMD ["c42-proxy", "healthcheck"]

    The exit status is 0 if a worker answers within 2 seconds, 1 if not, and 2 if C42_BIND is wrong. It does not ask
    C42, and no other setting matters. If C42_BIND is 0.0.0.0 or [::], it asks the loopback address.
    """
    from .commands.healthcheck import check_health

    click.echo(check_health(os.environ))


@main.command()
def demo() -> None:
    """Start a stand-in C42 and the proxy, and say what to try.

    The proxy listens on C42_BIND (default 127.0.0.1:4242), the stand-in on a free port. Ctrl-C ends both.
    """
    from .commands.demo import run_demo

    run_demo()


main.add_command(sandbox)

if __name__ == "__main__":
    main(prog_name="c42-proxy")
