"""The proxy under gunicorn where the machine gives it little: a log that nobody reads, few descriptors, few threads."""

import fcntl
import http.client
import os
import resource
import signal
import socket
import subprocess
import tempfile
import textwrap
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import ClassVar

from c42_proxy.looks import LOOKS_AT_ONCE
from c42_proxy.sandbox.events import COFFEE
from c42_proxy.settings import Settings
from c42_proxy.stores.contract import Entry
from c42_proxy.stores.opening import open_shared
from harness.processes import C42_PROXY, ROOT, STOP_SECONDS, Process, free_port, until
from harness.sandbox import Sandbox
from tests.server.test_gunicorn import PATH, ask, environ_of, is_free_of, store_with_old_entry

PREFIX = "/events-with-subscriptions/"
TIMEOUT = 10.0


class ProxyTest(unittest.TestCase):
    """A proxy with one worker."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.sandbox = self.enterContext(Sandbox())
        self.port = free_port()

    def start(self, **variables: str) -> None:
        environ = environ_of(self.port, self.sandbox.url, C42_BREAKER_THRESHOLD="5") | variables
        self.proxy = self.enterContext(Process([*C42_PROXY, "serve"], environ))
        self.proxy.wait_until_answers(f"http://127.0.0.1:{self.port}/")
        ((self.worker, _began),) = self.proxy.descendants()

    def connected(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        connection.connect()
        self.addCleanup(connection.close)
        # The worker has accepted it when it answers.
        self.get(connection, "")
        return connection

    def get(self, connection: http.client.HTTPConnection, event_id: str) -> tuple[int, str | None]:
        """The status and `Retry-After`."""
        connection.request("GET", f"{PREFIX}{event_id}/")
        response = connection.getresponse()
        response.read()
        return response.status, response.headers["Retry-After"]

    def limit_descriptors(self, number: int | None = None) -> None:
        """So many for the worker; without a number, no more than it has."""
        if number is None:
            taken = {int(each) for each in os.listdir(f"/proc/{self.worker}/fd")}
            number = next(each for each in range(4096) if each not in taken)
        _, hard = resource.prlimit(self.worker, resource.RLIMIT_NOFILE)
        resource.prlimit(self.worker, resource.RLIMIT_NOFILE, (number, hard))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.worker}/task"))

    def sockets(self) -> int:
        names = [f"/proc/{self.worker}/fd/{each}" for each in os.listdir(f"/proc/{self.worker}/fd")]
        return sum(os.path.islink(name) and os.readlink(name).startswith("socket:") for name in names)


class GarbageTest(ProxyTest):
    def test_collector(self) -> None:
        """The garbage collector, which stops all threads, never looks at what the start of a worker has made."""
        config, seen = self.folder / "gunicorn.py", self.folder / "seen"
        config.write_text(
            "import gc, pathlib\n"
            "def worker_exit(server, worker):\n"
            f"    pathlib.Path({str(seen)!r}).write_text(f'{{gc.get_freeze_count()}} {{len(gc.get_objects())}}')\n"
        )
        self.start(GUNICORN_CMD_ARGS=f"--config {config}")
        self.assertEqual((200, None), self.get(self.connected(), COFFEE))
        self.proxy.send(signal.SIGTERM)
        self.proxy.wait()
        frozen, others = map(int, seen.read_text().split())
        self.assertGreater(frozen, 10 * others)


class UnreadTestCase(unittest.TestCase):
    """One stream of the proxy is a pipe of 4 KiB that nobody reads."""

    stream = "stderr"
    variables: ClassVar[dict[str, str]] = {}

    def setUp(self) -> None:
        self.reading, writing = os.pipe()
        self.addCleanup(os.close, self.reading)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        sandbox = self.enterContext(Sandbox())
        self.port, self.ops_port = free_port(), free_port()
        environ = environ_of(self.port, sandbox.url, C42_LOG_FORMAT="json", C42_OPS_BIND=f"127.0.0.1:{self.ops_port}")
        self.process = subprocess.Popen(
            [*C42_PROXY, "serve"],
            env=environ | self.variables,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=writing if self.stream == "stdout" else subprocess.DEVNULL,
            stderr=writing if self.stream == "stderr" else subprocess.DEVNULL,
            start_new_session=True,
        )
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        os.close(writing)
        until(self.answers, "an answer")

    def answers(self) -> bool:
        try:
            return ask(self.port).status == 200
        except OSError:
            return False

    def said_at_the_end(self) -> str:
        """What comes from the pipe if it is read once the proxy is told to end."""
        self.process.send_signal(signal.SIGTERM)
        said = b""
        while chunk := os.read(self.reading, 65536):
            said += chunk
        self.assertEqual(0, self.process.wait(STOP_SECONDS))
        return said.decode()


class UnreadLogTest(UnreadTestCase):
    def workers(self) -> set[str]:
        """The ids of the workers that run."""
        return set(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())

    def test_answers_go_on(self) -> None:
        """Hits and misses are answered, the master replaces a worker, and all processes end at a signal."""
        # Each refused request is a line of 200 bytes.
        statuses = [ask(self.port, "/").status for _ in range(100)]
        self.assertEqual([404] * 100, statuses)
        self.assertIn("; hit;", ask(self.port).header("Cache-Status") or "")
        old = self.workers()
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.workers() and not self.workers() & old, "a new worker")
        until(self.answers, "an answer of the new worker")
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(0, self.process.wait(STOP_SECONDS))

    def test_master_counts(self) -> None:
        """What gunicorn's master had to drop is in the metric, too."""
        # The master writes a line for each signal that it takes.
        until(self.drops_when_signalled, "a line dropped")

    def drops_when_signalled(self) -> int:
        for _ in range(2000):
            self.process.send_signal(signal.SIGWINCH)
            os.sched_yield()
        lines = ask(self.ops_port, "/metrics").body.decode().splitlines()
        (line,) = (line for line in lines if line.startswith("c42_proxy_log_records_dropped_total "))
        return int(float(line.split()[1]))

    def test_end(self) -> None:
        """What was not written yet is written at the end, if somebody reads it then."""
        for number in range(100):
            ask(self.port, f"/{number}")
        said = self.said_at_the_end()
        for number in (0, 50, 99):
            self.assertIn(f'"path": "/{number}"', said)


