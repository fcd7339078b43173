"""Wrong starts of real processes: a sentence for each mistake, the right status, no traceback, no silent server."""

import os
import re
import signal
import socket
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from harness.needs import needs
from harness.processes import C42_PROXY, ROOT, Process, clean_environ, free_port, run, until
from harness.tls import Authority
from tests.commands.command_line import c42_proxy

TOKEN = "s3kr3t-t0k3n"
AT_ONCE = 2
NEEDLESS = {"flask", "requests", "structlog"}
"""To load these takes longer than to say what is wrong."""
NOTE_MODULES = """\
import atexit, os, sys

@atexit.register
def note():
    with open(os.environ["MODULES_FILE"], "a") as file:
        file.write("\\n".join([*sys.modules, ""]))
"""
SECONDS = 60.0
"""A server that does not end at all is found by this."""

UNPRIVILEGED = ("setpriv", "--bounding-set=-net_bind_service") if os.geteuid() == 0 else ()
"""root may listen on every port, unless it has given that up."""


class End(NamedTuple):
    status: int
    stdout: str
    stderr: str
    modules: set[str]
    """Those that were loaded."""


class Start(NamedTuple):
    """A command with its variables, and its end: the status, and all that it says, as a regular expression."""

    status: int
    says: str
    command: tuple[str, ...]
    variables: dict[str, str]

    def end(self) -> End:
        """Run it to its end."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "sitecustomize.py").write_text(NOTE_MODULES)
            path = f"{folder}:{self.variables.get('PYTHONPATH', ROOT)}"
            modules = Path(folder, "modules")
            environ = clean_environ(**{**self.variables, "PYTHONPATH": path, "MODULES_FILE": f"{modules}"})
            ended = run(*self.command, environ=environ, seconds=SECONDS)
            return End(ended.returncode, ended.stdout, ended.stderr, _words(modules))


def _words(file: Path) -> set[str]:
    return set(file.read_text().split()) if file.exists() else set()


def serve(status: int, says: str, **variables: str) -> Start:
    given = {"C42_API_TOKEN": TOKEN, "C42_OPS_BIND": "", "C42_CACHE_URL": "memory://", **variables}
    return Start(status, says, (*C42_PROXY, "serve"), {"C42_BIND": f"127.0.0.1:{free_port()}", **given})


def wrong(says: str, **variables: str) -> Start:
    """Of `serve` with a wrong setting."""
    return serve(2, rf"Error: the settings are wrong:\n  {says}\n", **variables)


def has_privileged_ports() -> bool:
    return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 81


class WrongStartTest(unittest.TestCase):
    def assert_ends(self, *starts: Start) -> None:
        """Start all of them, a few at a time, and compare how they end."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start, end in zip(starts, pool.map(Start.end, starts), strict=True):
                with self.subTest(start.command[3:], **start.variables):
                    self.assertEqual((start.status, ""), (end.status, end.stdout), end.stderr)
                    self.assertIsNotNone(re.fullmatch(start.says, end.stderr), end.stderr)
                    self.assertIn("c42_proxy", end.modules)
                    self.assertEqual(set(), end.modules & NEEDLESS)

    def test_what_is_loaded(self) -> None:
        """What is needless for a wrong start is needed for a right one, and shows if it is loaded."""
        words = (sys.executable, "-c", "import c42_proxy.app, c42_proxy.observability.logs")
        self.assertEqual(NEEDLESS, Start(0, "", words, {}).end().modules & NEEDLESS)

    def test_settings(self) -> None:
        """What is wrong is said in one sentence that names the variable; the status is 2."""
        workers = r"WEB_CONCURRENCY: allowed is a whole number, 1 or more\."
        misspelt = r"C42_API_TOKEN: is not set\. .*\n  C42_API_TOKN is not a .* Did you mean C42_API_TOKEN\?\n"
        memory = r"C42_CACHE_URL: allowed is memory://, .*\n"
        self.assert_ends(
            wrong(workers, WEB_CONCURRENCY="abc"),
            wrong(f"{misspelt}  {workers}", WEB_CONCURRENCY="2.5", C42_API_TOKEN="", C42_API_TOKN=TOKEN),
            wrong(f"{memory}  {workers}", WEB_CONCURRENCY="0", C42_CACHE_URL="sqlite:///:memory:"),
        )

    def test_opentelemetry(self) -> None:
        """So it is with OpenTelemetry's variables, and if they are set but OpenTelemetry is not installed."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        Path(folder, "opentelemetry.py").write_text("raise ModuleNotFoundError('opentelemetry')")
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
        lacks = (
            r"OTEL_EXPORTER_OTLP_ENDPOINT: is set, but OpenTelemetry is not installed: "
            r"pip install '\.\[otel\]' where the proxy's source is, or unset it\."
        )
        without = {**endpoint, "PYTHONPATH": f"{folder}:{ROOT}"}
        self.assert_ends(
            wrong(
                r"OTEL_EXPORTER_OTLP_PROTOCOL: allowed is http/protobuf\.",
                **endpoint,
                OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            ),
            wrong(lacks, **without),
        )

    def test_gunicorn(self) -> None:
        """So it is with what gunicorn is given."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (folder / "no.pem").write_text("no certificate")
        (folder / "broken.py").write_text("workers = many")
        starts = {
            "--nonsense": "unrecognized arguments: --nonsense",
            "'": "No closing quotation",
            "--workers 0": "--workers: allowed is a whole number, 1 or more",
            "--worker-class none": "--worker-class none: allowed are gthread, sync, asgi, and to leave it out",
            "--worker-tmp-dir /none": "--worker-tmp-dir /none: there is no such folder",
            "--config /none.py": "'/none.py' doesn't exist",
            f"--config {folder}/broken.py": r"Failed to read config file: .*/broken\.py \(NameError: .*\)",
            "--certfile /none --keyfile /none": r"--certfile /none: No such file or directory",
            f"--certfile {folder}/no.pem": "--certfile: the file must hold a certificate, .*",
            f"--keyfile {folder}/no.pem": "--keyfile: needs --certfile",
            "--ciphers nonsense": "--ciphers: OpenSSL knows none of them",
        }
        self.assert_ends(
            *(wrong(rf"GUNICORN_CMD_ARGS: {says}\.", GUNICORN_CMD_ARGS=words) for words, says in starts.items())
        )

    def test_files(self) -> None:
        """So it is with files and sockets that gunicorn cannot make, and with a log that cannot be set up."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        os.mkfifo(f"{folder}/pipe")
        Path(folder, "log.ini").write_text("[loggers]\nkeys=none\n")
        nowhere = r"\(No such file or directory\)"
        starts = {
            "--pid /nowhere/pid": f"--pid /nowhere/pid: cannot be made {nowhere}",
            "--pid /proc/1/pid": f"--pid /proc/1/pid: cannot be made {nowhere}",
            "--bind unix:/nowhere/x.sock": f"--bind unix:/nowhere/x.sock: cannot be made {nowhere}",
            f"--bind unix:{folder}/log.ini": "--bind unix:.*: there is another file of this name",
            f"--bind unix:{folder}/{'x' * 108}": "--bind unix:.*: the name is too long",
            "--bind fd://9": "--bind fd://9: this descriptor is no socket",
            "--error-logfile /nowhere/x": f"--error-logfile /nowhere/x: cannot be written {nowhere}",
            f"--access-logfile {folder}/pipe": r"--access-logfile .*/pipe: cannot be written \(No such device.*\)",
            "--log-config /nowhere/x": "--log-config, --log-syslog: the log cannot be set up .*/nowhere/x.*",
            f"--log-config {folder}/log.ini": "--log-config, --log-syslog: the log cannot be set up .*",
        }
        self.assert_ends(
            *(wrong(rf"GUNICORN_CMD_ARGS: {says}\.", GUNICORN_CMD_ARGS=words) for words, says in starts.items())
        )

    @unittest.skipUnless(os.geteuid() == 0, "only root may become somebody else")
    def test_user(self) -> None:
        """So it is with a user that this process may not become."""
        says = r"GUNICORN_CMD_ARGS: --user, --group: this process may not become another user or group\."
        starts = [wrong(says, GUNICORN_CMD_ARGS=f"--{who} 65534") for who in ("user", "user", "user", "group")]
        self.assert_ends(
            *(
                start._replace(command=("setpriv", f"--bounding-set=-{lacks}", *start.command))
                for start, lacks in zip(starts, ("chown", "setuid", "all", "setgid"), strict=True)
            )
        )

    def test_taken_ports(self) -> None:
        """If the proxy cannot listen on a port, it says so at once, and does not try again; the exit status is 1."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            bind = f"127.0.0.1:{taken.getsockname()[1]}"
            says = rf"cannot listen on {bind} \(Address already in use\)\."
            ops = f"Error: C42_OPS_BIND: {says} Choose another address, or an empty one for no metrics\\.\n"
            says += "\n"
            self.assert_ends(
                serve(1, ops, C42_OPS_BIND=bind),
                serve(1, f"Error: C42_BIND: {says}", C42_BIND=bind),
                serve(1, f"Error: C42_BIND: {says}", C42_BIND=bind, GUNICORN_CMD_ARGS="--reuse-port"),
                serve(1, f"Error: GUNICORN_CMD_ARGS: {says}", GUNICORN_CMD_ARGS=f"--bind {bind}"),
                serve(1, r"Error: C42_BIND: cannot listen on 192\.0\.2\.1:80 \(.*\)\.\n", C42_BIND="192.0.2.1:80"),
                Start(1, f"Error: {says}", (*C42_PROXY, "sandbox", "--bind", bind), {}),
            )

    @unittest.skipUnless(has_privileged_ports(), "every port is for everybody")
    def test_privileged_ports(self) -> None:
        """So it is with a port that needs privileges."""
        says = r"cannot listen on 127\.0\.0\.1:81 \(Permission denied\)\."
        starts = (
            serve(1, rf"Error: C42_BIND: {says}\n", C42_BIND="127.0.0.1:81"),
            serve(1, rf"Error: C42_OPS_BIND: {says} .*\n", C42_OPS_BIND="127.0.0.1:81"),
            Start(1, rf"Error: {says}\n", (*C42_PROXY, "sandbox", "--bind", "127.0.0.1:81"), {}),
        )
        self.assert_ends(*(each._replace(command=(*UNPRIVILEGED, *each.command)) for each in starts))

    def test_help_always_works(self) -> None:
        """--help and --version work whatever the environment is."""
        environ = clean_environ(WEB_CONCURRENCY="abc", GUNICORN_CMD_ARGS="'", C42_TIMEOUT="x")
        for words in (["--version"], ["serve", "--help"]):
            ended = run(*C42_PROXY, *words, environ=environ)
            self.assertEqual((0, ""), (ended.returncode, ended.stderr))


