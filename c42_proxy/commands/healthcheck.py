"""`c42-proxy healthcheck`: whether a worker of the proxy answers."""

import http.client
import ipaddress
import ssl
from collections.abc import Mapping
from contextlib import suppress

import click

from ..address import Address
from ..errors import Overloaded
from ..settings import Settings
from ..threads import result_within
from ..web.routes import PREFIX

HEALTH_SECONDS = 2.0
MAX_PROBLEM_BYTES = 65_536


class _NoAnswerInTlsError(Exception):
    """The connection ends after the handshake."""


def check_health(environ: Mapping[str, str]) -> str:
    """Ask the proxy at `C42_BIND` for an address that never reaches C42. Returns a line that says where it answers.

    Reads `C42_BIND` and no other variable. Raises SettingsError if it is wrong, and ClickException if nothing answers.
    """
    # The other settings must not matter: any token, and no second address that could clash with this one.
    only_bind = {"C42_BIND": environ.get("C42_BIND", ""), "C42_API_TOKEN": "none", "C42_OPS_BIND": ""}
    bind = Settings.from_env(only_bind).bind
    try:
        status, content_type, body = result_within(HEALTH_SECONDS, _ask_for_nothing, *_reachable(bind))
    except Overloaded as exc:
        raise click.ClickException(f"{bind}: not asked, because this process can start no thread.") from exc
    except _NoAnswerInTlsError as exc:
        why = "there is TLS, and no answer. Does it want a certificate of its clients (gunicorn's --cert-reqs)?"
        raise click.ClickException(f"{bind}: {why} healthcheck has none.") from exc
    except TimeoutError as exc:
        raise click.ClickException(f"{bind}: no answer within {HEALTH_SECONDS:g} s.") from exc
    except (OSError, ValueError) as exc:  # a ValueError is for a name that cannot be one
        raise click.ClickException(f"{bind}: no answer ({getattr(exc, 'strerror', None) or exc}).") from exc
    except http.client.HTTPException as exc:
        raise click.ClickException(f"{bind}: what answers there speaks no HTTP.") from exc
    if status != 404 or not content_type.startswith("application/problem+json") or PREFIX.encode() not in body:
        raise click.ClickException(f"{bind}: what answers there (status {status}) is no c42-proxy.")
    return f"{bind}: a worker answers."


def _reachable(bind: str) -> Address:
    """Host and port to connect to: the loopback address if `bind` is the address of all interfaces."""
    address = Address.parsed(bind)
    with suppress(ValueError):
        ip = ipaddress.ip_address(address.host)
        if ip.is_unspecified:
            return Address("127.0.0.1" if ip.version == 4 else "::1", address.port)
    return address


def _ask_for_nothing(host: str, port: int) -> tuple[int, str, bytes]:
    try:
        return _ask(http.client.HTTPConnection(host, port, timeout=HEALTH_SECONDS))
    except (ConnectionResetError, http.client.RemoteDisconnected):
        # A server that expects TLS breaks off like this, too. It is asked whether it answers, not who it is: any
        # certificate will do.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=HEALTH_SECONDS, context=context)
        try:
            connection.connect()
        except (ssl.SSLError, ConnectionResetError):
            connection.close()
        else:
            return _ask(connection)
        raise


def _ask(connection: http.client.HTTPConnection) -> tuple[int, str, bytes]:
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.status, response.headers.get("Content-Type", ""), response.read(MAX_PROBLEM_BYTES)
    except (ssl.SSLError, ConnectionError) as exc:
        if isinstance(connection, http.client.HTTPSConnection):
            # With TLS 1.3, a client learns only now that its certificate is missing, and from uvicorn not even that.
            raise _NoAnswerInTlsError(f"{exc}") from exc
        raise
    finally:
        connection.close()
