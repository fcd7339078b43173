"""The spans of a request: which there are, what they say, and that neither they nor their collector hurt an answer."""

import os
import sys
import tempfile
import unittest
from contextlib import closing, nullcontext
from pathlib import Path
from threading import Thread
from types import FrameType
from unittest.mock import patch

from flask import Flask
from pydantic import SecretStr
from werkzeug.test import Client

from c42_proxy.app import build
from c42_proxy.errors import SettingsError
from c42_proxy.observability.otel import Spans
from c42_proxy.observability.tracing import spans_from_env
from c42_proxy.settings import Settings
from c42_proxy.web.asgi import AsgiApp
from harness import wire
from harness.as_wsgi import AsWsgi
from harness.collector import Collector, Span
from harness.processes import clean_environ, free_port, run, until
from harness.wire import EVENT_ID, Behaviour, Connection, Wire

ROUTE = "/events-with-subscriptions/{event_id}/"
PATH = f"/events-with-subscriptions/{EVENT_ID}/"
EVENT, PAGE = "GET events/{event_id}/", "GET event-subscriptions/"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
TOKEN, TITLE, NAME = "s3kr3t-t0k3n", "Drink-a-cup", "Zaphod"
WAYS = ("flask", "asgi", "asgi in messages")


class TracedTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 1_475_000_000.0
        self.seen: list[str | None] = []
        self.behaviour: Behaviour = wire.c42(TITLE, [wire.subscription(1, NAME)])
        self.collector = self.enterContext(Collector())
        self.c42 = self.enterContext(Wire(self.behave))
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def behave(self, path: str, connection: Connection) -> None:
        self.seen.append(connection.header("traceparent"))
        self.behaviour(path, connection)

    def client(self, way: str, cache_url: str = "memory://", api_url: str = "", **variables: str) -> Client:
        """A client of a proxy that sends its spans to the collector, a moment after they have ended."""
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url, "OTEL_BSP_SCHEDULE_DELAY": "20", **variables}
        with patch.dict(os.environ, environ):
            spans = spans_from_env()
            assert spans is not None
            spans.start()
        return self.client_of(spans, way, cache_url, api_url)

    def client_of(self, spans: Spans, way: str, cache_url: str = "memory://", api_url: str = "") -> Client:
        c42 = api_url or self.c42.url
        settings = Settings(api_token=SecretStr(TOKEN), api_url=c42, cache_url=cache_url, stale_if_error=0)
        proxy = self.enterContext(closing(build(settings, clock=lambda: self.now, spans=spans)))
        if way == "flask":
            return proxy.flask.test_client()
        return Client(self.enterContext(closing(AsWsgi(proxy.asgi, whole="messages" not in way))))

    def request(self, *names: str) -> Span:
        """The span of the only request since the last call."""
        (found,) = [span for span in self.collector.spans(*names) if span.kind == "server"]
        return found