class RightStartTest(unittest.TestCase):
    def test_what_people_write(self) -> None:
        """An empty WEB_CONCURRENCY, an address without a host, a level in capitals: it answers."""
        port = free_port()
        start = serve(0, "", WEB_CONCURRENCY="", C42_BIND=f":{port}", C42_LOG_LEVEL="Info")
        with Process(start.command, clean_environ(**start.variables)) as process:
            process.wait_until_answers(f"http://127.0.0.1:{port}/")
            self.assertNotIn("Traceback", process.output())


@needs("openssl")
class TlsTest(unittest.TestCase):
    def test_healthcheck(self) -> None:
        """With TLS at gunicorn, `healthcheck` works, and the log says that the ops port speaks TLS as well.

        If gunicorn wants a certificate of its clients, `healthcheck` says why it has no answer.
        """
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        file = Authority(folder).file
        (folder / "gunicorn.py").touch()
        port, ops = free_port(), free_port()
        tls = {
            "GUNICORN_CMD_ARGS": f"--certfile {file} --config {folder}/gunicorn.py",
            "C42_OPS_BIND": f"127.0.0.1:{ops}",
        }
        start = serve(0, "", C42_BIND=f"127.0.0.1:{port}", **tls)
        with Process(start.command, clean_environ(**start.variables)) as process:
            bind = f"127.0.0.1:{port}"
            until(lambda: c42_proxy("healthcheck", C42_BIND=bind).exit_code == 0, "a healthy worker", SECONDS)
            self.assertIn(f"C42_OPS_BIND: 127.0.0.1:{ops} speaks TLS as well", process.output())
            (folder / "gunicorn.py").write_text(f"ca_certs, cert_reqs = '{file}', 2\n")
            process.send(signal.SIGHUP)
            says = rf"Error: {bind}: there is TLS, and no answer\. Does it want a certificate of its clients .*\n"
            until(lambda: re.fullmatch(says, c42_proxy("healthcheck", C42_BIND=bind).output), says, SECONDS)
