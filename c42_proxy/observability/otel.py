"""OpenTelemetry's SDK: makes the spans and exports them by OTLP. Imported only if the spans are on.

No library is instrumented, and OpenTelemetry's global objects are left alone. An exception's text is in no span,
because it may quote what was received.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..errors import Overloaded, Problem
from ..threads import result_within
from ..version import __version__
from . import tracing

log = logging.getLogger(__name__)

LAST_SPANS_SECONDS = 2.0
"""Before it ends, a process waits at most so long for the collector to take its last spans."""
TELL_AGAIN_SECONDS = 60.0
"""A collector that comes and goes is reported at most so often."""

KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}

_propagator = TraceContextTextMapPropagator()


class Spans:
    """Makes the spans of requests, and sends them to the collector at `url`, in a thread. Thread-safe.

    Whatever the collector does, no request waits for it: spans that it does not take are dropped. Raises ValueError if
    one of OpenTelemetry's variables is wrong.
    """

    def __init__(self, url: str) -> None:
        # It logs each failure of the collector, several times a batch, and may quote headers with a secret.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        parts = urlsplit(url)
        self.collector = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        """Where the spans go, without user, password and query."""
        self._exporter = _Exporter(url, self.collector)
        self._lock = Lock()
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None

    def start(self) -> Tracer:
        """Start the thread that exports, unless it runs. Call it after the fork: no thread survives a fork."""
        with self._lock:
            if self._tracer is None:
                provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
                try:
                    provider.add_span_processor(BatchSpanProcessor(self._exporter))
                    self._provider = provider
                except (RuntimeError, ValueError) as exc:  # the system gives no thread, or OTEL_BSP_... is wrong
                    log.warning("OpenTelemetry: this process sends no spans (%s)", exc)
                self._tracer = provider.get_tracer("c42_proxy", __version__)
            return self._tracer

    @contextmanager
    def request(self, name: str, traceparent: str | None, attributes: tracing.Attributes) -> "Iterator[RequestSpan]":
        """The span of a request, which continues the client's trace, if it has one."""
        tracer = self._tracer or self.start()
        parent = _propagator.extract({} if traceparent is None else {"traceparent": traceparent}, Context())
        request = RequestSpan(tracer, tracer.start_span(name, parent, SpanKind.SERVER, {**attributes}))
        with request.under_way():
            yield request

    def close(self) -> None:
        """Send the last spans, and end the thread. If the collector hangs, the thread ends with the process."""
        with self._lock:
            provider, self._provider = self._provider, None
        if provider is None:
            return

        def end() -> None:
            provider.force_flush()
            # It would wait in steps of seconds while spans are being sent.
            provider.shutdown()

        try:
            result_within(LAST_SPANS_SECONDS, end)
        except (TimeoutError, Overloaded):
            log.warning("OpenTelemetry: the last spans are lost, because %s does not take them", self.collector)


class _Span:
    """A span under way, which is the parent of the spans that begin meanwhile."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def traceparent(self) -> str:
        place = self._span.get_span_context()
        return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"

    @contextmanager
    def child(self, name: str, kind: tracing.Kind, attributes: tracing.Attributes) -> Iterator[None]:
        parent = set_span_in_context(self._span)
        child = _Span(self._tracer, self._tracer.start_span(name, parent, KINDS[kind], {**attributes}))
        with child.under_way():
            yield

    def annotate(self, attributes: tracing.Attributes) -> None:
        self._span.set_attributes({**attributes})

    @contextmanager
    def under_way(self) -> Iterator[None]:
        before = tracing.current.set(self)
        try:
            yield
        except Exception as error:
            self._fail(type(error).__name__)
            if isinstance(error, Problem):
                self.annotate({"c42_proxy.cause": error.cause})
            raise
        finally:
            tracing.current.reset(before)
            self._span.end()

    def _fail(self, kind: str) -> None:
        self._span.set_status(StatusCode.ERROR)
        self.annotate({"error.type": kind})


class RequestSpan(_Span):
    """The span of a request."""

    def answered(self, status: int, attributes: tracing.Attributes) -> None:
        self.annotate({"http.response.status_code": status, **attributes})
        if status >= 500:
            self._fail(str(status))


class _Exporter(OTLPSpanExporter):
    """Says once that the collector fails, and once that it works again."""

    def __init__(self, url: str, collector: str) -> None:
        super().__init__(endpoint=url)
        self._collector = collector
        self._is_told = False
        self._tell_again_at = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Called by the thread that exports."""
        try:
            result = super().export(spans)
        except Exception:  # noqa: BLE001  # whatever it is, these spans are lost and the next may not be
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS and self._is_told:
            self._is_told = False
            log.info("OpenTelemetry: %s takes the spans again", self._collector)
        if result is not SpanExportResult.SUCCESS and not self._is_told and time.monotonic() >= self._tell_again_at:
            self._is_told = True
            self._tell_again_at = time.monotonic() + TELL_AGAIN_SECONDS
            log.warning("OpenTelemetry: %s does not take the spans: they are dropped until it does", self._collector)
        return result


def _resource() -> Resource:
    """What the spans say of this process. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    ours: dict[str, str | int] = {
        "service.name": "c42-proxy",
        "service.version": __version__,
        "process.pid": os.getpid(),
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": sdk_version,
    }
    # Not `Resource.create`, which starts threads to find this out.
    return Resource(ours).merge(OTELResourceDetector().detect())
