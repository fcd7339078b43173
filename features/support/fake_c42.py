"""C42 as a scenario has it: it knows events, counts the calls it receives, and misbehaves when it is told to."""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from enum import Enum
from itertools import count
from threading import Lock
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from c42_proxy.sandbox.api import Sandbox
from c42_proxy.sandbox.events import Sample, sample
from c42_proxy.sandbox.shapes import Person, removed, subscription

TOKEN = "the-token-of-the-proxy"

_numbers = count(1)

CallName = Literal["event", "subscribers"]


class Failure(Enum):
    """No answer. Each wire lets it happen in its own way."""

    UNREACHABLE = "unreachable"
    CUT_SHORT = "cut short"
    SILENT = "silent"


Answer = tuple[int, dict[str, str], str] | Failure


@dataclass(frozen=True)
class Call:
    """One request that C42 received."""

    name: CallName
    event_id: str
    offset: int
    at: datetime


Behaviour = Callable[[Call, Callable[[], Answer]], Answer]
"""What C42 does with a call, given a way to find out what it should have answered."""


class FakeC42:
    """Answers with the sandbox, unless a scenario says that it misbehaves. `now` tells the time of the scenario."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        # Each has an address of its own: what a scenario leaves under way, or in a store, is not for the next one.
        self.path = f"/c42-{next(_numbers)}/api/v2/"
        self.calls: list[Call] = []
        self.behaviours: dict[CallName, Behaviour] = {}
        self._now = now
        self._events: dict[str, Sample] = {}
        self._sandbox = Sandbox(token=TOKEN, events=self._events)
        self._lock = Lock()

    def receive(self, path: str, headers: Mapping[str, str]) -> Answer:
        """What it answers to a GET for `path`, which has its query with it."""
        call = _call(path, self._now())
        with self._lock:
            self.calls.append(call)
        behaviour = self.behaviours.get(call.name)

        def truth() -> Answer:
            return self._truth(path, headers)

        return behaviour(call, truth) if behaviour else truth()

    def add(self, title: str | None, people: Sequence[Person | None]) -> str:
        """Make an event known, or replace the one of that title; None stands for a removed subscription."""
        event_id = id_of(title)
        self._events[event_id] = sample(event_id, title, people)
        return event_id

    def knows(self, title: str) -> bool:
        return id_of(title) in self._events

    def rename(self, event_id: str, title: str) -> None:
        known = self._events[event_id]
        self._events[event_id] = Sample({**known.event, "title": title}, known.subscriptions)

    def delete(self, event_id: str) -> None:
        self._events[event_id] = Sample(removed(event_id))

    def join(self, event_id: str, person: Person) -> None:
        """One more subscriber, at the top of the list: everybody else moves down by one."""
        known = self._events[event_id]
        newcomer = subscription(event_id, len(known.subscriptions), person)
        self._events[event_id] = Sample(known.event, (newcomer, *known.subscriptions))

    def misbehave(self, behaviour: Behaviour, *names: CallName) -> None:
        for name in names or ("event", "subscribers"):
            self.behaviours[name] = behaviour

    def asked(self, name: CallName, event_id: str | None = None) -> int:
        """How often C42 received this call, for one event or for all."""
        return sum(call.name == name and event_id in {None, call.event_id} for call in self.calls)

    def _truth(self, path: str, headers: Mapping[str, str]) -> Answer:
        target = path.replace(self.path, "/api/v2/")
        reply = self._sandbox.receive("GET", target, headers.get("Authorization"))
        return reply.status, {"Content-Type": "application/json", **reply.headers}, reply.body.decode()


def id_of(title: str | None) -> str:
    """An id as C42 makes them, the same for each title."""
    return f"{uuid.uuid5(uuid.NAMESPACE_OID, title or '').hex}_14770730026240"


def _call(path: str, at: datetime) -> Call:
    parts = urlsplit(path)
    if "/event-subscriptions/" in parts.path:
        query = parse_qs(parts.query)
        return Call("subscribers", query["event_ids"][0].strip("[]"), int(query["offset"][0]), at)
    return Call("event", parts.path.rstrip("/").rpartition("/")[2], 0, at)


def answers(status: int, body: str = "{}", **headers: str) -> Behaviour:
    """Whatever it is asked, C42 answers this."""
    return lambda _call, _truth: (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def fails(failure: Failure) -> Behaviour:
    return lambda _call, _truth: failure


def altered(change: Callable[[Any], None]) -> Behaviour:
    """C42 answers as it should, but for a change to the JSON."""

    def behaviour(_call: Call, truth: Callable[[], Answer]) -> Answer:
        told = truth()
        assert not isinstance(told, Failure), told
        status, headers, body = told
        answer = json.loads(body)
        change(answer)
        return status, headers, json.dumps(answer)

    return behaviour


def only_at_offset(offset: int, behaviour: Behaviour) -> Behaviour:
    return lambda call, truth: behaviour(call, truth) if call.offset == offset else truth()


def asks_to_wait(retry_after: str) -> Behaviour:
    return answers(429, Retry_After=retry_after)


def asks_to_wait_until(later: timedelta) -> Behaviour:
    """The wait is told as a date, seen from the moment of the call."""
    return lambda call, truth: asks_to_wait(format_datetime(call.at + later, usegmt=True))(call, truth)


MISBEHAVIOURS: dict[str, Behaviour] = {
    "is broken": answers(500),
    "cannot be reached": fails(Failure.UNREACHABLE),
    "stops in the middle of its answer": fails(Failure.CUT_SHORT),
    "does not answer": fails(Failure.SILENT),
    "answers nonsense": answers(200, "<html>Hello</html>"),
    "refuses the proxy's token": answers(401),
    "does not let the proxy see the event": answers(403),
    "refers the proxy to another address": answers(302, Location="https://elsewhere.example/"),
    "says that there is no such thing": answers(404),
    "asks to wait without saying how long": answers(429),
    "asks to wait for a time that nobody can read": asks_to_wait("a while"),
    "is busy for 12 s": answers(503, Retry_After="12"),
    "answers with another event": altered(lambda answer: answer["data"][0].update(id="another")),
    "answers with two events": altered(lambda answer: answer["data"].append(answer["data"][0])),
    "answers with garbled text": altered(lambda answer: answer["data"][0].update(title="\ud83d")),
    "answers with more than 4 megabytes": altered(lambda answer: answer.update(more=[{"blank": " " * 4_194_304}])),
}