class UnreadAccessLogTest(UnreadTestCase):
    """gunicorn's own, which is on standard output if an operator asks for it."""

    stream = "stdout"
    variables: ClassVar = {"GUNICORN_CMD_ARGS": "--access-logfile -"}

    def test_answers_go_on(self) -> None:
        """Requests are answered although nobody reads it, and their lines come when somebody does, as gunicorn's."""
        # A line has some 50 bytes.
        statuses = [ask(self.port, f"/{number}").status for number in range(200)]
        self.assertEqual([404] * 200, statuses)
        said = self.said_at_the_end()
        for number in (0, 100, 199):
            self.assertRegex(said, rf'(?m)^127.0.0.1:\d+ - "GET /{number} HTTP/1.1" 404$')


class UnreadAccessLogFileTest(UnreadAccessLogTest):
    """As containers have it."""

    variables: ClassVar = {"GUNICORN_CMD_ARGS": "--access-logfile /dev/stdout"}


class FewDescriptorsTest(ProxyTest):
    def test_no_connection_to_c42(self) -> None:
        """With no descriptor left, misses get a 503, nothing counts against C42, and all is well afterwards."""
        self.start()
        connections = [self.connected() for _ in range(10)]
        self.limit_descriptors()
        # Whoever comes now is not let in, and must not be the last who ever comes.
        for _ in range(3):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as turned_away:
                self.assertEqual(b"", turned_away.recv(1))
        for number, connection in enumerate(connections):
            self.assertEqual((503, "1"), self.get(connection, f"missing-{number}"), self.proxy.output())
        self.limit_descriptors(4096)
        # Ten failures of C42 would have opened the circuit breaker.
        self.assertEqual((404, None), self.get(connections[0], "missing"))
        self.assertEqual(200, ask(self.port).status)
        self.assertNotIn("Traceback", self.proxy.output())


