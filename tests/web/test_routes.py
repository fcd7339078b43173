"""HTTP in, HTTP out: addresses, methods, problems, and what caches are told. Only the wire to C42 is faked."""

import json
import math
import re
import unittest
from contextlib import closing
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import requests
import responses
from flask import abort
from pydantic import SecretStr
from werkzeug.test import Client, TestResponse

from c42_proxy.app import build
from c42_proxy.observability import correlation
from c42_proxy.sandbox import shapes
from c42_proxy.settings import Settings
from c42_proxy.stores.contract import Entry, Store
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.web.routes import is_host, known_hosts

NOW = 1_700_000_000.9
TTL = 252
EVENT = "b5ee0b5ee0b5ee0b5ee0b5ee0b5ee0b5_14770730026240"
C42 = "https://c42.example/api/v2/"
UNTIL_EXPIRES = "must-revalidate, stale-while-revalidate=0, stale-if-error=0"
BODY = f'{{"id":"{EVENT}","title":"Kaffee ☕","names":["Michel"]}}'.encode()


class RoutesTest(unittest.TestCase):
    """A proxy of its own for each test, whose clock stands still at `now`, and a C42 that knows one event."""

    def setUp(self) -> None:
        self.now = NOW
        self.c42 = self.enterContext(responses.RequestsMock(assert_all_requests_are_fired=False))
        self.client = self.proxy()

    def proxy(self, *, ttl: float = TTL, store: Store | None = None, origins: str | None = None) -> Client:
        settings = Settings(
            api_token=SecretStr("right"), api_url=C42, cache_ttl=ttl, cache_url="memory://", allow_origins=origins
        )
        client = self.enterContext(closing(build(settings, clock=lambda: self.now, store=store))).flask.test_client()
        client.environ_base["HTTP_X_REQUEST_ID"] = "the-same"
        return client

    def knows(self, event_id: str = EVENT) -> None:
        """C42 has this event, with one subscriber."""
        subscription = shapes.subscription(event_id, 1, shapes.Person("Michel"))
        self.answers("events", event_id, json=shapes.page([shapes.event(event_id, "Kaffee ☕")]))
        self.answers("subscriptions", event_id, json=shapes.page([subscription], count=1))

    def answers(self, call: str, event_id: str = EVENT, **response: Any) -> None:
        """What C42 answers to one of its two calls."""
        url = f"{C42}events/{event_id}/" if call == "events" else f"{C42}event-subscriptions/"
        self.c42.upsert(responses.GET, url, **response)

    def fails(self, **response: Any) -> TestResponse:
        """What a fresh proxy answers where C42 answers in this way to both calls."""
        for call in ("events", "subscriptions"):
            self.answers(call, **response)
        self.client = self.proxy()
        return self.get()

    def get(self, event_id: str = EVENT, method: str = "GET", **headers: str) -> TestResponse:
        return self.client.open(
            f"/events-with-subscriptions/{event_id}/",
            method=method,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    def assert_problem(self, response: TestResponse, status: int, title: str, detail: str = r"\w") -> None:
        """RFC 9457, section 3: the media type, and these members; the request's id, where it is not to be cached."""
        self.assertEqual(response.status_code, status)
        self.assertEqual(response.content_type, "application/problem+json")
        problem = json.loads(response.data)
        cached = response.headers["Cache-Control"] != "no-store"
        self.assertEqual(problem.pop("request_id", None), None if cached else response.headers["X-Request-ID"])
        self.assertEqual(list(problem), ["type", "title", "status", "reason", "detail"])
        self.assertEqual((problem["type"], problem["title"], problem["status"]), ("about:blank", title, status))
        self.assertRegex(problem["detail"], detail)
        self.assertTrue(problem["detail"].endswith("."), "a sentence")

    def assert_not_cached(self, response: TestResponse) -> None:
        self.assertEqual(response.headers.getlist("Cache-Control"), ["no-store"])
        self.assertEqual(response.headers.getlist("X-Accel-Expires"), ["0"])
        for absent in ("Expires", "ETag", "Age", "Last-Modified"):
            self.assertNotIn(absent, response.headers)


class AnswerTest(RoutesTest):
    def setUp(self) -> None:
        super().setUp()
        self.knows()

    def test_answer(self) -> None:
        """An event is compact JSON in UTF-8, with exactly the headers that are meant."""
        response = self.get()
        self.assertEqual((response.status_code, response.data), (200, BODY))
        self.assertEqual(
            sorted(response.headers.keys()),
            [
                *("Cache-Control", "Cache-Status", "Content-Length", "Content-Type"),
                *("ETag", "Expires", "X-Accel-Expires", "X-Request-ID"),
            ],
        )
        self.assertEqual(response.content_type, "application/json")
        self.assertEqual(response.headers["Cache-Status"], "c42-proxy; fwd=uri-miss; stored; fwd-status=200")

    def test_asks_for_that_event(self) -> None:
        """C42 is asked for the very id of the address, with our token."""
        self.get()
        urls = {urlsplit(call.request.url or "") for call in self.c42.calls}
        self.assertEqual(
            {(url.path, *parse_qs(url.query).get("event_ids", [])) for url in urls},
            {(f"/api/v2/events/{EVENT}/",), ("/api/v2/event-subscriptions/", f"[{EVENT}]")},
        )
        self.assertEqual({call.request.headers["Authorization"] for call in self.c42.calls}, {"Token right"})

    def test_hit(self) -> None:
        """A hit differs from the answer that made it in Cache-Status and the request's id alone."""
        first = self.get()
        self.now += 100
        hit = self.get()
        self.assertEqual(hit.headers.pop("Cache-Status"), "c42-proxy; hit; ttl=152")
        del first.headers["Cache-Status"]
        self.assertEqual((hit.status_code, hit.data, hit.headers), (200, first.data, first.headers))
        self.assertEqual(len(self.c42.calls), 2)

    def test_nothing_of_a_request_is_left(self) -> None:
        """What log lines and calls to C42 are marked with ends with the request: the next one has its own."""
        self.get()
        self.assertIsNone(correlation.current())

    def test_duration(self) -> None:
        """The log says how many milliseconds the request took, and how many of them C42."""
        with self.assertLogs("c42_proxy", "INFO") as logs:
            self.get()
        (line,) = (vars(record) for record in logs.records if record.msg == "request")
        self.assertTrue(0 <= line["c42_ms"] <= line["ms"] < 10_000, line)

    def test_one_instant_for_everyone(self) -> None:
        """Expires and X-Accel-Expires are the whole second before that of the expiry; no max-age, no Age."""
        response = self.get()
        instant = math.floor(NOW + TTL)
        self.assertEqual(instant, 1_700_000_252)
        self.assertEqual(response.headers["Expires"], formatdate(instant - 1, usegmt=True))
        self.assertEqual(response.headers["X-Accel-Expires"], f"@{instant - 1}")
        self.assertEqual(response.headers.getlist("Cache-Control"), [UNTIL_EXPIRES])
        self.assertNotIn("Age", response.headers)

    def test_the_instant_with_a_fraction_in_the_ttl(self) -> None:
        """It is the sum that is rounded down, not its parts."""
        self.client = self.proxy(ttl=0.25)
        self.assertEqual(self.get().headers["Expires"], formatdate(1_700_000_000, usegmt=True))
        self.now, self.client = NOW - 0.5, self.proxy(ttl=0.25)
        self.assertEqual(self.get().headers["Expires"], formatdate(1_699_999_999, usegmt=True))

    def test_head(self) -> None:
        """HEAD has the status and the headers of GET, and no body."""
        self.get()
        get, head = self.get(), self.get(method="HEAD")
        self.assertEqual((head.status_code, head.data, head.headers), (200, b"", get.headers))
        self.assertEqual(head.headers["Content-Length"], str(len(BODY)))

    def test_head_asks(self) -> None:
        """A HEAD that comes first is answered, and remembered, as a GET is."""
        self.assertEqual(self.get(method="HEAD").status_code, 200)
        self.assertIn("hit", self.get().headers["Cache-Status"])

    def test_query_is_ignored(self) -> None:
        """A query changes neither the answer nor what is cached."""
        self.get()
        for query in ("?a=b", "?limit=1", "?", "?event_ids=[x]"):
            response = self.client.get(f"/events-with-subscriptions/{EVENT}/{query}")
            self.assertEqual((response.status_code, response.data), (200, BODY))
            self.assertIn("hit", response.headers["Cache-Status"])


class ConditionalTest(RoutesTest):
    def setUp(self) -> None:
        super().setUp()
        self.knows()
        self.first = self.get()
        self.etag = self.first.headers["ETag"]

    def test_etag(self) -> None:
        """The entity tag is a strong one, in quotes, and as stable as the body."""
        self.assertRegex(self.etag, r'^"[0-9a-f]{32}"$')
        self.now += TTL
        again = self.get()
        self.assertIn("fwd=stale", again.headers["Cache-Status"])
        self.assertEqual(again.headers["ETag"], self.etag)
        self.answers("events", json={"data": [{"id": EVENT, "title": "Tee"}]})
        self.now += TTL
        self.assertNotEqual(self.get().headers["ETag"], self.etag)

    def test_match(self) -> None:
        """The tag itself, its weak form, a list with it and `*` get a 304: the same headers, and no body."""
        tag = self.etag
        for given in (tag, f"W/{tag}", f'"x", {tag}', f'W/"x",W/{tag} , "y"', "*", f'"", {tag}'):
            with self.subTest(given):
                response, full = self.get(If_None_Match=given), self.get()
                self.assertEqual((response.status_code, response.data), (304, b""))
                for gone in ("Content-Type", "Content-Length"):
                    self.assertNotIn(gone, response.headers)
                    del full.headers[gone]
                self.assertEqual(response.headers, full.headers)

    def test_no_match(self) -> None:
        """Another tag, part of it, and what is no tag at all get the answer."""
        tag = self.etag
        for given in ('"x"', 'W/"x"', '"x", "y"', f'"{tag[1:-2]}"', tag.upper(), "", '"', f"{tag[:-1]}", "\\", '""'):
            with self.subTest(given):
                self.assertEqual(self.get(If_None_Match=given).data, BODY)

    def test_on_a_miss(self) -> None:
        """A 304 is also for an answer that C42 was just asked for."""
        self.now += TTL
        response = self.get(If_None_Match=self.etag)
        self.assertEqual(response.status_code, 304)
        self.assertEqual(response.headers["Cache-Status"], "c42-proxy; fwd=stale; stored; fwd-status=200")
        self.assertEqual(response.headers["Expires"], formatdate(math.floor(self.now + TTL) - 1, usegmt=True))

    def test_head(self) -> None:
        """HEAD with the tag gets its 304, too."""
        self.assertEqual(self.get(method="HEAD", If_None_Match=self.etag).status_code, 304)

    def test_other_preconditions(self) -> None:
        """No other precondition changes anything, alone or beside If-None-Match."""
        date = self.first.headers["Expires"]
        for name, given in (
            *(("If-Match", '"x"'), ("If-Match", "*"), ("If-Modified-Since", date), ("If-Unmodified-Since", date)),
            *(("If-Unmodified-Since", formatdate(0, usegmt=True)), ("If-Range", self.etag), ("Range", "bytes=0-3")),
        ):
            with self.subTest(name, given=given):
                headers = {name: given}
                if name == "If-Range":
                    headers["Range"] = "bytes=0-3"
                full = self.get()
                response = self.get(**headers)
                self.assertEqual((response.status_code, response.data, response.headers), (200, BODY, full.headers))
                self.assertEqual(self.get(If_None_Match=self.etag, **headers).status_code, 304)
                self.assertEqual(self.get(If_None_Match='"x"', **headers).status_code, 200)

    def test_past_its_instant(self) -> None:
        """An answer that is past its instant when it arrives has no tag, and so no 304."""

        def dawdle(_request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
            self.now = NOW + 1
            return 200, {}, json.dumps(shapes.page([shapes.event(EVENT, "Kaffee ☕")]))

        self.c42.remove(responses.GET, f"{C42}events/{EVENT}/")
        self.c42.add_callback(responses.GET, f"{C42}events/{EVENT}/", callback=dawdle)
        self.now, self.client = NOW, self.proxy(ttl=0.5)
        response = self.get(If_None_Match="*")
        self.assertEqual((response.status_code, response.data), (200, BODY))
        self.assertIn("detail=past-expiry", response.headers["Cache-Status"])
        self.assert_not_cached(response)


class NotFoundTest(RoutesTest):
    def setUp(self) -> None:
        super().setUp()
        self.answers("events", status=404, json=shapes.error(404, "Not found."))
        self.answers("subscriptions", json=shapes.page([], count=0))

    def test_cached(self) -> None:
        """C42's 404 is a problem with the event's id in it, which caches may keep as long as an answer."""
        response = self.get()
        self.assert_problem(response, 404, "Not Found", f"no event {EVENT} ")
        self.assertEqual(response.headers.getlist("Cache-Control"), [UNTIL_EXPIRES])
        self.assertEqual(response.headers["Expires"], formatdate(math.floor(NOW + TTL) - 1, usegmt=True))
        self.assertEqual(response.headers["X-Accel-Expires"], f"@{math.floor(NOW + TTL) - 1}")
        self.assertEqual(response.headers["Cache-Status"], "c42-proxy; fwd=uri-miss; stored; fwd-status=404")
        again = self.get()
        self.assertEqual((again.status_code, again.data), (404, response.data))
        self.assertEqual(again.headers["Cache-Status"], "c42-proxy; hit; ttl=252")

    def test_no_tag(self) -> None:
        """A 404 has no entity tag, and no precondition makes it anything else."""
        for given in ("*", '"x"', 'W/"x"'):
            for method in ("GET", "HEAD"):
                response = self.get(method=method, If_None_Match=given)
                self.assertEqual(response.status_code, 404)
                self.assertNotIn("ETag", response.headers)

    def test_head(self) -> None:
        """HEAD has the headers of GET, and no body."""
        self.get()
        get, head = self.get(), self.get(method="HEAD")
        self.assertEqual((head.status_code, head.data, head.headers), (404, b"", get.headers))


class ProblemTest(RoutesTest):
    def test_token_refused(self) -> None:
        """401 and 403 are a 502 for the operator to mend, and nobody is told to try again."""
        for status in (401, 403):
            response = self.fails(status=status, headers={"Retry-After": "5"})
            self.assert_problem(response, 502, "Bad Gateway", "operator")
            self.assert_not_cached(response)
            self.assertNotIn("Retry-After", response.headers)
            self.assertEqual(response.headers["Cache-Status"], f"c42-proxy; fwd=uri-miss; fwd-status={status}")

    def test_told_to_wait(self) -> None:
        """429, and 503 with Retry-After, are a 503 with the same wait, in the header and in the detail."""
        for status in (429, 503):
            response = self.fails(status=status, headers={"Retry-After": "17"})
            self.assert_problem(response, 503, "Service Unavailable", r"\b17 s\.")
            self.assert_not_cached(response)
            self.assertEqual(response.headers["Retry-After"], "17")

    def test_no_time_to_wait(self) -> None:
        """Where C42 asks to wait for no time, that is a second: to try again at once would be no wait."""
        response = self.fails(status=429, headers={"Retry-After": "0"})
        self.assert_problem(response, 503, "Service Unavailable", r"\b1 s\.")
        self.assertEqual(response.headers["Retry-After"], "1")

    def test_wait_is_rounded_up(self) -> None:
        """Retry-After is in whole seconds, rounded up: until a date 9.1 seconds ahead it is 10."""
        date = formatdate(math.floor(NOW) + 10, usegmt=True)
        self.assertEqual(self.fails(status=429, headers={"Retry-After": date}).headers["Retry-After"], "10")
        self.now = math.floor(NOW)
        self.assertEqual(self.fails(status=429, headers={"Retry-After": date}).headers["Retry-After"], "10")
        self.now += 0.001
        self.assertEqual(self.fails(status=429, headers={"Retry-After": date}).headers["Retry-After"], "10")

    def test_down(self) -> None:
        """500, 503 without a Retry-After, and no connection are a 502."""
        wrong: list[dict[str, Any]]
        wrong = [{"status": 500}, {"status": 503}, {"body": requests.ConnectionError("refused")}]
        for response in (self.fails(**each) for each in wrong):
            self.assert_problem(response, 502, "Bad Gateway", "Try again later")
            self.assert_not_cached(response)
            self.assertNotIn("Retry-After", response.headers)

    def test_unusable(self) -> None:
        """Redirects, other statuses, and answers of another shape are a 502, and not quoted."""
        wrong: list[dict[str, Any]]
        wrong = [
            *({"status": 302, "headers": {"Location": "https://quoted.example/"}}, {"status": 418, "body": "quoted"}),
            *({"body": "<quoted>"}, {"json": ["quoted"]}, {"json": {"data": [{"id": "quoted"}]}}, {"status": 204}),
        ]
        for response in (self.fails(**each) for each in wrong):
            self.assert_problem(response, 502, "Bad Gateway", "cannot be used")
            self.assert_not_cached(response)
            self.assertNotIn("quoted", response.text)

    def test_time_out(self) -> None:
        """No answer in time is a 504."""
        response = self.fails(body=requests.ReadTimeout("slow"))
        self.assert_problem(response, 504, "Gateway Timeout", "in time")
        self.assert_not_cached(response)
        self.assertEqual(response.headers["Cache-Status"], "c42-proxy; fwd=uri-miss")

    def test_not_remembered(self) -> None:
        """A failure is not kept as an answer is: two seconds later, C42 is asked anew."""
        self.fails(status=500)
        self.knows()
        self.now += 2.001
        self.assertEqual(self.get().data, BODY)

    def test_preconditions_and_head(self) -> None:
        """A problem stays one for If-None-Match: *, and HEAD gets its headers without the body."""
        get = self.fails(status=500)
        self.client = self.proxy()
        head = self.get(method="HEAD")
        self.assertEqual(self.get(If_None_Match="*").status_code, 502)
        self.assertEqual((head.status_code, head.data, head.headers), (502, b"", get.headers))

    def test_no_token(self) -> None:
        """The token is in no problem."""
        for status in (401, 403, 404, 429, 500):
            response = self.fails(status=status, body="Token right")
            self.assertNotRegex(f"{response.headers}{response.text}", r"\bright\b")


class BrokenStore(MemoryStore):
    def get(self, event_id: str) -> Entry | None:
        raise LookupError(f"secret of {event_id}")


class BugTest(RoutesTest):
    def test_bug(self) -> None:
        """A mistake of the proxy is a 500 without a traceback in it; the traceback is in the log."""
        self.client = self.proxy(store=BrokenStore(1000))
        with self.assertLogs("c42_proxy", "ERROR") as logged:
            response = self.get()
        self.assert_problem(response, 500, "Internal Server Error", "log")
        self.assert_not_cached(response)
        self.assertNotRegex(f"{response.headers}{response.text}", "Traceback|LookupError|secret")
        (line,) = logged.output
        self.assertIn("Traceback", line)
        self.assertIn(f"LookupError: secret of {EVENT}", line)


class CorsTest(RoutesTest):
    """The sites to whose pages a browser shows an answer. Each test asks in all ways that end in different statuses."""

    LIST = "https://app.example, https://shop.example"
    ASKED = {"Access-Control-Request-Method": "GET"}  # noqa: RUF012  # it is not changed

    def permissions(self, origins: str | None, origin: str | None, store: Store | None = None) -> set[tuple[str, ...]]:
        """What the answers say to a page of this origin: all kinds of them say the same."""
        self.knows()
        self.answers("events", "gone", status=404)
        self.answers("events", "sick", status=500)
        self.client = self.proxy(origins=origins, store=store)
        tag = self.get().headers["ETag"]
        sent = {} if origin is None else {"Origin": origin}
        answers = {
            (200, 304): [self.get(**sent), self.get(method="HEAD", **sent), self.get(If_None_Match=tag, **sent)],
            (404, 502): [self.get("gone", **sent), self.get("sick", **sent), self.get("a,b", **sent)],
            (400, 405): [
                self.get(method="POST", **sent),
                self.get(method="OPTIONS", **sent),
                self.get(Host="?", **sent),
            ],
            (308,): [self.client.get(f"/events-with-subscriptions/{EVENT}", headers=sent)],
        }
        for statuses, given in answers.items():
            self.assertEqual(set(statuses), {answer.status_code for answer in given})
        return {
            tuple(f"{name}: {value}" for name, value in answer.headers if re.match("Access-Control|Vary", name))
            for given in answers.values()
            for answer in given
        }

    def test_on_every_status(self) -> None:
        """A listed origin is named, with the headers that its pages may read; other origins get `Vary` alone."""
        exposed = "Access-Control-Expose-Headers: Cache-Status, ETag, Retry-After, X-Request-ID"
        named = ("Access-Control-Allow-Origin: https://app.example", exposed, "Vary: Origin")
        everybody = ("Access-Control-Allow-Origin: *", exposed)
        for origins, origin, expected in (
            (None, "https://app.example", ()),
            (None, None, ()),
            (self.LIST, "https://app.example", named),
            *((self.LIST, other, ("Vary: Origin",)) for other in (None, "", "null", "*", "https://other.example")),
            *((self.LIST, f"https://{name}", ("Vary: Origin",)) for name in ("app.example/", "APP.example", "app")),
            (self.LIST, self.LIST, ("Vary: Origin",)),
            ("*", "https://app.example", everybody),
            ("*", None, everybody),
        ):
            with self.subTest(origins=origins, origin=origin):
                self.assertEqual(self.permissions(origins, origin), {expected})

    def test_a_bug(self) -> None:
        """The page can read that the proxy made a mistake, too."""
        self.client = self.proxy(store=BrokenStore(1000), origins=self.LIST)
        with self.assertLogs("c42_proxy", "ERROR"):
            answer = self.get(Origin="https://shop.example")
        self.assertEqual(answer.status_code, 500)
        self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://shop.example")

    def test_preflight(self) -> None:
        """A browser's question gets a 204 without a body, which says what the page may send if its site is listed."""
        permitted = {
            "Access-Control-Allow-Methods": "GET, HEAD",
            "Access-Control-Allow-Headers": "If-None-Match, X-Request-ID, traceparent",
            "Access-Control-Max-Age": "600",
        }
        for origins in (self.LIST, "*"):
            self.client = self.proxy(origins=origins)
            for origin, is_listed in (("https://shop.example", True), ("https://other.example", origins == "*")):
                answer = self.get(method="OPTIONS", Origin=origin, **self.ASKED)
                self.assertEqual((answer.status_code, answer.data), (204, b""))
                self.assertNotIn("Content-Type", answer.headers)
                self.assertNotIn("Content-Length", answer.headers)
                allowed = answer.headers.get("Access-Control-Allow-Origin")
                self.assertEqual(allowed, ("*" if origins == "*" else origin) if is_listed else None)
                self.assertEqual(answer.headers.get("Vary"), None if origins == "*" else "Origin")
                given = {name: answer.headers[name] for name in permitted if name in answer.headers}
                self.assertEqual(given, permitted if is_listed else {})
        self.assertEqual(len(self.c42.calls), 0)

    def test_no_preflight(self) -> None:
        """OPTIONS without what a browser says of the page's request, or at another address, is what it was."""
        for origins in (None, self.LIST, "*"):
            self.client = self.proxy(origins=origins)
            app = {"Origin": "https://app.example"}
            for sent in ({}, app, self.ASKED, {**app, **self.ASKED} if origins is None else {}):
                answer = self.get(method="OPTIONS", **sent)
                self.assert_problem(answer, 405, "Method Not Allowed")
                self.assertEqual(answer.headers["Allow"], "GET, HEAD")
            for path, status in (
                (f"/events-with-subscriptions/{EVENT}", 405),
                ("/", 404),
                ("/events-with-subscriptions/a,b/", 404),
            ):
                answer = self.client.options(path, headers={**app, **self.ASKED})
                self.assertEqual(answer.status_code, status)


class HostTest(unittest.TestCase):
    def test_known(self) -> None:
        """The first 64 hosts that were valid are known, and no more; those that are not valid never are."""
        self.addCleanup(known_hosts.update, set(known_hosts))
        known_hosts.clear()
        self.addCleanup(known_hosts.clear)
        for number in range(100):
            self.assertFalse(is_host(b"no host %d" % number))
            self.assertTrue(is_host(b"host-%d" % number))
        self.assertEqual({b"host-%d" % number for number in range(64)}, known_hosts)


class AddressTest(RoutesTest):
    UNKNOWN = "There is only /events-with-subscriptions/<event_id>/ here"

    def test_ids(self) -> None:
        """Letters, digits, '-' and '_', up to 128 of them, reach C42 as they are, percent-encoded or not."""
        for written, event_id in (
            *(("a", "a"), ("A-Z_09", "A-Z_09"), ("-", "-"), ("_", "_"), ("%41%2d%5f%39", "A-_9"), ("0" * 128,) * 2),
        ):
            with self.subTest(written):
                self.knows(event_id)
                response = self.get(written)
                self.assertEqual((response.status_code, json.loads(response.data)["id"]), (200, event_id))

    def test_case_counts(self) -> None:
        """Two ids that differ in case are two events."""
        self.knows("a")
        self.answers("events", "A", status=404)
        self.assertEqual([self.get("a").status_code, self.get("A").status_code], [200, 404])

    def test_other_ids(self) -> None:
        """Anything else is a 404 that is not cached and never reaches C42, with and without the closing slash."""
        for written in (
            *("a,b", "a%2Cb", "n2]", "n2%5d", "[n2", "..%2fx", "%2e%2e", "..", ".", "a%2fb", "a%5cb", "a b", "a+b"),
            *("%00", "a%00", "a%0a", "%0aa", "a%0d%0a", "a%0d", "a%e2%80%a8", "a%c2%85", "é", "%c3%a9", "%ff", "٣"),
            *("0" * 129, "a.b", "a:b", "a;b", "a@b", "a~", "%25", "%2541", "a%", "%zz", "a%26limit=1", "a%3fb", "a%23"),
        ):
            for slash in ("/", ""):
                with self.subTest(written + slash):
                    response = self.client.get(f"/events-with-subscriptions/{written}{slash}")
                    self.assert_problem(response, 404, "Not Found", self.UNKNOWN)
                    self.assert_not_cached(response)
                    self.assertNotIn("Cache-Status", response.headers)
        self.assertEqual(len(self.c42.calls), 0)

    def test_other_addresses(self) -> None:
        """There is nothing else here: no root, no documents, no doubled slashes, no detours."""
        for path in (
            *("/", "/events-with-subscriptions", "/events-with-subscriptions/", "/events/", f"/{EVENT}/", "/static/a"),
            *("/docs", "/openapi.yaml", "/health", "/healthz", "/readyz", "/metrics", "/favicon.ico", "/robots.txt"),
            *(f"//events-with-subscriptions/{EVENT}/", f"///events-with-subscriptions/{EVENT}/"),
            *(f"/events-with-subscriptions//{EVENT}/", f"/events-with-subscriptions/{EVENT}//"),
            *(f"/events-with-subscriptions/{EVENT}/x", f"/x/events-with-subscriptions/{EVENT}/"),
            *(f"/Events-With-Subscriptions/{EVENT}/", f"/x/../events-with-subscriptions/{EVENT}/"),
            *(f"/events-with-subscriptions/./{EVENT}/", f"/%2fevents-with-subscriptions/{EVENT}/"),
            *(f"/events-with-subscriptions/%2f{EVENT}/", f"/events-with-subscriptions/{EVENT}/%2f"),
            *(f"/events-with-subscriptions/{EVENT}/%0a", f"/events-with-subscriptions/{EVENT};x/"),
        ):
            for method in ("GET", "POST", "OPTIONS"):
                with self.subTest(path, method=method):
                    # Given as an address, the test client would take what follows two slashes for a host.
                    environ = {"PATH_INFO": unquote(path, "latin-1")}
                    response = self.client.open(method=method, environ_overrides=environ)
                    self.assert_problem(response, 404, "Not Found", self.UNKNOWN)
                    self.assert_not_cached(response)
        self.assertEqual(len(self.c42.calls), 0)

    def test_without_the_closing_slash(self) -> None:
        """Without its slash, an address leads to the one with it, relative and without the query."""
        for query in ("", "?a=b", "?"):
            for method in ("GET", "HEAD"):
                response = self.client.open(f"/events-with-subscriptions/A-b_1{query}", method=method)
                self.assertEqual((response.status_code, response.data), (308, b""))
                self.assertEqual(response.headers["Location"], "/events-with-subscriptions/A-b_1/")
                self.assertNotIn("Content-Type", response.headers, "there is nothing to be of a type")
        self.assertEqual(len(self.c42.calls), 0)

    def test_refused_by_flask(self) -> None:
        """What Flask refuses by itself, for a reason of its own, is a problem with the status that it gives."""
        app = self.enterContext(closing(build(Settings(api_token=SecretStr("right"), cache_url="memory://")))).flask
        app.add_url_rule("/teapot", view_func=lambda: abort(418))
        self.assert_problem(app.test_client().get("/teapot"), 418, "I'm a Teapot", "cannot be answered")

    def test_location_is_decoded(self) -> None:
        """An id that came percent-encoded is plain in the Location, whatever the Host."""
        response = self.client.get("/events-with-subscriptions/%41%42", headers={"Host": "stranger.example"})
        self.assertEqual(response.headers["Location"], "/events-with-subscriptions/AB/")
        self.assertNotIn("stranger", str(response.headers))

    def test_other_methods(self) -> None:
        """Any method but GET and HEAD is a 405 that names the two, with and without the slash, OPTIONS too."""
        for method in ("OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "BREW"):
            for slash in ("/", ""):
                with self.subTest(method, slash=slash):
                    response = self.client.open(f"/events-with-subscriptions/{EVENT}{slash}", method=method)
                    self.assert_problem(response, 405, "Method Not Allowed")
                    self.assert_not_cached(response)
                    self.assertEqual(response.headers.getlist("Allow"), ["GET, HEAD"])
        self.assertEqual(len(self.c42.calls), 0)

    def test_host(self) -> None:
        """One that is no host, two, and none in HTTP/1.1 are a 400; HTTP/1.0 needs none."""
        path = f"/events-with-subscriptions/{EVENT}/"
        for host in ("stranger:port", "ü/\\", "a,b", None):
            self.assert_problem(self.client.open(path, environ_overrides={"HTTP_HOST": host}), 400, "Bad Request")
        self.knows()
        old = {"HTTP_HOST": None, "SERVER_PROTOCOL": "HTTP/1.0"}
        self.assertEqual(self.client.open(path, environ_overrides=old).status_code, 200)

    def test_encoded_slash(self) -> None:
        """A slash that was sent percent-encoded closes no address, whichever way the server tells how it was sent."""
        path = f"/events-with-subscriptions/{EVENT}/"
        for environ in (
            *({"RAW_URI": f"{path[:-1]}%2F"}, {"REQUEST_URI": f"{path[:-1]}%2f?a=b", "RAW_URI": None}),
            {"asgi.scope": {"raw_path": f"{path[:-1]}%2F".encode()}},
        ):
            self.assert_problem(self.client.open(path, environ_overrides=environ), 404, "Not Found")

    def test_strangers_headers(self) -> None:
        """What a WSGI server makes of a client's Host, prefix and upgrade leads nowhere else."""
        self.knows()
        plain = self.get()
        for environ in (
            *({"HTTP_HOST": ""}, {"HTTP_HOST": "stranger:8080"}, {"HTTP_HOST": "[::1]:"}, {"SCRIPT_NAME": "/stranger"}),
            *({"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "Upgrade"}, {"wsgi.url_scheme": "wss"}),
            *({"SERVER_NAME": "", "SERVER_PORT": "x"}, {"HTTP_COOKIE": "session=stranger; ="}),
            *({"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"}, {"HTTP_AUTHORIZATION": "Basic %%%"}),
            *({"CONTENT_TYPE": "multipart/form-data; boundary=", "CONTENT_LENGTH": "x"},),
        ):
            with self.subTest(environ):
                path = f"/events-with-subscriptions/{EVENT}/"
                response = self.client.open(path, environ_overrides=environ)
                self.assertEqual((response.status_code, response.data), (200, plain.data))
                self.assertEqual(
                    re.sub("(Cache-Status|X-Request-ID).*", "", str(response.headers)),
                    re.sub("(Cache-Status|X-Request-ID).*", "", str(plain.headers)),
                )
                redirect = self.client.open(path[:-1], environ_overrides=environ)
                self.assertEqual((redirect.status_code, redirect.headers["Location"]), (308, path))
        self.assertEqual(len(self.c42.calls), 2)
