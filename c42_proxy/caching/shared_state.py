"""The small notes that processes leave each other in the store, each for a span of time."""

from collections.abc import Callable
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import RateLimited, RecentFailure, UpstreamError
from ..stores.contract import CLOCK_SKEW, Entry, Store

MAX_SECONDS = 3600.0
ROUNDING = 0.001
FAILURE_SECONDS = 1.0
"""How long a failure of an event may be repeated to others who ask for it, instead of asking C42 again."""

N = TypeVar("N", bound=BaseModel)


class Span(BaseModel):
    """From `since` up to `until`, in seconds since the epoch."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    since: float
    until: float

    def is_believable(self, now: float) -> bool:
        """Whether the clock was not set back since, and the span is one that we would have made."""
        return self.since <= now + CLOCK_SKEW and self.until - self.since <= MAX_SECONDS + ROUNDING

    def covers(self, now: float) -> bool:
        return self.is_believable(now) and now < self.until


def parsed(model: type[N], note: str | None) -> N | None:
    """What is in a note; None where there is none, or it is none of ours."""
    try:
        return None if note is None else model.model_validate_json(note)
    except ValidationError:
        return None


class EventNotes:
    """What came of a fetch, for others who wait for the same event at that moment in other processes."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def leave_failure(self, event_id: str, error: UpstreamError) -> None:
        """Note how a fetch failed."""
        if isinstance(error, RateLimited) and error.seconds >= FAILURE_SECONDS:
            return  # the guard has noted it, for all events
        failure = _Failure(
            span=self._span(),
            status=error.status,
            detail=error.detail,
            upstream_status=error.upstream_status,
            may_be_hidden=error.may_be_hidden,
        )
        self._leave(f"failure:{event_id}", failure)

    def failure(self, event_id: str) -> RecentFailure | None:
        """How the event failed a moment ago, if it did."""
        failure = parsed(_Failure, self._store.read_note(f"failure:{event_id}"))
        if failure is None or not failure.span.covers(self._clock()):
            return None
        return RecentFailure(
            failure.status, failure.detail, failure.upstream_status, may_be_hidden=failure.may_be_hidden
        )

    def leave_answer(self, event_id: str, entry: Entry) -> None:
        """Note an answer that no store keeps."""
        handover = _Handover(
            span=self._span(), status=entry.status, body=entry.body.decode(), fetched_at=entry.fetched_at
        )
        self._leave(f"handover:{event_id}", handover)

    def answer(self, event_id: str) -> Entry | None:
        """An answer that came a moment ago and that no store keeps, if there is one."""
        handover = parsed(_Handover, self._store.read_note(f"handover:{event_id}"))
        if handover is None or not handover.span.covers(self._clock()):
            return None
        return Entry(handover.status, handover.body.encode(), handover.fetched_at)

    def _span(self) -> Span:
        now = self._clock()
        return Span(since=now, until=now + FAILURE_SECONDS)

    def _leave(self, name: str, note: BaseModel) -> None:
        self._store.change_note(name, lambda _held: note.model_dump_json(), FAILURE_SECONDS)


class _Failure(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    span: Span
    status: int = Field(ge=500, le=599)
    detail: str
    upstream_status: int | None
    may_be_hidden: bool


class _Handover(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    span: Span
    status: Literal[200, 404]
    body: str
    fetched_at: float
