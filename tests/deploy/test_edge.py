"""The files of deploy/nginx/edge, which some places want: TLS, a load balancer in front, /healthz, hosts that move."""

import json
import socket
import socketserver
import ssl
import struct
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from ssl import TLSVersion
from typing import Any, ClassVar, Self

from harness.browser import chromium
from harness.needs import needs, one_platform_is_enough
from harness.nginx import FILES, LISTEN, BehindNginxTest, Nginx, nginx_version
from harness.processes import clean_environ, free_port, run, until
from harness.sandbox import TIMEOUT
from harness.stack import MADE_BY_US, PATH, Answer, new_id, path_of, tell
from harness.tls import Authority

NAME = "events.example"
STRANGER = "127.0.0.2"
"""An address of this machine that is no balancer's."""


class EdgeTest(BehindNginxTest):
    def assert_problem(self, answer: Answer, status: int, reason: str) -> None:
        self.assertEqual((answer.status, answer.header("Content-Type")), (status, MADE_BY_US), answer)
        self.assertEqual((answer.header("Cache-Control"), answer.header("X-Accel-Expires")), ("no-store", "0"))
        self.assertEqual(json.loads(answer.body)["reason"], reason)


class TlsTest(EdgeTest):
    authority: ClassVar[Authority]
    edited: ClassVar[dict[str, Any]]
    server: ClassVar[Nginx]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if "server" in TlsTest.__dict__:
            return
        TlsTest.authority = Authority(Path(unittest.enterModuleContext(tempfile.TemporaryDirectory())))
        certificate = f"{cls.authority.certificate(f'IP:127.0.0.1,DNS:{NAME}')}"
        file = "listen.conf" if nginx_version() >= (1, 25, 1) else "listen-before-1.25.conf"
        changes = {
            "listen 80 ": "listen 127.0.0.1:{port} ",
            "listen 443 ": "listen 127.0.0.1:{tls_port} ",
            "/etc/c42-proxy/tls/fullchain.pem": certificate,
            "/etc/c42-proxy/tls/privkey.pem": certificate,
        }
        TlsTest.edited = {"listen": (FILES / "edge" / file).read_text(), "changes": changes}
        made = Nginx([cls.host], "tls.conf", "healthz.conf", origins="*", **cls.edited)
        TlsTest.server = unittest.enterModuleContext(made)

    def context(self, version: TLSVersion, *protocols: str) -> ssl.SSLContext:
        """That of a client, which speaks one version of TLS alone."""
        context = ssl.create_default_context(cafile=self.authority.file)
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(protocols)
        return context


@needs("nginx")
@needs("openssl")
class HttpsTest(TlsTest):
    def test_an_answer(self) -> None:
        """An event is answered with TLS 1.2 and 1.3, and not with what came before them."""
        for version in (TLSVersion.TLSv1_2, TLSVersion.TLSv1_3):
            answer = self.server.ask(PATH, "GET", self.context(version, "http/1.1"))
            self.assertEqual((answer.status, json.loads(answer.body)["names"]), (200, ["Michel"]))
            self.assertIn("must-revalidate", answer.header("Cache-Control") or "")
        # OpenSSL itself would forbid the old ones.
        words = ["s_client", "-connect", f"127.0.0.1:{self.server.tls_port}", "-cipher", "ALL@SECLEVEL=0"]
        refused = run("openssl", *words, "-tls1_1", environ=clean_environ())
        self.assertIn("alert protocol version", refused.stderr)

    def test_http_2(self) -> None:
        """A client that speaks HTTP/2 gets it. (Chromium speaks it with nginx below.)"""
        with (
            socket.create_connection(("127.0.0.1", self.server.tls_port), TIMEOUT) as connection,
            self.context(TLSVersion.TLSv1_3, "h2", "http/1.1").wrap_socket(
                connection, server_hostname="127.0.0.1"
            ) as secure,
        ):
            self.assertEqual(secure.selected_alpn_protocol(), "h2")

    def test_http_leads_to_https(self) -> None:
        """An event's address leads to the one with https: the name is the operator's, whatever a client sends."""
        for target in (PATH, PATH[:-1], f"{PATH}?a=b", f"http://stranger.example{PATH}", PATH.replace("c0", "%630")):
            for headers in ({}, {"Host": "stranger.example"}, {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "x"}):
                for method in ("GET", "HEAD"):
                    with self.subTest(target, method=method, **headers):
                        answer = self.server.ask(target, method, X_Request_ID="me", **headers)
                        self.assertEqual((answer.status, answer.body), (308, b""))
                        self.assertEqual(answer.header("Location"), f"https://{NAME}{PATH}")
                        self.assertEqual(answer.header("X-Request-ID"), "me")
        self.assertEqual(self.server.ask(path_of("0")).header("Location"), f"https://{NAME}{path_of('0')}")

    def test_the_rest_of_http(self) -> None:
        """What is no event's address is refused as with https; a preflight is answered, as its page is then led on."""
        for target in ("/", f"//{PATH}", f"/x/..{PATH}", path_of("a.b"), path_of("a" * 129), f"{PATH}%0a", "/moved"):
            with self.subTest(target):
                self.assert_problem(self.server.ask(target), 404, "address-not-found")
        for target in (PATH, PATH[:-1]):
            self.assert_problem(self.server.ask(target, "POST"), 405, "method-not-allowed")
        asked = {"Origin": "https://app.example", "Access_Control_Request_Method": "GET"}
        self.assertEqual(self.server.ask(PATH, "OPTIONS", **asked).status, 204)
        # A balancer may ask either way.
        for tls in (None, self.context(TLSVersion.TLSv1_3, "http/1.1")):
            self.assertEqual(self.server.ask("/healthz", "GET", tls).status, 200)

    def test_passwords(self) -> None:
        """Nobody is asked for a password with http: an event's address leads to https first."""
        nginx = self.nginx("tls.conf", "password.conf", **self.edited)
        self.assertEqual((nginx.ask().status, nginx.ask().header("WWW-Authenticate")), (308, None))
        self.assertEqual(nginx.ask(PATH, "GET", self.context(TLSVersion.TLSv1_3, "http/1.1")).status, 401)

    def test_http_at_the_port_of_https(self) -> None:
        """Who speaks http to the port of https gets a problem, and no page of nginx."""
        request = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        head, _, body = tell(self.server.tls_port, request.encode()).partition(b"\r\n\r\n")
        self.assertRegex(head, rb"^HTTP/1\.1 400 ")
        self.assertEqual(json.loads(body)["reason"], "bad-request")


