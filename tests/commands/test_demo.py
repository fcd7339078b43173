"""`c42-proxy demo`: what it prints works, and it leaves nothing behind."""

import json
import os
import re
import signal
import socket
import tempfile
import unittest
import urllib.request
from pathlib import Path
from typing import ClassVar

from harness.processes import C42_PROXY, Process, ProcessTestCase, clean_environ, free_port, is_alive, run, until

TIMEOUT = 10.0
READY = "Ctrl-C ends both."


def demo(port: int) -> Process:
    return Process([*C42_PROXY, "demo"], clean_environ(C42_BIND=f"127.0.0.1:{port}"))


GONE_SECONDS = 2.0


class DemoTest(ProcessTestCase):
    port: ClassVar[int]
    demo: ClassVar[Process]

    @classmethod
    def setUpClass(cls) -> None:
        cls.port = free_port()
        # Neither a token nor another setting of the operator gets into the demo, but for the addresses.
        environ = clean_environ(
            C42_BIND=f"127.0.0.1:{cls.port}", C42_API_TOKEN="mine", C42_API_URL="http://127.0.0.1:1/", C42_TIMEOUT="x"
        )
        cls.demo = cls.start(*C42_PROXY, "demo", environ=environ)
        cls.demo.wait_until_says(READY)

    def test_addresses(self) -> None:
        """It prints three addresses on the port that was chosen; each is answered as its comment says."""
        printed = re.findall(r"curl -i (http://\S+/events-with-subscriptions/\S+/) +# (.*)", self.demo.output())
        self.assertEqual(len(printed), 3, self.demo.output())
        names = []
        for url, comment in printed:
            self.assertTrue(url.startswith(f"http://127.0.0.1:{self.port}/"), url)
            self.assertTrue(comment)
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                self.assertIn("fwd=uri-miss; stored", response.headers["Cache-Status"])
                event = json.load(response)
            self.assertIn(event["id"], url)
            names.append(event["names"])
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                self.assertRegex(response.headers["Cache-Status"], r"hit; ttl=\d+")
        self.assertEqual(len(names[0]), 1)
        self.assertGreater(len(names[1]), 200)
        self.assertTrue(any(not name.isascii() for name in names[2]))

    def test_what_to_look_at(self) -> None:
        """It names the headers to look at, what they mean, and how to end it."""
        for header in ("Cache-Status", "Expires", "ETag"):
            self.assertRegex(self.demo.output(), rf"(?m)^  {header} +\S")
        for text in ("4.2 minutes", "304", READY):
            self.assertIn(text, self.demo.output())

    def test_what_c42_was_asked(self) -> None:
        """The address of the stand-in that it prints tells what C42 was asked."""
        (url,) = re.findall(r"curl (http://\S+/sandbox/)", self.demo.output())
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            self.assertEqual(set(json.load(response)["calls"]), {"events", "subscriptions"})

    def test_quiet(self) -> None:
        """Nothing but what to try is printed: no log lines of either server."""
        self.assertTrue(self.demo.output().startswith("The proxy answers for a stand-in C42."), self.demo.output())
        self.assertNotIn("gunicorn", self.demo.output())


class MakeTest(unittest.TestCase):
    def test_run(self) -> None:
        """`make run` is the demo, and no warning comes with it."""
        # What pip says is said here, if pyproject.toml has changed since.
        self.assertEqual(0, run("make", ".venv/installed", environ=clean_environ(), seconds=300).returncode)
        # Called by `make test`, make would say in which folder it is.
        command = ["make", "--no-print-directory", "run"]
        demo = self.enterContext(Process(command, clean_environ(C42_BIND=f"127.0.0.1:{free_port()}")))
        demo.wait_until_says(READY)
        demo.send_to_all(signal.SIGINT)
        demo.wait()
        self.assertTrue(demo.output().startswith("The proxy answers for a stand-in C42."), demo.output())
        self.assertNotIn("warning", demo.output().lower())


