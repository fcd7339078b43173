"""What pages of other sites can do with the proxy in a real browser, behind nginx and without it."""

import http.server
import json
import os
import re
import signal
import sys
import threading
import unittest
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from playwright.sync_api import BrowserContext, Page

from harness.browser import PATIENCE_MILLISECONDS, chromium
from harness.needs import needs, one_platform_is_enough
from harness.processes import C42_PROXY, ROOT, Process, clean_environ, descendants, free_port, until
from harness.sandbox import TIMEOUT, Sandbox
from harness.stack import Answer, Stack, ask, new_id, path_of, tell

FETCH = """async ([url, headers]) => {
    try {
        const answer = await fetch(url, {headers});
        return {status: answer.status, body: await answer.text(), headers: Object.fromEntries(answer.headers)};
    } catch (error) {
        return {status: 0, body: error.name, headers: {}};
    }
}"""
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ASKED = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "if-none-match"}


class _AnyPage(http.server.BaseHTTPRequestHandler):
    """An empty page, whatever its address."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class SitesTest(unittest.TestCase):
    """A stack that allows two sites. `app`, `shop` and `thief` are three sites of one server of pages."""

    c42: ClassVar[Sandbox]
    stack: ClassVar[Stack]
    sites: ClassVar[dict[str, str]]
    ports: ClassVar[dict[str, int]]

    @classmethod
    def setUpClass(cls) -> None:
        if hasattr(SitesTest, "stack"):
            return
        with ExitStack() as opened:
            pages = opened.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _AnyPage))
            serving = threading.Thread(target=pages.serve_forever)
            serving.start()
            opened.callback(serving.join)
            opened.callback(pages.shutdown)
            # A browser finds all names below `localhost` on its own machine.
            SitesTest.sites = {
                name: f"http://{name}.localhost:{pages.server_port}" for name in ("app", "shop", "thief")
            }
            SitesTest.c42 = opened.enter_context(Sandbox())
            allowed = f"{cls.sites['app']}, {cls.sites['shop']}"
            SitesTest.stack = opened.enter_context(Stack(cls.c42.port, C42_ALLOW_ORIGINS=allowed, C42_CACHE_TTL="60"))
            cls.stack.wait_until_ready()
            SitesTest.ports = {"nginx": cls.stack.port, "the proxy": cls.stack.host_ports[0]}
            unittest.addModuleCleanup(opened.pop_all().close)


@needs("nginx")
@needs("redis-server")
class NginxTest(SitesTest):
    def permissions(self, answer: Answer) -> dict[str, str | None]:
        names = ("Allow-Origin", "Expose-Headers", "Allow-Methods", "Allow-Headers", "Max-Age")
        found = {name: answer.header(f"Access-Control-{name}") for name in names}
        return {name: value for name, value in found.items() if value is not None} | {"Vary": answer.header("Vary")}

    def test_as_the_proxy_says_it(self) -> None:
        """Whatever the status and whichever the site: nginx says what the proxy says, and has one copy for all."""
        event = path_of(self.c42.new_event())
        etag = self.ask_both(event)["nginx"].header("ETag") or ""
        origins = (
            *self.sites.values(),
            "null",
            "",
            "*",
            f"{self.sites['app']},{self.sites['shop']}",
            f"x|{self.sites['app']}",
        )
        for origin in origins:
            for target, method, headers in (
                *((event, "GET", {}), (event, "HEAD", {}), (event, "GET", {"If_None_Match": etag})),
                *((path_of(new_id()), "GET", {}), ("/x", "GET", {}), (event[:-1], "GET", {}), (event, "POST", {})),
                *(
                    (event, "OPTIONS", {}),
                    (event, "OPTIONS", ASKED),
                    (event, "OPTIONS", {"Access_Control_Request_Method": "a|b"}),
                    (event[:-1], "OPTIONS", ASKED),
                    ("/x", "OPTIONS", ASKED),
                ),
            ):
                with self.subTest(target, method=method, origin=origin, **headers):
                    by_nginx, by_proxy = self.ask_both(target, method, Origin=origin, **headers).values()
                    self.assertEqual(by_nginx.status, by_proxy.status)
                    said, expected = self.permissions(by_nginx), self.permissions(by_proxy)
                    said["Vary"] = (said["Vary"] or "").removeprefix("Accept-Encoding, ")
                    self.assertEqual(said, expected)
                    self.assertEqual("Allow-Origin" in said, origin in {self.sites["app"], self.sites["shop"]})
                    if target == event and method in {"GET", "HEAD"}:
                        self.assertEqual(by_nginx.cache_status[1], "nginx; hit")

    def test_answers_that_no_host_gives(self) -> None:
        """nginx's own problems are for the page as well, if it had said by then what it is. If not, they vary."""
        host, long, site = "Host: x\r\n", f"X: {'x' * 10_000}\r\n", self.sites["app"]
        origin = f"Origin: {site}\r\n"
        requests = (
            (f"GET /%00 HTTP/1.1\r\n{origin}{host}", 400, None),
            (f"GET / HTTP/1.1\r\n{origin}", 400, site),
            (f"GET / HTTP/1.1\r\n{host}{origin}Content-Length: x\r\n", 400, site),
            (f"GET / HTTP/1.1\r\n{host}{origin}Transfer-Encoding: gzip\r\n", 501, site),
            (f"GET / HTTP/1.1\r\n{host}{origin}{long}", 431, site),
            (f"GET / HTTP/1.1\r\n{host}{long}{origin}", 431, None),
            (f"GET /{'x' * 10_000} HTTP/1.1\r\n{origin}{host}", 414, None),
            (f"POST / HTTP/1.1\r\n{host}{origin}Content-Length: 2000\r\n", 413, site),
            (f"TRACE / HTTP/1.1\r\n{host}{origin}", 405, site),
            (f"GET / HTTP/3.1\r\n{origin}{host}", 505, None),
            ("?", 400, None),
        )
        for request, status, allowed in requests:
            with self.subTest(request[:70]):
                self.assert_refused(request, status, allowed)
        with self.allowing_all():
            for request, status, _allowed in requests:
                with self.subTest(request[:70]):
                    self.assert_refused(request, status, "*")
        self.assertEqual(ask(self.stack.port, "/preflight", "OPTIONS", Origin=self.sites["app"], **ASKED).status, 404)

    def assert_refused(self, request: str, status: int, allowed: str | None) -> None:
        body = "x" * 2000 if "Content-Length: 2000" in request else ""
        head = tell(self.stack.port, f"{request}\r\n{body}".encode()).partition(b"\r\n\r\n")[0]
        start, *lines = head.decode().split("\r\n")
        headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
        self.assertEqual(int(start.split()[1]), status)
        self.assertEqual(headers.get("Access-Control-Allow-Origin"), allowed)
        self.assertEqual("Access-Control-Expose-Headers" in headers, allowed is not None)
        self.assertEqual(headers.get("Vary"), None if allowed == "*" else "Origin")

    @contextmanager
    def allowing_all(self) -> Iterator[None]:
        """nginx allows every site, until the end."""
        file = self.stack.folder / "place" / "http.conf"
        listed = file.read_text()
        try:
            self.reload(re.sub('(default ").*"', r'\g<1>*"', listed), vary=None)
            yield
        finally:
            self.reload(listed, vary="Origin")

    def reload(self, configuration: str, vary: str | None) -> None:
        (self.stack.folder / "place" / "http.conf").write_text(configuration)
        before = descendants(self.stack.nginx)
        os.kill(self.stack.nginx, signal.SIGHUP)
        until(lambda: ask(self.stack.port, "/x").header("Vary") == vary, "the reload of nginx", TIMEOUT)
        # Until they end, its old workers answer by the old configuration.
        until(lambda: not before & descendants(self.stack.nginx), "the end of nginx's old workers", TIMEOUT)

    def test_what_the_hosts_are_told(self) -> None:
        """The hosts get these headers and no Origin. No client would notice one: nginx drops what comes of it."""
        configuration = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text()
        self.assertIn("proxy_pass_request_headers off;", configuration)
        told = set(re.findall(r"proxy_set_header (\S+)", configuration))
        self.assertEqual(told, {"Connection", "Content-Length", "Host", "If-None-Match", "X-Request-ID", "traceparent"})

    def ask_both(self, target: str, method: str = "GET", **headers: str) -> dict[str, Answer]:
        return {name: ask(port, target, method, **headers) for name, port in self.ports.items()}


