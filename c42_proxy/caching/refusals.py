"""What this process knows of events for which C42 may not be asked: it does not find that out for each request."""

import math
from dataclasses import dataclass
from threading import BoundedSemaphore

from ..errors import NotAsked, Overloaded
from .reply import Handling

LOOK_SECONDS = 1.0
"""How often another look into the shared tier finds out, beside the requests, what others have left meanwhile."""

LOOKS_AT_MOST = 500
"""Of all events, in a second: looks share the processor with the requests. What is due beyond that is due again a
second later."""

LOOKS_UNDER_WAY = 8
"""Half of the look threads: requests that wait for a look need the others, also if the shared tier is slow."""

PAUSE_SECONDS = 0.1
"""If so many are under way, a look is due again after this. It is short: most often, a process that was not executed
for a moment has many looks to catch up on."""

MAX_EVENTS = 100_000
"""If more are known, all are forgotten: each costs one search, which learns it again. So many take 35 MB."""


@dataclass(slots=True)
class Refusal:
    """C42 may not be asked from `since` until `until`, by the wall clock.

    `look_at` is when another look is due, infinite while one is under way.
    """

    handling: Handling
    since: float
    until: float
    look_at: float

    def holds(self, now: float) -> bool:
        """False if the clock was set back since, however little, and if no look has been begun for too long."""
        return self.since <= now < min(self.until, self.look_at + LOOK_SECONDS)


class Refusals:
    """The refusals that this process knows, one for each event. Thread-safe: each method changes the dict once. If two
    threads count a look at the same moment, there is one more in that second.

    An event has a refusal only after a look into the shared tier under the same back-off, opening or failure.
    """

    def __init__(self) -> None:
        self._refusals: dict[str, Refusal] = {}
        self._second = 0
        self._looks = 0
        self._under_way = BoundedSemaphore(LOOKS_UNDER_WAY)

    def get(self, event_id: str, now: float) -> Refusal | None:
        """The refusal that holds now. Without one, a request searches, and so learns what others know."""
        refusal = self._refusals.get(event_id)
        return refusal if refusal is not None and refusal.holds(now) else None

    def claims_look(self, refusal: Refusal, now: float) -> bool:
        """Whether a look is due, and may begin. If so, the caller begins it.

        When it ends, the caller notes or forgets the refusal, and calls `end_look`.
        """
        if now < refusal.look_at:
            return False
        if self._second != int(now):
            self._second, self._looks = int(now), 0
        if self._looks >= LOOKS_AT_MOST:
            # The beginning of the next second: then it is due before what is looked at now.
            refusal.look_at = self._second + LOOK_SECONDS
            return False
        if not self._under_way.acquire(blocking=False):
            refusal.look_at = now + PAUSE_SECONDS
            return False
        self._looks += 1
        refusal.look_at = math.inf
        return True

    def end_look(self) -> None:
        self._under_way.release()

    def note(self, event_id: str, refused: NotAsked, since: float) -> None:
        """Keep a refusal that was found out at `since` or a little later, if a stale copy may be served instead."""
        if isinstance(refused, Overloaded) or refused.seconds is None or not refused.allows_stale:
            self.forget(event_id)
            return
        if len(self._refusals) >= MAX_EVENTS:
            self.clear()
        handling = Handling(None, False, None, None, refused.cause)  # C42 was not asked
        self._refusals[event_id] = Refusal(handling, since, since + refused.seconds, since + LOOK_SECONDS)

    def forget(self, event_id: str) -> None:
        self._refusals.pop(event_id, None)

    def clear(self) -> None:
        """C42 has just answered, so it may be asked again."""
        self._refusals.clear()