class SpansTest(TracedTest):
    def test_miss(self) -> None:
        """A miss is a span that continues the client's trace; its parts are the store, the lease and the calls."""
        for way in WAYS:
            with self.subTest(way):
                self.collector.forget()
                self.seen.clear()
                url = f"sqlite:///{self.folder}/{way.replace(' ', '-')}.sqlite3"
                client = self.client(way, url)
                answer = client.get(f"{PATH}?q=1", headers={"traceparent": TRACEPARENT, "X-Request-ID": "mine"})
                self.assertEqual(answer.status_code, 200)
                name = f"GET {ROUTE}"
                request = self.request(name, "lease")
                self.assertEqual((name, TRACE, PARENT, False), (request.name, *request[2:3], *request[4:6]))
                expected = {
                    "http.request.method": "GET",
                    "http.route": ROUTE,
                    "url.path": PATH,
                    "http.response.status_code": 200,
                    "c42_proxy.cache_status": "c42-proxy; fwd=uri-miss; stored; fwd-status=200",
                    "c42_proxy.request_id": "mine",
                }
                self.assertEqual(expected, request.attributes)
                spans = self.collector.spans()
                self.assertEqual({TRACE}, {span.trace for span in spans})
                self.assertEqual({"c42-proxy"}, {span.resource["service.name"] for span in spans})
                (lease,) = [span for span in spans if span.name == "lease"]
                parts = [(span.name, span.kind) for span in spans if span.parent == lease.id]
                self.assertEqual(
                    {(EVENT, "client"), (PAGE, "client"), ("store get", "client"), ("store put", "client")},
                    set(parts) - {("store read_state", "client"), ("store change_state", "client")},
                )
                before = {span.name for span in spans if span.parent == request.id}
                self.assertEqual({"store get", "store lease", "lease"}, before)
                # C42's own spans become children of those of the calls.
                calls = {f"00-{TRACE}-{span.id}-01" for span in spans if span.name in {EVENT, PAGE}}
                self.assertEqual(calls, set(self.seen))
                (page,) = [span for span in spans if span.name == PAGE]
                port = self.c42.port
                address = {"http.request.method": "GET", "server.address": "127.0.0.1", "server.port": port}
                self.assertEqual({**address, "http.response.status_code": 200, "c42_proxy.offset": 0}, page.attributes)

    def test_hit(self) -> None:
        """A hit has a span as well, without parts; without a client's trace it begins one."""
        for way in WAYS:
            with self.subTest(way):
                client = self.client(way)
                client.get(PATH)
                self.collector.spans("lease", f"GET {ROUTE}")
                self.collector.forget()
                client.head(PATH)
                self.collector.spans(f"HEAD {ROUTE}")
                (hit,) = self.collector.spans()
                self.assertEqual(("", 200), (hit.parent, hit.attributes["http.response.status_code"]))
                self.assertEqual("c42-proxy; hit; ttl=252", hit.attributes["c42_proxy.cache_status"])
                self.collector.forget()

    def test_refused(self) -> None:
        """A request that is refused is one span, and says nothing of what was sent but a method that exists."""
        for way in WAYS:
            with self.subTest(way):
                client = self.client(way)
                client.get("/secret")
                client.open(PATH, method="SECRET")
                client.get(PATH, headers={"Host": "secret secret"})
                self.collector.spans("GET", f"HTTP {ROUTE}", f"GET {ROUTE}")
                found = [(span.name, span.attributes["http.response.status_code"]) for span in self.collector.spans()]
                self.assertEqual([("GET", 404), (f"HTTP {ROUTE}", 405), (f"GET {ROUTE}", 400)], found)
                self.assertNotIn(b"ecret", self.collector.received.replace(b"SECRET_", b""))
                self.collector.forget()

    def test_failure(self) -> None:
        """A call that fails and the request that fails with it say so, and the call says the cause."""
        self.behaviour = wire.but(self.behaviour, {"event": wire.says(TOKEN.encode(), "500 Oops")})
        for way in WAYS:
            with self.subTest(way):
                self.assertEqual(502, self.client(way).get(PATH).status_code)
                request = self.request(EVENT, f"GET {ROUTE}")
                (call,) = [span for span in self.collector.spans() if span.name == EVENT]
                said = [call.attributes[name] for name in ("error.type", "c42_proxy.cause")]
                self.assertEqual(["UpstreamUnavailable", "status 500"], said)
                self.assertEqual(500, call.attributes["http.response.status_code"])
                self.assertEqual(("502", True, True), (request.attributes["error.type"], request[5], call[5]))
                self.collector.forget()

    def test_port_of_the_scheme(self) -> None:
        """A call to an address without a port names the port that it goes to."""
        for scheme, port in (("http", 80), ("https", 443)):
            with self.subTest(scheme):
                self.client("flask", api_url=f"{scheme}://127.0.0.1/").get(PATH)
                self.collector.spans(EVENT, f"GET {ROUTE}")
                (call,) = [span for span in self.collector.spans() if span.name == EVENT]
                address = (call.attributes["server.address"], call.attributes["server.port"])
                self.assertEqual(("127.0.0.1", port), address)
                self.collector.forget()

    def test_failing_store(self) -> None:
        """An operation on a store that fails says so."""
        with self.assertLogs("c42_proxy.stores.tiered", "WARNING"):
            self.client("asgi", f"redis://127.0.0.1:{free_port()}/0").get(PATH)
        found = {span.name: span for span in self.collector.spans("store get")}
        self.assertEqual(("StoreError", True), (found["store get"].attributes["error.type"], found["store get"][5]))

    def test_no_secret(self) -> None:
        """No token, title, name, password or query is in what the collector gets, whatever fails."""
        url = self.collector.url.replace("://", "://user:pa55@")
        for behaviour in (self.behaviour, wire.says(f"{TOKEN} {TITLE} {NAME}".encode()), wire.closes):
            self.behaviour = behaviour
            cache_url = f"redis://:pa55@127.0.0.1:{free_port()}/0"
            with self.assertLogs("c42_proxy", "WARNING"):
                client = self.client("asgi", cache_url, OTEL_EXPORTER_OTLP_ENDPOINT=url)
                client.get(f"{PATH}?{TOKEN}", headers={"Authorization": TOKEN, "Cookie": TOKEN, "traceparent": TOKEN})
            self.collector.spans(EVENT, PAGE, f"GET {ROUTE}")
            self.collector.forget()
        for secret in (TOKEN, TITLE, NAME, "pa55"):
            self.assertNotIn(secret.encode(), self.collector.received)

    def test_not_sampled(self) -> None:
        """A sampler is OpenTelemetry's own. C42 is told that a trace is not recorded."""
        client = self.client("asgi", OTEL_TRACES_SAMPLER="always_off")
        client.get(PATH, headers={"traceparent": TRACEPARENT})
        self.assertRegex(self.seen[0] or "", f"^00-{TRACE}-[0-9a-f]{{16}}-00$")
        self.assertNotEqual(PARENT, (self.seen[0] or "")[36:52])
        self.assertEqual(b"", self.collector.received)


