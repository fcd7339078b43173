"""`scripts/stack` with the sandbox as C42, and how tests ask it.

Real time has to pass there: answers live for `TTL` seconds.
"""

import http.client
import itertools
import json
import os
import re
import signal
import socket
import sys
import time
import unittest
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import ClassVar, NamedTuple

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.sandbox.events import COFFEE
from harness.processes import (
    ROOT,
    Process,
    ProcessTestCase,
    clean_environ,
    is_alive,
    until,
)
from harness.sandbox import TIMEOUT, Sandbox
from harness.wire import REASON_OF

STACK = str(ROOT / "scripts" / "stack")
START = "/events-with-subscriptions"
PATH = f"{START}/{COFFEE}/"
TTL = 2.0
MADE_BY_US = "application/problem+json"
MAY_DIFFER = {"date", "cache-status", "x-request-id"}

_numbers = itertools.count(1)


class Answer(NamedTuple):
    """What came back, when the request was sent, and when the answer had come (seconds since the epoch)."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    sent: float
    received: float

    def header(self, name: str) -> str | None:
        """All values of a header, or None."""
        return ", ".join(value for each, value in self.headers if each.lower() == name.lower()) or None

    @property
    def cache_status(self) -> tuple[str, str]:
        """The members of Cache-Status: the proxy's, and nginx's after it."""
        own, _, after = (self.header("Cache-Status") or "").partition(", ")
        return own, after

    @property
    def lasting_headers(self) -> set[tuple[str, str]]:
        """The headers but those in which a hit may differ."""
        return {(name.lower(), value) for name, value in self.headers if name.lower() not in MAY_DIFFER}

    @property
    def expires(self) -> float:
        """The second of the answer's instant: `Expires` is the one before it."""
        return parsedate_to_datetime(self.header("Expires") or "").timestamp() + 1


def send(connection: http.client.HTTPConnection, target: str, method: str = "GET", **headers: str) -> Answer:
    """Ask on this connection, for exactly this target. Underscores in the names of headers become hyphens."""
    sent = time.time()
    connection.putrequest(method, target, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    return Answer(response.status, response.getheaders(), response.read(), sent, time.time())


def ask(port: int, target: str = PATH, method: str = "GET", **headers: str) -> Answer:
    """Ask on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        return send(connection, target, method, **headers)
    finally:
        connection.close()


def tell(port: int, data: bytes) -> bytes:
    """Send bytes as they are, and read until nginx closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(data)
        received = bytearray()
        while chunk := connection.recv(65_536):
            received += chunk
    return bytes(received)


def new_id() -> str:
    return f"stack-{next(_numbers)}"


def path_of(event_id: str) -> str:
    return f"{START}/{event_id}/"


class Stack(Process):
    """`scripts/stack`, and what it says of its parts. Each part leads a process group of its own."""

    def __init__(self, c42_port: int, *, path: str | None = None, **settings: str) -> None:
        super().__init__([sys.executable, STACK], environ_of(c42_port, path=path, **settings))

    def wait_until_ready(self) -> None:
        self.wait_until_says("ready http://127.0.0.1:")
        said = self.output()
        self.port = int(re.findall(r"ready http://127\.0\.0\.1:(\d+)", said)[0])
        self.host_ports = [int(port) for port in re.findall(r"host-\d: http://127\.0\.0\.1:(\d+)", said)]
        self.ops_ports = [int(port) for port in re.findall(r"ops http://127\.0\.0\.1:(\d+)", said)]
        self.hosts = [int(pid) for pid in re.findall(r"host-\d: .* process (\d+)", said)]
        self.nginx = int(re.findall(r"nginx: process (\d+)", said)[0])
        self.redis_port = int(re.findall(r"redis: port (\d+)", said)[0])
        self.folder = Path(re.findall(r"logs in (.+)", said)[0])

    def close(self) -> None:
        """End it and its parts, also where it leaves some of them behind."""
        parts = self.descendants()
        super().close()
        for part in parts:
            if is_alive(part):
                os.kill(part[0], signal.SIGKILL)


def environ_of(c42_port: int, *, path: str | None = None, **settings: str) -> dict[str, str]:
    own = {
        "C42_API_URL": f"http://127.0.0.1:{c42_port}/api/v2/",
        "C42_API_TOKEN": SANDBOX_TOKEN,
        "C42_CACHE_TTL": f"{TTL}",
        "STACK_PORT": "",
        **settings,
    }
    return clean_environ(**own) | ({} if path is None else {"PATH": path})


class StackTest(ProcessTestCase):
    """A stack and its C42. Tests that do no harm to them share them."""

    shared: ClassVar[tuple[Sandbox, Stack] | None] = None
    c42: ClassVar[Sandbox]
    stack: ClassVar[Stack]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if StackTest.shared is None:
            c42 = unittest.enterModuleContext(Sandbox())
            stack = unittest.enterModuleContext(Stack(c42.port))
            stack.wait_until_ready()
            StackTest.shared = c42, stack
            unittest.addModuleCleanup(setattr, StackTest, "shared", None)
        cls.c42, cls.stack = StackTest.shared
        cls.processes = [cls.c42, cls.stack]

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        result = result or self.defaultTestResult()
        wrong = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > wrong:
            for log in self.stack.folder.glob("*.log"):
                sys.stderr.write(f"\nThe end of {log.name}:\n{log.read_text()[-10_000:]}\n")
        return result

    def ask(self, target: str = PATH, method: str = "GET", **headers: str) -> Answer:
        return ask(self.stack.port, target, method, **headers)

    def fresh(self, target: str = PATH, seconds: float = 0.5) -> Answer:
        """An answer that nginx has, and will have for a moment: the tests that need one do not last long."""

        def found() -> Answer | None:
            self.ask(target)
            answer = self.ask(target)
            has_time = answer.cache_status[1] == "nginx; hit" and answer.expires - time.time() > seconds
            return answer if has_time else None

        return until(found, "a hit of nginx", TIMEOUT)

    def assert_problem(self, answer: Answer, status: int) -> None:
        self.assertEqual((answer.status, answer.header("Content-Type")), (status, MADE_BY_US), answer)
        self.assertEqual((answer.header("Cache-Control"), answer.header("X-Accel-Expires")), ("no-store", "0"))
        problem = json.loads(answer.body)
        self.assertEqual((problem["status"], problem["reason"]), (status, REASON_OF[status]))
