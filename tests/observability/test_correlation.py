"""A request's id and trace, on their way through the proxy: to C42, back to the client, and into the log."""

import io
import json
import logging
import re
import time
import unittest
from contextlib import closing, redirect_stderr
from typing import Any

import responses
from pydantic import SecretStr
from werkzeug.test import Client

from c42_proxy.app import build
from c42_proxy.observability import logs
from c42_proxy.sandbox import shapes
from c42_proxy.settings import Settings
from harness.as_wsgi import AsWsgi

API_URL = "http://c42.example/api/v2/"
PATH = "/events-with-subscriptions/tea/"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NEW_ID = re.compile("[0-9a-f]{32}")


class CorrelationTest(unittest.TestCase):
    """Each test runs through Flask alone, and through the ASGI app."""

    def setUp(self) -> None:
        self.c42 = self.enterContext(responses.RequestsMock(assert_all_requests_are_fired=False))
        self.settings = Settings(
            api_token=SecretStr("the-secret"), api_url=API_URL, cache_url="memory://", log_format="json"
        )

    def clients(self) -> list[Client]:
        alone, behind = (self.enterContext(closing(build(self.settings))) for _ in range(2))
        asgi = self.enterContext(closing(AsWsgi(behind.asgi)))
        return [alone.flask.test_client(), Client(asgi)]

    def knows_tea(self) -> None:
        self.c42.get(f"{API_URL}events/tea/", json=shapes.page([shapes.event("tea", None)]))
        self.c42.get(f"{API_URL}event-subscriptions/", json=shapes.page([], count=0))

    def test_sent_on_and_back(self) -> None:
        """A sane id goes on to C42 and back to the client; so does the trace, to C42."""
        self.knows_tea()
        for client in self.clients():
            self.c42.calls.reset()
            answer = client.get(PATH, headers={"X-Request-ID": "app-42.7", "traceparent": TRACE})
            self.assertEqual(answer.headers.getlist("X-Request-ID"), ["app-42.7"])
            sent = [
                (call.request.headers["X-Request-ID"], call.request.headers["traceparent"]) for call in self.c42.calls
            ]
            self.assertEqual(sent, [("app-42.7", TRACE)] * 2)

    def test_made(self) -> None:
        """Without a valid id, a new one is made; an invalid trace is not passed on."""
        self.knows_tea()
        for client in self.clients():
            for wrong in (None, "", "a b", "x" * 129, "ü", 'a"b', "a,b"):
                self.c42.calls.reset()
                headers = {} if wrong is None else {"X-Request-ID": wrong, "traceparent": "00-x"}
                answer = client.get(PATH, headers=headers)
                self.assertRegex(answer.headers["X-Request-ID"], NEW_ID)
                for call in self.c42.calls:
                    self.assertEqual(call.request.headers["X-Request-ID"], answer.headers["X-Request-ID"])
                    self.assertNotIn("traceparent", call.request.headers)

    def test_hits_have_their_own(self) -> None:
        """A hit has the id of its own request, not of the one that made it."""
        self.knows_tea()
        for client in self.clients():
            ids = [client.get(PATH, headers={"X-Request-ID": name}).headers["X-Request-ID"] for name in ("a", "b", "c")]
            self.assertEqual(ids, ["a", "b", "c"])

    def test_shown_in_problems(self) -> None:
        """A problem shows the id; one that is cached belongs to no one request, and shows none."""
        self.c42.get(f"{API_URL}events/tea/", status=404)
        self.c42.get(f"{API_URL}events/sick/", status=500)
        self.c42.get(f"{API_URL}event-subscriptions/", json={"data": []})
        for client in self.clients():
            for path in (PATH.replace("tea", "sick"), "/nowhere"):
                answer = client.get(path, headers={"X-Request-ID": "mine"})
                self.assertEqual(answer.get_json(force=True)["request_id"], "mine")
            self.assertNotIn("request_id", client.get(PATH).get_json(force=True))


