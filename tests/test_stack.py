"""`scripts/stack`, the whole as operators deploy it: nginx, two gunicorn hosts and Redis, with the sandbox as C42.

Real time has to pass here: answers live for `TTL` seconds.
"""

import asyncio
import gzip
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import ClassVar, NamedTuple

from c42_proxy import create_app
from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.sandbox.events import BASEBALL, COFFEE
from c42_proxy.settings import Settings

from .support.needs import needs
from .support.processes import (
    C42_PROXY,
    ROOT,
    Process,
    ProcessTestCase,
    clean_environ,
    free_port,
    is_alive,
    run,
    until,
)

STACK = str(ROOT / "scripts" / "stack")
START = "/events-with-subscriptions"
PATH = f"{START}/{COFFEE}/"
TTL = 2.0
PRECISION = 0.05
STORING = 0.1
"""nginx passes an answer on before it has stored it: a moment for that."""
TIMEOUT = 15.0
STOP_SECONDS = 9.0
MADE_BY_US = "application/problem+json"
MAY_DIFFER = {"date", "cache-status", "x-request-id"}

_numbers = itertools.count(1)


class Answer(NamedTuple):
    """What came back, and when the request was sent and the answer was there (seconds since the epoch)."""

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
        return parsedate_to_datetime(self.header("Expires") or "").timestamp()


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


class Sandbox(Process):
    """C42, and what it was asked."""

    def __init__(self) -> None:
        self.port = free_port()
        super().__init__([*C42_PROXY, "sandbox", "--bind", f"127.0.0.1:{self.port}"], clean_environ())
        self.wait_until_answers(f"http://127.0.0.1:{self.port}/sandbox/")

    def change(self, **changes: object) -> None:
        """What `PUT /sandbox/` knows."""
        self._control(json.dumps(changes).encode(), "PUT")

    def new_event(self) -> str:
        """The id of an event that nobody has asked for."""
        event_id = new_id()
        self.change(events={event_id: {"title": event_id, "names": ["Ann"]}})
        return event_id

    @property
    def calls(self) -> dict[str, int]:
        calls: dict[str, int] = self._control(None, "GET")["calls"]
        return calls

    @contextmanager
    def with_latency(self, seconds: float) -> Iterator[None]:
        self.change(latency=seconds)
        try:
            yield
        finally:
            self.change(latency=0)

    @contextmanager
    def with_fault(self, **fault: object) -> Iterator[None]:
        self.change(fault=fault)
        try:
            yield
        finally:
            self.change(fault=None)

    def _control(self, body: bytes | None, method: str) -> dict[str, dict[str, int]]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/sandbox/", body, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            report: dict[str, dict[str, int]] = json.load(response)
        return report


class Stack(Process):
    """`scripts/stack`, and what it says of its parts. Each part leads a process group of its own."""

    def __init__(self, c42_port: int, *, path: str | None = None, **settings: str) -> None:
        super().__init__([sys.executable, STACK], environ_of(c42_port, path=path, **settings))

    def wait_until_ready(self) -> None:
        self.wait_until_says("ready http://127.0.0.1:")
        said = self.output()
        self.port = int(re.findall(r"ready http://127\.0\.0\.1:(\d+)", said)[0])
        self.host_ports = [int(port) for port in re.findall(r"host-\d: http://127\.0\.0\.1:(\d+)", said)]
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
    }
    return clean_environ(**own, **settings) | ({} if path is None else {"PATH": path})


class StackTest(ProcessTestCase):
    """A stack and its C42. They are shared where nobody harms them."""

    shared: ClassVar[tuple[Sandbox, Stack] | None] = None
    c42: ClassVar[Sandbox]
    stack: ClassVar[Stack]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if StackTest.shared is None:
            c42 = unittest.enterModuleContext(Sandbox())
            StackTest.shared = c42, unittest.enterModuleContext(Stack(c42.port))
            StackTest.shared[1].wait_until_ready()
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
        self.assertEqual(answer.header("Cache-Control"), "no-store")
        self.assertEqual(json.loads(answer.body)["status"], status)