@one_platform_is_enough
@needs("nginx")
@needs("openssl")
@needs("chromium")
class BrowserTest(TlsTest):
    def test_http_2(self) -> None:
        """Chromium follows http to https, speaks HTTP/2 there, and shows the event."""
        ports = {80: self.server.port, 443: self.server.tls_port}
        rules = ", ".join(f"MAP {NAME}:{port} 127.0.0.1:{ours}" for port, ours in ports.items())
        with chromium(f"--host-resolver-rules={rules}") as browser:
            page = browser.new_page(ignore_https_errors=True)
            answer = page.goto(f"http://{NAME}{PATH}")
            assert answer is not None
            self.assertEqual((answer.status, answer.url), (200, f"https://{NAME}{PATH}"))
            self.assertIsNotNone(answer.request.redirected_from)
            self.assertEqual(answer.json()["names"], ["Michel"])
            protocol = page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
            self.assertEqual(protocol, "h2")


@needs("nginx")
class BalancerTest(EdgeTest):
    """This machine is the balancer: 127.0.0.1."""

    CHANGES: ClassVar = {"192.0.2.0/24": "127.0.0.1", "limit_conn addresses 1000;": "limit_conn addresses 2;"}

    def statuses(self, nginx: Nginx, source: str, clients: list[str]) -> list[int]:
        """Of requests that are under way at the same time, each with that X-Forwarded-For."""
        event = path_of(self.c42.new_event())
        with self.c42.with_latency(0.5), ThreadPoolExecutor(len(clients)) as threads:
            asked = [
                threads.submit(nginx.ask, event, "GET", None, source, X_Forwarded_For=client) for client in clients
            ]
            return sorted(each.result().status for each in asked)

    def test_limits(self) -> None:
        """Each client that the balancer names has a limit of its own; a stranger cannot name others to evade his."""
        nginx = self.nginx("balancer.conf", changes=self.CHANGES)
        clients = ["203.0.113.1", "203.0.113.2"]
        self.assertEqual(self.statuses(nginx, "127.0.0.1", clients * 2), [200] * 4)
        self.assertEqual(self.statuses(nginx, "127.0.0.1", clients[:1] * 3), [200, 200, 429])
        self.assertEqual(self.statuses(nginx, STRANGER, [*clients, "203.0.113.3"]), [200, 200, 429])

    def test_log(self) -> None:
        """The log names the client that the balancer names last, and a stranger by his own address."""
        nginx = self.nginx("balancer.conf", changes=self.CHANGES)
        for source, forwarded, expected in (
            ("127.0.0.1", "203.0.113.1", "203.0.113.1"),
            ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
            ("127.0.0.1", "198.51.100.9, 203.0.113.2", "203.0.113.2"),
            ("127.0.0.1", "203.0.113.3, 127.0.0.1", "203.0.113.3"),
            ("127.0.0.1", "nonsense", "127.0.0.1"),
            (STRANGER, "203.0.113.1", STRANGER),
        ):
            with self.subTest(source, forwarded=forwarded):
                known = new_id()
                nginx.ask(
                    PATH, "GET", None, source, X_Forwarded_For=forwarded, X_Real_IP="192.0.2.1", X_Request_ID=known
                )
                self.assertEqual(nginx.lines(known)[0]["client"], expected)
        # Some balancers add a line of their own behind the client's.
        lines = "X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: 203.0.113.4\r\nX-Request-ID: two-lines"
        tell(nginx.port, f"GET {PATH} HTTP/1.1\r\nHost: x\r\n{lines}\r\nConnection: close\r\n\r\n".encode())
        self.assertEqual(nginx.lines("two-lines")[0]["client"], "203.0.113.4")

    def test_proxy_protocol(self) -> None:
        """The same with the PROXY protocol, as the file says it. X-Forwarded-For counts for nothing then."""
        changes = {
            "192.0.2.0/24": "127.0.0.1",
            "real_ip_header X-Forwarded-For;": "",
            "# real_ip_header proxy_protocol;": "real_ip_header proxy_protocol;",
        }
        nginx = self.nginx("balancer.conf", listen=LISTEN.replace(";", " proxy_protocol;"), changes=changes)
        for source, expected in (("127.0.0.1", "203.0.113.1"), (STRANGER, STRANGER)):
            with self.subTest(source):
                known = new_id()
                head = f"PROXY TCP4 203.0.113.1 192.0.2.1 4242 80\r\nGET {PATH} HTTP/1.1\r\nHost: x\r\n"
                head += f"X-Forwarded-For: 203.0.113.9\r\nX-Request-ID: {known}\r\nConnection: close\r\n\r\n"
                with socket.create_connection(("127.0.0.1", nginx.port), TIMEOUT, (source, 0)) as connection:
                    connection.sendall(head.encode())
                    self.assertRegex(connection.makefile("rb").read(), rb"^HTTP/1\.1 200 ")
                self.assertEqual(nginx.lines(known)[0]["client"], expected)