class RequestLogTest(CorrelationTest):
    def lines(self, level: str = "info") -> tuple[list[Client], io.StringIO]:
        """Clients of proxies that log from `level` on, and what they log."""
        root = logging.getLogger()
        self.addCleanup(setattr, root, "handlers", root.handlers[:])
        self.addCleanup(root.setLevel, root.level)
        stream = io.StringIO()
        with redirect_stderr(stream):
            logs.configure_logs(self.settings.model_copy(update={"log_level": level}))
        for handler in root.handlers:
            self.addCleanup(handler.close)
        return self.clients(), stream

    def logged(self, stream: io.StringIO) -> list[dict[str, Any]]:
        for handler in logging.getLogger().handlers:
            handler.flush()
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        stream.seek(0)
        stream.truncate()
        return [line for line in lines if line["logger"] == "c42_proxy.requests"]

    def test_miss(self) -> None:
        """A request is one line: method, path, status, outcome, its time, C42's time, and the id."""
        self.knows_tea()
        clients, stream = self.lines()
        for client in clients:
            client.get(f"{PATH}?secret=1", headers={"X-Request-ID": "mine"})
            (line,) = self.logged(stream)
            self.assertGreaterEqual(line.pop("ms"), line.pop("c42_ms"))
            expected = {"method": "GET", "path": PATH, "status": 200, "outcome": "miss", "request_id": "mine"}
            self.assertEqual({key: line[key] for key in expected}, expected)
            self.assertNotIn("secret", str(line))
            self.assertNotIn("trace_id", line)

    def test_trace(self) -> None:
        """The line of a request that has a place in a trace names the trace, that of a hit as well."""
        self.knows_tea()
        clients, stream = self.lines("debug")
        for client in clients:
            for outcome in ("miss", "hit"):
                client.get(PATH, headers={"traceparent": TRACE})
                (line,) = self.logged(stream)
                self.assertEqual(("0af7651916cd43dd8448eb211c80319c", outcome), (line["trace_id"], line["outcome"]))

    def test_cause(self) -> None:
        """Where there is no new answer, the line says why, also where the failure is repeated."""
        self.c42.get(f"{API_URL}events/tea/", status=500)
        self.c42.get(f"{API_URL}event-subscriptions/", json={"data": []})
        self.settings = self.settings.model_copy(update={"breaker_threshold": 1})
        clients, stream = self.lines()
        for client in clients:
            for path in (PATH, PATH, PATH.replace("tea", "milk")):
                client.get(path)
            causes = [line["cause"] for line in self.logged(stream)]
            self.assertEqual(causes, ["status 500", "status 500", "the circuit breaker is open"])

    def test_hit(self) -> None:
        """A plain hit is a line from the level `debug` on: the server in front has one of each already."""
        self.knows_tea()
        for level, expected in (("info", []), ("debug", ["hit"])):
            clients, stream = self.lines(level)
            for client in clients:
                client.get(PATH)
                self.logged(stream)
                client.get(PATH)
                self.assertEqual([line["outcome"] for line in self.logged(stream)], expected)

    def test_stale_at_once(self) -> None:
        """A stale answer that is known at once is a line, too, with its own trace."""
        self.knows_tea()
        _clients, stream = self.lines()
        now = time.time()
        with closing(build(self.settings, clock=lambda: now)) as proxy:
            proxy.events.reply("tea")
            self.c42.reset()
            self.c42.get(re.compile(API_URL), status=429, headers={"Retry-After": "60"})
            now += self.settings.cache_ttl
            # The first one is asked to back off, the second one knows it.
            proxy.events.reply("tea")
            proxy.events.reply("tea")
            answer = proxy.asgi.answer_at_once_for({})
            assert answer is not None
            for headers in ([(b"host", b"a"), (b"traceparent", TRACE.encode())], [(b"host", b"a")]):
                self.assertIn(b"stale-if-error", answer(b"GET", PATH.encode(), headers) or b"")
        traced, other = self.logged(stream)
        self.assertEqual("0af7651916cd43dd8448eb211c80319c", traced.pop("trace_id"))
        self.assertNotIn("trace_id", other)
        for line in (traced, other):
            expected = {
                "method": "GET",
                "path": PATH,
                "status": 200,
                "outcome": "stale",
                "cause": "C42 has asked to wait",
            }
            self.assertEqual({key: line[key] for key in expected}, expected)

    def test_strangers_path(self) -> None:
        """A path is logged as it was sent: nobody writes lines of their own."""
        clients, stream = self.lines()
        for client in clients:
            client.get("/a%0a%1b[31m/ü")
            (line,) = self.logged(stream)
            self.assertEqual((line["path"], line["outcome"]), ("/a%0A%1B%5B31m/%C3%BC", "refused"))

    def test_lines_of_a_fetch(self) -> None:
        """What is logged on behalf of a request, in whatever thread, has its id."""
        self.c42.get(re.compile(API_URL), status=401)
        clients, stream = self.lines()
        for client in clients:
            client.get(PATH, headers={"X-Request-ID": "mine"})
            for handler in logging.getLogger().handlers:
                handler.flush()
            lines = [json.loads(line) for line in stream.getvalue().splitlines()]
            refused = [line for line in lines if line["event"] == "C42 refuses our token: status 401"]
            self.assertEqual({line["request_id"] for line in refused}, {"mine"})
            self.assertEqual({line["level"] for line in refused}, {"error"})
            self.logged(stream)