class SickCollectorTest(TracedTest):
    def test_down(self) -> None:
        """A collector that refuses is told of once, and once more when it takes the spans again."""
        self.collector.status = 400
        client = self.client("asgi")
        with self.assertLogs("c42_proxy.observability.otel") as logs:
            for number in range(3):
                self.assertEqual(200, client.get(PATH).status_code)
                heads = f"POST {number}"
                until(lambda: self.collector.requests > number, heads)  # noqa: B023  # it is called at once
            self.collector.status = 200
            client.get(PATH)
            self.collector.spans(f"GET {ROUTE}")
            until(lambda: len(logs.output) > 1, "the second line")
        self.assertEqual(["WARNING", "INFO"], [record.levelname for record in logs.records])
        self.assertIn(f"{self.collector.url}/v1/traces does not take the spans", logs.output[0])

    def test_hanging(self) -> None:
        """While a collector hangs, answers are given."""
        self.collector.hang(True)
        client = self.client("asgi")
        for _ in range(3):
            self.assertEqual(200, client.get(PATH).status_code)
            until(lambda: self.collector.requests, "an export")
        self.collector.hang(False)
        self.collector.spans(f"GET {ROUTE}")

    def test_no_thread(self) -> None:
        """If the system gives no thread for the exporter, no span is sent, which is told once; the trace goes on."""
        with (
            patch.object(Thread, "start", side_effect=RuntimeError("can't start new thread")),
            self.assertLogs("c42_proxy.observability.otel") as logs,
        ):
            client = self.client("flask")
        self.assertEqual(200, client.get(PATH, headers={"traceparent": TRACEPARENT}).status_code)
        self.assertEqual(["WARNING"], [record.levelname for record in logs.records])
        self.assertRegex(self.seen[0] or "", f"^00-{TRACE}-")


