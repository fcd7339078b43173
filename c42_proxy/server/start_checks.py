"""What would stop gunicorn or its workers at the start: found before, and said in a sentence.

gunicorn itself prints a usage or a traceback, tries a taken port for five seconds, or starts workers that end at once.
"""

import os
import ssl
import sys
from collections.abc import Callable, Collection
from contextlib import redirect_stderr
from io import StringIO
from typing import Any, TypeVar

import click

from ..address import Address
from ..errors import SettingsError
from ..settings import Settings

T = TypeVar("T")


def configured(make: Callable[[], T]) -> T:
    """What `make` gives. Raises SettingsError where gunicorn says that it cannot be configured, and ends."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            made = make()
    except SystemExit as exc:
        if not exc.code:  # --help or --version, printed to standard output
            raise
        raise wrong_configuration(_sentence(said.getvalue())) from None
    sys.stderr.write(said.getvalue())
    return made


def wrong_configuration(sentence: str) -> SettingsError:
    """The error for a wrong setting of gunicorn. It names the place where the setting probably is."""
    return SettingsError([f"{_source()}: {sentence.rstrip('.')}."])


def check_worker_count(cfg: Any) -> None:
    """Raises SettingsError where there would be no worker: a server that never answers."""
    if cfg.workers < 1:
        raise wrong_configuration("--workers: allowed is a whole number, 1 or more")


def check_tls(cfg: Any) -> None:
    """Raises SettingsError where a file for TLS is missing or is not what it should be."""
    for option, name in (("--certfile", cfg.certfile), ("--keyfile", cfg.keyfile), ("--ca-certs", cfg.ca_certs)):
        try:
            if name:
                with open(name, "rb"):
                    pass
        except OSError as exc:
            raise wrong_configuration(f"{option} {name}: {exc.strerror}") from exc
    if cfg.keyfile and not cfg.certfile:
        raise wrong_configuration("--keyfile: needs --certfile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if cfg.certfile:
            # A password that is wrong for every key: else OpenSSL would ask at the terminal for one.
            context.load_cert_chain(cfg.certfile, cfg.keyfile, password="")
    except ssl.SSLError as exc:
        raise wrong_configuration(
            "--certfile: the file must hold a certificate, and it or --keyfile the key, without a password"
        ) from exc
    try:
        if cfg.ca_certs:
            context.load_verify_locations(cfg.ca_certs)
    except ssl.SSLError as exc:
        raise wrong_configuration("--ca-certs: the file must hold certificates") from exc
    try:
        if cfg.ciphers:
            context.set_ciphers(cfg.ciphers)
    except ssl.SSLError as exc:
        raise wrong_configuration("--ciphers: OpenSSL knows none of them") from exc


def check_ports(cfg: Any, settings: Settings, listening: Collection[object]) -> None:
    """Raises ClickException for an address at which nobody can listen now, unless it is one of `listening`."""
    sources = {settings.ops_bind: "C42_OPS_BIND", settings.bind: "C42_BIND"}
    for each in cfg.address:
        if not isinstance(each, tuple) or each in listening:  # no tuple: a Unix socket, or a descriptor
            continue
        address = Address(*each[:2])
        source = sources.get(f"{address}") or _source()
        # The default of C42_OPS_BIND may surprise who starts a second proxy.
        hint = " Choose another address, or an empty one for no metrics." if source == "C42_OPS_BIND" else ""
        try:
            address.listener(reuse_port=cfg.reuse_port).close()
        except OSError as exc:
            raise click.ClickException(f"{source}: cannot listen on {address} ({exc.strerror}).{hint}") from exc


def _source() -> str:
    return "GUNICORN_CMD_ARGS" if os.environ.get("GUNICORN_CMD_ARGS") else "gunicorn.conf.py"


def _sentence(said: str) -> str:
    """The sentence in what gunicorn prints before it ends: a usage, an error, or what failed and a traceback."""
    lines = [line for line in said.splitlines() if line.strip()] or ["gunicorn refuses it"]
    first, last = lines[0], lines[-1].removeprefix("Error: ")
    if first.startswith("usage: "):
        return last.partition(" error: ")[2]
    return last if len(lines) == 1 else f"{first} ({last})"
