"""The rules of reuse once more, as plainly as can be: the real cache is compared with them.

Several processes share a store that may fail. What they surely know is kept apart from what they might know: if a store
fails, state texts get lost, and the rules then allow more than one thing. What the rules never allow is always checked;
what they demand is checked if nothing is in doubt.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field

from c42_proxy.caching import reply as replies
from c42_proxy.caching.reply import Fetched, Hit, Reply, StaleIfError
from c42_proxy.errors import (
    BackingOff,
    CircuitOpen,
    NotAsked,
    RateLimited,
    RepeatedFailure,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from c42_proxy.stores.contract import Entry
from c42_proxy.web.responses import cache_status, expiry_of

SKEW = 1.0
HOUR = 3600.0
OPEN_SECONDS = 5.0
REPEATED = 1.0
PROBE_SECONDS = 8.0
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Span:
    """A time during which something is not to be done."""

    since: float
    until: float

    def covers(self, now: float) -> bool:
        return self.since <= now + SKEW and now < self.until


@dataclass(frozen=True)
class Failed:
    """A failure of an event, which may be told again for a moment."""

    span: Span
    error: UpstreamError


@dataclass(frozen=True)
class Refused:
    """A process knows since `since` that C42 may not be asked for an event, for no longer than `until`.

    From `look_at` on, the next request has it look beside at what others know; a second later, it searches.
    """

    since: float
    until: float
    look_at: float

    def holds(self, now: float) -> bool:
        return self.since <= now < min(self.until, self.look_at + LOOK_SECONDS)


@dataclass
class Process:
    """What one process surely knows, and may know. `doubt`: the store has failed it, and it has not written since."""

    own: dict[str, Entry] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)
    perhaps: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    back_off: Span | None = None
    doubt: bool = False

    def has(self, event: str, entry: Entry) -> None:
        """This and nothing else is in its memory."""
        self.own[event] = entry
        self.perhaps[event].clear()


@dataclass(frozen=True)
class View:
    """How things are for one process and one event, just before it is requested.

    `sure`: the store works for it. `alone`: the store gives it nothing. `known`: the newest answer that it surely has.
    `at_once`: it may give an expired answer of its own, `own`, whatever others know; `looks`: if so, it looks beside.
    """

    sure: bool
    alone: bool
    known: Entry | None
    forbidden: str
    demanded: bool
    own: Entry | None
    finds: bool
    at_once: bool
    looks: bool


class Rules:
    """The reference: what has happened, and what follows from it."""

    def __init__(self, now: float, *, ttl: float, window: float, threshold: int) -> None:
        self.now = now
        self.ttl = ttl
        self.window = window
        self.threshold = threshold
        self.said: dict[str, list[Entry]] = defaultdict(list)
        self.processes: list[Process] = []
        self.shared: dict[str, Entry] = {}
        self.back_off: Span | None = None
        self.back_offs: list[Span] = []
        self.failure: dict[str, Failed] = {}
        self.failures: dict[str, list[Failed]] = defaultdict(list)
        self.failed: list[str] = []
        self.open: Span | None = None
        self.ended: Span | None = None
        self.openings: list[Span] = []
        self.breaker_sure = True
        self.breaker_noted_at = now

    # Time

    def time_is(self, now: float) -> None:
        """What has ended or is void may be forgotten, even if the clock comes back to it later."""
        self.now = now
        self.failure = {event: failed for event, failed in self.failure.items() if failed.span.covers(now)}
        if self.back_off is not None and not self.back_off.covers(now):
            self.back_off = None
        for process in self.processes:
            # Where a longer one is known, the other is forgotten.
            if process.back_off is not None and (
                not process.back_off.covers(now) or self._is_shorter(process.back_off)
            ):
                process.back_off = None
        if self._breaker_is_forgotten() or (self.open is not None and self.open.since > now + SKEW):
            self.breaker_sure = False

    def _breaker_is_forgotten(self) -> bool:
        """Whether what was noted of it is too old. It may come back with a clock that is set back."""
        return bool(self.failed or self.open or self.ended) and self.now >= self.breaker_noted_at + HOUR

    def instants(self) -> list[float]:
        """When something changes by itself."""
        ends = [self.expiry(entry) for entries in self.said.values() for entry in entries[-2:]]
        ends += [end + self.window for end in ends]
        ends += [span.until for span in (*self.back_offs[-2:], *self.openings[-2:])]
        ends += [failed.span.until for failures in self.failures.values() for failed in failures[-1:]]
        return sorted({end for end in ends if end > self.now})

    # Answers

    def expiry(self, entry: Entry) -> float:
        return entry.fetched_at + self.ttl

    def believed(self, entry: Entry) -> bool:
        return entry.fetched_at <= self.now + SKEW

    def fresh(self, entry: Entry) -> bool:
        return self.believed(entry) and self.now < self.expiry(entry)

    def useful(self, entry: Entry) -> bool:
        """Whether it may be told instead of a failure."""
        return entry.status == 200 and self.believed(entry) and self.now - self.expiry(entry) < self.window

    def newest(self, *entries: Entry | None) -> Entry | None:
        """The last one of those that are equally new: it replaces the others."""
        candidates = [entry for entry in reversed(entries) if entry is not None and self.believed(entry)]
        return max(candidates, key=lambda entry: entry.fetched_at, default=None)

    def taken(self, held: Entry | None, offered: Entry) -> bool:
        """Whether a place that holds one entry takes the other."""
        return held is None or not self.believed(held) or held.fetched_at <= offered.fetched_at

    # Before a request

    def view(self, process: Process, event: str, *, store: str) -> View:
        in_memory = any(self.fresh(entry) for entry in process.perhaps[event])
        sure = store == "works" and not process.doubt and not in_memory
        alone = store == "breaks"
        own = process.own.get(event)
        # A hit in this process looks no further.
        hit = own is not None and self.fresh(own)
        refused = process.refused.get(event)
        useful = [entry for entry in (own, *process.perhaps[event]) if entry and self.useful(entry) and not hit]
        at_once = bool(useful) and refused is not None and refused.holds(self.now)
        looks = refused is None or self.now >= refused.look_at
        known = self.newest(own, self._given(event) if sure and not hit and (looks or not at_once) else None)
        fresh = known is not None and self.fresh(known)
        forbidden = self._forbidden(process, event, sure)
        possible = process.perhaps[event] if alone else self.said[event]
        maybe = (
            any(self.fresh(entry) for entry in possible)
            or any(span.covers(self.now) for span in self.back_offs)
            or any(failed.span.covers(self.now) for failed in self.failures[event])
            or (not self._breaker_known(sure) and any(span.covers(self.now) for span in self.openings))
        )
        return View(
            sure,
            alone,
            known,
            "a fresh answer is known" if fresh else forbidden,
            demanded=not (fresh or forbidden or maybe or at_once),
            own=own,
            finds=own is not None or (sure and self._given(event) is not None),
            at_once=at_once,
            looks=looks,
        )

    def _given(self, event: str) -> Entry | None:
        """What the shared store gives: nothing whose lifetime is over, even if the clock comes back meanwhile."""
        entry = self.shared.get(event)
        return entry if entry is not None and self._lives(entry) else None

    def _lives(self, entry: Entry) -> bool:
        return entry.fetched_at > self.now - self.ttl - self.window

    def _forbidden(self, process: Process, event: str, sure: bool) -> str:
        if sure and event in self.failure and self.failure[event].span.covers(self.now):
            return "it failed a moment ago"
        if process.back_off is not None or (sure and self.back_off is not None):
            return "C42 asked us to back off"
        if self._breaker_known(sure) and self.open is not None and self.open.covers(self.now):
            return "C42 is down"
        return ""

    def _breaker_known(self, sure: bool) -> bool:
        return self.threshold == 0 or (sure and self.breaker_sure)

    # After a request

    def learn(
        self, process: Process, event: str, view: View, began: float, outcome: Entry | UpstreamError | None
    ) -> bool | None:
        """Take in what C42 was asked at `began` and said, if it was; tells whether its answer is stored.

        None where it may be so: a newer answer may be in one of its places, and not in the other.
        """
        held = process.own.get(event)
        if held is not None and held.fetched_at > began + SKEW:
            # Any other may have replaced it.
            process.perhaps[event].append(process.own.pop(event))
        if not (view.sure or view.alone):
            process.perhaps[event] += self.said[event]
        if view.sure and view.known is not None:
            process.own[event] = view.known
        if outcome is None:
            return False
        # It may have been noted anew: for an hour, by a clock that may have been set back.
        self.breaker_noted_at = min(self.breaker_noted_at, self.now)
        if not view.sure:
            self.openings.append(Span(began, began + OPEN_SECONDS + PROBE_SECONDS))
            self.breaker_sure = False
        if isinstance(outcome, UpstreamError):
            self._learn_failure(process, event, view, began, outcome)
            return False
        if view.sure:
            if self.open is not None and self.open.since <= self.now + SKEW and not self.open.covers(self.now):
                self.ended = self.open
            self.breaker_sure = not self._breaker_is_forgotten()
            self.failed, self.open = [], None
        self.said[event].append(outcome)
        if not self.fresh(outcome):
            if outcome.status == 404 and view.finds:
                # It is not given, but takes the place of an answer that might be served stale.
                self._keep(process, event, view, held, outcome)
            return False
        return self._keep(process, event, view, held, outcome) or None

    def _keep(self, process: Process, event: str, view: View, held: Entry | None, entry: Entry) -> bool:
        kept = self.taken(held, entry)
        if kept:
            process.has(event, entry)
        if view.sure and self.taken(self.shared.get(event), entry):
            self.written(event, entry)
        return kept

    def written(self, event: str, entry: Entry) -> None:
        """The shared store has taken an entry: it may forget what is too old, or from the future."""
        self.shared = {other: held for other, held in self.shared.items() if self.believed(held) and self._lives(held)}
        self.shared[event] = entry

    def _learn_failure(self, process: Process, event: str, view: View, began: float, error: UpstreamError) -> None:
        failed = Failed(Span(self.now, self.now + REPEATED), error)
        self.failures[event].append(failed)
        if isinstance(error, RateLimited):
            back_off = Span(self.now, self.now + error.seconds)
            self.back_offs.append(back_off)
            if not back_off.covers(self.now) or self._is_shorter(back_off):
                return
            process.back_off = back_off
            self.back_off = back_off if view.sure else None
            return
        if view.sure:
            self.failure[event] = failed
        if isinstance(error, UpstreamUnavailable | UpstreamTimeout):
            self._count(event, began)

    def _is_shorter(self, back_off: Span) -> bool:
        return any(other.covers(self.now) and other.until > back_off.until for other in self.back_offs)

    def _count(self, event: str, began: float) -> None:
        """One more failure in the row."""
        was_open = self.open if self.open is not None and self.open.since <= self.now + SKEW else None
        self.openings.append(Span(self.now, self.now + OPEN_SECONDS + (0 if self.breaker_sure else PROBE_SECONDS)))
        last = was_open or self.ended
        is_old = last is not None and last.since <= self.now + SKEW and began < last.until
        if is_old or (was_open is not None and event == self.failed[-1]):
            return
        self.failed = [*(other for other in self.failed if other != event), event]
        down = was_open is not None or len(self.failed) >= self.threshold > 0
        self.open = Span(self.now, self.now + OPEN_SECONDS) if down else None
        self.breaker_noted_at = self.now

    # What is told

    def check(
        self,
        process: Process,
        event: str,
        view: View,
        reply: Reply,
        *,
        outcome: Entry | UpstreamError | None,
        kept: bool | None,
    ) -> None:
        """Whether a reply is true and allowed, after `learn`."""
        parameters = cache_status(reply).split("; ")
        assert parameters.pop(0) == "c42-proxy"
        if isinstance(outcome, Entry):
            self._check_new(view, reply, outcome, kept, parameters)
        elif isinstance(reply, replies.Failed):
            self._check_problem(event, view, reply, outcome, parameters)
        elif isinstance(reply, Hit | Fetched):
            assert outcome is None, "C42 failed, and the answer is told as fresh"
            assert parameters == self.check_hit(process, event, view.known, reply)
        else:
            self._check_stale(event, view, reply.entry, outcome, parameters)
        looks_beside = view.at_once and view.looks and isinstance(reply, StaleIfError)
        if not isinstance(reply, replies.Failed) and outcome is None and not looks_beside:
            process.has(event, reply.entry)
        if isinstance(outcome, Entry):
            process.refused.clear()
        elif outcome is None and (view.looks or not view.at_once):
            self._learn_refusal(process, event, view)

    def _learn_refusal(self, process: Process, event: str, view: View) -> None:
        """The process has found out whether C42 may be asked; nothing that it knows now may hold for longer."""
        back_offs = self.back_offs if not view.sure else [process.back_off, self.back_off]
        openings = [self.open] if self._breaker_known(view.sure) else self.openings
        failures = [self.failure.get(event)] if view.sure else self.failures[event]
        spans = [*back_offs, *openings, *(failed.span for failed in failures if failed)]
        ends = [span.until for span in spans if span and span.covers(self.now)]
        process.refused.pop(event, None)
        if ends:
            process.refused[event] = Refused(self.now, max(ends), self.now + LOOK_SECONDS)

    def check_hit(self, process: Process, event: str, known: Entry | None, reply: Reply) -> list[str]:
        """A fresh answer is one of C42's, and no older than what is known; gives what `Cache-Status` must say of it."""
        assert isinstance(reply, Hit)
        entry = reply.entry
        assert entry in self.said[event], "C42 never said that"
        assert self.fresh(entry), "it is past its instant"
        assert expiry_of(reply) == self.expiry(entry)
        newest = self.newest(process.own.get(event), known)
        assert newest is None or entry.fetched_at >= newest.fetched_at, "something newer is known"
        return ["hit", f"ttl={math.floor(self.expiry(entry) - self.now)}"]

    def _check_new(self, view: View, reply: Reply, outcome: Entry, kept: bool | None, parameters: list[str]) -> None:
        assert isinstance(reply, Fetched)
        assert reply.entry == outcome, "C42 has just said something else"
        assert expiry_of(reply) == (self.expiry(outcome) if self.fresh(outcome) else None)
        self._check_forward(view, parameters.pop(0))
        if parameters[0] == "stored":
            parameters.pop(0)
            assert kept is not False, "it is past its instant, and stored"
        else:
            assert not kept, "it has not been stored"
        expected = [f"fwd-status={outcome.status}"]
        assert parameters == expected if self.fresh(outcome) else parameters == [*expected, "detail=past-expiry"]

    def _check_forward(self, view: View, forward: str) -> None:
        assert forward in {"fwd=stale", "fwd=uri-miss"}
        # What nobody may be given any more may have been erased.
        if view.known is not None and self.now < self.expiry(view.known) + self.window:
            assert forward == "fwd=stale", "something had been known"

    def _check_stale(
        self, event: str, view: View, entry: Entry, outcome: UpstreamError | Entry | None, parameters: list[str]
    ) -> None:
        assert entry in self.said[event], "C42 never said that"
        assert self.useful(entry), "it is no copy to be told"
        assert not isinstance(outcome, TokenRefused), "a refused token is hidden"
        known = view.own if view.at_once else view.known
        assert known is None or known.fetched_at <= entry.fetched_at, "something newer is known"
        if view.sure and not view.at_once and view.forbidden == "it failed a moment ago":
            assert self.failure[event].error.allows_stale, "a refused token is hidden"
        ttl = math.floor(self.expiry(entry) - self.now)
        if isinstance(outcome, UpstreamError):
            assert parameters == ["fwd=stale", *_status(outcome), "detail=stale-if-error"]
        else:
            assert parameters == ["hit", f"ttl={ttl}", "detail=stale-if-error"]
            assert ttl <= 0, "it has not expired"

    def _check_problem(
        self,
        event: str,
        view: View,
        reply: replies.Failed,
        outcome: UpstreamError | Entry | None,
        parameters: list[str],
    ) -> None:
        problem = reply.problem
        if problem.allows_stale and view.known is not None and self.useful(view.known):
            others = [entry for entry in self.said[event] if entry != view.known]
            overtaken = any(entry.fetched_at >= view.known.fetched_at for entry in others)
            in_doubt = overtaken and not (view.sure or view.alone)
            assert in_doubt, "there is a copy to be told instead"
        if isinstance(outcome, UpstreamError):
            assert problem is outcome, "C42 has failed in another way"
            self._check_forward(view, parameters.pop(0))
            assert parameters == _status(outcome)
            return
        assert isinstance(problem, NotAsked)
        assert parameters == [f"detail={problem.why}"]
        self._check_not_asked(event, view, problem)

    def _check_not_asked(self, event: str, view: View, problem: NotAsked) -> None:
        """The reason why C42 was not asked is a true one."""
        if isinstance(problem, RepeatedFailure):
            told = [failed.error for failed in self.failures[event] if failed.span.covers(self.now)]
            assert (problem.status, problem.detail) in [(error.status, error.detail) for error in told]
        elif isinstance(problem, BackingOff):
            ends = [span.until for span in self.back_offs if span.covers(self.now)]
            assert problem.retry_after in {max(1, math.ceil(end - self.now)) for end in ends}
        elif isinstance(problem, CircuitOpen):
            assert any(span.covers(self.now) for span in self.openings), "C42 is not down"
            if self._breaker_known(view.sure):
                assert self.open is not None
                assert problem.retry_after == math.ceil(self.open.until - self.now)
        else:
            raise AssertionError(f"no reason not to ask: {problem.why}")


def _status(error: UpstreamError) -> list[str]:
    return [] if error.upstream_status is None else [f"fwd-status={error.upstream_status}"]
