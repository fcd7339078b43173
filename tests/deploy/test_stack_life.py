"""`scripts/stack` in the course of time: it begins, is reloaded, loses a part and ends, and no request is lost."""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from harness.needs import needs
from harness.nginx import FILES, Nginx
from harness.processes import (
    ProcessTestCase,
    clean_environ,
    is_alive,
    run,
    until,
)
from harness.sandbox import TIMEOUT, Sandbox
from harness.stack import (
    MADE_BY_US,
    PATH,
    STACK,
    Answer,
    Stack,
    StackTest,
    ask,
    environ_of,
    new_id,
    path_of,
    send,
)

STOP_SECONDS = 9.0


class Load:
    """Clients that ask all the time, half of them on a new connection for each request, until the `with` block ends.

    Each asks for what nginx has and for what only the hosts can say. `lost` is every request without its answer.
    A connection that was used before may be closed by the server while the client sends its next request on it: then
    the client asks once more on a new one (RFC 9112, section 9.3.1), and that is counted in `closed`.
    """

    CLIENTS = 8
    PAUSE = 0.004

    def __init__(self, port: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.lost: list[str] = []
        self.closed = 0
        self._port = port
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(n % 2 == 0,)) for n in range(self.CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_args: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT)

    def _ask(self, keeps: bool) -> None:
        connection = self._connect()
        while not self._over.is_set():
            target = random.choice((PATH, path_of(new_id())))
            if not keeps:
                connection = self._connect()
            was_used = connection.sock is not None
            answer: Answer | None = None
            try:
                answer = send(connection, target)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if was_used and isinstance(error, (ConnectionError, http.client.RemoteDisconnected)):
                    self.closed += 1
                    answer = self._ask_again(target)
                else:
                    self.lost.append(f"{target}: {error!r}")
            if answer is not None:
                with self._lock:
                    self.statuses[answer.status] += 1
                if answer.status != (200 if target == PATH else 404):
                    self.lost.append(f"{target}: {answer}")
            if not keeps:
                connection.close()
            self._over.wait(self.PAUSE)
        connection.close()

    def _ask_again(self, target: str) -> Answer | None:
        try:
            return ask(self._port, target)
        except (OSError, http.client.HTTPException) as error:
            self.lost.append(f"{target}, again: {error!r}")
            return None

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)


class UnderLoadTest(StackTest):
    @contextmanager
    def load(self) -> Iterator[Load]:
        """Load before, during and after what the block does; no request of it may be lost."""
        with Load(self.stack.port) as load:
            # The load itself is what takes time: some before, and some after.
            time.sleep(0.4)
            yield load
            time.sleep(0.6)
        self.assertEqual(load.lost, [])
        self.assertGreater(min(load.statuses[200], load.statuses[404]), 20, load.statuses)


@needs("nginx")
@needs("redis-server")
class ReloadTest(UnderLoadTest):
    def test_nginx_reloaded(self) -> None:
        """nginx is reloaded under load, and no request is lost."""
        with self.load():
            for _ in range(2):
                old = _children(self.stack.nginx)
                os.kill(self.stack.nginx, signal.SIGHUP)
                until(lambda old=old: not old & _children(self.stack.nginx), "other workers")  # type: ignore[misc]

    def test_gunicorn_reloaded(self) -> None:
        """Both hosts are reloaded under load, at once, and no request is lost."""
        with self.load() as load:
            old = {host: _children(host) for host in self.stack.hosts}
            for host in self.stack.hosts:
                os.kill(host, signal.SIGHUP)
            for host, workers in old.items():
                until(lambda host=host, workers=workers: not workers & _children(host), "other workers")  # type: ignore[misc]
        self.assertEqual(load.closed, 0)


