"""Shared state: short texts that processes leave for each other in the store, each for a span of time."""

from collections.abc import Callable
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import Cause, RateLimited, RepeatedFailure, UpstreamError
from ..stores.contract import Entry, SharedStates, is_ahead

MAX_SECONDS = 3600.0
ROUNDING = 0.001
LEFT_SECONDS = 1.0
"""How long a failure, or an answer that the shared tier has not kept, is left for others."""

N = TypeVar("N", bound=BaseModel)


class Span(BaseModel):
    """From `since` up to `until`, in seconds since the epoch."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    since: float
    until: float

    def is_believable(self, now: float) -> bool:
        """False if the clock was set back since, or if the span is longer than any that we make."""
        return not is_ahead(self.since, now) and self.until - self.since <= MAX_SECONDS + ROUNDING

    def covers(self, now: float) -> bool:
        return self.is_believable(now) and now < self.until


def parsed(model: type[N], text: str | None) -> N | None:
    """A text from the store as `model`; None if there is none, or if it is not one of ours."""
    try:
        return None if text is None else model.model_validate_json(text)
    except ValidationError:
        return None


def failure_name(event_id: str) -> str:
    """The name of the text that a failed fetch of an event leaves."""
    return f"failure:{event_id}"


def answer_name(event_id: str) -> str:
    """The name of the text that a fetch leaves if the shared tier has not kept its answer."""
    return f"handover:{event_id}"


class FetchOutcomes:
    """What fetches leave for a moment: a failure, for whoever asks for the event next; and an answer that the shared
    tier has not kept, for the processes that wait for it.
    """

    def __init__(self, store: SharedStates, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def leave_failure(self, event_id: str, error: UpstreamError) -> None:
        if isinstance(error, RateLimited) and error.seconds >= LEFT_SECONDS:
            return  # the back-off says it, for all events
        failure = _Failure(
            span=self._span(),
            status=error.status,
            reason=error.reason,
            detail=error.detail,
            upstream_status=error.upstream_status,
            cause=error.cause,
            allows_stale=error.allows_stale,
        )
        self._leave(failure_name(event_id), failure)

    def check_failure(self, text: str | None) -> None:
        """Raises RepeatedFailure if a fetch, also one of this process, has left a failure in the last second.

        `text` is the one named `failure_name(event_id)`, None if there is none.
        """
        failure = parsed(_Failure, text)
        now = self._clock()
        if failure is None or not failure.span.covers(now):
            return
        raise RepeatedFailure(
            *(failure.status, failure.reason, failure.detail, failure.upstream_status),
            cause=failure.cause if Cause.is_one(failure.cause) else "it failed a moment ago",
            allows_stale=failure.allows_stale,
            seconds=failure.span.until - now,
        )

    def leave_answer(self, event_id: str, entry: Entry) -> None:
        """Let other processes that wait take an answer that the shared tier has not kept."""
        answer = _Answer(span=self._span(), status=entry.status, body=entry.body.decode(), fetched_at=entry.fetched_at)
        self._leave(answer_name(event_id), answer)

    def answer(self, text: str | None) -> Entry | None:
        """The answer that a fetch has left because the shared tier has not kept it, if there is one.

        `text` is the one named `answer_name(event_id)`, None if there is none.
        """
        answer = parsed(_Answer, text)
        if answer is None or not answer.span.covers(self._clock()):
            return None
        return Entry(answer.status, answer.body.encode(), answer.fetched_at)

    def _span(self) -> Span:
        now = self._clock()
        return Span(since=now, until=now + LEFT_SECONDS)

    def _leave(self, name: str, left: BaseModel) -> None:
        self._store.change_state(name, lambda _before: left.model_dump_json(by_alias=True), LEFT_SECONDS)


class _Failure(BaseModel):
    """The names in the store are those of version 0.1. Failures that 0.1 leaves have no `reason`, and are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, populate_by_name=True)

    span: Span
    status: int = Field(ge=500, le=599)
    reason: str
    detail: str
    upstream_status: int | None
    cause: str = ""
    allows_stale: bool = Field(alias="may_be_hidden")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    span: Span
    status: Literal[200, 404]
    body: str
    fetched_at: float
