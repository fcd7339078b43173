"""What gunicorn's configuration names and cannot have: files, sockets, another user. Found before the start."""

import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any

from .start_checks import wrong_configuration

MAX_SOCKET_BYTES = 107
"""The longest name of a Unix socket (unix(7))."""
CHOWN, SETGID, SETUID = 1 << 0, 1 << 6, 1 << 7
"""Capabilities (linux/capability.h)."""


def check_files(cfg: Any, *, opens_sockets: bool) -> None:
    """Raises SettingsError for a file, a socket or a user that gunicorn cannot have."""
    _check_user(cfg)
    for address in cfg.address if opens_sockets else ():
        if isinstance(address, int):
            _check_descriptor(address)
        elif isinstance(address, str) and not address.startswith("\0"):  # else in the abstract namespace
            _check_socket(address)
    if cfg.pidfile:
        _check_room(f"--pid {cfg.pidfile}", os.path.dirname(cfg.pidfile))
    _check_logs(cfg)


def _check_user(cfg: Any) -> None:
    """gunicorn gives its workers' files to the user, and the workers become that user."""
    needed = SETUID | CHOWN if cfg.uid != os.geteuid() else 0
    needed |= SETGID | CHOWN if cfg.gid != os.getegid() else 0
    try:
        found = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    has = (0 if os.geteuid() else needed) if found is None else int(found[1], 16)
    if needed & ~has:
        raise wrong_configuration("--user, --group: this process may not become another user or group")


def _check_descriptor(descriptor: int) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        is_socket = False
    if not is_socket:
        raise wrong_configuration(f"--bind fd://{descriptor}: this descriptor is no socket")


def _check_socket(name: str) -> None:
    option = f"--bind unix:{name}"
    if len(os.fsencode(name)) > MAX_SOCKET_BYTES:
        raise wrong_configuration(f"{option}: the name is too long")
    _check_room(option, os.path.dirname(name))
    if os.path.exists(name) and not stat.S_ISSOCK(os.stat(name).st_mode):
        raise wrong_configuration(f"{option}: there is another file of this name")


def _check_room(option: str, folder: str) -> None:
    try:
        # In some folders root may write, and can make no file: only making one shows it.
        tempfile.NamedTemporaryFile(dir=folder or ".").close()
    except OSError as exc:
        raise wrong_configuration(f"{option}: cannot be made ({exc.strerror})") from exc


def _check_logs(cfg: Any) -> None:
    for option, name in (("--error-logfile", cfg.errorlog), ("--access-logfile", cfg.accesslog)):
        if not name or name == "-":
            continue
        try:
            # gunicorn would wait for ever for somebody who reads a pipe.
            os.close(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666))
        except OSError as exc:
            raise wrong_configuration(f"{option} {name}: cannot be written ({exc.strerror})") from exc
    if cfg.capture_output or not (cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or cfg.syslog):
        return
    try:
        # gunicorn does it again.
        cfg.logger_class(cfg)
    except Exception as exc:  # a wrong configuration raises whatever it happens to raise
        raise wrong_configuration(f"--log-config, --log-syslog: the log cannot be set up ({exc!r})") from exc
