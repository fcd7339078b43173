"""The files of deploy/nginx/edge that let nobody in without a password, and what caches on the way are told then."""

import base64
import json
import subprocess
import unittest
from typing import ClassVar

from harness.browser import PATIENCE_MILLISECONDS, chromium
from harness.needs import needs, one_platform_is_enough
from harness.nginx import BehindNginxTest, Nginx
from harness.processes import free_port
from harness.stack import MADE_BY_US, PATH, Answer, new_id, path_of
from harness.wire import Connection, Wire, is_silent
from harness.wire import answer as said_by

SITE = "https://app.example"
GOOD, WRONG, OTHERS = (
    f"Basic {base64.b64encode(f'app:{word}'.encode()).decode()}" for word in ("good", "bad", "others")
)
PREFLIGHT = {"Origin": SITE, "Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}
STRANGERS = {
    "Host": "stranger.example",
    "Cookie": "stranger",
    "X_Forwarded_For": "203.0.113.9",
    "X_Forwarded_Proto": "https",
    "X_Forwarded_User": "app",
    "X_Original_URI": "/stranger",
    "Proxy_Authorization": GOOD,
}
FETCH = """async ([url, headers]) => {
    const answer = await fetch(url, {headers});
    return [answer.status, await answer.json()];
}"""


class Service(Wire):
    """It knows who may read. `told` has the requests to it; with a `status`, it says that to everybody."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.status = ""
        super().__init__(self._decide)

    def _decide(self, _path: str, connection: Connection) -> None:
        self.told.append(connection.request.decode())
        known = {GOOD: "200 OK", OTHERS: "403 Forbidden"}
        status = self.status or known.get(connection.header("Authorization") or "", "401 Unauthorized")
        connection.send(said_by(b"secret", status, 'WWW-Authenticate: Basic realm="theirs"', "Set-Cookie: theirs=1"))


EDGE: dict[str, tuple[str, ...]] = {"nobody": (), "a file": ("password.conf",), "a service": ("auth-service.conf",)}
"""How a place learns who may read, and the files that do it. `nobody` asks for no password."""


class PlacesTest(BehindNginxTest):
    service: ClassVar[Service]
    places: ClassVar[dict[str, Nginx]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if hasattr(PlacesTest, "places"):
            return
        PlacesTest.service = unittest.enterModuleContext(Service())
        PlacesTest.places = {name: unittest.enterModuleContext(cls.place(name, cls.host)) for name in EDGE}

    @classmethod
    def place(cls, name: str, host: int, origins: str = SITE) -> Nginx:
        made = subprocess.run(["openssl", "passwd", "-6", "good"], check=True, capture_output=True, text=True)
        changes = {"127.0.0.1:9000": f"127.0.0.1:{cls.service.port}"} if name == "a service" else None
        files = {"place/passwords": f"app:{made.stdout}"}
        return Nginx([host], *EDGE[name], origins=origins, changes=changes, files=files)

    @property
    def asking(self) -> dict[str, Nginx]:
        return {name: nginx for name, nginx in self.places.items() if name != "nobody"}


@needs("nginx")
@needs("openssl")
class PasswordsTest(PlacesTest):
    def assert_problem(self, answer: Answer, status: int, reason: str) -> None:
        self.assertEqual((answer.status, answer.header("Content-Type")), (status, MADE_BY_US), answer)
        self.assertEqual(json.loads(answer.body)["reason"], reason)
        self.assertEqual((answer.header("Cache-Control"), answer.header("X-Accel-Expires")), ("private, no-store", "0"))
        self.assertEqual(answer.header("Access-Control-Allow-Origin"), SITE)
        self.assertIsNone(answer.header("Set-Cookie"))

    def test_nobody_else_gets_in(self) -> None:
        """Whoever has no password gets a problem, also where the answer is in nginx's cache, and whatever he sends."""
        realms = {"a file": 'Basic realm="events"', "a service": 'Basic realm="theirs"'}
        for name, nginx in self.asking.items():
            for _ in range(2):
                self.assertEqual(nginx.ask(Authorization=GOOD).status, 200)
            for headers in (
                *({}, STRANGERS, {"If_None_Match": "*"}, {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}),
                *({"Authorization": value} for value in (WRONG, "Basic", "Basic !", "Bearer good", f"x{GOOD}", "")),
            ):
                for target in (PATH, path_of("never-asked"), f"{PATH}?a=b"):
                    with self.subTest(name, target=target, **headers):
                        answer = nginx.ask(target, Origin=SITE, **headers)
                        self.assert_problem(answer, 401, "credentials-required")
                        self.assertEqual(answer.header("WWW-Authenticate"), realms[name])
                        self.assertIsNone(answer.header("Cache-Status"))

    def test_private(self) -> None:
        """Each answer to who gave a password says `private` beside what it says elsewhere, and nothing else differs."""
        event, missing, fails = path_of(self.c42.new_event()), path_of(new_id()), path_of(self.c42.new_event())
        etag = self.places["nobody"].ask(event).header("ETag") or ""
        self.places["nobody"].ask(missing)
        for target, method, headers, status in (
            *((event, "GET", {}, 200), (event, "GET", {}, 200), (event, "HEAD", {}, 200)),
            *((event, "GET", {"If_None_Match": etag}, 304), (missing, "GET", {}, 404), (missing, "GET", {}, 404)),
            *((event[:-1], "GET", {}, 308), ("/", "GET", {}, 404), (event, "POST", {}, 405), (fails, "GET", {}, 502)),
        ):
            with self.c42.with_fault(status=500):
                expected, *found = (
                    nginx.ask(target, method, Authorization=GOOD, X_Request_ID="me", **headers)
                    for nginx in self.places.values()
                )
            said = expected.header("Cache-Control")
            told = {("cache-control", f"private, {said}" if said else "private")}
            told |= {("x-accel-expires", "0")} if said else set()
            same = {each for each in expected.lasting_headers if each[0] not in {"cache-control", "x-accel-expires"}}
            for name, answer in zip(self.asking, found, strict=True):
                with self.subTest(name, target=target, method=method, status=status):
                    self.assertEqual((answer.status, expected.status), (status, status))
                    self.assertEqual(answer.lasting_headers, same | told)

    def test_caches_beyond(self) -> None:
        """A cache in front that keeps what it may, whatever the password, gives nobody what took one."""
        for name, nginx in self.places.items():
            beyond = self.nginx(
                hosts=[nginx.port],
                changes={"proxy_pass_request_headers off;": "proxy_set_header Authorization $http_authorization;"},
            )
            with self.subTest(name):
                self.assertEqual([beyond.ask(Authorization=GOOD).status for _ in range(2)], [200, 200])
                answer = beyond.ask()
                self.assertEqual(answer.status, 200 if name == "nobody" else 401)
                self.assertEqual("nginx; hit" in (answer.header("Cache-Status") or ""), name == "nobody")

    def test_preflight(self) -> None:
        """A browser asks without a password whether a page may send one, and is told so where one is wanted."""
        for name, nginx in self.places.items():
            with self.subTest(name):
                answer = nginx.ask(PATH, "OPTIONS", **PREFLIGHT)
                self.assertEqual((answer.status, answer.header("Access-Control-Allow-Origin")), (204, SITE))
                allowed = answer.header("Access-Control-Allow-Headers") or ""
                self.assertEqual("Authorization" in allowed, name != "nobody")
                self.assertIn("If-None-Match, X-Request-ID, traceparent", allowed)

    def test_what_the_service_is_told(self) -> None:
        """The credentials, which event, whose address, and the request's id; nothing else that a client sends."""
        self.service.told.clear()
        target = PATH.replace("c0ffee", "%630ffee")
        self.places["a service"].ask(f"{target}?a=b", "HEAD", Authorization=GOOD, X_Request_ID="me", **STRANGERS)
        first, *lines = self.service.told[0].strip().split("\r\n")
        told = dict(line.split(": ", 1) for line in lines)
        self.assertEqual(first, "GET / HTTP/1.1")
        expected = {"Authorization": GOOD, "X-Original-URI": PATH, "X-Forwarded-For": "127.0.0.1", "X-Request-ID": "me"}
        self.assertEqual(told, expected | {"Host": f"127.0.0.1:{self.service.port}"})

    def test_what_the_service_says(self) -> None:
        """It may know a client and say no. If it fails, nobody gets in."""
        nginx = self.places["a service"]
        self.assert_problem(nginx.ask(Authorization=OTHERS, Origin=SITE), 403, "forbidden")
        for status in ("500 Oops", "302 Found", "404 Not Found"):
            with self.subTest(status):
                self.service.status = status
                self.addCleanup(setattr, self.service, "status", "")
                self.assert_problem(nginx.ask(Authorization=GOOD, Origin=SITE), 500, "internal-error")
        with Wire(is_silent) as silent:
            for port in (free_port(), silent.port):
                changes = {"127.0.0.1:9000": f"127.0.0.1:{port}", "proxy_read_timeout 2s;": "proxy_read_timeout 200ms;"}
                fails = self.nginx("auth-service.conf", origins=SITE, changes=changes)
                self.assert_problem(fails.ask(Authorization=GOOD, Origin=SITE), 500, "internal-error")
        self.assert_problem(nginx.ask("/permission", Origin=SITE), 404, "address-not-found")

    def test_what_the_hosts_are_told(self) -> None:
        """No password: they get the same request as without one."""
        told: list[str] = []

        def host(_path: str, connection: Connection) -> None:
            told.append(connection.request.decode())
            connection.send(said_by({}))

        with Wire(host) as wire:
            for name in self.places:
                nginx = self.enterContext(self.place(name, wire.port))
                nginx.ask(Authorization=GOOD, X_Request_ID="me", **STRANGERS)
        self.assertEqual(len(told), 3)
        self.assertEqual(set(told), {f"GET {PATH} HTTP/1.1\r\nHost: c42-proxy\r\nX-Request-ID: me\r\n\r\n"})


@one_platform_is_enough
@needs("nginx")
@needs("openssl")
@needs("chromium")
class BrowserTest(PlacesTest):
    def test_a_page_with_a_password(self) -> None:
        """A page of another site reads an event with its password, and without it the problem."""
        page_of = self.places["nobody"]
        site = f"http://127.0.0.1:{page_of.port}"
        nginx = self.enterContext(self.place("a file", self.host, site))
        with chromium() as browser:
            page = browser.new_page()
            page.set_default_timeout(PATIENCE_MILLISECONDS)
            page.goto(f"{site}{PATH}")
            url = f"http://127.0.0.1:{nginx.port}{PATH}"
            status, event = page.evaluate(FETCH, [url, {"Authorization": GOOD}])
            self.assertEqual((status, event["names"]), (200, ["Michel"]))
            # The browser itself keeps what it has got.
            status, problem = page.evaluate(FETCH, [f"{url}?again", {}])
            self.assertEqual((status, problem["reason"]), (401, "credentials-required"))