@needs("nginx")
@needs("redis-server")
class ReuseTest(StackTest):
    def test_expiry_late_in_life(self) -> None:
        """What one host has fetched, and nginx stores late in its life, is asked for again at its instant, not later.

        nginx serves it up to the whole second that it is told, the hosts from there to the instant itself. Of an
        answer it is known that it was decided on after its request was sent, and before it was there.
        """
        event, missing = self.c42.new_event(), new_id()
        asked: dict[str, list[Answer]] = {path_of(event): [], path_of(missing): []}
        fetched = {target: ask(self.stack.host_ports[0], target) for target in asked}
        self.assertEqual([answer.status for answer in fetched.values()], [200, 404])
        time.sleep(max(0.0, min(answer.expires for answer in fetched.values()) - 0.25 - time.time()))
        until_then = time.time() + TTL + 2
        while time.time() < until_then:
            for target, answers in asked.items():
                if not answers or answers[-1].expires == fetched[target].expires:
                    answers.append(self.ask(target))
        for target, answers in asked.items():
            with self.subTest(status=fetched[target].status):
                self.assert_expired_on_time(fetched[target], answers[:-1], answers[-1])

    def assert_expired_on_time(self, fetched: Answer, old: list[Answer], new: Answer) -> None:
        self.assertRegex(" + ".join(old[0].cache_status), r"^c42-proxy; .*hit; ttl=[01] \+ nginx; fwd=.*; stored")
        hits = [answer for answer in old if answer.cache_status[1] == "nginx; hit"]
        beyond = [answer for answer in old[1:] if answer.cache_status[1] != "nginx; hit"]
        self.assertGreater(len(hits), 5)
        self.assertLess(hits[-1].sent, fetched.expires + PRECISION)
        self.assertGreater(min(answer.received for answer in [*beyond, new]), fetched.expires - PRECISION)
        self.assertLess(old[-1].sent, fetched.received + TTL + PRECISION)
        self.assertGreater(new.received, fetched.sent + TTL - PRECISION)
        self.assertIn("fwd=", new.cache_status[0])
        self.assertGreater(new.expires, fetched.expires)

    def test_one_fetch(self) -> None:
        """200 clients that ask at once for an event that nobody knows yet make one fetch, over both hosts."""
        event = self.c42.new_event()
        self.c42.change(calls="reset")
        barrier = threading.Barrier(200)

        def client(_number: int) -> int:
            barrier.wait(TIMEOUT)
            return self.ask(path_of(event)).status

        with self.c42.with_latency(0.4), ThreadPoolExecutor(200) as clients:
            statuses = Counter(clients.map(client, range(200)))
        self.assertEqual(statuses, {200: 200})
        self.assertEqual(self.c42.calls, {"events": 1, "subscriptions": 1})

    def test_one_failure(self) -> None:
        """Clients that ask at once for an event that fails get that failure together: nginx does not queue them."""
        event = self.c42.new_event()
        fails, takes_time = self.c42.with_fault(status=500, event_id=event), self.c42.with_latency(0.3)
        with fails, takes_time, ThreadPoolExecutor(30) as clients:
            answers = list(clients.map(lambda _: self.ask(path_of(event)), range(30)))
        self.assertEqual({answer.status for answer in answers}, {502})
        self.assertLess(max(answer.received for answer in answers) - min(answer.sent for answer in answers), 3)

    def test_stale_copy(self) -> None:
        """A copy that is told because C42 fails is asked for each time, and nginx keeps neither it nor a problem."""
        event, unknown = self.c42.new_event(), self.c42.new_event()
        fresh = self.ask(path_of(event))
        with self.c42.with_fault(status=500):
            problem = self.ask(path_of(unknown))
            self.assert_problem(problem, 502)
            self.assertEqual(problem.cache_status[1], "nginx; fwd=uri-miss; fwd-status=502")
            time.sleep(max(0.0, fresh.sent + TTL + 0.1 - time.time()))
            for _ in range(3):
                stale = self.ask(path_of(event))
                self.assertEqual((stale.status, stale.body), (200, fresh.body))
                self.assertEqual((stale.header("Cache-Control"), stale.header("Expires")), ("no-store", None))
                self.assertRegex(stale.cache_status[0], "detail=stale-if-error$")
                self.assertEqual(stale.cache_status[1], "nginx; fwd=stale; fwd-status=200")
        # The proxy repeats a failure for a moment.
        until(lambda: self.ask(path_of(event)).header("Expires"), "a fresh answer", TIMEOUT)
        until(lambda: self.ask(path_of(unknown)).status == 200, "an answer", TIMEOUT)