class FewThreadsTest(ProxyTest):
    def test_no_thread(self) -> None:
        """With no thread left, misses get a 503; no call is made later, and all is well with threads again.

        What others have put into the shared tier is found, although this worker has never looked there.
        """
        file = f"sqlite:///{self.folder / 'cache.sqlite3'}"
        self.start(PYTHONPATH=f"{self.few_threads()}{os.pathsep}{ROOT}", C42_CACHE_URL=file)
        shared = open_shared(Settings.from_env(environ_of(self.port, self.sandbox.url, C42_CACHE_URL=file)), time.time)
        assert shared is not None
        self.enterContext(closing(shared))
        answer = Entry(200, b'{"id":"of-others","title":null,"names":[]}', time.time())
        self.assertTrue(shared.put("of-others", answer, answer.fetched_at))
        (self.folder / "none").touch()
        connection = self.connected()
        self.assertEqual((200, None), self.get(connection, "of-others"), self.proxy.output())
        for number in range(10):
            self.assertEqual((503, "1"), self.get(connection, f"missing-{number}"), self.proxy.output())
        self.assertEqual({}, {name: calls for name, calls in self.sandbox.calls.items() if calls})
        (self.folder / "none").unlink()
        self.assertEqual((200, None), self.get(connection, COFFEE))
        self.assertEqual((404, None), self.get(connection, "missing-1"))
        self.assertEqual(2, self.sandbox.calls["events"])
        self.assertNotIn("Traceback", self.proxy.output())

    def test_gthread(self) -> None:
        """So it is with gunicorn's own threads."""
        environ = {
            "PYTHONPATH": f"{self.few_threads()}{os.pathsep}{ROOT}",
            "GUNICORN_CMD_ARGS": "--worker-class gthread",
        }
        (self.folder / "none").touch()
        self.start(**environ)
        for number in range(3):
            answer = ask(self.port, f"{PREFIX}missing-{number}/")
            self.assertEqual((503, "1"), (answer.status, answer.header("Retry-After")), self.proxy.output())
        (self.folder / "none").unlink()
        self.assertEqual(404, ask(self.port, f"{PREFIX}missing/").status)
        self.assertNotIn("Traceback", self.proxy.output())

    def test_gthread_waits(self) -> None:
        """While all threads that gunicorn has wait for C42, and it gets no more, hits are answered, and misses are not.

        All other threads of the proxy could do the miss.
        """
        environ = {
            "PYTHONPATH": f"{self.few_threads()}{os.pathsep}{ROOT}",
            "GUNICORN_CMD_ARGS": "--worker-class gthread",
        }
        self.start(**environ, C42_TIMEOUT="10")
        self.assertEqual(200, ask(self.port).status)
        self.sandbox.set(latency=3)
        with ThreadPoolExecutor(3) as clients:
            slow = [clients.submit(ask, self.port, f"{PREFIX}missing-{number}/") for number in range(3)]
            until(lambda: self.sandbox.calls["events"] == 4, "three calls")
            (self.folder / "none").touch()
            statuses = [ask(self.port, path).status for path in (PATH, f"{PREFIX}missing-4/", PATH, "/")]
            self.assertEqual([200, 503, 200, 404], statuses)
            self.assertFalse(any(each.done() for each in slow))
        self.assertEqual([404] * 3, [each.result().status for each in slow])
        self.assertEqual(4, self.sandbox.calls["events"])

    def test_no_thread_at_the_start(self) -> None:
        """A worker that gets no thread when it begins says so once, and erases as soon as it gets one."""
        file = self.folder / "cache" / "cache.sqlite3"
        self.enterContext(closing(store_with_old_entry(file, b"Secret")))
        environ = {"PYTHONPATH": f"{self.few_threads()}{os.pathsep}{ROOT}", "C42_CACHE_URL": f"sqlite:///{file}"}
        (self.folder / "none").touch()
        self.start(**environ)
        connection = self.connected()
        for _ in range(2):
            self.assertEqual((503, "1"), self.get(connection, COFFEE), self.proxy.output())
        self.assertFalse(is_free_of(b"Secret", file.parent))
        (self.folder / "none").unlink()
        self.assertEqual((200, None), self.get(connection, COFFEE))
        until(lambda: is_free_of(b"Secret", file.parent), "the erasure of the old entry")
        # The log, too, has waited for a thread.
        until(lambda: self.proxy.output().count("erases no old entries") == 1, "the line in the log")

    def few_threads(self) -> Path:
        """A folder with which Python starts no thread, as where the system gives none, while there is a file `none`."""
        module = """
            import pathlib, threading
            start = threading.Thread.start
            none = pathlib.Path(__file__).with_name("none")
            def start_or_fail(thread):
                if none.exists():
                    raise RuntimeError("can't start new thread")
                start(thread)
            threading.Thread.start = start_or_fail
        """
        (self.folder / "sitecustomize.py").write_text(textwrap.dedent(module))
        return self.folder


