"""The ASGI app gives the same answers as the Flask app, and needs no thread for each request that waits."""

import asyncio
import json
import re
import threading
import time
import unittest
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any

import responses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from requests import PreparedRequest
from werkzeug.test import Client, TestResponse

from c42_proxy.app import Proxy, build
from c42_proxy.sandbox import shapes
from c42_proxy.settings import Settings
from c42_proxy.stores.contract import Entry, Store
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.web.asgi import FLASK_THREADS, SEND_WHOLE, AsgiApp, ServersRefusals
from c42_proxy.web.pace import Pace
from harness.as_wsgi import AsWsgi
from harness.processes import until
from harness.wire import asked
from tests.test_threads import no_new_thread

API_URL = "http://c42.example/api/v2/"
PREFIX = "/events-with-subscriptions/"
NOW = 1_475_000_000.0

paths = st.sampled_from(
    [
        *(
            f"{PREFIX}{event_id}/"
            for event_id in ("tea", "gone", "sick", "x" * 128, "x" * 129, "a,b", "a%2fb", "a%0a", "")
        ),
        *(
            f"{PREFIX}tea",
            f"/{PREFIX}tea/",
            f"{PREFIX}/tea/",
            f"{PREFIX}tea//",
            f"{PREFIX}tea/?limit=1",
            "/",
            "/static/x",
        ),
    ]
)
methods = st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "TRACE"])
headers = st.dictionaries(
    st.sampled_from(
        [
            *(
                "If-None-Match",
                "If-Match",
                "If-Modified-Since",
                "Range",
                "Host",
                "X-Forwarded-Prefix",
                "Cookie",
                "Upgrade",
            ),
            *("Origin", "Access-Control-Request-Method"),
        ]
    ),
    st.sampled_from(
        [
            *(
                "*",
                '"x"',
                'W/"TAG"',
                '"TAG"',
                '"x", "TAG"',
                "",
                "bytes=0-1",
                "websocket",
                "Fri, 21 Oct 2016 15:00:00 GMT",
            ),
            *("https://app.example", "GET"),
        ]
    ),
    max_size=3,
)
moments = st.sampled_from([0.0, 0.0, 0.5, 2.0, 251.9, 252.0, 300.0, 4000.0, -2.0, -500.0])
visits = st.lists(st.tuples(moments, methods, paths, headers), min_size=1, max_size=12)


def answer_of_c42(request: PreparedRequest) -> tuple[int, dict[str, str], str]:
    """`gone` is not there, `sick` fails, all others are well."""
    url = str(request.url)
    if "gone" in url:
        return 404, {}, "{}"
    if "sick" in url:
        return 500, {}, "{}"
    event_id, offset = asked(url)
    if offset is None:
        return 200, {}, json.dumps(shapes.page([shapes.event(event_id, "Tea")]))
    return 200, {}, json.dumps(shapes.page([shapes.subscription(event_id, 0, shapes.Person("Zoë"))], count=1))


@contextmanager
def fake_c42() -> Iterator[None]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        wire.add_callback("GET", re.compile(re.escape(API_URL)), answer_of_c42)
        yield