@needs("nginx")
@needs("redis-server")
class AddressTest(StackTest):
    def test_other_spellings(self) -> None:
        """A query, a fragment, a host and percent-encoded characters lead to the one entry of nginx, and not to C42."""
        plain, calls = self.fresh(), self.c42.calls
        for target in (
            *(f"{PATH}?", f"{PATH}?limit=1.2&event_ids=[x]", f"{PATH}#x.y", f"{PATH}?a=/../b%2e"),
            *(f"http://stranger.example:81{PATH}?a=b", f"https://stranger.example{PATH}"),
            *(PATH.replace("c0ffee", "%630ff%65%65"), PATH.replace("/event", "/%65vent"), f"{PATH[:-1]}%2f"),
        ):
            with self.subTest(target):
                answer = self.ask(target)
                self.assertEqual((answer.status, answer.body, answer.cache_status[1]), (200, plain.body, "nginx; hit"))
                self.assertEqual(answer.lasting_headers, plain.lasting_headers)
        self.assertEqual(self.c42.calls, calls)

    def test_other_addresses(self) -> None:
        """What is not the one address to the letter is a 404 that reaches nobody, be the event in the cache or not."""
        self.fresh()
        before = self.c42.calls
        for event_id in (COFFEE, "cold"):
            path = path_of(event_id)
            for target in (
                *(f"/{path}", f"//{path}", path.replace("s/", "s//"), f"{path}/", f"/zz/..{path}", f"/.{path}"),
                *(
                    f"/zz/%2e%2e{path}",
                    f"/zz/%2E.{path}",
                    f"{path}.",
                    f"{path}./",
                    f"{path}x/..",
                    f"{START}/./{event_id}/",
                ),
                *(f"/%2f{path[1:]}", f"{START}/%2f{event_id}/", f"{path}%2f", f"{path}%0a", f"{path[:-1]}%0a/"),
                *(
                    f"{path[:-1]}%0a",
                    f"{path}x",
                    f"{path[:-1]}%20/",
                    f"{path[:-1]}%5c/",
                    f"{path[:-1]}%3f/",
                    f"{path};a=b",
                ),
            ):
                with self.subTest(target):
                    self.assert_problem(self.ask(target), 404)
        for target in (
            *("/", "/x", START, f"{START}/", "/problem", "/moved", "/metrics", "/healthz", "/readyz", "/nginx_status"),
            *(path_of("a" * 129), path_of("a,b"), path_of("a.b"), path_of("%252e"), PATH.upper(), "/index.html"),
        ):
            with self.subTest(target):
                self.assert_problem(self.ask(target), 404)
        self.assertEqual(self.c42.calls, before)

    def test_as_the_proxy_says_it(self) -> None:
        """What nginx says in the proxy's place is what the proxy would say: addresses, methods, the slash."""
        app = create_app(Settings.from_env({"C42_API_TOKEN": "none", "C42_CACHE_URL": "memory://"})).test_client()
        for method, target in (
            *(("GET", "/x"), ("POST", "/x"), ("POST", f"/{PATH}"), ("GET", PATH[:-1]), ("HEAD", PATH[:-1])),
            *(("POST", PATH), ("OPTIONS", PATH[:-1]), ("PROPFIND", PATH), ("DELETE", f"{PATH}?a=b")),
        ):
            with self.subTest(f"{method} {target}"):
                expected = app.open(target, method=method, headers={"X-Request-ID": "me"})
                answer = self.ask(target, method, X_Request_ID="me")
                self.assertEqual((answer.status, answer.body), (expected.status_code, expected.data))
                for name in ("Content-Type", "Cache-Control", "Allow", "Location", "X-Request-ID"):
                    self.assertEqual(answer.header(name), expected.headers.get(name), name)

    def test_the_redirect_says_nothing_of_the_client(self) -> None:
        """Without its slash an address leads to the one with it: relative, without the query, whatever the Host."""
        answer = self.ask(f"{PATH[:-1]}?a=b", Host="stranger.example")
        self.assertEqual((answer.status, answer.header("Location"), answer.body), (308, PATH, b""))

    def test_other_methods(self) -> None:
        """Every other method is a 405 that names those that are answered, and reaches no host."""
        calls = self.c42.calls
        for method in ("OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PATCH", "CONNECT"):
            with self.subTest(method):
                answer = self.ask(path_of("cold"), method)
                self.assert_problem(answer, 405)
                self.assertEqual(answer.header("Allow"), "GET, HEAD")
        self.assertEqual(self.c42.calls, calls)


