"""Records written by hand: `histories.txt` tells each history in a line, and a `Tape` makes its records.

    fetch r1 0 event=a | 'Redis hangs' 0.5 0.6 | hit r2 1 r1 at=host-1

is a request r1 at 0 for which C42 is asked, a fault of the store from 0.5 to 0.6, and a request r2 at 1, straight to a
host, that gets what r1 got. The arguments are those of the methods of `Tape`. All instants are counted from `START`;
`1+` is a moment after 1, and `1-` before it.
"""

import hashlib
import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import partial
from typing import Any, get_args

from tools.soak.marks import Mark, name, title
from tools.soak.record import Call, Fault, FaultKind, Outcome, Record, Request, Run, StoreState, Traceback, Version
from tools.soak.rules_for_answers import UNTIL_EXPIRES

START = 1_700_000_000.0
RUN = Run(seed=1, ttl=3, stale_if_error=6, budget=1, threshold=3, processes=4)
ASKED = 0.01
"""From a request to the calls for it, if nothing else is said."""
TOOK = 0.02
"""How long such calls take, and after them the way back to the client: it is answered 0.05 s after its request."""
A_MOMENT = 0.001

STATUS = {
    "answered": 200,
    "gone": 404,
    "failed": 502,
    "cut": 502,
    "left": 504,
    "told to wait": 503,
    "token refused": 502,
}
OF_C42 = {"answered": 200, "gone": 404, "failed": 500, "told to wait": 429, "token refused": 401}
OWN = {
    "hit": "c42-proxy; hit; ttl=1, nginx; fwd=stale; stored",
    "hit_of_nginx": "c42-proxy; fwd=uri-miss; fwd-status=200, nginx; hit",
    "collapsed": "c42-proxy; fwd=uri-miss; collapsed; fwd-status=200",
}
"""Whose answer a client may get: `hit r2 1 r1` is what r1 got, from a host; `collapsed`, from the same fetch."""
NOT_KEPT = {"cache-control": "no-store", "x-accel-expires": "0"}
JSON = {"content-type": "application/json"}
PROBLEM = {"content-type": "application/problem+json"}


@dataclass(frozen=True)
class Entry:
    """An answer that may be reused, and until when."""

    event: str
    status: int
    body: str
    headers: dict[str, str]
    expiry: float = 0


