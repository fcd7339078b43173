"""Spans: what was done for a request, and how long each part took. `otel.py` makes and exports them.

They are off unless OpenTelemetry's own variables switch them on. If they are off, no request has a trace, and nothing
of OpenTelemetry is imported.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from ..errors import SettingsError

if TYPE_CHECKING:
    from .otel import Spans

Kind = Literal["internal", "client"]
"""Whether the span is about our own work, or about what we ask another program."""
Attributes = Mapping[str, str | int]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
CHOICES = {"PROTOCOL": ("http/protobuf",), "COMPRESSION": ("none", "gzip", "deflate")}
NUMBERS = (
    *("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_BSP_EXPORT_TIMEOUT"),
    *("OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
)
SAMPLERS = ("always_on", "always_off", "traceidratio")

_NO_SPAN = nullcontext()


class Trace(Protocol):
    """The span that is under way, as its parts see it."""

    @property
    def traceparent(self) -> str:
        """The span's place in the trace (W3C Trace Context, section 3.2)."""
        ...

    def child(self, name: str, kind: Kind, attributes: Attributes) -> AbstractContextManager[None]: ...
    def annotate(self, attributes: Attributes) -> None: ...


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the request that this task or thread works for; None if there is none."""


def span(name: str, kind: Kind = "internal", attributes: Attributes | None = None) -> AbstractContextManager[None]:
    """A part of what is done for the request, as long as the `with` block lasts."""
    trace = current.get()
    return _NO_SPAN if trace is None else trace.child(name, kind, attributes or {})


def annotate(attributes: Attributes) -> None:
    """Add to the span under way."""
    trace = current.get()
    if trace is not None:
        trace.annotate(attributes)


def traceparent() -> str | None:
    """What to send to others, so that their spans become children of the span under way."""
    trace = current.get()
    return None if trace is None else trace.traceparent


def spans_from_env(environ: Mapping[str, str] | None = None) -> "Spans | None":
    """What makes the spans, as OpenTelemetry's variables say; None if they are off. An empty variable counts as unset.

    Raises SettingsError if a variable is wrong, or if OpenTelemetry is not installed.
    """
    given = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
    variable = TRACES_ENDPOINT if TRACES_ENDPOINT in given else ENDPOINT
    is_disabled = given.get("OTEL_SDK_DISABLED", "").lower() == "true" or given.get("OTEL_TRACES_EXPORTER") == "none"
    if variable not in given or is_disabled:
        return None
    if wrong := _wrong(given, variable):
        raise SettingsError(wrong)
    address = given[variable]
    try:
        # Only here: it takes as long to import as Flask, and may not be installed.
        from .otel import Spans  # noqa: PLC0415  # see above
    except ImportError as exc:
        lacks = f"{variable}: is set, but OpenTelemetry is not installed"
        raise SettingsError([f"{lacks}: pip install '.[otel]' where the proxy's source is, or unset it."]) from exc
    return Spans(address if variable == TRACES_ENDPOINT else f"{address.rstrip('/')}/v1/traces")


def _wrong(given: Mapping[str, str], variable: str) -> list[str]:
    """A sentence for each variable that OpenTelemetry itself would ignore, or that would lead nowhere."""
    wrong = []
    if not given[variable].startswith(("http://", "https://")) or not urlsplit(given[variable]).hostname:
        wrong.append(f"{variable}: allowed is the http:// or https:// address of a collector.")
    for suffix, values in CHOICES.items():
        wrong += [
            f"{name}: allowed is {' or '.join(values)}."
            for name in (f"OTEL_EXPORTER_OTLP_TRACES_{suffix}", f"OTEL_EXPORTER_OTLP_{suffix}")
            if given.get(name, values[0]) not in values
        ]
    if given.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        wrong.append("OTEL_TRACES_EXPORTER: allowed are otlp, and none to switch the spans off.")
    if given.get("OTEL_TRACES_SAMPLER", SAMPLERS[0]).removeprefix("parentbased_") not in SAMPLERS:
        wrong.append(f"OTEL_TRACES_SAMPLER: allowed are {', '.join(SAMPLERS)}, and each with parentbased_ before it.")
    if not _is_number(given.get("OTEL_TRACES_SAMPLER_ARG", "1"), most=1):
        wrong.append("OTEL_TRACES_SAMPLER_ARG: allowed is a number from 0 to 1.")
    wrong += [f"{name}: allowed is a number, 0 or more." for name in NUMBERS if not _is_number(given.get(name, "0"))]
    return wrong


def _is_number(text: str, most: float = inf) -> bool:
    try:
        return 0 <= float(text) <= most
    except ValueError:
        return False