@needs("nginx")
@needs("redis-server")
class AnswerTest(StackTest):
    def test_a_hit(self) -> None:
        """A hit of nginx differs from the answer that made it in Date, Cache-Status and the request id alone.

        Cache-Status keeps the member that came with the answer and has nginx's own after it.
        """
        for target, status in ((path_of(self.c42.new_event()), 200), (path_of(new_id()), 404)):
            first = self.ask(target, X_Request_ID="one")
            time.sleep(STORING)
            second = self.ask(target, X_Request_ID="two")
            self.assertEqual(first.status, status)
            self.assertEqual(first.cache_status[1], f"nginx; fwd=uri-miss; stored; fwd-status={status}")
            self.assertEqual(second.cache_status, (first.cache_status[0], "nginx; hit"))
            self.assertEqual((second.lasting_headers, second.body), (first.lasting_headers, first.body))
            self.assertIsNone(second.header("X-Accel-Expires"))

    def test_head(self) -> None:
        """HEAD is answered from the entry of GET, makes one where there is none, and has no body."""
        target = path_of(self.c42.new_event())
        head = self.ask(target, "HEAD")
        time.sleep(STORING)
        get = self.ask(target)
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(get.cache_status[1], "nginx; hit")
        self.assertEqual(head.lasting_headers, get.lasting_headers)

    def test_not_modified(self) -> None:
        """nginx answers If-None-Match (weak, in a list, `*`) with a 304 and the headers of the 200, hit or not."""
        target = path_of(self.c42.new_event())
        first = self.ask(target, If_None_Match="*")
        self.assertEqual((first.status, first.body), (304, b""))
        self.assertEqual(first.cache_status[1], "nginx; fwd=uri-miss; stored; fwd-status=200")
        full = self.fresh(target)
        etag = full.header("ETag") or ""
        for value in (etag, f"W/{etag}", f'"x", W/{etag}', "*"):
            with self.subTest(value):
                answer = self.ask(target, If_None_Match=value)
                self.assertEqual((answer.status, answer.body, answer.cache_status[1]), (304, b"", "nginx; hit"))
                of_the_body = {("content-type", "application/json"), ("content-length", f"{len(full.body)}")}
                self.assertEqual(answer.lasting_headers, full.lasting_headers - of_the_body)
        self.assertEqual(self.ask(target, If_None_Match='"x"').status, 200)

    def test_gzip(self) -> None:
        """A long answer is compressed for who takes that, with a weak ETag; both forms get their 304."""
        target = path_of(BASEBALL)
        plain = self.fresh(target, 1)
        packed = self.ask(target, Accept_Encoding="gzip")
        self.assertEqual(packed.header("Content-Encoding"), "gzip")
        self.assertEqual(gzip.decompress(packed.body), plain.body)
        self.assertLess(len(packed.body), len(plain.body) / 2)
        self.assertEqual(packed.header("ETag"), f"W/{plain.header('ETag')}")
        answers = [plain, packed]
        for answer in (plain, packed):
            for accepted in ("gzip", "identity"):
                answers.append(self.ask(target, If_None_Match=answer.header("ETag") or "", Accept_Encoding=accepted))
                self.assertEqual(answers[-1].status, 304)
        self.assertEqual({answer.header("Vary") for answer in answers}, {"Accept-Encoding"})
        self.assertEqual({answer.cache_status[1] for answer in answers}, {"nginx; hit"})

    def test_strangers_headers(self) -> None:
        """No other header of a client changes an answer or shows up in it: ranges, preconditions, hosts, cookies."""
        plain = self.fresh(seconds=1)
        for headers in (
            *({"Range": "bytes=0-1"}, {"Range": "bytes=0-1", "If_Range": plain.header("ETag") or ""}),
            *({"If_Match": '"stranger"'}, {"If_Unmodified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}),
            *({"If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, {"Cookie": "session=stranger"}),
            *({"Cache_Control": "no-cache"}, {"Pragma": "no-cache"}, {"Authorization": "Token stranger"}),
            *(
                {"Host": "stranger.example"},
                {"X_Forwarded_Host": "stranger"},
                {"Upgrade": "h2c", "Connection": "upgrade"},
            ),
        ):
            with self.subTest(headers):
                answer = self.ask(**headers)
                self.assertEqual((answer.status, answer.body), (200, plain.body))
                for name in ("ETag", "Content-Type", "Content-Length", "Vary", "Accept-Ranges"):
                    self.assertEqual(answer.header(name), plain.header(name))
                self.assertNotIn("stranger", f"{answer.headers}")
        both = {"If_None_Match": "*", "If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
        self.assertEqual(self.ask(**both).status, 304)

    def test_request_id(self) -> None:
        """A sane X-Request-ID comes back, on hits as well; any other is replaced by one that nginx makes."""
        for target in (PATH, PATH[:-1], "/", path_of("nobody")):
            for _ in range(2):
                self.assertEqual(self.ask(target, X_Request_ID="me-1.2").header("X-Request-ID"), "me-1.2")
            made = [self.ask(target, X_Request_ID=value).header("X-Request-ID") for value in ("a b", "", "x" * 129)]
            self.assertEqual(len(set(made)), 3)
            for value in made:
                self.assertRegex(value or "", "^[0-9a-f]{32}$")

    def test_no_version(self) -> None:
        """No answer tells the version of nginx, nor anything of gunicorn."""
        for answer in (self.ask(), self.ask("/"), self.ask(PATH, "POST")):
            self.assertEqual(answer.header("Server"), "nginx")

    def test_the_log(self) -> None:
        """Each request is a line of JSON with the cache's part and the hosts' time, and no query or header in it."""
        target = path_of(self.c42.new_event())
        for _ in range(2):
            self.ask(
                f"{target}?token=secret", Authorization="Token secret", Referer="http://x/?secret", X_Request_ID="log"
            )
            time.sleep(STORING)
        log = self.stack.folder / "nginx.log"
        until(lambda: log.read_text().count('"request_id":"log"') == 2, "two lines")
        said = log.read_text()
        self.assertNotIn("secret", said)
        lines = [json.loads(line) for line in said.splitlines() if '"request_id":"log"' in line]
        # Each worker of nginx writes what it has gathered.
        hit, miss = sorted(lines, key=lambda line: str(line["cache"]))
        self.assertEqual((miss["cache"], hit["cache"], hit["upstream"]), ("MISS", "HIT", ""))
        self.assertEqual((miss["path"], miss["method"], miss["status"]), (target, "GET", 200))
        self.assertGreaterEqual(float(miss["upstream_seconds"]), 0)
        self.assertIn(int(miss["upstream"].rpartition(":")[2]), self.stack.host_ports)

    def test_keep_alive_to_the_hosts(self) -> None:
        """nginx keeps its connections to the hosts: many requests take few of them."""
        before = self._connections_to_hosts()
        for _ in range(60):
            self.assertEqual(self.ask(path_of(new_id())).status, 404)
        self.assertLess(len(self._connections_to_hosts() - before), 20)

    def _connections_to_hosts(self) -> set[str]:
        """nginx's end of all connections to the hosts, also of those that either side has closed lately (proc(5))."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ends = [(row[1], row[2]) for row in rows] + [(row[2], row[1]) for row in rows]
        return {own for own, other in ends if int(other.rpartition(":")[2], 16) in self.stack.host_ports}


@needs("nginx")
@needs("redis-server")
class LimitsTest(StackTest):
    def test_too_large(self) -> None:
        """What is too long or no HTTP is refused with a problem: address, headers, body, version, method."""
        for data, status in (
            (f"GET /{'x' * 10_000} HTTP/1.1\r\nHost: x\r\n\r\n", 414),
            (f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX: {'x' * 10_000}\r\n\r\n", 431),
            (f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n{'x' * 2000}", 413),
            (f"GET {PATH} HTTP/1.1\r\n\r\n", 400),
            (f"GET {PATH} HTTP/3.1\r\nHost: x\r\n\r\n", 505),
            ("GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET /% HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("stranger\r\n\r\n", 400),
        ):
            with self.subTest(status, data=data[:40]):
                head, _, body = tell(self.stack.port, data.encode()).partition(b"\r\n\r\n")
                self.assertRegex(head, rb"^HTTP/1\.1 %d" % status)
                self.assertIn(b"\r\nContent-Type: application/problem+json\r\n", head)
                self.assertIn(b"\r\nCache-Control: no-store\r\n", head)
                self.assertEqual(json.loads(body)["status"], status)

    def test_half_sent(self) -> None:
        """A connection on which no whole request comes is closed after 5 s, also where it drips."""
        began = time.monotonic()
        with ThreadPoolExecutor(3) as clients:
            closed = clients.map(self._dribble, (b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: "), (False, False, True))
            for seconds in closed:
                self.assertTrue(4 < seconds - began < 8, seconds - began)

    def _dribble(self, start: bytes, drips: bool) -> float:
        with socket.create_connection(("127.0.0.1", self.stack.port), timeout=0.3) as connection:
            connection.sendall(start)
            give_up = time.monotonic() + TIMEOUT
            while time.monotonic() < give_up:
                try:
                    if drips:
                        connection.sendall(b"x")
                    if not connection.recv(1000):
                        break
                except TimeoutError:
                    pass
                except ConnectionError:
                    break
        return time.monotonic()

    def test_clients_at_once(self) -> None:
        """A thousand requests of one address may be under way; one more is a 429, and C42 notices nothing of it."""
        event = self.c42.new_event()
        self.c42.change(calls="reset")
        with self.c42.with_latency(1.4):  # less than TTL: a result that comes later is nobody else's
            statuses = asyncio.run(_at_once(self.stack.port, path_of(event), 1050))
        self.assertEqual(statuses, {200: 1000, 429: 50})
        self.assertEqual(self.c42.calls, {"events": 1, "subscriptions": 1})


async def _at_once(port: int, target: str, number: int) -> Counter[int]:
    all_sent = asyncio.Barrier(number)

    async def client() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        await all_sent.wait()
        head = await reader.readline()
        await reader.read()
        writer.close()
        return int(head.split()[1])

    async with asyncio.timeout(TIMEOUT):
        return Counter(await asyncio.gather(*(client() for _ in range(number))))


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
            time.sleep(1)
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
            parts = stack.descendants()
            stack.send(signal.SIGKILL)
            until(lambda: not any(map(is_alive, parts)), "the end of what is left", STOP_SECONDS)
            shutil.rmtree(stack.folder)

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
        """Where somebody listens on STACK_PORT already, it says so, and does not take that for its nginx."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            ended = run(sys.executable, STACK, environ=environ_of(9) | {"STACK_PORT": f"{port}"})
        self.assertEqual((ended.returncode, ended.stdout), (1, ""))
        self.assertIn(f"nginx cannot listen on 127.0.0.1:{port}: Address already in use", ended.stderr)

    def test_part_that_cannot_start(self) -> None:
        """Where a part dies at the start, it says which one and shows its log, and ends the others."""
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
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "deploy" / "nginx" / "container", f"{folder}/place")
            shutil.copy(ROOT / "deploy" / "nginx" / "nginx.conf", folder)
            # The name of the other container is known there alone.
            hosts = Path(folder, "place", "hosts.conf")
            hosts.write_text(hosts.read_text().replace("server proxy:", "server 127.0.0.1:"))
            Path(folder, "temp").mkdir()
            words = ["-t", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf", "-e", "stderr"]
            tested = run(shutil.which("nginx") or "nginx", *words, environ=clean_environ())
        self.assertEqual(tested.returncode, 0, tested.stderr)
        self.assertNotIn("[warn]", tested.stderr)
