"""`python -m c42_proxy serve` as it is in production: gunicorn in a process of its own, and the sandbox in another."""

import http.client
import json
import os
import re
import resource
import signal
import socket
import tempfile
import time
import unittest
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.sandbox.events import BABEL, COFFEE, DELETED, DINNER, UNTITLED
from c42_proxy.stores.contract import Entry
from c42_proxy.stores.sqlite import SqliteStore
from harness.processes import C42_PROXY, Process, ProcessTestCase, clean_environ, free_port, is_alive, run, until
from harness.sandbox import Sandbox
from harness.wire import REASON_OF

TIMEOUT = 10.0
PATH = f"/events-with-subscriptions/{COFFEE}/"
MAY_DIFFER = {"date", "cache-status", "x-request-id"}


class Answer(NamedTuple):
    """What came back over the wire: the status, the headers as they are, and every byte after them."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """All values of a header, or None."""
        return ", ".join(value for each, value in self.headers if each.lower() == name.lower()) or None

    @property
    def lasting_body(self) -> bytes:
        """The body, but for the request's id in a problem."""
        return re.sub(rb',"request_id":"[0-9a-f]{32}"', b"", self.body)

    @property
    def lasting_headers(self) -> list[tuple[str, str]]:
        """The headers but those in which a hit may differ."""
        return [(name, value) for name, value in self.headers if name.lower() not in MAY_DIFFER]


def is_free_of(text: bytes, folder: Path) -> bool:
    """Whether a text is in none of the files of a folder."""
    return not any(text in file.read_bytes() for file in folder.iterdir())


def store_with_old_entry(file: Path, title: bytes) -> SqliteStore:
    """A store in the file with an entry that nobody may be given any more, under this title."""
    store = SqliteStore(file, namespace="n", max_bytes=1 << 20, lifetime=1e6, clock=time.time)
    body = b'{"id":"a","title":"%b","names":[]}' % title
    store.put("a", Entry(200, body, time.time() - 86400), time.time())
    return store


def environ_of(port: int, c42: str, **variables: str) -> dict[str, str]:
    return clean_environ(
        C42_API_URL=f"{c42}/api/v2/",
        C42_API_TOKEN=SANDBOX_TOKEN,
        C42_BIND=f"127.0.0.1:{port}",
        **{"C42_CACHE_URL": "memory://", "C42_OPS_BIND": "", **variables},
    )