def scope_of(event_id: str, *headers: tuple[bytes, bytes], method: str = "GET") -> dict[str, Any]:
    """What an ASGI server makes of a request."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": f"{PREFIX}{event_id}/",
        "headers": [(b"host", b"c42.example"), *headers],
    }


async def never() -> Any:
    """The `receive` of a client that sends no more."""
    raise AssertionError


def noting(statuses: list[int]) -> Callable[[Any], Awaitable[None]]:
    """A `send` that notes the status."""

    async def send(message: Any) -> None:
        if "status" in message:
            statuses.append(message["status"])

    return send


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def new_proxy(clock: Clock, store: Store | None = None, **options: Any) -> Proxy:
    settings_ = Settings(api_token=SecretStr("s3kr3t"), api_url=API_URL, cache_url="memory://", **options)
    return build(settings_, clock=clock, store=store)


def essence(response: TestResponse) -> tuple[int, list[tuple[str, str]], bytes]:
    """All but what a hit may differ in."""
    kept = [(name.lower(), value) for name, value in response.headers if name.lower() not in {"cache-status", "date"}]
    return response.status_code, sorted(kept), response.data


class AsgiTest(unittest.TestCase):
    def proxy(self, clock: Clock, **options: Any) -> Proxy:
        return self.enterContext(closing(new_proxy(clock, **options)))

    def as_wsgi(self, proxy: Proxy) -> AsWsgi:
        return self.enterContext(closing(AsWsgi(proxy.asgi)))


class SameAnswersTest(AsgiTest):
    @given(visits, st.sampled_from([None, "https://app.example", "*"]))
    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    def test_same_as_flask(self, visits: list[tuple[float, str, str, dict[str, str]]], origins: str | None) -> None:
        """Whatever is requested, however, and whenever: the ASGI app's answer is Flask's."""
        clock = Clock()
        tag = ""
        with (
            fake_c42(),
            closing(new_proxy(clock, allow_origins=origins)) as alone,
            closing(new_proxy(clock, allow_origins=origins)) as behind_whole,
            closing(new_proxy(clock, allow_origins=origins)) as behind_messages,
            closing(AsWsgi(behind_whole.asgi)) as whole,
            closing(AsWsgi(behind_messages.asgi, whole=False)) as in_messages,
        ):
            clients = [Client(alone.flask), Client(whole), Client(in_messages)]
            for moment, method, path, headers in visits:
                clock.now += moment
                sent = {name: value.replace("TAG", tag) for name, value in headers.items()}
                sent["X-Request-ID"] = "the-same"
                by_flask, *others = (client.open(path, method=method, headers=sent) for client in clients)
                for by_asgi in others:
                    self.assertEqual(essence(by_flask), essence(by_asgi), (method, path, sent))
                tag = by_flask.headers.get("ETag", tag).strip('"')

    def test_two_hosts(self) -> None:
        """A request with two `Host` headers is refused (RFC 9112, section 3.2)."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        asgi = self.proxy(Clock()).asgi
        for hosts, status in (((), 404), (((b"host", b"other.example"),), 400)):
            scope = scope_of("tea", *hosts) | {"query_string": b"", "root_path": ""}
            sent.clear()
            with fake_c42():
                asyncio.run(asgi(scope | {"path": f"{PREFIX}gone/"}, receive, send))
            self.assertEqual(status, sent[0]["status"])

    def test_conditional_hit(self) -> None:
        """A hit that the client has already is a 304 from memory, like Flask's."""
        asgi = self.as_wsgi(self.proxy(Clock()))
        client = Client(asgi)
        with fake_c42():
            first = client.get(f"{PREFIX}tea/")
        again = client.get(f"{PREFIX}tea/", headers={"If-None-Match": f"W/{first.headers['ETag']}"})
        self.assertEqual((again.status_code, again.data), (304, b""))
        self.assertEqual(again.headers["Expires"], first.headers["Expires"])

    def test_in_one_piece(self) -> None:
        """Every answer for an event leaves in one write: whoever dies before or after it leaves no half of one."""
        asgi = self.proxy(Clock()).asgi
        pieces: list[tuple[int, bool]] = []

        def send_whole(_scope: Any, head: bytes, body: bytes) -> bool:
            pieces.append((int(head.split()[1]), bool(body)))
            return True

        async def not_sent(*_: Any) -> Any:
            self.fail("sent in messages")

        async def ask(event_id: str, method: str = "GET", *headers: tuple[bytes, bytes], encoded: str = "") -> None:
            scope = scope_of(event_id, *headers, method=method)
            scope["raw_path"] = f"{PREFIX}{encoded or event_id}/".encode()
            await asgi({**scope, "extensions": {SEND_WHOLE: send_whole}}, not_sent, not_sent)

        async def ask_all() -> None:
            for event_id in ("tea", "tea", "gone", "sick"):
                await ask(event_id)
            await ask("tea", "HEAD")
            await ask("tea", "GET", (b"if-none-match", b"*"))
            await ask("tea", encoded="t%65a")

        with fake_c42():
            asyncio.run(ask_all())
        with_body = [(200, True), (200, True), (404, True), (502, True)]
        self.assertEqual(pieces, [*with_body, (200, False), (304, False), (200, True)])

    def test_head_of_a_304(self) -> None:
        """A 304 says nothing of a body: it has none."""
        asgi = self.proxy(Clock()).asgi
        heads: list[bytes] = []

        def send_whole(_scope: Any, head: bytes, _body: bytes) -> bool:
            heads.append(head)
            return True

        async def not_sent(*_: Any) -> Any:
            self.fail("sent in messages")

        async def ask_twice() -> None:
            for headers in ([], [(b"if-none-match", b"*")]):
                scope = scope_of("tea", *headers)
                await asgi({**scope, "extensions": {SEND_WHOLE: send_whole}}, not_sent, not_sent)

        with fake_c42():
            asyncio.run(ask_twice())
        first, again = heads
        self.assertTrue(again.startswith(b"HTTP/1.1 304 "), again)
        self.assertIn(b"\r\ncontent-", first)
        self.assertNotIn(b"\r\ncontent-", again)

    def test_pages_of_other_sites(self) -> None:
        """Whatever answers, the site of the page that asks is named if it is allowed: a hit from memory as well."""
        asgi = self.as_wsgi(self.proxy(Clock(), allow_origins="https://app.example"))
        client = Client(asgi)
        with fake_c42():
            for event_id, status in (("tea", 200), ("tea", 200), ("gone", 404), ("sick", 502)):
                for origin in ("https://app.example", "https://other.example", "https://app.example"):
                    answer = client.get(f"{PREFIX}{event_id}/", headers={"Origin": origin})
                    allowed = "https://app.example" if origin == "https://app.example" else None
                    self.assertEqual(answer.headers.get("Access-Control-Allow-Origin"), allowed)
                    self.assertEqual((answer.status_code, answer.headers.getlist("Vary")), (status, ["Origin"]))

    def test_made_once(self) -> None:
        """The response for all who may reuse an answer is made once, and kept with the entry."""
        running = self.proxy(Clock())
        asgi = self.as_wsgi(running)
        with fake_c42():
            Client(asgi).get(f"{PREFIX}tea/")
        hit = running.events.hit("tea")
        assert hit is not None
        self.assertIn(b'{"id":"tea"', hit.entry.prepared_body)
        object.__setattr__(hit.entry, "prepared_body", b"as prepared")
        self.assertEqual(b"as prepared", Client(asgi).get(f"{PREFIX}tea/").data)

    def test_duration(self) -> None:
        """The log says how many milliseconds the request took, and how many of them C42."""
        asgi = self.as_wsgi(self.proxy(Clock()))
        with fake_c42(), self.assertLogs("c42_proxy", "INFO") as logs:
            Client(asgi).get(f"{PREFIX}tea/")
        (line,) = (vars(record) for record in logs.records if record.msg == "request")
        self.assertTrue(0 <= line["c42_ms"] <= line["ms"] < 10_000, line)

    def test_bug(self) -> None:
        """A mistake of the proxy is a 500 that shows nothing of it, and a traceback in the log."""

        class BrokenClock(Clock):
            def __call__(self) -> float:
                raise ZeroDivisionError("inner detail")

        proxy = self.proxy(BrokenClock())
        with self.assertLogs("c42_proxy", "ERROR") as logs:
            answer = Client(self.as_wsgi(proxy)).get(f"{PREFIX}tea/")
        counted = '\nc42_proxy_request_duration_seconds_count{outcome="error"} 1.0\n'
        self.assertIn(counted, proxy.metrics.exposition().decode())
        self.assertEqual(answer.status_code, 500)
        self.assertNotIn("inner detail", answer.text)
        self.assertEqual(json.loads(answer.text)["request_id"], answer.headers["X-Request-ID"])
        self.assertIn("inner detail", "".join(logs.output))

    def test_other_protocols(self) -> None:
        """What is no HTTP request is left alone."""

        async def nothing(*_: Any) -> Any:
            self.fail("neither read nor answered")

        asyncio.run(self.proxy(Clock()).asgi({"type": "websocket", "path": f"{PREFIX}tea/"}, nothing, nothing))