@one_platform_is_enough
@needs("nginx")
@needs("redis-server")
@needs("chromium")
class BrowserTest(SitesTest):
    """The same through nginx, the ASGI app, and Flask alone."""

    context: ClassVar[BrowserContext]
    pages: ClassVar[dict[str, Page]]
    any_port: ClassVar[int]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        allowed = f"{cls.sites['app']}, {cls.sites['shop']}"
        cls.ports = {**SitesTest.ports, "Flask alone": free_port(), "any site": free_port()}
        cls.start_one("Flask alone", sys.executable, "-m", "flask", "--app", "c42_proxy", "run", origins=allowed)
        cls.start_one("any site", *C42_PROXY, "serve", origins="*")
        cls.any_port = cls.ports.pop("any site")
        cls.context = cls.enterClassContext(cls.enterClassContext(chromium()).new_context())
        cls.context.set_default_timeout(PATIENCE_MILLISECONDS)
        cls.pages = {name: cls.context.new_page() for name in cls.sites}
        for name, page in cls.pages.items():
            page.goto(f"{cls.sites[name]}/")

    @classmethod
    def start_one(cls, name: str, *command: str, origins: str) -> None:
        port = cls.ports[name]
        environ = clean_environ(
            **cls.c42.variables,
            C42_ALLOW_ORIGINS=origins,
            C42_BIND=f"127.0.0.1:{port}",
            C42_CACHE_URL="memory://",
            C42_OPS_BIND="",
            FLASK_RUN_PORT=f"{port}",
        )
        cls.enterClassContext(Process(command, environ)).wait_until_answers(f"http://127.0.0.1:{port}/")

    def fetch(self, site: str, port: int, target: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What a page of the site gets from `fetch`; status 0 is a TypeError, which tells it nothing."""
        url = f"http://127.0.0.1:{port}{target}"
        answer: dict[str, Any] = self.pages[site].evaluate(FETCH, [url, headers or {}])
        return answer

    def test_a_page_reads_answers(self) -> None:
        """An answer with its tag and where it comes from; a 304 for the tag, with the page's request id and trace."""
        for name, port in self.ports.items():
            with self.subTest(name):
                event = path_of(self.c42.new_event())
                first = self.fetch("app", port, event)
                self.assertEqual((first["status"], json.loads(first["body"])["names"]), (200, ["Ann"]))
                self.assertIn("c42-proxy; fwd=uri-miss; stored", first["headers"]["cache-status"])
                known = {"If-None-Match": first["headers"]["etag"], "X-Request-ID": "page-1", "traceparent": TRACE}
                again = self.fetch("app", port, event, known)
                self.assertEqual((again["status"], again["body"]), (304, ""))
                self.assertEqual(again["headers"]["x-request-id"], "page-1")
                self.assertIn("hit", again["headers"]["cache-status"])

    def test_a_page_reads_problems(self) -> None:
        """A missing event, a wrong address, and a C42 that fails or asks to wait: the page can read which it is."""
        events = {name: [path_of(self.c42.new_event()) for _ in range(2)] for name in self.ports}
        for name, port in self.ports.items():
            with self.subTest(name):
                self.assert_problem(self.fetch("shop", port, path_of(new_id())), 404, "event-not-found")
                self.assert_problem(self.fetch("shop", port, "/x"), 404, "address-not-found")
                with self.c42.with_fault(status=500):
                    self.assert_problem(self.fetch("shop", port, events[name][0]), 502, "c42-unavailable")
        with self.c42.with_fault(status=429, retry_after=1):
            for name, port in self.ports.items():
                with self.subTest(name):
                    problem = self.fetch("shop", port, events[name][1])
                    self.assert_problem(problem, 503, "c42-asks-to-wait")
                    self.assertEqual(problem["headers"]["retry-after"], "1")
        for name, port in self.ports.items():
            event = events[name][1]
            until(lambda: ask(port, event).status == 200, "C42 may be asked again", TIMEOUT)  # noqa: B023  # at once

    def test_any_site(self) -> None:
        """Where every site is permitted, pages of all read one copy, problems, and what is refused as no request."""
        event = path_of(self.c42.new_event())
        answers = [self.fetch(site, self.any_port, event, {"traceparent": TRACE}) for site in self.sites]
        self.assertEqual([answer["status"] for answer in answers], [200, 200, 200])
        tag = {"If-None-Match": answers[0]["headers"]["etag"]}
        self.assertEqual(self.fetch("thief", self.any_port, event, tag)["status"], 304)
        self.assert_problem(self.fetch("thief", self.any_port, "/x"), 404, "address-not-found")
        refused = tell(self.any_port, b"?\r\n\r\n")
        self.assertIn(b"\r\naccess-control-allow-origin: *\r\n", refused)
        self.assertNotIn(b"vary", refused)

    def assert_problem(self, answer: dict[str, Any], status: int, reason: str) -> None:
        self.assertEqual((answer["status"], json.loads(answer["body"])["reason"]), (status, reason))

    def test_two_sites_and_a_third(self) -> None:
        """Pages of both sites read the one copy, in any order; a page of a third site reads nothing of it."""
        for name, port in self.ports.items():
            with self.subTest(name):
                event = path_of(self.c42.new_event())
                answers = [self.fetch(site, port, event) for site in ("thief", "app", "shop", "app", "thief", "shop")]
                self.assertEqual([answer["status"] for answer in answers], [0, 200, 200, 200, 0, 200])
                self.assertEqual({answer["body"] for answer in answers if answer["status"] == 0}, {"TypeError"})
                tag = {"If-None-Match": answers[1]["headers"]["etag"]}
                self.assertEqual([self.fetch(site, port, event, tag)["status"] for site in self.sites], [304, 304, 0])
                marks = [answer["headers"]["cache-status"] for answer in answers if answer["status"]]
                self.assertTrue(all("; hit" in mark for mark in marks), marks)