def ask(port: int, target: str = PATH, method: str = "GET", headers: str = "Host: localhost\r\n") -> Answer:
    """Send exactly this, and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        request = f"{method} {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"
        connection.sendall(request.encode("latin-1"))
        received = bytearray()
        while chunk := connection.recv(65_536):
            received += chunk
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100 "):
        head, _, body = body.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(": ") for line in lines]
    return Answer(int(status.split()[1]), [(name, value) for name, _, value in pairs], body)


class ServedTest(ProcessTestCase):
    """One proxy with one worker, and one sandbox, for all tests of this kind: each asks for what it needs to know."""

    port: ClassVar[int]
    sandbox: ClassVar[Sandbox]

    @property
    def calls(self) -> int:
        """How often C42 was asked for an event. A 404 does not wait for the other call, and may do without it."""
        return self.sandbox.calls["events"]

    def ask(self, target: str = PATH, method: str = "GET", headers: str = "Host: localhost\r\n") -> Answer:
        return ask(self.port, target, method, headers)

    def assert_problem(self, answer: Answer, status: int) -> None:
        self.assertEqual(answer.status, status, answer)
        self.assertEqual(answer.header("Content-Type"), "application/problem+json")
        problem = json.loads(answer.body)
        self.assertEqual((problem["status"], problem["reason"]), (status, REASON_OF[status]))
        self.assertEqual(answer.header("Cache-Control"), "no-store")


def setUpModule() -> None:
    """Start the two that the tests of `ServedTest` share."""
    port, c42 = free_port(), unittest.enterModuleContext(Sandbox())
    proxy = unittest.enterModuleContext(Process([*C42_PROXY, "serve"], environ_of(port, c42.url)))
    ServedTest.port, ServedTest.sandbox, ServedTest.processes = port, c42, [c42, proxy]
    proxy.wait_until_answers(f"http://127.0.0.1:{port}/")


class AnswerTest(ServedTest):
    def test_answer(self) -> None:
        """An event is answered with the names of its subscribers, and from memory the second time."""
        first, second = self.ask(), self.ask()
        self.assertEqual(first.status, 200)
        self.assertEqual(
            json.loads(first.body),
            {"id": COFFEE, "title": "Drink a cup of coffee with C42 Team", "names": ["Michel"]},
        )
        self.assertRegex(second.header("Cache-Status") or "", r"^c42-proxy; hit; ttl=\d+$")
        self.assertEqual((second.lasting_headers, second.body), (first.lasting_headers, first.body))

    def test_head(self) -> None:
        """HEAD has the headers of GET, and no byte after them, for every kind of answer."""
        for target in (PATH, PATH[:-1], f"/events-with-subscriptions/{DELETED}/", "/", PATH + "x"):
            with self.subTest(target):
                self.ask(target)
                get, head = self.ask(target), self.ask(target, "HEAD")
                self.assertEqual((head.status, head.body), (get.status, b""))
                self.assertEqual(head.lasting_headers, get.lasting_headers)

    def test_not_modified(self) -> None:
        """A 304 has no byte after its headers, and the connection stays fit for the next request."""
        etag = self.ask().header("ETag")
        answer = self.ask(headers=f"Host: x\r\nIf-None-Match: W/{etag}\r\n")
        self.assertEqual((answer.status, answer.body), (304, b""))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        self.addCleanup(connection.close)
        for method, headers, status in (
            *(("GET", {"If-None-Match": "*"}, 304), ("HEAD", {}, 200), ("OPTIONS", {}, 405), ("GET", {}, 200)),
        ):
            connection.request(method, PATH, headers=headers)
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.status, status)
            self.assertIsNotNone(connection.sock, "still open")

    def test_old_clients(self) -> None:
        """HTTP/1.0 without a Host is answered, too."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as connection:
            connection.sendall(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            self.assertEqual((response.status, response.read()), (200, self.ask().body))


class RoutingTest(ServedTest):
    def test_other_addresses(self) -> None:
        """Whatever is not the one address, to the letter, is a 404 that never reaches C42."""
        calls = self.calls
        start = "/events-with-subscriptions"
        for target in (
            *("/", "/x", "/metrics", "/healthz", "/static/x", f"{start}/", start),
            *(f"/{PATH}", f"//{PATH}", f"{start}//{COFFEE}/", f"{PATH}/", f"/.{PATH}", f"/x/..{PATH}", f"{start}/./x/"),
            *(f"/%2f{PATH[1:]}", f"{start}/%2f{COFFEE}/", f"{PATH}%2f", f"/%2F{PATH}", f"/%00{PATH}", f"{PATH}%00"),
            *(f"{PATH}%0a", f"{PATH[:-1]}%0a", f"{PATH}x", f"http://localhost/{PATH}", "http://localhost/x"),
        ):
            with self.subTest(target):
                self.assert_problem(self.ask(target), 404)
        self.assertEqual(self.calls, calls)

    def test_other_ids(self) -> None:
        """An id with anything but letters, digits, '-' and '_', or too long, is a 404 that never reaches C42."""
        calls = self.calls
        for event_id in (
            *("a,b", "a%2cb", "n2]", "n2%5D", "[n2", "..%2fx", "%2e%2e%2fx", "..", "%2f", "a%2fb", "a%5cb", "a%3fb"),
            *("%0a", f"{COFFEE}%0a", f"{COFFEE}%0d%0a", f"%0a{COFFEE}", "%00", f"{COFFEE}%00", "a%20b", "a+b", "a%"),
            *("a" * 129, "%61" * 129, "%c3%a9", "%ff", "a%e2%80%a8", "a.b", "a;b", "a:b", "%2541", "a%zz"),
        ):
            for slash in ("/", "", "/?a=b"):
                with self.subTest(event_id + slash):
                    self.assert_problem(self.ask(f"/events-with-subscriptions/{event_id}{slash}"), 404)
        self.assertEqual(self.calls, calls)

    def test_the_longest_id(self) -> None:
        """An id of 128 characters, percent-encoded or not, is asked for at C42."""
        for event_id in ("a" * 128, "%62" * 128):
            calls = self.calls
            answer = self.ask(f"/events-with-subscriptions/{event_id}/")
            self.assertEqual(answer.status, 404)
            self.assertIn("fwd-status=404", answer.header("Cache-Status") or "")
            self.assertEqual(self.calls, calls + 1)

    def test_other_spellings(self) -> None:
        """Percent-encoded letters, a query, a fragment and a whole address name the same event, in one entry."""
        plain, calls = self.ask(), self.calls
        for target in (
            *(PATH.replace("c0ffee", "%630ff%65%65"), f"{PATH}?", f"{PATH}?limit=1&event_ids=[x]", f"{PATH}#x"),
            *(f"http://localhost{PATH}", f"http://stranger.example:81{PATH}?a=b", f"https://stranger.example{PATH}"),
        ):
            with self.subTest(target):
                answer = self.ask(target)
                self.assertEqual((answer.status, answer.body), (200, plain.body))
                self.assertEqual(answer.lasting_headers, plain.lasting_headers)
        self.assertEqual(self.calls, calls)

    def test_other_methods(self) -> None:
        """Every other method, with and without the slash, is a 405 with `Allow: GET, HEAD`."""
        calls = self.calls
        for method in ("OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PATCH", "CONNECT", "PROPFIND"):
            for target in (PATH, PATH[:-1], f"{PATH}?a=b"):
                with self.subTest(method, target=target):
                    answer = self.ask(target, method, "Host: x\r\nX-Echo: stranger\r\n")
                    self.assert_problem(answer, 405)
                    self.assertEqual(answer.header("Allow"), "GET, HEAD")
                    self.assertNotIn(b"stranger", answer.body)
        with_body = self.ask(PATH, "POST", "Host: x\r\nContent-Length: 2\r\n")
        self.assertIn(with_body.status, {400, 405})
        self.assertEqual(self.calls, calls)

    def test_without_the_closing_slash(self) -> None:
        """Without its slash an address leads to the one with it: relative, without the query, whatever the Host."""
        calls = self.calls
        for target in (PATH[:-1], f"{PATH[:-1]}?a=b", f"http://stranger.example{PATH[:-1]}?a=b"):
            for headers in ("Host: localhost\r\n", "Host: stranger.example\r\n", "Host: \r\n"):
                answer = self.ask(target, headers=headers)
                self.assertEqual((answer.status, answer.header("Location"), answer.body), (308, PATH, b""))
        self.assertEqual(self.calls, calls)


STRANGERS = (
    *("Host: stranger.example", "Host: stranger.example:8080", "Host: [::1]", "Host: ", "Host: %73tranger"),
    *("X-Forwarded-Host: stranger.example", "X-Forwarded-Proto: stranger"),
    *("X-Forwarded-Proto: https", "X-Forwarded-Ssl: on", "X-Forwarded-Protocol: ssl", "X-Forwarded-Prefix: /stranger"),
    *("X-Forwarded-Port: 1", "X-Forwarded-For: stranger", "Forwarded: for=stranger;host=stranger;proto=https"),
    *("SCRIPT_NAME: /stranger", "Script-Name: /stranger", "SCRIPT_NAME: /events-with-subscriptions"),
    *("PATH_INFO: /stranger", "Path-Info: /stranger", "REMOTE_USER: stranger", "X-Original-URL: /stranger"),
    *("X-Rewrite-URL: /stranger", "Range: bytes=0-1", 'Range: bytes=0-1\r\nIf-Range: "stranger"', "Range: stranger"),
    *('If-Match: "stranger"', "If-Match: *", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"),
    *("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "Cookie: session=stranger", "Cookie: =;;\xe9"),
    *("X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: OPTIONS"),
    *("Expect: 100-continue", "Accept: text/stranger", "Accept-Encoding: gzip, stranger", "Accept-Language: nl"),
    *("Accept-Charset: utf-16", "Authorization: Token stranger", "Cache-Control: no-cache", "Pragma: no-cache"),
    *(
        "Cache-Control: only-if-cached, max-age=0",
        "Origin: https://stranger.example",
        "TE: trailers",
        "Via: 1.1 stranger",
    ),
    *('If-None-Match: "stranger"', "Content-Type: stranger/x", "Content-Length: 0"),
)
UPGRADES = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c3RyYW5nZXI=",
    "Upgrade: websocket\r\nConnection: keep-alive, upgrade",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Upgrade: stranger/7\r\nConnection: upgrade",
)


class StrangersHeadersTest(ServedTest):
    def assert_without_effect(self, header: str, answer: Answer, plain: Answer) -> None:
        self.assertEqual((answer.status, answer.lasting_body), (plain.status, plain.lasting_body), header)
        self.assertEqual(answer.lasting_headers, plain.lasting_headers, header)
        self.assertNotIn("stranger", str(answer).lower())

    def test_without_effect(self) -> None:
        """No header of a client changes an answer, a redirect or a problem, or shows up in one."""
        plain = {target: self.ask(target) and self.ask(target) for target in (PATH, PATH[:-1], "/")}
        for header in STRANGERS:
            host = "" if header.startswith("Host:") else "Host: localhost\r\n"
            for target, expected in plain.items():
                with self.subTest(header, target=target):
                    answer = self.ask(target, headers=f"{host}{header}\r\n")
                    self.assert_without_effect(header, answer, expected)

    def test_upgrades(self) -> None:
        """An offer to speak another protocol is not taken up: the answer is the same."""
        plain = self.ask()
        for header in UPGRADES:
            with (
                self.subTest(header),
                socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as connection,
            ):
                connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
                response = http.client.HTTPResponse(connection)
                response.begin()
                self.assertEqual((response.status, response.read()), (200, plain.body))
                for name in ("ETag", "Expires", "Cache-Control", "Content-Type"):
                    self.assertEqual(response.getheader(name), plain.header(name))
                self.assertNotIn("stranger", str(response.getheaders()).lower())

    def test_what_is_remembered(self) -> None:
        """The answer that a client with many odd headers caused is the one that everybody gets."""
        odd = "".join(f"{header}\r\n" for header in STRANGERS if not header.startswith(("Host", "If", "Expect", "Ran")))
        for event_id in (UNTITLED, BABEL, DINNER):
            target = f"/events-with-subscriptions/{event_id}/"
            first, second = self.ask(target, headers=f"Host: stranger\r\n{odd}"), self.ask(target)
            self.assertIn("stored", first.header("Cache-Status") or "")
            self.assertIn("hit", second.header("Cache-Status") or "")
            self.assert_without_effect(odd, first, second)

    def test_what_the_server_refuses(self) -> None:
        """What gunicorn itself refuses is a 4xx that never reaches C42, and the next request is served."""
        calls = self.calls
        for headers in (
            *("Host: x\r\nBad Name: x\r\n", "Host: x\r\n: x\r\n"),
            *("Host: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", "Host: x\r\nContent-Length: x\r\n"),
        ):
            with self.subTest(headers):
                self.assertIn(self.ask(headers=headers).status, {400, 417, 426, 431})
        self.assertEqual(self.ask("/events-with-subscriptions/\xe9/").status, 400)
        self.assertEqual(self.ask("*").status, 404)
        self.assertEqual(self.calls, calls)
        self.assertEqual(self.ask("/").status, 404)


class WorkersTest(ProcessTestCase):
    """Each test starts the proxy in a way of its own. There is no C42 behind it."""

    def serve(self, **variables: str) -> tuple[Process, int]:
        port = free_port()
        environ = environ_of(port, "http://127.0.0.1:1", **variables)
        proxy = self.enterContext(Process([*C42_PROXY, "serve"], environ))
        proxy.wait_until_answers(f"http://127.0.0.1:{port}/")
        return proxy, port

    def assert_workers(self, proxy: Process, number: int) -> None:
        until(lambda: len(proxy.descendants()) == number, f"{number} workers:\n{proxy.output()}")
        until(lambda: proxy.output().count("Booting worker") == number, f"{number} lines:\n{proxy.output()}")

    def test_workers_and_end(self) -> None:
        """GUNICORN_CMD_ARGS sets the workers; SIGTERM ends the proxy with 0 and them, open connections or not."""
        proxy, port = self.serve(GUNICORN_CMD_ARGS="--workers 2 --threads 5", C42_LOG_FORMAT="json")
        self.assert_workers(proxy, 2)
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self.addCleanup(idle.close)
        idle.request("GET", "/")
        self.assertEqual(idle.getresponse().status, 404)
        workers = proxy.descendants()
        proxy.send(signal.SIGTERM)
        self.assertEqual(proxy.wait(), 0, proxy.output())
        self.assertEqual([worker for worker in workers if is_alive(worker)], [])
        lines = [json.loads(line) for line in proxy.output().splitlines()]
        said = [line["event"] for line in lines if line["logger"] == "gunicorn.error"]
        self.assertTrue(any(line.startswith("Listening at: ") for line in said), said)
        self.assertNotIn(SANDBOX_TOKEN, proxy.output())

    def test_erasure(self) -> None:
        """What is over is erased at the start, also where nobody asks for an event, and with the app made before."""
        for arguments in ("", "--preload", "--worker-class sync"):
            with self.subTest(arguments), tempfile.TemporaryDirectory() as name:
                file = Path(name) / "cache.sqlite3"
                with closing(store_with_old_entry(file, b"Secret")):
                    self.assertFalse(is_free_of(b"Secret", file.parent))
                    self.serve(GUNICORN_CMD_ARGS=arguments, C42_CACHE_URL=f"sqlite:///{file}")
                    until(partial(is_free_of, b"Secret", file.parent), "that what is over is erased")

    def test_erasure_under_flask(self) -> None:
        """So it is under Flask's own server."""
        port = free_port()
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "cache.sqlite3"
            environ = environ_of(port, "http://127.0.0.1:1", C42_CACHE_URL=f"sqlite:///{file}")
            flask = (C42_PROXY[0], "-m", "flask", "--app", "c42_proxy", "run", "--port", f"{port}")
            with closing(store_with_old_entry(file, b"Secret")), Process(flask, environ):
                self.assertFalse(is_free_of(b"Secret", file.parent))
                until(partial(is_free_of, b"Secret", file.parent), "that what is over is erased")

    def test_web_concurrency(self) -> None:
        """WEB_CONCURRENCY sets the workers, and SIGINT ends it with 0, too."""
        proxy, _port = self.serve(WEB_CONCURRENCY="3")
        self.assert_workers(proxy, 3)
        workers = proxy.descendants()
        proxy.send(signal.SIGINT)
        self.assertEqual(proxy.wait(), 0, proxy.output())
        self.assertEqual([worker for worker in workers if is_alive(worker)], [])

    def configuration(self, **variables: str) -> dict[str, str]:
        """What gunicorn says that it would run with."""
        arguments = f"--print-config {variables.pop('GUNICORN_CMD_ARGS', '')}"
        environ = environ_of(4242, "http://127.0.0.1:1", GUNICORN_CMD_ARGS=arguments, **variables)
        shown = run(*C42_PROXY, "serve", environ=environ)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        return dict(re.findall(r"(?m)^(\w+) += (.*)$", shown.stdout))

    def test_defaults(self) -> None:
        """Without more, there is one worker of ours; gthread would have threads for all who may wait."""
        found = self.configuration(C42_LOG_LEVEL="warning")
        self.assertEqual((found["workers"], found["worker_class"]), ("1", "<Worker()>"))
        self.assertGreater(int(found["threads"]), 1256)
        self.assertEqual((found["bind"], found["loglevel"]), ("['127.0.0.1:4242']", "warning"))

    def test_gunicorn_arguments_win(self) -> None:
        """GUNICORN_CMD_ARGS goes before our defaults and settings, and before WEB_CONCURRENCY."""
        found = self.configuration(
            GUNICORN_CMD_ARGS="--workers 2 --threads 5 --log-level error --bind 127.0.0.1:1", WEB_CONCURRENCY="3"
        )
        names = ("workers", "threads", "loglevel", "bind")
        self.assertEqual([found[name] for name in names], ["2", "5", "error", "['127.0.0.1:1']"])

    def test_wrong_settings(self) -> None:
        """A wrong setting ends it with 2 before gunicorn starts, with nothing listening."""
        port = free_port()
        ended = run(*C42_PROXY, "serve", environ=environ_of(port, "http://127.0.0.1:1", C42_TIMEOUT="-1"))
        self.assertEqual(ended.returncode, 2)
        self.assertRegex(ended.stderr, r"^Error: the settings are wrong:\n  C42_TIMEOUT: [^\n]*\n$")
        self.assertEqual(ended.stdout, "")

    def test_many_connections(self) -> None:
        """A worker may have as many connections as the system lets it, however few a shell allows at first."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        proxy, _port = self.serve()
        self.assert_workers(proxy, 1)
        ((worker, _began),) = proxy.descendants()
        self.assertEqual(resource.prlimit(worker, resource.RLIMIT_NOFILE), (hard, hard))

    def test_warning(self) -> None:
        """An unknown variable is one warning in the log, however many workers there are, and the proxy serves."""
        proxy, _port = self.serve(C42_TIMEOUTS="1", WEB_CONCURRENCY="2")
        self.assert_workers(proxy, 2)
        self.assertEqual(proxy.output().count("Did you mean C42_TIMEOUT?"), 1)


class EnvironmentTest(unittest.TestCase):
    def test_clean(self) -> None:
        """The processes of these tests get no setting of whoever runs the tests."""
        foreign: dict[str, Any] = {"C42_TIMEOUT": "9", "WEB_CONCURRENCY": "9", "GUNICORN_CMD_ARGS": "-w 9"}
        kept = {name: os.environ.get(name) for name in foreign}
        self.addCleanup(lambda: [os.environ.pop(name) for name in foreign if kept[name] is None])
        self.addCleanup(lambda: os.environ.update({name: value for name, value in kept.items() if value is not None}))
        os.environ.update(foreign)
        self.assertEqual(clean_environ().keys() & foreign.keys(), set())
