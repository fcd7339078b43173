"""The command line: `c42-proxy`, or `python -m c42_proxy`."""

import click

from .demo import run_demo
from .sandbox.command import sandbox
from .settings import Settings
from .version import __version__

HELP = """\b
One Calendar42 event with its subscribers in one request, remembered for 4.2 minutes.

\b
Examples:
  c42-proxy demo                           a stand-in C42 and the proxy, to try it
  C42_API_TOKEN=... c42-proxy serve        the proxy, on http://127.0.0.1:4242/
  c42-proxy check                          are the settings right?
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
    from .server import serve as serve_proxy  # noqa: PLC0415  # gunicorn takes a while to import

    serve_proxy(Settings.from_env())


@main.command()
def check() -> None:
    """Check the settings: all that is wrong at once, or what is in force and where it comes from."""
    settings = Settings.from_env()
    for variable, value, source in settings.explained():
        click.echo(f"{variable:<22} {value:<40} {source}")
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)


@main.command()
def demo() -> None:
    """Start a stand-in C42 and the proxy, and say what to try.

    The proxy listens on C42_BIND (default 127.0.0.1:4242), the stand-in on a free port. Ctrl-C ends both.
    """
    run_demo()


main.add_command(sandbox)

if __name__ == "__main__":
    main(prog_name="c42-proxy")
