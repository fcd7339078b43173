"""Log lines: one format for our own, gunicorn's and the libraries' lines, without secrets."""

import json
import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

import structlog

from ..settings import Settings
from . import correlation
from .queued_lines import QueuedLines

MASK = "***"

_requests = logging.getLogger("c42_proxy.requests")


def configure_logs(settings: Settings) -> None:
    """Send every log line of the process to standard error, in the format and from the level of the settings."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _add_request_id,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.log_format == "json":
        rendering: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
                pad_event_to=0,
                # The default shows local variables if `rich` is installed: the token may be one of them.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *rendering,
            _Masker(settings.secrets()),
        ],
    )
    handler = QueuedLines(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    # urllib3 quotes what it received, which may be an echo of our own request.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def log_request(
    *,
    method: str,
    path: str,
    status: int,
    outcome: str,
    seconds: float,
    upstream_seconds: float | None = None,
    cause: str | None = None,
    request_id: str,
) -> None:
    """Log one line for a request. `path` is the decoded path, encoded again. Hits are logged at the level `debug`.

    `upstream_seconds` is how long C42 took, `cause` why it gave no new answer.
    """
    if not are_logged(outcome):
        return
    line = {"method": method, "path": path, "status": status, "outcome": outcome, "ms": round(seconds * 1000, 1)}
    if upstream_seconds is not None:
        line["c42_ms"] = round(upstream_seconds * 1000, 1)
    if cause is not None:
        line["cause"] = cause
    _requests.log(_level(outcome), "request", extra=line | {"request_id": request_id})


def are_logged(outcome: str) -> bool:
    """Whether requests with that outcome have lines."""
    return _requests.isEnabledFor(_level(outcome))


def _level(outcome: str) -> int:
    return logging.DEBUG if outcome == "hit" else logging.INFO


def _add_request_id(_logger: Any, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    request = correlation.current()
    if request is not None:
        line.setdefault("request_id", request.request_id)
        if request.traceparent is not None:
            line.setdefault("trace_id", request.traceparent.split("-")[1])
    return line


class _Masker:
    """Masks the secrets in the finished line, whatever put them there."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = set()
        for secret in secrets:
            # The secret itself and its `repr`, and both as JSON writes them.
            doubled = secret.replace("\\", "\\\\")
            spellings |= {secret, doubled, doubled.replace("'", "\\'")}
        spellings |= {json.dumps(spelling)[1:-1] for spelling in spellings}
        self._spellings = sorted(spellings, key=len, reverse=True)

    def __call__(self, _logger: Any, _method: str, line: Any) -> str:
        text = str(line)
        for spelling in self._spellings:
            text = text.replace(spelling, MASK)
        return text
