"""Whether C42 may be asked: not while it told us to wait, and not while it is down.

What is known of that is a note in the store, so all who share store, C42 and token keep to it.
"""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from ..errors import C42Down, NotAsked, RateLimited, ToldToWait, UpstreamDown, UpstreamError, UpstreamTimeout
from ..observability.metrics import Metrics
from ..stores.contract import Store
from .shared_state import MAX_SECONDS, Span, parsed

NOTE = "guard"
PAUSE_SECONDS = 5.0
TRIAL_RETRY_SECONDS = 1.0


class _State(BaseModel):
    """`failed` are the events whose fetches failed in a row, each once, the last one last."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    wait: Span | None = None
    pause: Span | None = None
    trial: Span | None = None
    failed: tuple[str, ...] = ()


class Guard:
    """Stands between a fetch and C42.

    `threshold` failures in a row start a pause (0: never); a trial after a pause may take `trial_seconds`.
    """

    def __init__(
        self, store: Store, *, clock: Callable[[], float], threshold: int, trial_seconds: float, metrics: Metrics
    ) -> None:
        self._store = store
        self._clock = clock
        self._threshold = threshold
        self._trial_seconds = trial_seconds
        self._metrics = metrics
        self._wait: Span | None = None
        self._paused_until = 0.0

    def permit(self) -> None:
        """Raises ToldToWait or C42Down where C42 must be left alone. After a pause, one fetch at a time may try."""
        state = self._read()
        self._learn(state.wait)
        self.check_wait()
        now = self._clock()
        if self._threshold == 0 or state.pause is None or not state.pause.is_believable(now):
            return
        if state.pause.covers(now):
            raise C42Down(state.pause.until - now)
        self._take_trial()

    def look_again(self) -> None:
        """Learn of a wait that another process was told since, and raise ToldToWait for it."""
        self._learn(self._read().wait)
        self.check_wait()

    def check_wait(self) -> None:
        """Raises ToldToWait while this process knows of a wait: a fetch under way asks for no further page."""
        now = self._clock()
        if self._wait is not None and self._wait.covers(now):
            raise ToldToWait(self._wait.until - now)

    def degraded(self) -> list[str]:
        """What this process knows to keep it from C42 at the moment, in a word each; no store is asked."""
        now = self._clock()
        waits = self._wait is not None and self._wait.covers(now)
        return [*(["told-to-wait"] if waits else []), *(["c42-down"] if now < self._paused_until else [])]

    def note_wait(self, limited: RateLimited) -> None:
        """C42 told somebody to wait, so everybody waits."""
        now = self._clock()
        told = Span(since=now, until=now + limited.seconds)

        def longest(state: _State) -> _State:
            known = state.wait
            return state if known and known.covers(now) and known.until > told.until else _with(state, wait=told)

        self._learn(self._change(longest).wait)

    def note_success(self) -> None:
        """C42 answered with an event, or that there is none: it is well."""
        state = self._read()
        if state.failed or state.pause or state.trial:
            self._change(lambda state: _State(wait=state.wait))

    def note_failure(self, event_id: str, error: UpstreamError | NotAsked) -> None:
        """A fetch failed, or was broken off. Where C42 is not down but says no, that does not count."""
        if self._threshold == 0:
            return
        counts = isinstance(error, UpstreamDown | UpstreamTimeout)
        now = self._clock()

        def count(state: _State) -> _State:
            pause = state.pause if state.pause and state.pause.is_believable(now) else None
            if not counts:
                return _with(state, trial=None)
            if pause is not None and (now < pause.until or event_id in state.failed[-1:]):
                # What was under way, and one sick event, prove nothing new: somebody else may try, after the pause.
                return _with(state, trial=None)
            failed = (*(other for other in state.failed if other != event_id), event_id)
            down = pause is not None or len(failed) >= self._threshold
            return _with(
                state,
                trial=None,
                failed=failed[-self._threshold :],
                pause=Span(since=now, until=now + PAUSE_SECONDS) if down else None,
            )

        if counts or self._read().trial:
            self._change(count)

    def _learn(self, wait: Span | None) -> None:
        """This process keeps to the longest wait that it knows, also when the store has forgotten it."""
        now = self._clock()
        known = self._wait
        longer = known is None or not known.covers(now) or (wait is not None and wait.until > known.until)
        if wait is not None and wait.covers(now) and longer:
            self._wait = wait
            self._metrics.wait_until.set(wait.until)

    def _take_trial(self) -> None:
        """Raises C42Down where somebody else tries, or has tried in vain since we looked."""
        now = self._clock()
        mine = Span(since=now, until=now + self._trial_seconds)

        def take(state: _State) -> _State:
            others = (state.pause, state.trial)
            return state if any(span and span.covers(now) for span in others) else _with(state, trial=mine)

        state = self._change(take)
        if state.trial is not mine:
            raise C42Down(state.pause.until - now if state.pause and state.pause.covers(now) else TRIAL_RETRY_SECONDS)

    def _read(self) -> _State:
        return _parsed(self._store.read_note(NOTE))

    def _change(self, change: Callable[[_State], _State]) -> _State:
        changed = _State()

        def on_text(note: str | None) -> str | None:
            nonlocal changed
            changed = change(_parsed(note))
            return None if changed == _State() else changed.model_dump_json()

        self._store.change_note(NOTE, on_text, lifetime=MAX_SECONDS)
        self._paused_until = changed.pause.until if changed.pause else 0.0
        self._metrics.paused_until.set(self._paused_until)
        return changed


def _with(state: _State, **changes: object) -> _State:
    return state.model_copy(update=changes)


def _parsed(note: str | None) -> _State:
    """The state in a note; a note that is not ours says nothing."""
    return parsed(_State, note) or _State()
