"""A small collector of OpenTelemetry: it takes spans by OTLP over HTTP, and keeps what it was sent."""

import threading
from collections.abc import Iterable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from harness.processes import until

TIMEOUT = 10.0


class Span(NamedTuple):
    """A span as it was received. The ids are hexadecimal; `parent` is empty for the first span of a trace."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    has_failed: bool
    attributes: dict[str, object]
    resource: dict[str, object]


class Collector:
    """Listens on a free port of loopback.

    `status` is what it answers from now on; while it hangs, it answers nothing. `received` is every byte of every
    request, with its head; `requests` counts them.
    """

    def __init__(self) -> None:
        self.status = 200
        self.received = b""
        self.requests = 0
        self._spans: list[Span] = []
        self._go_on = threading.Event()
        self._go_on.set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.collector = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang(False)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def hang(self, hangs: bool) -> None:
        self._go_on.clear() if hangs else self._go_on.set()

    def spans(self, *names: str) -> list[Span]:
        """All spans, as soon as there are some with each of these names, in the order in which they ended."""
        until(lambda: {*names} <= {span.name for span in self._spans}, f"spans with the names {names}", TIMEOUT)
        return [*self._spans]

    def forget(self) -> None:
        self._spans.clear()

    def take(self, path: str, headers: Message, body: bytes) -> int:
        """Take a request, and return the status."""
        self.received += f"{path}\n{headers}".encode() + body
        self.requests += 1
        self._go_on.wait(TIMEOUT)
        if (path, headers["Content-Type"]) != ("/v1/traces", "application/x-protobuf"):
            return 404
        if self.status == 200:
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = _values(group.resource.attributes)
                self._spans += [_span(each, resource) for scope in group.scope_spans for each in scope.spans]
        return self.status


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    collector: Collector


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        status = self.server.collector.take(
            self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))
        )
        try:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
        except OSError:
            pass  # the exporter does not wait any more

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is http.server's
        pass


def _span(sent: trace_pb2.Span, resource: dict[str, object]) -> Span:
    kind = trace_pb2.Span.SpanKind.Name(sent.kind).removeprefix("SPAN_KIND_").lower()
    has_failed = sent.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    trace, span, parent = (each.hex() for each in (sent.trace_id, sent.span_id, sent.parent_span_id))
    return Span(sent.name, kind, trace, span, parent, has_failed, _values(sent.attributes), resource)


def _values(attributes: Iterable[KeyValue]) -> dict[str, object]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