class FewProcessesTest(ProxyTest):
    def test_no_process(self) -> None:
        """With no process to be had, no signal ends the proxy. The lack is logged once, and ends with new workers.

        A reload that needed a process is made up for.
        """
        module = """
            import os, pathlib
            fork = os.fork
            none = pathlib.Path(__file__).with_name("none")
            def fork_or_fail():
                if none.exists():
                    raise BlockingIOError(11, "Resource temporarily unavailable")
                return fork()
            os.fork = fork_or_fail
        """
        (self.folder / "sitecustomize.py").write_text(textwrap.dedent(module))
        self.start(PYTHONPATH=f"{self.folder}{os.pathsep}{ROOT}")
        old = self.proxy.descendants()
        (self.folder / "none").touch()
        for number in (signal.SIGUSR2, signal.SIGHUP):
            self.proxy.send(number)
        self.proxy.wait_until_says("the reload has failed ([Errno 11] Resource temporarily unavailable)")
        self.assertEqual(200, ask(self.port).status)
        self.assertEqual(old, self.proxy.descendants())
        (self.folder / "none").unlink()
        until(
            lambda: len(new := self.proxy.descendants()) == 1 and not new & old, "a new worker in the place of the old"
        )
        self.assertEqual(1, self.proxy.output().count("no process can be started"), self.proxy.output())
        (self.folder / "none").touch()
        ((worker, _began),) = self.proxy.descendants()
        os.kill(worker, signal.SIGKILL)
        until(lambda: not self.proxy.descendants(), "no worker")
        (self.folder / "none").unlink()
        until(self.proxy.descendants, "a new worker")
        self.assertEqual(200, ask(self.port).status)
        self.assertNotIn("Traceback", self.proxy.output())


class IdleTest(ProxyTest):
    def test_threads_and_connections_end(self) -> None:
        """What many fetches at once have needed is given back when they are over: threads, and connections to C42."""
        self.start()
        ask(self.port)
        threads, sockets = self.threads(), self.sockets()
        self.sandbox.set(latency=0.3)
        with ThreadPoolExecutor(40) as clients:
            answers = list(clients.map(lambda number: ask(self.port, f"{PREFIX}missing-{number}/").status, range(40)))
        self.assertEqual([404] * 40, answers)
        # Threads stay for a while: these are all that it has needed. For each fetch three, and a few for all of them.
        self.assertGreater(self.threads(), threads + 20)
        self.assertLessEqual(self.threads(), threads + 3 * 40 + LOOKS_AT_ONCE + 5)
        until(lambda: self.threads() <= threads and self.sockets() <= sockets, "the end of what is idle")


if __name__ == "__main__":
    unittest.main()