class FlaskThreadsTest(AsgiTest):
    def test_more_than_threads(self) -> None:
        """Of what Flask answers, more requests than there are threads wait for one: none is refused."""
        proxy = self.proxy(Clock())
        begun, go_on = threading.Semaphore(0), threading.Event()
        self.addCleanup(go_on.set)

        def wait() -> None:
            begun.release()
            go_on.wait(10)

        proxy.flask.before_request(wait)
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        async def ask_all() -> None:
            scope = {**scope_of("tea"), "path": "/", "query_string": b""}
            asked = [asyncio.ensure_future(proxy.asgi(dict(scope), receive, send)) for _ in range(FLASK_THREADS + 1)]
            for _ in range(FLASK_THREADS):
                await asyncio.to_thread(begun.acquire, timeout=10)
            go_on.set()
            await asyncio.gather(*asked)

        asyncio.run(ask_all())
        self.assertEqual([404] * (FLASK_THREADS + 1), statuses)
        proxy.close()
        self.assertEqual([], [thread for thread in threading.enumerate() if thread.name == "c42-flask"])

    def test_hosts(self) -> None:
        """HTTP/1.1 needs a `Host`, and where there is one it has to be right. (The version is the server's to say.)"""
        proxy = self.proxy(Clock())
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        cases = (("1.1", b"a", 200), ("1.1", None, 400), ("1.0", None, 200), ("1.0", b"a b", 400), ("1.1", b"a b", 400))
        with fake_c42():
            for version, host, _status in cases:
                sent = [] if host is None else [(b"host", host)]
                scope = {**scope_of("tea"), "http_version": version, "headers": sent, "query_string": b""}
                asyncio.run(proxy.asgi(scope, receive, send))
        self.assertEqual([status for *_, status in cases], statuses)


