"""`scripts/stack`, the whole as operators deploy it: nginx, two gunicorn hosts and Redis, with the sandbox as C42."""

import asyncio
import gzip
import json
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from c42_proxy.app import build
from c42_proxy.sandbox.events import BASEBALL, COFFEE
from c42_proxy.settings import Settings
from harness.needs import needs
from harness.processes import ROOT, until
from harness.sandbox import TIMEOUT
from harness.stack import PATH, START, TTL, Answer, StackTest, ask, new_id, path_of, tell

OPERATING = ROOT / "docs" / "operating.md"
PRECISION = 0.05
STORING = 0.1
"""nginx passes an answer on before it has stored it, or logged it, and tells nobody when it has: a moment for that."""


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
        time.sleep(max(0.0, min(answer.expires for answer in fetched.values()) - 0.5 - time.time()))
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
        self.assertTrue(hits)
        self.assertLess(hits[-1].sent, fetched.expires + PRECISION)
        self.assertGreater(min(answer.received for answer in [*beyond, new]), fetched.expires - PRECISION)
        self.assertLess(old[-1].sent, fetched.received + TTL + PRECISION)
        self.assertGreater(new.received, fetched.sent + TTL - PRECISION)
        self.assertIn("fwd=", new.cache_status[0])
        self.assertGreater(new.expires, fetched.expires)

    def test_one_fetch(self) -> None:
        """200 clients that ask at once for an event that nobody knows yet make one fetch, over both hosts."""
        event = self.c42.new_event()
        self.c42.set(calls="reset")
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
        """nginx keeps neither a stale copy, which is served because C42 fails, nor a problem: it asks each time."""
        event, unknown = self.c42.new_event(), self.c42.new_event()
        fresh = self.ask(path_of(event))
        with self.c42.with_fault(status=500):
            problem = self.ask(path_of(unknown))
            self.assert_problem(problem, 502)
            self.assertEqual(problem.cache_status[1], "nginx; fwd=uri-miss; fwd-status=502")
            # nginx's clock is the machine's: the life of this answer has to pass.
            time.sleep(max(0.0, fresh.sent + TTL + 0.1 - time.time()))
            for _ in range(3):
                stale = self.ask(path_of(event))
                self.assertEqual((stale.status, stale.body), (200, fresh.body))
                self.assertEqual((stale.header("Cache-Control"), stale.header("Expires")), ("no-store", None))
                self.assertEqual(stale.header("X-Accel-Expires"), "0")
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
        settings = Settings.from_env({"C42_API_TOKEN": "none", "C42_CACHE_URL": "memory://"})
        app = self.enterContext(closing(build(settings))).flask.test_client()
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
        for method in ("OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PATCH"):
            with self.subTest(method):
                answer = self.ask(path_of("cold"), method)
                self.assert_problem(answer, 405)
                self.assertEqual(answer.header("Allow"), "GET, HEAD")
        # CONNECT is for a host and a port (RFC 9110, section 9.3.6): nginx 1.30 takes no path there, others do.
        answer = self.ask(path_of("cold"), "CONNECT")
        self.assert_problem(answer, 405 if answer.status == 405 else 400)
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

    def test_count_of_hits(self) -> None:
        """What nginx answers from its cache no host counts: the operator's page says how to count it in nginx's log."""
        (command,) = re.findall(r"^ +docker compose logs .* nginx \| (.+)$", OPERATING.read_text(), re.MULTILINE)
        log = self.stack.folder / "nginx.log"
        target, before = path_of(self.c42.new_event()), self.hosts_count()
        answers = [self.ask(target) for _ in range(20)]
        until(lambda: log.read_text().count(target) == 20, "twenty lines")
        lines = "".join(line for line in log.read_text().splitlines(keepends=True) if target in line)
        counted = subprocess.run(["sh", "-c", command], input=lines, capture_output=True, text=True, check=True).stdout
        nginx_hits = sum(answer.cache_status[1] == "nginx; hit" for answer in answers)
        self.assertGreater(nginx_hits, 0)
        self.assertRegex(counted, rf'\b{nginx_hits} "cache":"HIT"')
        self.assertEqual(20 - nginx_hits, self.hosts_count() - before)

    def hosts_count(self) -> float:
        """How many requests both hosts have counted, over all outcomes."""
        texts = [ask(port, "/metrics").body.decode() for port in self.stack.ops_ports]
        return sum(
            float(count) for text in texts for count in re.findall(r"c42_proxy_requests_total\{.*\} (\S+)", text)
        )

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
                problem = json.loads(body)
                self.assertEqual((problem["status"], problem["reason"]), (status, "bad-request"))

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
        self.c42.set(calls="reset")
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
