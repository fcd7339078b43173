"""The state that can be changed while the sandbox runs: its events, latency, fault and calls."""

import threading
from collections import Counter, deque
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .events import Sample, sample
from .shapes import Person

Call = Literal["events", "subscriptions"]
Seconds = Annotated[float, Field(ge=0, le=3600)]
EventId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
SHOWN_CALLS = 50


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Fault(_Model):
    """The answer to calls instead of the right one.

    status: 300 to 599, or 200 to 299 with a body
    retry_after: the header, as seconds or as any text
    body: sent unchanged, with Content-Type application/json even if it is not JSON; default: C42's error format
    call: the calls that fail
    event_id: only calls about this event fail
    """

    status: Annotated[int, Field(ge=200, le=599)] = 200
    retry_after: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^[ -~]*$")] | None = None
    body: str | None = None
    call: Literal[Call, "both"] = "both"
    event_id: EventId | None = None

    @model_validator(mode="after")
    def _goes_wrong(self) -> Self:
        if self.status < 300 and self.body is None:
            raise ValueError("a fault has a status of 300 to 599, or a body, or both")
        return self

    def applies_to(self, call: Call, event_ids: frozenset[str]) -> bool:
        return self.call in {"both", call} and (self.event_id is None or self.event_id in event_ids)


class NewEvent(_Model):
    """An event in short form: its title and the first names of its subscribers."""

    title: str | None
    names: tuple[str | None, ...]


class Change(_Model):
    """A change. Fields that are not given stay: the defaults are never applied (see `State.change`)."""

    latency: Seconds = 0.0
    fault: Fault | None = None
    calls: Literal["reset"] = "reset"
    events: Mapping[EventId, NewEvent] = {}


class State:
    """The sandbox's state. Thread-safe.

    The caller may change `events` at any time; events added by PUT are stored separately.
    """

    def __init__(self, *, events: Mapping[str, Sample], latency: float, fault: Fault | None) -> None:
        self._lock = threading.Lock()
        self._events = events
        self._new: dict[str, Sample] = {}
        self._latency = latency
        self._fault = fault
        self._calls: Counter[Call] = Counter()
        self._latest: deque[dict[str, object]] = deque(maxlen=SHOWN_CALLS)
        self._sync_token = 9187399

    def receive(self, call: Call, event_ids: frozenset[str]) -> tuple[float, Fault | None]:
        """Count a call. Returns how many seconds it takes, and its fault."""
        with self._lock:
            self._calls[call] += 1
            fault = self._fault if self._fault and self._fault.applies_to(call, event_ids) else None
            return self._latency, fault

    def note(self, target: str, status: int) -> None:
        """Keep what a call asked for and how it was answered, for `live`."""
        with self._lock:
            self._latest.append({"target": target, "status": status})

    def find(self, event_id: str) -> Sample | None:
        """The event with its subscriptions, or None if there is no such event."""
        with self._lock:
            return self._new.get(event_id) or self._events.get(event_id)

    @property
    def sync_token(self) -> int:
        """C42's number for the state of its events: it grows with each change."""
        with self._lock:
            return self._sync_token

    def change(self, change: Change) -> None:
        """Apply all of a change at once; a call sees it whole or not at all."""
        given = change.model_fields_set
        with self._lock:
            if "latency" in given:
                self._latency = change.latency
            if "fault" in given:
                self._fault = change.fault
            if "calls" in given:
                self._calls.clear()
                self._latest.clear()
            for event_id, new in change.events.items():
                self._new[event_id] = sample(event_id, new.title, map(Person, new.names))
                self._sync_token += 1

    def report(self) -> dict[str, object]:
        """The calls received, the latency in seconds, and the fault, as JSON has them."""
        with self._lock:
            return {
                "calls": {"events": self._calls["events"], "subscriptions": self._calls["subscriptions"]},
                "latency": self._latency,
                "fault": self._fault and self._fault.model_dump(exclude_none=True),
            }

    def live(self) -> dict[str, object]:
        """The report, the events in the form of `NewEvent`, and the latest calls, the oldest first."""
        with self._lock:
            events = {**self._events, **self._new}
            shown = {"events": {event_id: _short(one) for event_id, one in events.items()}, "latest": [*self._latest]}
        return {**self.report(), **shown}


def _short(one: Sample) -> dict[str, object]:
    subscribers = [each["subscriber"] for each in one.subscriptions if "subscriber" in each]
    return {
        "title": one.event.get("title"),
        "names": [each["first_name"] for each in subscribers if isinstance(each, Mapping)],
        "deleted": "title" not in one.event,
    }