def at_a_standstill(asgi: AsgiApp) -> Pace:
    """The pace of the running loop, for which no time passes: however slow the machine is, all fetches come at once."""
    loop = asyncio.get_running_loop()
    pace = asgi._paces[loop] = Pace(loop, lambda: 0.0)
    return pace


class WaitingTest(AsgiTest):
    def test_many_wait_without_threads(self) -> None:
        """Two thousand requests that wait for one event take no thread each, and a hit is answered meanwhile."""
        released = threading.Event()
        self.addCleanup(released.set)

        def slowly(request: PreparedRequest) -> tuple[int, dict[str, str], str]:
            if "slow" in str(request.url):
                released.wait(10)
            return answer_of_c42(request)

        asgi = self.proxy(Clock()).asgi
        calls = []

        async def ask(event_id: str) -> int:
            answered: list[Any] = []

            async def send(message: Any) -> None:
                answered.append(message)

            scope = scope_of(event_id)
            await asgi(scope, send, send)  # type: ignore[arg-type]  # it does not read
            return int(answered[0]["status"])

        async def run() -> None:
            await ask("tea")
            threads = set(threading.enumerate())
            waiting = [asyncio.create_task(ask("slow")) for _ in range(2000)]
            await asyncio.sleep(0)
            before = time.monotonic()
            self.assertEqual(await ask("tea"), 200)
            self.assertLess(time.monotonic() - before, 0.5)
            self.assertLess(len(set(threading.enumerate()) - threads), 10)
            released.set()
            self.assertEqual(set(await asyncio.gather(*waiting)), {200})

        with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
            wire.add_callback("GET", re.compile(re.escape(API_URL)), slowly)
            asyncio.run(run())
            calls = [call.request.url for call in wire.calls if "slow" in str(call.request.url)]
        self.assertEqual(len(calls), 2)

    def test_woken_together(self) -> None:
        """However many requests wait, other threads call the loop once for a search, when it ends."""
        calls = []

        class Loop(asyncio.SelectorEventLoop):
            def call_soon_threadsafe(self, *arguments: Any, **options: Any) -> asyncio.Handle:  # type: ignore[override]  # as it comes
                calls.append(arguments)
                return super().call_soon_threadsafe(*arguments, **options)

        shared = MemoryStore(1_000_000)
        shared.put("known", Entry(200, b"{}", NOW), NOW)
        asgi = self.enterContext(closing(new_proxy(Clock(), store=shared))).asgi

        async def run(event_id: str) -> list[int]:
            statuses: list[int] = []
            await asyncio.gather(*(asgi(scope_of(event_id), never, noting(statuses)) for _ in range(50)))
            return statuses

        with fake_c42(), asyncio.Runner(loop_factory=Loop) as runner:
            for event_id in ("tea", "known"):
                calls.clear()
                self.assertEqual(50 * [200], runner.run(run(event_id)))
                self.assertEqual(1, len(calls))

    def test_two_loops(self) -> None:
        """Requests of two event loops may wait for the same search."""
        released = threading.Event()
        self.addCleanup(released.set)

        def slowly(request: PreparedRequest) -> tuple[int, dict[str, str], str]:
            released.wait(10)
            return answer_of_c42(request)

        statuses: list[int] = []
        asgi = self.proxy(Clock()).asgi

        async def run(waits: threading.Event) -> None:
            request = asyncio.create_task(asgi(scope_of("tea"), never, noting(statuses)))
            for _ in range(5):
                await asyncio.sleep(0)
            waits.set()
            await request

        with responses.RequestsMock() as wire:
            wire.add_callback("GET", re.compile(re.escape(API_URL)), slowly)
            with ThreadPoolExecutor(2) as loops:
                requests = []
                for _ in range(2):
                    waits = threading.Event()
                    requests.append(loops.submit(asyncio.run, run(waits)))
                    self.assertTrue(waits.wait(5))
                released.set()
                for request in requests:
                    request.result(timeout=3)  # less than a request would wait for at most
            self.assertEqual(2, len(wire.calls))
        self.assertEqual([200, 200], statuses)

    def test_one_by_one(self) -> None:
        """The first fetch begins at once, and the event loop begins the others, so that it answers hits in between."""
        proxy = self.proxy(Clock())
        asgi = proxy.asgi
        assert isinstance(asgi, AsgiApp)
        statuses: list[int] = []

        async def run() -> None:
            pace = at_a_standstill(asgi)
            requests = [asyncio.create_task(asgi(scope_of(each), never, noting(statuses))) for each in "abc"]
            await asyncio.sleep(0)
            # The loop stands still, and look threads find nothing.
            until(lambda: len(pace._waiting) == 2, "that the other fetches wait for the loop")
            until(lambda: len(wire.calls) == 2, "that the first fetch makes its calls")
            await asyncio.gather(*requests)

        with responses.RequestsMock() as wire:
            wire.add_callback("GET", re.compile(re.escape(API_URL)), answer_of_c42)
            asyncio.run(run())
        self.assertEqual(3 * [200], statuses)

    def test_the_loop_ends(self) -> None:
        """Fetches that a loop was about to begin are made, although it has ended: when the app closes, which waits for
        them, or when another loop uses it.
        """

        def close(asgi: AsgiApp, _loop: asyncio.AbstractEventLoop) -> None:
            asgi.close()

        def use(asgi: AsgiApp, loop: asyncio.AbstractEventLoop) -> None:
            loop.close()
            asyncio.run(asgi(scope_of("another"), never, noting([])))

        async def ask(asgi: AsgiApp) -> None:
            pace = at_a_standstill(asgi)
            requests = [asyncio.create_task(asgi(scope_of(each), never, noting([]))) for each in "abc"]
            await asyncio.sleep(0)
            until(lambda: len(pace._waiting) == 2, "that the other fetches wait for the loop")
            for request in requests:
                request.cancel()

        for what_follows in (close, use):
            proxy = self.proxy(Clock())
            asgi = proxy.asgi
            assert isinstance(asgi, AsgiApp)
            with self.subTest(what_follows.__name__), closing(asyncio.new_event_loop()) as loop, fake_c42():
                loop.run_until_complete(ask(asgi))
                what_follows(asgi, loop)
                for each in "abc":
                    until(lambda each=each, proxy=proxy: proxy.events.hit(each) is not None, "that the fetch ends")  # type: ignore[misc]  # mypy cannot infer it

    def test_giving_up(self) -> None:
        """A request that has waited for twice the budget gets a 504, whatever its search waits for."""
        proxy = self.proxy(Clock(), timeout=0.1)
        searches = proxy.events._single_flight
        searches.coalesce("tea")  # a search that does not end
        self.addCleanup(searches.fail, "tea", TimeoutError())
        client = Client(self.as_wsgi(proxy))
        start = time.monotonic()
        self.assertEqual(504, client.get(f"{PREFIX}tea/").status_code)
        self.assertTrue(0.2 <= time.monotonic() - start < 2)

    def test_no_thread(self) -> None:
        """A request for which there is no thread, and what the server refuses, is counted and logged, too."""
        proxy = self.proxy(Clock())
        client = Client(self.as_wsgi(proxy))
        with fake_c42():
            client.get(f"{PREFIX}tea/")
        self.assertIn("c42-erase", {thread.name for thread in threading.enumerate()})  # as there is something to erase
        with no_new_thread(), self.assertLogs("c42_proxy.requests") as logs:
            self.assertEqual(client.get(f"{PREFIX}tea/").status_code, 200)
            answer = client.get("/a b", headers={"X-Request-ID": "mine"})
            self.assertIn(b"overloaded", answer.data)
            self.assertIn("Date", answer.headers)
            self.assertEqual(client.head("/a b").data, b"")
            ServersRefusals.note(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "an-id")
        self.assertEqual(answer.status_code, 503)
        counted = proxy.metrics.exposition().decode()
        for outcome, status, times in (("error", 503, 2), ("refused", 431, 1)):
            self.assertIn(f'\nc42_proxy_requests_total{{outcome="{outcome}",status="{status}"}} {times}.0\n', counted)
            self.assertIn(f'\nc42_proxy_request_duration_seconds_count{{outcome="{outcome}"}} {times}.0\n', counted)
            self.assertIn(f'\nc42_proxy_request_duration_seconds_sum{{outcome="{outcome}"}} 0.0\n', counted)
        names = ("request_id", "method", "path", "status", "outcome", "ms")
        first, _head, last = (tuple(getattr(record, name) for name in names) for record in logs.records)
        self.assertEqual(("mine", "GET", "/a%20b", 503, "error", 0), first)
        self.assertEqual(("an-id", "-", "-", 431, "refused", 0), last)
        self.assertEqual("mine", answer.headers["X-Request-ID"])

    def test_no_timer_is_left(self) -> None:
        """A request that was answered in time leaves no timer behind."""
        timers: list[asyncio.TimerHandle] = []

        class Loop(asyncio.SelectorEventLoop):
            def call_later(self, *arguments: Any, **options: Any) -> asyncio.TimerHandle:  # type: ignore[override]  # as it comes
                timers.append(super().call_later(*arguments, **options))
                return timers[-1]

        async def send(_message: Any) -> None:
            pass

        scope = scope_of("tea")
        with fake_c42(), asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(self.proxy(Clock()).asgi(scope, send, send))  # type: ignore[arg-type]  # it does not read
        self.assertTrue(timers)
        self.assertTrue(all(timer.cancelled() for timer in timers))
