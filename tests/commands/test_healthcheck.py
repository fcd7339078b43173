"""`c42-proxy healthcheck`: what works, what does not, and nothing left behind."""

import os
import signal
import time
from typing import ClassVar
from unittest.mock import patch

from click.testing import Result

from c42_proxy.commands.healthcheck import HEALTH_SECONDS
from harness import wire
from harness.needs import has_ipv6
from harness.processes import C42_PROXY, Process, ProcessTestCase, clean_environ, free_port, run
from harness.wire import Wire
from tests.test_threads import no_new_thread

from .command_line import c42_proxy

TOKEN = "s3kr3t-t0k3n"
NOTHING_LISTENS = "127.0.0.1:1"


def healthcheck(bind: str, **variables: str) -> Result:
    return c42_proxy("healthcheck", C42_BIND=bind, **variables)


class HealthTest(ProcessTestCase):
    """A real proxy; C42 is a sandbox that nobody is to ask."""

    port: ClassVar[int]
    proxy: ClassVar[Process]
    c42: ClassVar[Wire]

    @classmethod
    def setUpClass(cls) -> None:
        cls.port = free_port()
        cls.c42 = cls.enterClassContext(Wire())
        binds = f"--bind 0.0.0.0:{cls.port}" + (f" --bind [::1]:{cls.port}" if has_ipv6() else "")
        environ = clean_environ(
            C42_API_URL=cls.c42.url,
            C42_API_TOKEN=TOKEN,
            C42_OPS_BIND="",
            C42_CACHE_URL="memory://",
            GUNICORN_CMD_ARGS=binds,
        )
        cls.proxy = cls.start(*C42_PROXY, "serve", environ=environ)
        cls.proxy.wait_until_answers(f"http://127.0.0.1:{cls.port}/")

    def assert_well(self, bind: str, **variables: str) -> None:
        result = healthcheck(bind, **variables)
        self.assertEqual((0, f"{bind}: a worker answers.\n"), (result.exit_code, result.output))

    def assert_ill(self, bind: str, says: str) -> None:
        result = healthcheck(bind)
        self.assertEqual(1, result.exit_code, result.output)
        self.assertRegex(result.output, rf"^Error: {bind}: .*{says}.*\n$")

    def test_well(self) -> None:
        """If a worker answers, one line says so, whatever address it listens on; C42 is not asked."""
        for host in ("127.0.0.1", "0.0.0.0", "localhost", *(["[::1]", "[::]", "[0::0]"] if has_ipv6() else [])):
            with self.subTest(host):
                self.assert_well(f"{host}:{self.port}")
        self.assertEqual({}, self.c42.calls)

    def test_no_other_setting(self) -> None:
        """Neither a token nor any other setting is needed, and a wrong one does not matter."""
        wrong = {
            "C42_API_URL": "x",
            "C42_API_TOKEN": "two words",
            "C42_API_TOKEN_FILE": "/nowhere",
            "C42_OPS_BIND": f"0.0.0.0:{self.port}",
            "C42_TIMEOUT": "x",
            "C42_CACHE_URL": "x",
        }
        self.assert_well(f"127.0.0.1:{self.port}", **wrong)

    def test_program(self) -> None:
        """As a program, too, it ends with status 0 or 1."""
        for port, status in ((self.port, 0), (1, 1)):
            environ = clean_environ(C42_BIND=f"127.0.0.1:{port}")
            self.assertEqual(status, run(*C42_PROXY, "healthcheck", environ=environ).returncode)

    def test_no_worker_answers(self) -> None:
        """An open port is not enough: a worker that hangs is not well."""
        workers = self.proxy.descendants()
        with patch("c42_proxy.commands.healthcheck.HEALTH_SECONDS", 0.3):
            for pid, _began in workers:
                os.kill(pid, signal.SIGSTOP)
            try:
                self.assert_ill(f"127.0.0.1:{self.port}", "no answer within 0.3 s")
            finally:
                for pid, _began in workers:
                    os.kill(pid, signal.SIGCONT)
        self.assert_well(f"127.0.0.1:{self.port}")

    def test_nobody_answers(self) -> None:
        """Where nothing listens, or the name does not resolve, it is not well."""
        self.assert_ill(NOTHING_LISTENS, "Connection refused")
        self.assert_ill("no-such-host.invalid:80", "no answer")
        self.assert_ill("127.0.0.1:0", "no answer")

    def test_no_thread(self) -> None:
        """If the system gives no thread to ask in, a sentence says so."""
        with no_new_thread():
            self.assert_ill(f"127.0.0.1:{self.port}", "this process can start no thread")

    def test_in_time(self) -> None:
        """However slowly the answer comes, it must be complete within 2 seconds, or the check fails."""
        self.assertEqual(2, HEALTH_SECONDS)
        with patch("c42_proxy.commands.healthcheck.HEALTH_SECONDS", 0.3):
            for what in ("silence", "headers that drip", "a body that drips"):
                began = time.monotonic()
                with self.subTest(what), Wire(wire.DAWDLING[what]) as slow:
                    self.assert_ill(slow.url.split("/")[2], "no answer within 0.3 s")
                self.assertLess(time.monotonic(), began + 1)

    def test_somebody_else(self) -> None:
        """Another server at the address does not count as the proxy, whether it answers 404 or speaks no HTTP."""
        problem = "Content-Type: application/problem+json"
        for status, content, header in (
            ("200 OK", b"{}", problem),
            ("404 Not Found", b"/events-with-subscriptions/", "Content-Type: text/html"),
            ("404 Not Found", b"{}", problem),
            ("503 Unavailable", b"/events-with-subscriptions/", problem),
        ):
            with self.subTest(status), Wire(wire.says(content, status, header)) as other:
                self.assert_ill(other.url.split("/")[2], f"status {status[:3]}. is no c42-proxy")
        with Wire(wire.BROKEN["no HTTP"]) as other:
            self.assert_ill(other.url.split("/")[2], "speaks no HTTP")
        with Wire(wire.closes) as other:
            self.assert_ill(other.url.split("/")[2], "no answer")

    def test_wrong_bind(self) -> None:
        """A wrong C42_BIND is the only wrong setting that is reported; the exit status is 2."""
        result = healthcheck("nonsense", C42_TIMEOUT="x")
        self.assertEqual(2, result.exit_code)
        self.assertRegex(result.output, r"^Error: the settings are wrong:\n  C42_BIND: allowed is .*\n$")
        # The operators' port, where nothing else is set.
        self.assertNotEqual(2, healthcheck("127.0.0.1:4243").exit_code)
