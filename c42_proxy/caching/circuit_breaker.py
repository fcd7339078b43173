"""The circuit breaker and the back-off: whether C42 may be asked.

Closed: C42 may be asked. Open: it failed too often in a row, and is not asked for `OPEN_SECONDS`. Half-open: after
that, one fetch at a time probes; a success closes the breaker, a failure that counts opens it again. Back-off: C42
itself has asked to wait (429, or 503 with `Retry-After`), and is not asked until then, even if the breaker is closed.

Both are one state in the store, so all processes with the same store, C42 and token keep to it.
"""

import logging
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import (
    BackingOff,
    CircuitOpen,
    NotAsked,
    RateLimited,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from ..observability.metrics import Metrics
from ..stores.contract import SharedStates, is_ahead
from .shared_state import MAX_SECONDS, Span, parsed

log = logging.getLogger(__name__)

BREAKER_NAME = "guard"
"""The name under which version 0.1 keeps the state: both versions may run on one store."""
OPEN_SECONDS = 5.0
PROBE_RETRY_SECONDS = 1.0

Phase = Literal["closed", "open", "half-open"]
Degraded = Literal["told-to-wait", "c42-down", "token-refused"]

LINES: dict[Phase, tuple[int, str]] = {
    "open": (logging.WARNING, f"the circuit breaker has opened: C42 is not asked for {OPEN_SECONDS:g} s"),
    "half-open": (logging.INFO, "the circuit breaker is half-open: one request at a time probes C42"),
    "closed": (logging.INFO, "the circuit breaker has closed: C42 is asked again"),
}


class State(BaseModel):
    """The state that all processes share about C42. The names in the store are those of version 0.1.

    Without `open` the breaker is closed. An `open` whose end has passed stays: the breaker is half-open.
    `ended` is the last `open` before a probe has closed the breaker. `failed` lists the events whose fetches failed in
    a row, each once, the last one last. `refused_at` says since when C42 refuses the token; it stays until a fetch that
    was allowed then or later succeeds. Version 0.1 ignores `ended` and `refused_at`, and drops them when it changes
    the state.
    """

    model_config = ConfigDict(frozen=True, strict=True, populate_by_name=True)

    back_off: Span | None = Field(default=None, alias="wait")
    open: Span | None = Field(default=None, alias="pause")
    ended: Span | None = None
    probe: Span | None = Field(default=None, alias="trial")
    failed: tuple[str, ...] = ()
    refused_at: float | None = Field(default=None, allow_inf_nan=False)

    def believed_open(self, now: float) -> Span | None:
        """`open`, if the clock was not set back since: the breaker is open or half-open."""
        return self.open if self.open and self.open.is_believable(now) else None

    def is_old(self, allowed_at: float, now: float) -> bool:
        """Whether a fetch began before the breaker opened last, so that it says nothing new of C42."""
        last = self.believed_open(now) or self.ended
        return last is not None and last.is_believable(now) and allowed_at < last.until


BLANK = State()
"""The state if the store has none: nothing has happened. A success changes nothing in it."""


class CircuitBreaker:
    """Decides whether a fetch may ask C42. Thread-safe.

    Failures of `threshold` different events in a row open it (0: never). After `probe_seconds` without a result of the
    probe, another one may begin. Each change is a line in the log of each process that learns of it: when it would ask
    C42, and when it answers `/readyz`.
    """

    def __init__(
        self,
        store: SharedStates,
        *,
        clock: Callable[[], float],
        threshold: int,
        probe_seconds: float,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._clock = clock
        self._threshold = threshold
        self._may_open = threshold != 0
        self._probe_seconds = probe_seconds
        self._metrics = metrics
        self._back_off: Span | None = None
        self._logged_phase: Phase = "closed"
        self._last_line = object()
        self._logging = Lock()

    def before_read(self) -> Callable[[str | None], State]:
        """Call this before the text named `BREAKER_NAME` is read.

        Returns the function that parses the text, and logs the phase if it has changed.
        """
        return partial(self._parsed_and_logged, self._last_line)

    def read(self) -> State:
        """The state in the store."""
        return self.before_read()(self._store.read_state(BREAKER_NAME))

    def allow_fetch(self, state: State) -> float:
        """Let one fetch begin, and return the present instant. Raises BackingOff or CircuitOpen if it may not.

        `state` is what the caller has just read. While the breaker is half-open, a fetch that it allows is the probe.
        """
        now, is_half_open = self._checked(state)
        return self._begin_probe() if is_half_open else now

    def check(self, state: State) -> None:
        """Raises BackingOff or CircuitOpen if no fetch may begin now. Unlike `allow_fetch`, it begins no probe."""
        now, is_half_open = self._checked(state)
        if is_half_open and state.probe is not None and state.probe.covers(now):
            raise CircuitOpen(PROBE_RETRY_SECONDS)

    def last_refused(self) -> bool:
        """Whether C42 could not be asked by what this process last read. That may have changed: `check` knows."""
        return self._logged_phase == "open" or (self._back_off is not None and self._back_off.covers(self._clock()))

    def refresh_back_off(self) -> None:
        """Read from the store whether another process has begun a back-off."""
        self._learn(self.read().back_off)

    def check_back_off(self) -> None:
        """Raises BackingOff while this process knows of a back-off, so that a fetch under way makes no further call."""
        now = self._clock()
        if self._back_off is not None and self._back_off.covers(now):
            raise BackingOff(self._back_off.until - now)

    def degraded(self) -> list[Degraded]:
        """What is wrong with C42 at the moment, one word each for `/readyz`: back-off, open breaker, refused token."""
        state = self.read()
        self._learn(state.back_off)
        now = self._clock()
        reasons: dict[Degraded, bool] = {
            "told-to-wait": self._back_off is not None and self._back_off.covers(now),
            "c42-down": self._may_open and state.open is not None and state.open.covers(now),
            "token-refused": state.refused_at is not None,
        }
        return [reason for reason, holds in reasons.items() if holds]

    def begin_back_off(self, limited: RateLimited) -> None:
        """C42 has asked one fetch to wait, so nobody asks C42 until then."""
        now = self._clock()
        asked_for = Span(since=now, until=now + limited.seconds)

        def longest(state: State) -> State:
            known = state.back_off
            if known and known.covers(now) and known.until > asked_for.until:
                return state
            return _with(state, back_off=asked_for)

        self._learn(self._change(longest).back_off)

    def note_success(self, allowed_at: float) -> None:
        """A fetch ended in an event or in a 404: close the breaker. `allowed_at` is what `allow_fetch` returned for it.

        A fetch that began before the breaker opened ends no probe: only the probe says how C42 is now. Nor does a fetch
        show that the token is accepted again if it began before the token was refused.
        """
        now = self._clock()

        def close(state: State) -> State:
            was_open = state.believed_open(now)
            if was_open and state.is_old(allowed_at, now) and state.probe and state.probe.covers(now):
                return state
            at = state.refused_at
            return State(
                back_off=state.back_off,
                # An old fetch that succeeds may close the breaker before the end of `open`. That leaves no `ended`:
                # what is allowed from now on counts.
                ended=state.ended if was_open is None or was_open.covers(now) else was_open,
                refused_at=None if at is None or allowed_at >= at or is_ahead(at, now) else at,
            )

        state = self.read()
        if state is not BLANK and close(state) != state:
            self._change(close)

    def note_failure(self, event_id: str, error: UpstreamError | NotAsked, allowed_at: float) -> None:
        """A fetch failed, or was broken off.

        It counts if C42 was unavailable or timed out; not if C42 answered with a refusal, a 429 or something invalid.
        `allowed_at` is the instant that `allow_fetch` returned for this fetch.
        """
        counts = self._may_open and isinstance(error, UpstreamUnavailable | UpstreamTimeout)
        refused = isinstance(error, TokenRefused)
        now = self._clock()

        def count(state: State) -> State:
            if refused and state.refused_at is None:
                state = _with(state, refused_at=now)
            if state.is_old(allowed_at, now):
                # It is not the probe, and its failure proves nothing new, also if a probe has closed the breaker since.
                return state
            was_open = state.believed_open(now)
            if not counts or (was_open is not None and event_id in state.failed[-1:]):
                # The failure does not count, or the probe was for the event that failed last, which proves nothing
                # about C42 as a whole: only the probe ends.
                return _with(state, probe=None)
            failed = (*(other for other in state.failed if other != event_id), event_id)
            opens = was_open is not None or len(failed) >= self._threshold
            return _with(
                state,
                probe=None,
                failed=failed[-self._threshold :],
                open=Span(since=now, until=now + OPEN_SECONDS) if opens else None,
            )

        state = self.read()
        if counts or state.probe or (refused and state.refused_at is None):
            self._change(count)

    def _checked(self, state: State) -> tuple[float, bool]:
        """The present instant, and whether the breaker is half-open. Raises BackingOff or CircuitOpen."""
        self._learn(state.back_off)
        self.check_back_off()
        now = self._clock()
        was_open = state.believed_open(now) if self._may_open else None
        if was_open is not None and was_open.covers(now):
            raise CircuitOpen(was_open.until - now)
        return now, was_open is not None

    def _learn(self, back_off: Span | None) -> None:
        """Keep the longest back-off that this process knows, so that it holds even if the store loses it."""
        now = self._clock()
        known = self._back_off
        longer = known is None or not known.covers(now) or (back_off is not None and back_off.until > known.until)
        if back_off is not None and back_off.covers(now) and longer:
            self._back_off = back_off
            self._metrics.back_off_until.set(back_off.until)

    def _begin_probe(self) -> float:
        """Begin the probe; returns the present instant. Raises CircuitOpen if another fetch probes or just failed."""
        now = self._clock()
        mine = Span(since=now, until=now + self._probe_seconds)

        def take(state: State) -> State:
            others = (state.open, state.probe)
            return state if any(span and span.covers(now) for span in others) else _with(state, probe=mine)

        state = self._change(take)
        if state.probe is not mine:
            raise CircuitOpen(state.open.until - now if state.open and state.open.covers(now) else PROBE_RETRY_SECONDS)
        return now

    def _parsed_and_logged(self, last_line: object, text: str | None) -> State:
        state = _parsed(text)
        self._log_change(state, last_line)
        return state

    def _change(self, change: Callable[[State], State]) -> State:
        changed = BLANK
        last_line = self._last_line

        def on_text(text: str | None) -> str | None:
            nonlocal changed
            changed = change(_parsed(text))
            return None if changed == BLANK else changed.model_dump_json(by_alias=True)

        self._store.change_state(BREAKER_NAME, on_text, lifetime=MAX_SECONDS)
        self._metrics.open_until.set(changed.open.until if changed.open else 0.0)
        self._log_change(changed, last_line)
        return changed

    def _log_change(self, state: State, last_line: object) -> None:
        """Log the phase of `state` if it is another one than before.

        `last_line` is `self._last_line` from before `state` was read. If another thread has logged a change meanwhile,
        that may be newer: then the next state that is read decides.
        """
        now = self._clock()
        phase: Phase = "closed"
        was_open = state.believed_open(now)
        if self._may_open and was_open is not None:
            phase = "open" if was_open.covers(now) else "half-open"
        if phase == self._logged_phase:
            return
        with self._logging:
            if phase == self._logged_phase or last_line is not self._last_line:
                return
            self._logged_phase, self._last_line = phase, object()
        log.log(*LINES[phase])


def _with(state: State, **changes: object) -> State:
    return state.model_copy(update=changes)


def _parsed(text: str | None) -> State:
    """The state in a text from the store; the empty state if the text is not ours."""
    return parsed(State, text) or BLANK
