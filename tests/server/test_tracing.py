"""Spans of gunicorn's workers: each sends its own, and the last ones before it ends."""

import signal

from harness.collector import Collector
from harness.processes import C42_PROXY, Process, ProcessTestCase, free_port, until
from harness.sandbox import Sandbox
from tests.server.test_gunicorn import ask, environ_of

END_SECONDS = 20.0
"""The last spans get 2 s; the rest is for a busy machine. Without a bound, there would be no line about lost spans."""


class WorkersTest(ProcessTestCase):
    def serve(self, collector: Collector, **variables: str) -> tuple[Process, int]:
        port, c42 = free_port(), self.enterContext(Sandbox())
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "1000", **variables}
        proxy = self.enterContext(Process([*C42_PROXY, "serve"], environ_of(port, c42.url, **told)))
        proxy.wait_until_answers(f"http://127.0.0.1:{port}/")
        return proxy, port

    def test_each_worker(self) -> None:
        """Each worker sends its spans. At a stop the last ones are sent before the process ends."""
        with Collector() as collector:
            proxy, port = self.serve(collector, WEB_CONCURRENCY="2", OTEL_SERVICE_NAME="ours")

            def both() -> bool:
                self.assertEqual(200, ask(port).status)
                return len({span.resource["process.pid"] for span in collector.spans()}) == 2

            until(both, "spans of two workers")
            self.assertEqual({"ours"}, {span.resource["service.name"] for span in collector.spans()})
            ask(port, headers="Host: x\r\nX-Request-ID: the-last\r\n")
            proxy.send(signal.SIGTERM)
            self.assertEqual(0, proxy.wait(END_SECONDS))
            self.assertIn("the-last", {span.attributes.get("c42_proxy.request_id") for span in collector.spans()})
            self.assertIn(f"OpenTelemetry: the spans go to {collector.url}/v1/traces", proxy.output())

    def test_hanging_collector(self) -> None:
        """A collector that fails is one line in the log; one that hangs keeps a worker for a moment from ending."""
        with Collector() as collector:
            collector.status = 400
            proxy, port = self.serve(
                collector, GUNICORN_CMD_ARGS="--worker-class gthread", OTEL_BSP_SCHEDULE_DELAY="20"
            )
            for number in range(3):
                self.assertEqual(200, ask(port).status)
                until(lambda: collector.requests > number, "an export")  # noqa: B023  # it is called at once
            collector.hang(True)
            self.assertEqual(200, ask(port).status)
            told = [line for line in proxy.output().splitlines() if "elemetry" in line]
            self.assertEqual(2, len(told), told)
            self.assertIn("does not take the spans", told[1])
            proxy.send(signal.SIGTERM)
            self.assertEqual(0, proxy.wait(END_SECONDS))
            self.assertEqual(1, proxy.output().count("OpenTelemetry: the last spans are lost"), proxy.output())
