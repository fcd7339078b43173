"""C42 on the wire: the sandbox answers what `responses` intercepts, unless a scenario says that it misbehaves."""

import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from threading import Lock
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import requests
import responses
from flask import Flask
from requests import PreparedRequest

from c42_proxy.sandbox.app import create_sandbox
from c42_proxy.sandbox.events import Person, Sample, removed, sample

TOKEN = "the-token-of-the-proxy"

_numbers = count(1)

CallName = Literal["event", "subscribers"]
Answer = tuple[int, dict[str, str], str]
Behaviour = Callable[["Call", Callable[[], Answer]], Answer]


@dataclass(frozen=True)
class Call:
    """One request that C42 received."""

    name: CallName
    event_id: str
    offset: int
    at: datetime


class FakeC42:
    """Knows events; counts the calls it receives; behaves as the scenario says."""

    def __init__(self) -> None:
        # Each has an address of its own: what a scenario leaves under way is not for the next one.
        self.url = f"https://c42-{next(_numbers)}.example/api/v2/"
        self.calls: list[Call] = []
        self.behaviours: dict[CallName, Behaviour] = {}
        self._events: dict[str, Sample] = {}
        self._sandbox: Flask | None = None
        self._lock = Lock()
        self._wire = responses.RequestsMock(assert_all_requests_are_fired=False)
        self._wire.add_callback("GET", re.compile(re.escape(self.url)), self._receive)
        self._wire.start()

    def close(self) -> None:
        self._wire.stop()

    def add(self, title: str | None, people: Sequence[Person | None]) -> str:
        """Make an event known, or replace the one of that title; None stands for a removed subscription."""
        event_id = id_of(title)
        self._put(event_id, sample(event_id, title, people))
        return event_id

    def knows(self, title: str) -> bool:
        return id_of(title) in self._events

    def rename(self, event_id: str, title: str) -> None:
        known = self._events[event_id]
        self._put(event_id, Sample({**known.event, "title": title}, known.subscriptions))

    def delete(self, event_id: str) -> None:
        self._put(event_id, Sample(removed(event_id)))

    def join(self, event_id: str, person: Person) -> None:
        """One more subscriber, at the top of the list: everybody else moves down by one."""
        known = self._events[event_id]
        (newcomer,) = sample(f"{event_id}_{person.first_name}", None, [person]).subscriptions
        self._put(event_id, Sample(known.event, ({**newcomer, "event_id": event_id}, *known.subscriptions)))

    def _put(self, event_id: str, event: Sample) -> None:
        with self._lock:
            self._events[event_id] = event
            self._sandbox = None

    def misbehave(self, behaviour: Behaviour, *names: CallName) -> None:
        for name in names or ("event", "subscribers"):
            self.behaviours[name] = behaviour

    def asked(self, name: CallName, event_id: str | None = None) -> int:
        """How often C42 received this call, for one event or for all."""
        return sum(call.name == name and event_id in {None, call.event_id} for call in self.calls)

    def _receive(self, request: PreparedRequest) -> Answer:
        call = _call(str(request.url))
        with self._lock:
            self.calls.append(call)
        behaviour = self.behaviours.get(call.name)
        return behaviour(call, lambda: self._truth(request)) if behaviour else self._truth(request)

    def _truth(self, request: PreparedRequest) -> Answer:
        with self._lock:
            if self._sandbox is None:
                self._sandbox = create_sandbox(token=TOKEN, events=self._events)
        answer = self._sandbox.test_client().get(
            str(request.url).replace(self.url, "/api/v2/"), headers=list(request.headers.items())
        )
        return answer.status_code, {"Content-Type": answer.content_type}, answer.get_data(as_text=True)


def id_of(title: str | None) -> str:
    """An id as C42 makes them, the same for each title."""
    return f"{uuid.uuid5(uuid.NAMESPACE_OID, title or '').hex}_14770730026240"


def _call(url: str) -> Call:
    now = datetime.now(UTC)
    parts = urlsplit(url)
    if "/event-subscriptions/" in parts.path:
        query = parse_qs(parts.query)
        return Call("subscribers", query["event_ids"][0].strip("[]"), int(query["offset"][0]), now)
    return Call("event", parts.path.rstrip("/").rpartition("/")[2], 0, now)


def answers(status: int, body: str = "{}", **headers: str) -> Behaviour:
    """Whatever it is asked, C42 answers this."""
    return lambda _call, _truth: (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def _raises(error: Callable[[], Exception]) -> Behaviour:
    def behaviour(_call: Call, _truth: Callable[[], Answer]) -> Answer:
        raise error()

    return behaviour


def altered(change: Callable[[Any], None]) -> Behaviour:
    """C42 answers as it should, but for a change to the JSON."""

    def behaviour(_call: Call, truth: Callable[[], Answer]) -> Answer:
        status, headers, body = truth()
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

    def behaviour(call: Call, truth: Callable[[], Answer]) -> Answer:
        date = format_datetime(datetime.now(UTC) + later, usegmt=True)
        return asks_to_wait(date)(call, truth)

    return behaviour


MISBEHAVIOURS: dict[str, Behaviour] = {
    "is broken": answers(500),
    "cannot be reached": _raises(lambda: requests.ConnectionError("refused")),
    "breaks off in its answer": _raises(lambda: requests.exceptions.ChunkedEncodingError("incomplete")),
    "does not answer": _raises(lambda: requests.ReadTimeout("silent")),
    "answers nonsense": answers(200, "<html>Hello</html>"),
    "refuses the proxy's token": answers(401),
    "forbids what we ask": answers(403),
    "sends us elsewhere": answers(302, Location="https://elsewhere.example/"),
    "knows nothing": answers(404),
    "asks to wait without saying how long": answers(429),
    "asks to wait for a time that nobody can read": asks_to_wait("a while"),
    "is busy for 12 s": answers(503, Retry_After="12"),
    "answers with another event": altered(lambda answer: answer["data"][0].update(id="another")),
    "answers with two events": altered(lambda answer: answer["data"].append(answer["data"][0])),
    "answers with half a character": altered(lambda answer: answer["data"][0].update(title="\ud83d")),
    "answers with more than 4 megabytes": altered(lambda answer: answer.update(more=[{"blank": " " * 4_194_304}])),
}
