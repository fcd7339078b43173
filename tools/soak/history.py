"""The record of a run, put in order: what each answer is made of, and what was going on at the time."""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from typing import Any, Literal

from .bounds import JOINED, MOVED, NGINX_CLOCK, ON_ITS_WAY, STORE_RECOVERS, STORE_TAKEN_BACK
from .fetches import Fetch, fetches_of
from .marks import Marks, marks_of
from .record import Call, Fault, FaultKind, Record, Request, Run, StoreState, Traceback, Version

Kind = Literal["hit of nginx", "hit", "miss", "collapsed", "stale", "past expiry", "problem", "lost", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told, or that it was told nothing (`lost`).

    `own` is the proxy's part of `Cache-Status`; 404s and problems have no `entry`.
    """

    request: Request
    own: str
    kind: Kind
    entry: Marks | None
    fetch: Fetch | None
    expires: int | None

    @property
    def is_fresh(self) -> bool:
        """Whether it is passed off as one that anybody may reuse: there is no mark on it that says otherwise."""
        return self.kind not in {"stale", "past expiry", "problem", "lost"}

    @property
    def grace(self) -> float:
        """Seconds for which nginx may be late."""
        return NGINX_CLOCK if self.kind == "hit of nginx" else 0

    @property
    def was_asked(self) -> bool:
        """Whether C42 was asked for it, or for the failure that it hides."""
        return "; fwd=" in self.own


class History:
    """Raises ValueError where there is not exactly one Run among the records."""

    def __init__(self, records: Iterable[Record]) -> None:
        of: dict[type[Record], list[Any]] = defaultdict(list)
        for record in records:
            of[type(record)].append(record)
        self.run: Run
        [self.run] = of[Run]
        self.versions: dict[str, list[Version]] = defaultdict(list)
        for version in of[Version]:
            self.versions[version.event].append(version)
        self.calls: dict[int, Call] = {call.number: call for call in of[Call]}
        self.requests: list[Request] = sorted(of[Request], key=lambda request: request.sent)
        self.by_id = {request.id: request for request in self.requests}
        self.faults: list[Fault] = of[Fault]
        self.store_states: list[StoreState] = of[StoreState]
        self.tracebacks: list[Traceback] = of[Traceback]
        self._by_etag = {
            (request.event, request.headers["etag"]): marks_of(request.event, request.body)
            for request in self.requests
            if request.status == 200 and "etag" in request.headers
        }

    @cached_property
    def fetches(self) -> list[Fetch]:
        """All fetches, in the order in which they began."""
        earliest: dict[int, float] = {}
        for request in self.requests:
            marks = self._marks(request)
            expires = expires_of(request)
            if marks is not None and expires is not None:
                earliest.update(dict.fromkeys(marks.calls, expires - self.run.ttl))
        sizes = {event: versions[0].size for event, versions in self.versions.items()}
        kills = [fault for fault in self.faults if fault.kind == "worker killed"]
        return fetches_of(
            self.run,
            self.calls.values(),
            requests=self.by_id,
            kills=kills,
            sizes=sizes,
            told=earliest,
            is_short=self.is_short,
        )

    @cached_property
    def fetches_by_event(self) -> dict[str, list[Fetch]]:
        """The same for each event."""
        found: dict[str, list[Fetch]] = defaultdict(list)
        for fetch in self.fetches:
            found[fetch.event].append(fetch)
        return found

    @cached_property
    def fetches_by_call(self) -> dict[int, Fetch]:
        """The fetch that a call belongs to."""
        return {call.number: fetch for fetch in self.fetches for call in fetch.calls}

    @cached_property
    def answers(self) -> list[Answer]:
        """What was told, in the order in which it was asked for."""
        return [self._answer(request) for request in self.requests]

    @cached_property
    def first_told(self) -> dict[tuple[str, str], Request]:
        """The first request that got an answer that may be reused: by its event and body, and by its event and ETag."""
        fresh = [one.request for one in reversed(self.answers) if one.request.status == 200 and one.is_fresh]
        by_body = {(request.event, request.body): request for request in fresh}
        return by_body | {(request.event, request.headers.get("etag", "")): request for request in fresh}

    def newest_told(self, event: str, before: float) -> Fetch | None:
        """The fetch of the newest entry that anybody was told before this moment."""
        known = self._newest[event]
        index = bisect_left(known, before, key=lambda told: told[0])
        return known[index - 1][1] if index else None

    @cached_property
    def _newest(self) -> dict[str, list[tuple[float, Fetch]]]:
        newest: dict[str, list[tuple[float, Fetch]]] = defaultdict(list)
        for answer in sorted(self.answers, key=lambda answer: answer.request.ended):
            known, fetch = newest[answer.request.event], answer.fetch
            if fetch is not None and (not known or known[-1][1].earliest < fetch.earliest):
                known.append((answer.request.ended, fetch))
        return newest

    def struck(self, since: float, until: float, *kinds: FaultKind, lasting: float = 0) -> list[Fault]:
        """The faults of these kinds within this time, each of which has its effect for so many seconds more."""
        return [
            fault
            for fault in self.faults
            if fault.kind in kinds and fault.since <= until and since <= fault.until + lasting
        ]

    @cached_property
    def store_away(self) -> list[tuple[float, float]]:
        """When a process may have gone on without the store."""
        away = [
            (state.since - STORE_TAKEN_BACK, state.since + (STORE_TAKEN_BACK if state.works else STORE_RECOVERS))
            for state in self.store_states
        ]
        for fault in self.faults:
            if fault.kind == "Redis moved":
                away.append((fault.since, fault.since + MOVED))
            elif fault.kind in {"Redis hangs", "Redis restarted"}:
                away.append((fault.since, fault.until + STORE_RECOVERS))
        return away

    def has_store(self, since: float, until: float) -> bool:
        """Whether all processes shared the store all this time."""
        return not any(begin <= until and since <= end for begin, end in self.store_away)

    def is_refused(self, since: float, until: float) -> bool:
        """Whether fetches may have failed in this time of which C42 has seen nothing."""
        return bool(self.struck(since, until, "C42 refuses", lasting=self.run.budget))

    def is_short(self, request: Request) -> bool:
        """Whether a host that may have answered this request lacked threads or descriptors meanwhile."""
        lacks = self.struck(request.sent, request.ended, "no threads", "no descriptors", lasting=JOINED)
        return any(request.at in {"nginx", fault.at} for fault in lacks)

    def on_its_way(self, since: float, until: float) -> float:
        """Seconds from a fetch's last look at what is known of C42 to the arrival of its call there, in this time.

        Of two addresses, a dead one may cost its half of the budget.
        """
        return ON_ITS_WAY + (self.run.budget / 2 if self.struck(since, until, "one address dead") else 0)

    def exists(self, event: str, since: float, until: float) -> list[Version]:
        """The versions that an event had within this time, the last one that it had before included."""
        versions = self.versions.get(event, [])
        first = max(0, bisect_right(versions, since, key=lambda version: version.since) - 1)
        return [version for version in versions[first:] if version.since <= until]

    def _answer(self, request: Request) -> Answer:
        own, _, nginx = request.headers.get("cache-status", "").partition(", ")
        marks = self._marks(request)
        fetch = self.fetches_by_call.get(marks.title.call) if marks is not None else None
        return Answer(request, own, _kind(request, own, nginx), marks, fetch, expires_of(request))

    def _marks(self, request: Request) -> Marks | None:
        if request.status == 304:
            return self._by_etag.get((request.event, request.headers.get("etag", "")))
        return marks_of(request.event, request.body) if request.status == 200 else None


def expires_of(request: Request) -> int | None:
    """The second of the instant that an answer tells, where it is one: `Expires` is a second less."""
    last_second = _instant(request.headers.get("expires", ""))
    return None if last_second is None else last_second + 1


@lru_cache(4096)
def _instant(date: str) -> int | None:
    try:
        return round(parsedate_to_datetime(date).timestamp())
    except ValueError:
        return None


_FORMS: tuple[tuple[Kind, str], ...] = (
    ("stale", r"c42-proxy; .*; detail=stale-if-error"),
    # `fwd` is missing if a host had a fresh entry that expired before it reached the client.
    ("past expiry", r"c42-proxy; (?:fwd=.*; )?detail=past-expiry"),
    ("hit", r"c42-proxy; hit; ttl=\d+"),
    ("collapsed", r"c42-proxy; fwd=(?:uri-miss|stale); collapsed(?:; fwd-status=\d+)?"),
    ("miss", r"c42-proxy; fwd=(?:uri-miss|stale)(?:; stored)?; fwd-status=\d+"),
)


def _kind(request: Request, own: str, nginx: str) -> Kind:
    if request.status is None or request.status >= 500:
        return "lost" if request.status is None else "problem"
    if nginx == "nginx; hit":
        return "hit of nginx"
    return next((kind for kind, form in _FORMS if re.fullmatch(form, own)), "unknown")