class EndTest(unittest.TestCase):
    def start(self) -> tuple[Process, set[tuple[int, str]]]:
        """A demo that is ready, and the processes that it started: the sandbox, and the proxy with a worker."""
        process = self.enterContext(demo(free_port()))
        process.wait_until_says(READY)
        until(lambda: len(process.descendants()) == 3, "three processes")
        return process, process.descendants()

    def assert_ends(self, process: Process, started: set[tuple[int, str]], status: int = 0) -> None:
        self.assertEqual(process.wait(), status, process.output())
        # A worker that its master has just killed may take a moment to leave the list of processes.
        until(lambda: not any(is_alive(each) for each in started), "the end of all that it started", GONE_SECONDS)
        self.assertNotIn("Traceback", process.output())

    def test_terminate(self) -> None:
        """SIGTERM ends it with status 0, and all that it started is gone by then."""
        process, started = self.start()
        process.send(signal.SIGTERM)
        self.assert_ends(process, started)

    def test_interrupt(self) -> None:
        """SIGINT to the demo alone does the same."""
        process, started = self.start()
        process.send(signal.SIGINT)
        self.assert_ends(process, started)

    def test_ctrl_c(self) -> None:
        """Ctrl-C, which a terminal sends to all of them at once, does the same, with an impatient second one, too."""
        process, started = self.start()
        process.send_to_all(signal.SIGINT)
        process.send(signal.SIGINT)

        def ended() -> bool:
            process.send(signal.SIGINT)
            return not process.is_running

        until(ended, "the end")
        self.assert_ends(process, started)

    def test_signals_at_once(self) -> None:
        """So do signals that arrive at the same moment: one does not break off what the other one began."""
        process, started = self.start()
        for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
            process.send(number)
        self.assert_ends(process, started)

    def test_closed_terminal(self) -> None:
        """A terminal that is closed (SIGHUP to all) ends them, too: gunicorn alone would take it for a reload."""
        process, started = self.start()
        process.send_to_all(signal.SIGHUP)
        self.assert_ends(process, started)

    def test_open_connection(self) -> None:
        """A client that keeps its connection open does not keep it from ending."""
        port = free_port()
        process = self.enterContext(demo(port))
        process.wait_until_says(READY)
        started = process.descendants()
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertTrue(connection.recv(1))
            process.send(signal.SIGTERM)
            self.assert_ends(process, started)

    def test_one_ends_by_itself(self) -> None:
        """If one of the two has ended, the demo says so, ends the other one, and exits with 1."""
        process, started = self.start()
        # The first that it started, so our own, too.
        sandbox = min(started, key=lambda each: (int(each[1]), each[0]))[0]
        os.kill(sandbox, signal.SIGTERM)
        self.assert_ends(process, started, 1)
        self.assertIn("one of the two ended by itself", process.output())


class StartTest(unittest.TestCase):
    def test_port_taken(self) -> None:
        """A port that is taken ends it at once with 1 and a message that names the port and the variable to set."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            bind = f"127.0.0.1:{server.getsockname()[1]}"
            ended = run(*C42_PROXY, "demo", environ=clean_environ(C42_BIND=bind), seconds=5)
        self.assertEqual(ended.returncode, 1)
        self.assertEqual(ended.stdout, "")
        self.assertRegex(ended.stderr, rf"^Error: cannot listen on {bind} \(.*in use.*\)\. Set C42_BIND to .*\n$")

    def test_no_such_host(self) -> None:
        """An address that is not this machine's ends it in the same way."""
        ended = run(*C42_PROXY, "demo", environ=clean_environ(C42_BIND="192.0.2.1:80"), seconds=5)
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, r"^Error: cannot listen on 192\.0\.2\.1:80 \(.*\)\. Set C42_BIND to .*\n$")

    def test_server_that_cannot_start(self) -> None:
        """Where the proxy's workers cannot start, it ends with 1, and does not print what to try."""
        with tempfile.TemporaryDirectory() as folder:
            # It opens its port, and then its worker fails.
            hook = Path(folder, "broken.py")
            hook.write_text("def post_fork(server, worker):\n    raise SystemExit(3)\n")
            environ = clean_environ(C42_BIND=f"127.0.0.1:{free_port()}", GUNICORN_CMD_ARGS=f"--config {hook}")
            ended = run(*C42_PROXY, "demo", environ=environ)
        self.assertEqual(ended.returncode, 1, ended.stdout + ended.stderr)
        self.assertEqual(ended.stdout, "")
        self.assertRegex(ended.stderr, r"(?m)^Error: nothing answers on .*: see above\.$")

    def test_wrong_address(self) -> None:
        """A C42_BIND that is no address is a wrong setting: status 2."""
        ended = run(*C42_PROXY, "demo", environ=clean_environ(C42_BIND="nowhere"), seconds=5)
        self.assertEqual(ended.returncode, 2)
        self.assertIn("C42_BIND: allowed is host:port", ended.stderr)