class OffTest(unittest.TestCase):
    """Without OpenTelemetry's variables there are no spans, and nothing of them costs anything."""

    def test_same_objects(self) -> None:
        """The two ways in are the apps themselves: no layer is around them."""
        settings = Settings(api_token=SecretStr(TOKEN), cache_url="memory://")
        with closing(build(settings)) as proxy:
            self.assertIs(AsgiApp, type(proxy.asgi))
            self.assertEqual(Flask.wsgi_app, getattr(proxy.flask.wsgi_app, "__func__", None))

    def test_hit_calls_nothing(self) -> None:
        """A hit calls no function of the modules that make spans; a miss makes no span."""
        with Wire(wire.c42(TITLE)) as c42:
            settings = Settings(api_token=SecretStr(TOKEN), api_url=c42.url, cache_url="memory://")
            with closing(build(settings)) as proxy, closing(AsWsgi(proxy.asgi)) as asgi:
                clients = {"asgi": Client(asgi), "flask": proxy.flask.test_client()}
                with patch.object(nullcontext, "__enter__", autospec=True) as entered:
                    clients["asgi"].get(PATH)
                self.assertGreater(entered.call_count, 0)
                for way, client in clients.items():
                    called: set[str] = set()

                    def note(frame: FrameType, _event: str, _argument: object) -> None:
                        called.add(Path(frame.f_code.co_filename).name)  # noqa: B023  # it is called in this turn

                    with self.subTest(way):
                        asgi.in_loop(sys.setprofile, note)
                        sys.setprofile(note)
                        answer = client.get(PATH)
                        sys.setprofile(None)
                        asgi.in_loop(sys.setprofile, None)
                        self.assertIn("; hit; ", answer.headers["Cache-Status"])
                        self.assertIn("events.py", called)
                        self.assertEqual(set(), called & {"tracing.py", "otel.py", "traced.py"})

    def test_not_imported(self) -> None:
        """Nothing of OpenTelemetry is imported, and no memory is needed for it."""
        code = (
            "import sys; from c42_proxy import create_app; create_app()\n"
            "print(*(name for name in sys.modules if name.startswith('opentelemetry')))"
        )
        said = run(sys.executable, "-c", code, environ=clean_environ(C42_API_TOKEN=TOKEN, C42_CACHE_URL="memory://"))
        self.assertEqual((0, "\n"), (said.returncode, said.stdout), said.stderr)


class VariablesTest(unittest.TestCase):
    def test_off(self) -> None:
        """The spans are off without an address, or where OpenTelemetry's variables switch them off."""
        address = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4318"}
        for environ in (
            {},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
            {"OTEL_SERVICE_NAME": "c42"},
            {**address, "OTEL_SDK_DISABLED": "True"},
            {**address, "OTEL_TRACES_EXPORTER": "none"},
        ):
            with self.subTest(environ):
                self.assertIsNone(spans_from_env(environ))

    def test_on(self) -> None:
        """An address for all signals gets the path of the spans; one for the spans alone is taken as it is."""
        for environ, collector in (
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, "http://a:4318/v1/traces"),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://a/x/"}, "https://a/x/v1/traces"),
            (
                {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318",
                    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://user:pa55@b/spans?key=pa55",
                    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                    "OTEL_TRACES_SAMPLER_ARG": "0.1",
                },
                "http://b/spans",
            ),
        ):
            with self.subTest(collector):
                spans = spans_from_env(environ)
                assert spans is not None
                self.assertEqual(collector, spans.collector)

    def test_wrong(self) -> None:
        """What would lead nowhere, or be ignored, is said in a sentence that names the variable."""
        for variable, value in (
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "always"),
            ("OTEL_TRACES_SAMPLER_ARG", "10%"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ):
            with self.subTest(variable, value=value), self.assertRaises(SettingsError) as raised:
                spans_from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", variable: value})
            self.assertRegex(raised.exception.lines[0], rf"^{variable}: allowed .*\.$")
            self.assertEqual(1, len(raised.exception.lines))
