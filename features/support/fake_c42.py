"""C42 as a scenario has it: it knows events, counts the calls it receives, and misbehaves when it is told to."""

import json
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from enum import Enum
from itertools import count
from threading import Lock, Semaphore
from typing import Any, Literal

from c42_proxy.sandbox.api import Sandbox
from c42_proxy.sandbox.events import Sample, sample
from c42_proxy.sandbox.shapes import Person, removed, subscription
from features.support.expectations import SHOWN, expect, expect_same, times
from harness.wire import asked

TOKEN = "the-token-of-the-proxy"

_numbers = count(1)
ENDING = re.compile(r"_\d{14}\Z")
"""Of the ids of a scenario's events: the number of its C42."""

Subscription = Mapping[str, object]

CallName = Literal["event", "subscribers"]
CALL_NAMES: tuple[CallName, ...] = ("event", "subscribers")

PAGE = 100
"""How many subscribers are on a page at most."""


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
        # Each has an address and ids of its own: what a scenario leaves under way or in a store reaches no other.
        number = next(_numbers)
        self.path = f"/c42-{number}/api/v2/"
        self._ending = f"_{number:014}"
        self.calls: list[Call] = []
        self.titles: dict[str, str | None] = {}
        """Of the events that a scenario gives, by their ids."""
        self.counts_given: set[int | None] = set()
        """The numbers of subscribers that it has given because the scenario says so, right or wrong."""
        self.authorizations: set[str | None] = set()
        """The tokens with which it has been asked."""
        self.requests: set[tuple[str | None, str | None]] = set()
        """The ids and the traces of the requests for which it has been asked."""
        self._left: dict[tuple[str, str], Subscription] = {}
        self.questions_met = False
        """Whether it has held two questions at the same time, on purpose."""
        self.most_at_once = 0
        """How many questions it has held at the same time, in `answering`."""
        self._at_once = 0
        self._behaviours: dict[CallName, Behaviour] = {}
        self._happenings: list[tuple[CallName, Callable[[Call], None]]] = []
        self._alterations: list[tuple[CallName, Callable[[Any], None]]] = []
        self._in_vain: set[str] = set()
        self._deleted: set[str] = set()
        self._held: dict[str, tuple[Semaphore, Future[Behaviour]]] = {}
        self._now = now
        self._events: dict[str, Sample] = {}
        self._readings: defaultdict[str, list[Sample]] = defaultdict(list)
        """For each event, its state each time that C42 was asked for the first page of its subscribers."""
        self._sandbox = Sandbox(token=TOKEN, events=self._events)
        self._lock = Lock()

    def receive(self, path: str, headers: Mapping[str, str]) -> Answer:
        """The answer to a GET for `path`, which includes the query."""
        event_id, offset = asked(path)
        if ENDING.search(event_id) and not event_id.endswith(self._ending):
            return Failure.UNREACHABLE  # of a scenario before
        call = Call("event" if offset is None else "subscribers", event_id, offset or 0, self._now())
        with self._lock:
            self.calls.append(call)
            self.authorizations.add(headers.get("Authorization"))
            self.requests.add((headers.get("X-Request-ID"), headers.get("traceparent")))
            if (call.name, call.offset) == ("subscribers", 0) and call.event_id in self._events:
                self._readings[call.event_id].append(self._events[call.event_id])
        for name, happen in self._happenings:
            if name == call.name:
                happen(call)

        def truth() -> Answer:
            answer = self._truth(path, headers)
            for name, change in self._alterations:
                if name == call.name:
                    answer = changed(answer, change)
            return answer

        behaviour = self._behaviours.get(call.name)
        if call.event_id in self._held:
            received, does = self._held[call.event_id]
            received.release()
            behaviour = does.result()
        answer = behaviour(call, truth) if behaviour else truth()
        if isinstance(answer, Failure) or answer[0] != 200 or call.event_id in self._deleted:
            with self._lock:
                self._in_vain.add(call.event_id)
        return answer

    def add(self, title: str | None, people: Sequence[Person | None]) -> str:
        """Make one more event known, and give its id; None stands for a removed subscription."""
        event_id = self.id_of(title)
        assert event_id not in self._events, f'the scenario gives the event "{title}" twice'
        self.titles[event_id] = title
        self._events[event_id] = sample(event_id, title, people)
        return event_id

    def id_of(self, title: str | None) -> str:
        """An id as C42 makes them, the same for each title."""
        return uuid.uuid5(uuid.NAMESPACE_OID, title or "").hex + self._ending

    def id_of_none(self, length: int) -> str:
        """An id of so many characters, of an event that never existed."""
        return self._ending.rjust(length, "x")

    def rename(self, event_id: str, title: str) -> None:
        known = self._events[event_id]
        self._events[event_id] = Sample({**known.event, "title": title}, known.subscriptions)

    def delete(self, event_id: str) -> None:
        self._deleted.add(event_id)
        self._events[event_id] = Sample(removed(event_id))

    def join(self, event_id: str, person: Person | None, place: int | None = 0, **more: object) -> None:
        """One more subscriber, at this place of the list (None: its end): everybody below moves down by one."""
        known = self._events[event_id]
        newcomer = {**subscription(event_id, len(known.subscriptions), person), **more}
        place = len(known.subscriptions) if place is None else place
        above, below = known.subscriptions[:place], known.subscriptions[place:]
        self._events[event_id] = Sample(known.event, (*above, newcomer, *below))

    def drop_first(self, event_id: str) -> None:
        """The first subscriber is not in the list any more: everybody moves up by one."""
        known = self._events[event_id]
        self._events[event_id] = Sample(known.event, known.subscriptions[1:])

    def unsubscribe(self, event_id: str, name: str) -> None:
        """Remove the subscription of the person with that name: C42 still lists it, but without its subscriber."""
        self._left[event_id, name] = self._change(event_id, name, lambda known: removed(str(known["id"])))

    def subscribe_again(self, event_id: str, name: str) -> None:
        """The subscription that was removed is back, in its old place."""
        back = self._left[event_id, name]
        known = self._events[event_id]
        self._events[event_id] = Sample(
            known.event, tuple(back if each["id"] == back["id"] else each for each in known.subscriptions)
        )

    def rename_person(self, event_id: str, name: str, other: str) -> None:
        self._change(event_id, name, lambda known: {**known, "subscriber": {"first_name": other}})

    def _change(self, event_id: str, name: str, change: Callable[[Subscription], Subscription]) -> Subscription:
        """Change the subscription of the person with that name. Returns what it was before."""
        known = self._events[event_id]
        place = self.people(event_id).index(name)
        changed = change(known.subscriptions[place])
        self._events[event_id] = Sample(
            known.event, (*known.subscriptions[:place], changed, *known.subscriptions[place + 1 :])
        )
        return known.subscriptions[place]

    def people(self, event_id: str, *, reading: int | None = None) -> list[str]:
        """The first names of its subscribers, in C42's order: now, or when a reading of the list began (from 1 on)."""
        event = self._events[event_id] if reading is None else self._readings[event_id][reading - 1]
        return [each["subscriber"]["first_name"] for each in event.subscriptions]  # type: ignore[index]  # JSON

    def expect_listed(self, event_id: str, number: int) -> None:
        """The list of its subscribers has this length, those who are not named included."""
        expect_same(f"C42 lists {number} subscribers", f"C42 lists {self._length(event_id)} subscribers")

    def misbehave(self, behaviour: Behaviour, *names: CallName) -> None:
        """From now on, do this if asked one of these questions (without `names`, either of the two)."""
        for name in names or CALL_NAMES:
            self._behaviours[name] = behaviour

    def recover(self) -> None:
        """Stop misbehaving. All else that the scenario has said of C42 still holds."""
        self._behaviours.clear()

    def when_asked(self, name: CallName, happen: Callable[[Call], None]) -> None:
        """Let something more happen at each call of that name, before it is answered."""
        self._happenings.append((name, happen))

    def hold(self, event_ids: Iterable[str], does: "Future[Behaviour]") -> Semaphore:
        """Asked for one of these events, it waits until `does` is known. The semaphore counts the calls."""
        received = Semaphore(0)
        self._held |= dict.fromkeys(event_ids, (received, does))
        return received

    @contextmanager
    def answering(self) -> Iterator[None]:
        """It makes the answer to one question; counts how many at the same time."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        yield
        with self._lock:
            self._at_once -= 1

    def alter(self, name: CallName, change: Callable[[Any], None]) -> None:
        """From now on, make this change, too, to the answers to one of the questions."""
        self._alterations.append((name, change))

    def asked(self, name: CallName, event_id: str | None = None) -> int:
        """How often C42 received this call, for one event or for all."""
        return sum(call.name == name and event_id in {None, call.event_id} for call in self.calls)

    def expect_asked(self, number: int, event_id: str | None = None) -> None:
        """C42 was asked `number` times, for one event or for all: each time for the event and each page of its list.

        If C42 failed, pages may have been left out: the event's failure alone decides the answer.
        """
        asked = Counter(
            (call.event_id, call.name, call.offset) for call in self.calls if event_id in {None, call.event_id}
        )
        events = {event: asked[event, "event", 0] for event, _, _ in asked}
        wrong = sum(events.values()) != number
        for event, each in events.items():
            pages = {offset: asked[event, "subscribers", offset] for offset in range(0, self._length(event) or 1, PAGE)}
            wrong |= sum(pages.values()) != sum(asked[key] for key in asked if key[:2] == (event, "subscribers"))
            wrong |= any(page > each or (page < each and event not in self._in_vain) for page in pages.values())
        whose = "" if event_id is None else f" for {self._called(event_id)}"
        expect(not wrong, f"C42 has been asked {times(number)}{whose}, each time both questions", self.calls_in_words())

    def times_asked(self, call: Call) -> int:
        """How often this question was asked, this call included."""
        return sum(replace(other, at=call.at) == call for other in self.calls)

    def expect_pages(self, event_id: str, number: int, each: int) -> None:
        """It was asked for the first `number` pages of the list, and for each of them `each` times."""
        asked = Counter(call.offset for call in self.calls if (call.event_id, call.name) == (event_id, "subscribers"))
        expect(
            asked == dict.fromkeys(range(0, number * PAGE, PAGE), each),
            f"C42 has been asked for {number} page{'s' if number > 1 else ''} of subscribers, each {times(each)}",
            self.calls_in_words(),
        )

    def calls_in_words(self) -> str:
        """All that it has been asked."""
        asked = Counter((call.event_id, call.name, call.offset) for call in self.calls)
        return "C42 has been asked " + (
            "; ".join(
                f"{self._question(*question)} {times(number)}" for question, number in sorted(asked.items())[:SHOWN]
            )
            + (f"; and {len(asked) - SHOWN} more questions" if len(asked) > SHOWN else "")
            or "for nothing"
        )

    def _question(self, event_id: str, name: CallName, offset: int) -> str:
        of = self._called(event_id)
        return f"for {of}" if name == "event" else f"for page {offset // PAGE + 1} of the subscribers of {of}"

    def _called(self, event_id: str) -> str:
        title = self.titles.get(event_id, event_id)
        return f'"{title}"' if title else "the event without a title"

    def _length(self, event_id: str) -> int:
        """How many subscriptions the event has."""
        return len(self._events[event_id].subscriptions) if event_id in self._events else 0

    def _truth(self, path: str, headers: Mapping[str, str]) -> Answer:
        target = path.replace(self.path, "/api/v2/")
        reply = self._sandbox.receive("GET", target, headers.get("Authorization"))
        return reply.status, {"Content-Type": "application/json", **reply.headers}, reply.body.decode()


def answers(status: int, body: str = "{}", **headers: str) -> Behaviour:
    """Whatever it is asked, C42 answers this."""
    return lambda _call, _truth: (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def is_well(_call: Call, truth: Callable[[], Answer]) -> Answer:
    """C42 answers as it should."""
    return truth()


def fails(failure: Failure) -> Behaviour:
    return lambda _call, _truth: failure


def altered(change: Callable[[Any], object], name: CallName = "event") -> Behaviour:
    """C42 answers as it should, but for a change to the JSON of an event, or of its subscribers."""
    return lambda call, truth: changed(truth(), change) if call.name == name else truth()


def changed(answer: Answer, change: Callable[[Any], object]) -> Answer:
    """An answer but for a change to its JSON."""
    assert not isinstance(answer, Failure), answer
    status, headers, body = answer
    content = json.loads(body)
    change(content)
    return status, headers, json.dumps(content)


def as_long_as(length: int) -> Behaviour:
    """C42 answers as it should, with so many characters: blanks follow."""

    def behave(_call: Call, truth: Callable[[], Answer]) -> Answer:
        answer = truth()
        assert not isinstance(answer, Failure), answer
        status, headers, body = answer
        return status, headers, body.ljust(length)

    return behave


def only_at_offset(offset: int, behaviour: Behaviour) -> Behaviour:
    return lambda call, truth: behaviour(call, truth) if call.offset == offset else truth()


def asks_to_wait(retry_after: str) -> Behaviour:
    return answers(429, Retry_After=retry_after)


def asks_to_wait_until(later: timedelta) -> Behaviour:
    """C42 asks to wait until a date, which is `later` than the call, or (negative) has passed."""
    return lambda call, truth: asks_to_wait(format_datetime(call.at + later, usegmt=True))(call, truth)


MISBEHAVIOURS: dict[str, Behaviour] = {
    "is broken": answers(500),
    "cannot be reached": fails(Failure.UNREACHABLE),
    "lists no more than 60 subscribers": lambda _call, truth: changed(
        truth(), lambda answer: answer.update(data=answer["data"][:60])
    ),
    "stops in the middle of its answer": fails(Failure.CUT_SHORT),
    "does not answer": fails(Failure.SILENT),
    "is closed for repairs": answers(503),
    "answers nonsense": answers(200, "<html>Hello</html>"),
    "answers with an empty list alone": answers(200, "[]"),
    "answers with a list of lists, 100,000 deep": answers(200, "[" * 100_000 + "]" * 100_000),
    "answers with a number that is none": answers(200, '{"data": [], "meta_data": {"count": NaN}}'),
    "refuses the proxy's token": answers(401),
    "does not let the proxy's token read anything": answers(403),
    "refers the proxy to another address": answers(302, Location="https://elsewhere.example/"),
    "says that there is no such thing": answers(404),
    "asks to wait without saying how long": answers(429),
    "asks to wait for a time that nobody can read": asks_to_wait("a while"),
    "asks to wait until a moment that has passed": asks_to_wait_until(timedelta(minutes=-1)),
    "is busy for 12 s": answers(503, Retry_After="12"),
    "answers with another event": altered(lambda answer: answer["data"][0].update(id="another")),
    "answers with two events": altered(lambda answer: answer["data"].append(answer["data"][0])),
    "does not say who a subscriber is": altered(lambda answer: answer["data"][0].pop("subscriber"), "subscribers"),
    "lists more subscribers than it was asked for": altered(
        lambda answer: answer.update(data=answer["data"] * (PAGE + 1)), "subscribers"
    ),
    "lists the subscribers of another event": altered(
        lambda answer: answer["data"][0].update(event_id="another"), "subscribers"
    ),
    "answers with garbled text": altered(lambda answer: answer["data"][0].update(title="\ud83d")),
    "answers with 4 megabytes": as_long_as(4_194_304),
    "answers with more than 4 megabytes": as_long_as(4_194_305),
}