def _children(pid: int) -> set[int]:
    """The processes that a process has started and that still run."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found |= {int(word) for word in task.read_text().split()}
    return found


@needs("nginx")
@needs("redis-server")
class LossTest(UnderLoadTest):
    """What is killed stays dead: these have a stack of their own."""

    @classmethod
    def setUpClass(cls) -> None:
        ProcessTestCase.setUpClass()
        cls.c42 = cls.enterClassContext(Sandbox())
        cls.stack = cls.enterClassContext(Stack(cls.c42.port))
        cls.processes = [cls.c42, cls.stack]
        cls.stack.wait_until_ready()

    def test_host_killed(self) -> None:
        """A host is killed (kill -9) with requests under way, and no client sees it; the stack says so and goes on."""
        with self.c42.with_latency(0.05), self.load() as load:
            os.killpg(self.stack.hosts[0], signal.SIGKILL)
            time.sleep(1)  # of load on the host that is left
        self.assertEqual(load.closed, 0)
        self.stack.wait_until_says("host-1 ended with signal 9; the others go on")

    def test_redis_killed(self) -> None:
        """Redis is killed, and answers go on: those that were there, and new ones."""
        redis = [pid for pid, _ in self.stack.descendants() if b"redis-server" in _command(pid)]
        self.assertEqual(len(redis), 1)
        with self.load():
            os.kill(redis[0], signal.SIGKILL)
            self.stack.wait_until_says("redis ended with signal 9; the others go on")
        event = self.c42.new_event()
        self.assertEqual([self.ask(path_of(event)).status for _ in range(3)], [200] * 3)


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@needs("nginx")
@needs("redis-server")
class LifeTest(unittest.TestCase):
    """How the stack begins and ends."""

    @contextmanager
    def started(self, **settings: str) -> Iterator[Stack]:
        # Port 9 (discard): nobody is there, and nobody is asked.
        with Stack(9, **settings) as stack:
            stack.wait_until_ready()
            yield stack

    def test_ended(self) -> None:
        """SIGTERM and Ctrl-C end it with status 0, and nothing of it is left: no process and no folder."""
        for end in (lambda stack: stack.send(signal.SIGTERM), lambda stack: stack.send_to_all(signal.SIGINT)):
            with self.started() as stack:
                parts = stack.descendants()
                self.assertGreaterEqual(len(parts), 9)
                self._end(stack, end)
                self.assertEqual([part for part in parts if is_alive(part)], [])
                self.assertFalse(stack.folder.exists())

    def _end(self, stack: Stack, end: Callable[[Stack], None]) -> None:
        end(stack)
        self.assertEqual(stack.wait(STOP_SECONDS), 0)

    def test_hosts_that_hang_or_are_gone(self) -> None:
        """A host that hangs is left for the other; where both hang it is a 504, where both are gone a 502, in time.

        Both are asked again as soon as they are back, whatever nginx thinks of them. And what is left ends by itself
        when the stack is killed.
        """
        with self.started(C42_TIMEOUT="0.1") as stack, ThreadPoolExecutor(8) as clients:

            def ask_all(number: int) -> list[Answer]:
                return list(clients.map(lambda _: ask(stack.port, path_of(new_id())), range(number)))

            os.killpg(stack.hosts[0], signal.SIGSTOP)
            # C42 cannot be reached, and it is the proxy that says so.
            self.assertEqual({answer.cache_status[0].partition(";")[0] for answer in ask_all(2)}, {"c42-proxy"})
            os.killpg(stack.hosts[1], signal.SIGSTOP)
            hung = ask_all(8)
            self.assertLess(max(answer.received - answer.sent for answer in hung), 6)
            for host in stack.hosts:
                os.killpg(host, signal.SIGCONT)
            self.assertIn("c42-proxy", ask_all(1)[0].cache_status[0])
            for host in stack.hosts:
                os.killpg(host, signal.SIGKILL)
            for answer, status in [(answer, 504) for answer in hung] + [(ask_all(1)[0], 502)]:
                self.assertEqual((answer.status, answer.header("Content-Type")), (status, MADE_BY_US))
                self.assertEqual((answer.header("Cache-Control"), answer.header("Cache-Status")), ("no-store", None))
                self.assertEqual(json.loads(answer.body)["reason"], "proxy-unavailable")
            parts = stack.descendants()
            stack.send(signal.SIGKILL)
            until(lambda: not any(map(is_alive, parts)), "the end of what is left", STOP_SECONDS)
            shutil.rmtree(stack.folder)

    def test_help(self) -> None:
        """--help says what it is for, needs no setting, and starts nothing; another word is refused."""
        for word in ("--help", "-h"):
            ended = run(sys.executable, STACK, word, environ=clean_environ())
            self.assertEqual((ended.returncode, ended.stderr), (0, ""))
            self.assertIn("STACK_PORT=8080 scripts/stack", ended.stdout)
        ended = run(sys.executable, STACK, "--port", environ=clean_environ())
        self.assertEqual((ended.returncode, ended.stdout), (2, ""))
        self.assertIn("--port", ended.stderr)

    def test_wrong_settings(self) -> None:
        """Without a token, or with a wrong port, it starts nothing, says why, and ends with status 2."""
        for variables, expected in (
            ({"C42_API_TOKEN": ""}, "C42_API_TOKEN: is not set."),
            ({"STACK_PORT": "http"}, "STACK_PORT: allowed is"),
        ):
            ended = run(sys.executable, STACK, environ=environ_of(9) | variables)
            self.assertEqual((ended.returncode, ended.stdout), (2, ""))
            self.assertIn(expected, ended.stderr)
            self.assertNotIn("process", ended.stderr)

    def test_port_taken(self) -> None:
        """If another server listens on STACK_PORT already, the stack says so, and does not take it for its nginx."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            ended = run(sys.executable, STACK, environ=environ_of(9) | {"STACK_PORT": f"{port}"})
        self.assertEqual((ended.returncode, ended.stdout), (1, ""))
        self.assertIn(f"nginx cannot listen on 127.0.0.1:{port}: Address already in use", ended.stderr)

    def test_part_that_cannot_start(self) -> None:
        """If a part dies at the start, the stack names it, shows its log, and ends the other parts."""
        with tempfile.TemporaryDirectory() as folder:
            broken = Path(folder, "redis-server")
            broken.write_text("#!/bin/sh\necho no room for me\nexit 3\n")
            broken.chmod(0o755)
            environ = environ_of(9, path=f"{folder}{os.pathsep}{os.environ['PATH']}")
            ended = run(sys.executable, STACK, environ=environ)
        self.assertEqual((ended.returncode, ended.stdout), (1, ""))
        self.assertIn("stack: redis ended with status 3:\nno room for me\n", ended.stderr)

    def test_configuration_of_containers(self) -> None:
        """The files for containers are good for this nginx, too."""
        files = {f"place/{file.name}": file.read_text() for file in (FILES / "container").iterdir()}
        # docker-compose.yml writes this file when nginx starts.
        files["origins.conf"] = 'map "" $allow_origins { default "https://app.example"; }'
        changes = {
            "/var/cache/nginx/origins.conf": "origins.conf",
            "server proxy:": "server 127.0.0.1:",  # the name of the other container is known there alone
            "listen 8080 ": "listen 127.0.0.1:{port} ",
            "/dev/stdout": "access.log",
        }
        with Nginx([], files=files, changes=changes) as nginx:
            self.assertEqual(nginx.ask("/").status, 404)
