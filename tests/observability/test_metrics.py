"""What the proxy counts, in one process."""

import re
import unittest
from contextlib import closing

import responses
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from werkzeug.test import Client

from c42_proxy.app import build
from c42_proxy.sandbox import shapes
from c42_proxy.settings import Settings
from harness.as_wsgi import AsWsgi

API_URL = "http://c42.example/api/v2/"
PATH = "/events-with-subscriptions/tea/"


class MetricsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 1_475_000_000.0
        self.c42 = self.enterContext(responses.RequestsMock(assert_all_requests_are_fired=False))
        settings = Settings(api_token=SecretStr("s3kr3t"), api_url=API_URL, cache_url="memory://", breaker_threshold=1)
        self.proxy = self.enterContext(closing(build(settings, clock=lambda: self.now)))
        self.ops = self.proxy.ops.test_client()
        asgi = self.enterContext(closing(AsWsgi(self.proxy.asgi)))
        self.clients = {"flask": self.proxy.flask.test_client(), "asgi": Client(asgi)}

    def c42_answers(self, status: int = 200) -> None:
        self.c42.reset()
        event = shapes.page([shapes.event("tea", None)])
        headers = {"Retry-After": "30"} if status == 429 else {}
        self.c42.get(f"{API_URL}events/tea/", status=status, json=event, headers=headers)
        self.c42.get(re.compile(f"{API_URL}event-subscriptions/"), json=shapes.page([], count=0))

    def samples(self) -> dict[str, float]:
        """Each sample, by its name and its labels' values."""
        text = self.ops.get("/metrics").text
        return {
            " ".join([sample.name, *(sample.labels[name] for name in sorted(sample.labels))]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def test_zero(self) -> None:
        """What can happen is shown as 0 before it happens: a rule on increase() would miss the first time."""
        found = self.samples()
        results = ("ok", "rate_limited", "token_refused", "timeout", "down", "invalid")
        calls = {
            f"c42_proxy_upstream_call_duration_seconds_count {endpoint} {result}"
            for endpoint in ("events", "event-subscriptions")
            for result in results
        }
        requests = {
            f"c42_proxy_requests_total {outcome} {status}"
            for outcome, statuses in {
                **dict.fromkeys(("hit", "miss", "collapsed"), "200 304 404"),
                "stale": "200 304",
                "error": "500 502 503 504",
                "refused": "204 308 400 404 405 431",
            }.items()
            for status in statuses.split()
        }
        durations = {
            f"c42_proxy_request_duration_seconds_count {outcome}"
            for outcome in ("miss", "collapsed", "stale", "error", "refused")
        }
        names = tuple(
            f"c42_proxy_{name} "
            for name in ("requests_total", "upstream_call_duration_seconds_count", "request_duration_seconds_count")
        )
        self.assertEqual(
            dict.fromkeys(calls | requests | durations, 0), {n: v for n, v in found.items() if n.startswith(names)}
        )

    def test_outcomes(self) -> None:
        """Each request counts once, by outcome and status, whichever way it came."""
        for client in self.clients.values():
            self.now += 1000
            self.c42_answers()
            before = self.samples()
            client.get(PATH)  # a miss
            client.get(PATH)
            client.head(PATH)  # hits
            client.post(PATH)  # refused
            self.now += 300
            self.c42_answers(500)
            client.get(PATH)  # stale
            self.now += 7200
            client.get(PATH)  # an error
            self.now += 10
            after = self.samples()
            self.assertEqual(before.keys(), after.keys(), "all were there from the start")
            for sample, count in {
                "miss 200": 1,
                "hit 200": 2,
                "refused 405": 1,
                "stale 200": 1,
                "error 502": 1,
            }.items():
                name = f"c42_proxy_requests_total {sample}"
                self.assertEqual(after[name] - before[name], count, name)
                name = f"c42_proxy_request_duration_seconds_count {sample.split()[0]}"
                self.assertEqual(after.get(name, 0) - before.get(name, 0), 0 if "hit" in sample else 1, name)

    def test_bug(self) -> None:
        """A bug of the proxy counts as an error, whichever way the request came."""
        del self.now  # its clock fails
        for number, client in enumerate(self.clients.values(), start=1):
            with self.assertLogs("c42_proxy", "ERROR"):
                client.get(PATH)
            self.assertEqual(number, self.samples()["c42_proxy_requests_total error 500"])

    def test_calls(self) -> None:
        """Calls to C42 are timed by endpoint and result."""
        self.c42_answers()
        self.clients["flask"].get(PATH)
        self.now += 300
        self.c42_answers(401)
        self.clients["flask"].get(PATH)
        found = self.samples()
        for sample, count in {"events ok": 1, "event-subscriptions ok": 2, "events token_refused": 1}.items():
            self.assertEqual(found[f"c42_proxy_upstream_call_duration_seconds_count {sample}"], count, sample)

    def test_open_breaker_and_back_off(self) -> None:
        """The metrics show when an open breaker and a back-off end; /readyz names them meanwhile, but stays 200."""
        ready = self.ops.get("/readyz")
        self.assertEqual(ready.get_json(), {"status": "ready", "degraded": []})
        self.assertEqual(ready.headers["Cache-Control"], "no-store")
        self.c42_answers(500)
        self.clients["asgi"].get(PATH)
        self.assertEqual(self.samples()["c42_proxy_upstream_paused_until_timestamp_seconds"], self.now + 5)
        self.assertEqual(self.ops.get("/readyz").get_json(), {"status": "degraded", "degraded": ["c42-down"]})
        self.now += 5
        self.c42_answers(429)
        self.clients["asgi"].get(PATH)
        self.assertEqual(self.samples()["c42_proxy_upstream_wait_until_timestamp_seconds"], self.now + 30)
        answer = self.ops.get("/readyz")
        self.assertEqual((answer.status_code, answer.get_json()["degraded"]), (200, ["told-to-wait"]))
        self.now += 30
        self.c42_answers()
        self.clients["asgi"].get(PATH)
        self.assertEqual(self.samples()["c42_proxy_upstream_paused_until_timestamp_seconds"], 0)
        self.assertEqual(self.ops.get("/readyz").get_json()["status"], "ready")

    def test_memory(self) -> None:
        """The metrics show the entries and bytes in memory."""
        self.c42_answers()
        self.clients["asgi"].get(PATH)
        found = self.samples()
        self.assertEqual(found["c42_proxy_memory_entries"], 1)
        self.assertGreater(found["c42_proxy_memory_bytes"], 100)

    def test_turns(self) -> None:
        """Fetches in flight are those that run now."""
        with self.proxy.metrics.fetches_in_flight.track_inprogress():
            self.assertEqual(self.samples()["c42_proxy_fetches_in_flight"], 1)
        self.assertEqual(self.samples()["c42_proxy_fetches_in_flight"], 0)

    def test_build(self) -> None:
        """The version that runs is a label; no label holds an id."""
        self.c42_answers()
        self.clients["flask"].get(PATH)
        self.assertTrue(any(name.startswith("c42_proxy_build_info 3.") for name in self.samples()))
        self.assertNotIn("tea", self.ops.get("/metrics").text)

    def test_process(self) -> None:
        """The process' own memory, CPU time and descriptors are there."""
        found = self.samples()
        for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds", "start_time_seconds"):
            self.assertGreater(found[f"process_{name} 1"], 0)

    def test_alive(self) -> None:
        """/healthz says that a worker runs; there is nothing else on the port."""
        self.assertEqual(self.ops.get("/healthz").get_json(), {"status": "alive"})
        self.assertEqual(self.ops.get(PATH).status_code, 404)

    def test_not_on_the_public_port(self) -> None:
        """None of it is on the public port."""
        for client in self.clients.values():
            for path in ("/metrics", "/healthz", "/readyz"):
                self.assertEqual(client.get(path).status_code, 404)