@needs("nginx")
class HealthTest(EdgeTest):
    def test_a_host_answers(self) -> None:
        """200 as long as one host answers, also if C42 is down; other methods and spellings as everywhere."""
        nginx = self.nginx("healthz.conf", hosts=[free_port(), self.host])
        with self.c42.with_fault(status=500):
            answer = nginx.ask("/healthz?x")
        self.assertEqual((answer.status, answer.body, answer.header("Cache-Control")), (200, b"ok\n", "no-store"))
        self.assertEqual((nginx.ask("/healthz", "HEAD").status, nginx.ask("/healthz", "HEAD").body), (200, b""))
        self.assert_problem(nginx.ask("/healthz", "POST"), 405, "method-not-allowed")
        for target in ("/healthz/", "//healthz", "/x/../healthz", "/healthy"):
            self.assert_problem(nginx.ask(target), 404, "address-not-found")

    def test_passwords(self) -> None:
        """Where an event takes a password, a balancer needs none."""
        for file in ("password.conf", "auth-service.conf"):
            self.assertEqual(self.nginx("healthz.conf", file).ask("/healthz").status, 200)

    def test_no_host_answers(self) -> None:
        """A balancer is told if no host answers, so that it asks another nginx."""
        nginx = self.nginx("healthz.conf", hosts=[free_port()])
        self.assert_problem(nginx.ask("/healthz"), 502, "proxy-unavailable")


@needs("nginx")
class HostsTest(EdgeTest):
    def test_reload(self) -> None:
        """After a reload, the hosts are those of hosts.conf as it is now."""
        nginx = self.nginx(hosts=[free_port()])
        self.assert_problem(nginx.ask(), 502, "proxy-unavailable")
        (nginx.folder / "place" / "hosts.conf").write_text(f"server 127.0.0.1:{self.host};")
        nginx.reload()
        self.assertEqual(nginx.ask().status, 200)

    def test_a_name_that_moves(self) -> None:
        """Where nginx can resolve names itself, the host is found at its new address without a reload."""
        names = self.enterContext(Names())
        changes = {
            "127.0.0.11 valid=5s": f"127.0.0.1:{names.port} valid=1s",
            "server proxy:4242": f"server proxy.example:{self.host}",
        }
        hosts = [(FILES / "edge" / "hosts-that-move.conf").read_text()]
        if nginx_version() < (1, 27, 3):
            with self.assertRaisesRegex(RuntimeError, "resolver"):
                self.nginx(hosts=hosts, changes=changes)
            return
        names.address = "127.0.0.3"  # nobody is there
        nginx = self.nginx(hosts=hosts, changes=changes)
        until(lambda: ":" in str(nginx.ask(X_Request_ID="1") and nginx.lines("1")[-1]["upstream"]), "a first address")
        self.assertEqual(nginx.ask().status, 502)
        names.address = "127.0.0.1"
        until(lambda: nginx.ask().status == 200, "the host at its new address", TIMEOUT)


class Names(socketserver.UDPServer):
    """A name server that knows one address for all names (RFC 1035, section 4)."""

    address = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.port: int = self.server_address[1]

    def finish_request(self, request: Any, client_address: Any) -> None:
        data, answering = request
        question = data[12 : data.index(0, 12) + 5]
        is_ipv4 = question[-3] == 1
        head = data[:2] + struct.pack("!5H", 0x8180, 1, is_ipv4, 0, 0)
        record = struct.pack("!3HIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(self.address) if is_ipv4 else b""
        answering.sendto(head + question + record, client_address)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