class Tape:
    """The records of a run in which all is well, except for what its lines say."""

    def __init__(self, *lines: str) -> None:
        self.records: list[Record] = [RUN]
        self.entries: dict[str, Entry] = {}
        self._calls = 0
        self.version(1, -100)
        for line in lines:
            for part in filter(str.strip, line.split(" | ")):
                self._add(*shlex.split(part))

    def _add(self, verb: str, *words: str) -> None:
        named = dict(word.split("=", 1) for word in words if re.match(r"[a-z_-]+=", word))
        values = {key: _value(text) for key, text in named.items()}
        positional = [_value(word) for word in words if not re.match(r"[a-z_-]+=", word)]
        if verb in get_args(FaultKind):
            self.fault(verb, *positional, **values)
        else:
            method: Callable[..., object] = partial(self.get, own=OWN[verb]) if verb in OWN else getattr(self, verb)
            method(*positional, **values)

    # What happens to C42 and to the stack

    def run(self, **changes: Any) -> None:
        self.records[0] = replace(RUN, **changes)

    def version(self, number: int, since: float, event: str = "tea", size: int = 1, gone: bool = False) -> None:
        """What the event is from now on."""
        self.records.append(Version(event, int(number), START + since, int(size), bool(gone)))

    def fault(self, kind: Any, since: float, until: float | None = None, at: str = "", left: str = "") -> None:
        self.records.append(Fault(kind, START + since, START + (since if until is None else until), at, left))

    def store(self, since: float, works: bool) -> None:
        """What a host says of the store."""
        self.records.append(StoreState("host-1", START + since, bool(works)))

    # What clients get

    def fetch(
        self,
        request: str,
        sent: float,
        outcome: Outcome = "answered",
        *,
        event: str = "tea",
        version: float = 1,
        size: float = 1,
        took: float = TOOK,
        wait: float = 0,
        asked: float = ASKED,
        at: str = "nginx",
    ) -> None:
        """Somebody asks, the proxy asks C42, and gives what came of it."""
        began, ended = START + sent + asked, START + sent + asked + took
        if outcome != "gone" and not any(isinstance(one, Version) and one.event == event for one in self.records):
            self.version(1, -100, event, int(size))
        names: list[str] = []
        called = ""
        for offset in (None, *range(0, int(size), 100)):
            self._calls += 1
            status = None if outcome in {"cut", "left"} else OF_C42[outcome]
            said = int(version) if outcome in {"answered", "gone"} else None
            self.records.append(
                Call(self._calls, request, event, offset, began, ended, outcome, status, said, wait, used=False)
            )
            mark = Mark(int(version), self._calls)
            if offset is None:
                called = title(event, mark)
            else:
                names += [name(index, mark) for index in range(offset, min(offset + 100, int(size)))]
        own = f"c42-proxy; fwd=uri-miss; fwd-status={OF_C42.get(outcome, '')}".removesuffix("; fwd-status=")
        entry = Entry(event, STATUS[outcome], "", NOT_KEPT | PROBLEM)
        if outcome in {"answered", "gone"}:
            kept = {"cache-control": UNTIL_EXPIRES, "expires": date(began + RUN.ttl - A_MOMENT)}
            entry = Entry(event, STATUS[outcome], "", kept | PROBLEM, sent + asked + RUN.ttl)
        if outcome == "answered":
            entry = with_body(replace(entry, headers=kept | JSON), event, called, names)
        elif outcome == "told to wait":
            entry.headers["retry-after"] = f"{wait}"
        self.entries[request] = entry
        self.get(request, sent, entry, own, took=asked + took + 0.02, at=at)

    def get(
        self, request: str, sent: float, of: str | Entry, own: str, *, took: float = A_MOMENT, at: str = "nginx"
    ) -> None:
        """A client gets an entry, or what another request got."""
        entry = of if isinstance(of, Entry) else self.entries[of]
        headers = {**entry.headers, "cache-status": own}
        if at != "nginx" and "expires" in headers:
            headers["x-accel-expires"] = f"@{math.floor(START + entry.expiry - A_MOMENT) - 1}"
        sent += START
        self.records.append(
            Request(request, entry.event, at, sent, sent + took, entry.status, None, headers, entry.body)
        )

    def not_modified(self, request: str, sent: float, of: str) -> None:
        entry = self.entries[of]
        headers = {key: value for key, value in entry.headers.items() if key != "content-type"}
        self.get(request, sent, replace(entry, status=304, body="", headers=headers), OWN["hit"])

    def stale(self, request: str, sent: float, of: str, own: str = "fwd=stale; fwd-status=500", **how: Any) -> None:
        """An expired answer instead of a failure."""
        entry = replace(self.entries[of], headers=NOT_KEPT | JSON)
        self.get(request, sent, entry, f"c42-proxy; {own}; detail=stale-if-error, nginx; fwd=stale", **how)

    def late(self, request: str, sent: float, of: str, own: str = "fwd=uri-miss; fwd-status=200; ", **how: Any) -> None:
        """An answer that had expired when it came."""
        entry = replace(self.entries[of], headers=NOT_KEPT | JSON)
        self.get(request, sent, entry, f"c42-proxy; {own}detail=past-expiry, nginx; fwd=stale", **how)

    def problem(self, request: str, sent: float, own: str, event: str = "tea", status: float = 503, **how: Any) -> None:
        """A failure of which C42 knows nothing."""
        headers = NOT_KEPT | PROBLEM | ({"retry-after": "1"} if status == 503 else {})
        self.get(request, sent, Entry(event, int(status), "", headers), f"c42-proxy; {own}", **how)

    def down(self, events: str, first: float) -> None:
        """Different events fail in a row, one every 0.1 s. The requests are called as the events."""
        for number, event in enumerate(events):
            self.fetch(event, first + number / 10, "failed", event=event)

    # Changes of what was recorded

    def lose(self, request: str, loss: str, ended: float = 1, used: bool = False) -> None:
        self.change(request, status=None, loss=loss, headers={}, body="", ended=ended, used=bool(used))

    def headers(self, request: str, **changes: Any) -> None:
        """Other headers; an empty one is left out, and `expires` may be the instant that it tells."""
        expires = changes.get("expires")
        if isinstance(expires, float):
            changes["expires"] = date(START + expires)
        [old] = [one.headers for one in self.records if isinstance(one, Request) and one.id == request]
        new = {key: f"{value}" for key, value in {**old, **changes}.items() if value != ""}
        self.change(request, headers=new)

    def change(self, request: str, **changes: Any) -> None:
        """What was recorded of a request."""
        self._change(lambda one: isinstance(one, Request) and one.id == request, changes)

    def call(self, number: int, **changes: Any) -> None:
        """What was recorded of a call."""
        self._change(lambda one: isinstance(one, Call) and one.number == number, changes)

    def call_again(self, request: str, received: float, ended: float, outcome: Outcome, **more: Any) -> None:
        """One more call for the event."""
        more = {"status": None, "used": False} | more
        self.records.append(Call(9, request, "tea", None, START + received, START + ended, outcome, **more))

    def traceback(self, since: float) -> None:
        self.records.append(Traceback("host-1", START + since, "Traceback (most recent call last):"))

    def without_request(self, request: str) -> None:
        self.records = [one for one in self.records if not (isinstance(one, Request) and one.id == request)]

    def without_call(self, number: int) -> None:
        self.records = [one for one in self.records if not (isinstance(one, Call) and one.number == number)]

    def _change(self, is_meant: Callable[[Record], bool], changes: dict[str, Any]) -> None:
        at = {key: START + value for key, value in changes.items() if key in {"sent", "received", "ended"}}
        [index] = [index for index, one in enumerate(self.records) if is_meant(one)]
        self.records[index] = replace(self.records[index], **changes | at)


def with_body(entry: Entry, event: str, called: str, names: list[str], **more: object) -> Entry:
    """An answer, with the ETag that it has."""
    body = json.dumps({"id": event, "title": called, "names": names, **more})
    etag = f'"{hashlib.sha256(body.encode()).hexdigest()}"'
    return replace(entry, body=body, headers={**entry.headers, "etag": etag})


def date(instant: float) -> str:
    """What `Expires` says of an instant."""
    return formatdate(math.floor(instant) - 1, usegmt=True)


def _value(text: str) -> Any:
    if re.fullmatch(r"-?[\d.]+[-+]?", text):
        return float(text.rstrip("+-")) + {"+": A_MOMENT, "-": -A_MOMENT}.get(text[-1], 0)
    return {"None": None, "True": True, "False": False}.get(text, text)
