"""The lease of an event: of all processes that share the store, one fetches at a time. The others try again."""

import time

POLL_SECONDS = 0.02
MAX_POLL_SECONDS = 0.1

PAUSE_FACTOR = 4
"""The pause after a slow attempt is this many times as long as the attempt."""
SLOW_POLL_SECONDS = 0.5
"""The longest pause after a slow attempt."""


class Attempts:
    """When to try again to get a lease that somebody else has: after pauses that grow, for `patience` seconds.

    It polls, because neither a byte-range lock nor a key of Redis notifies those who wait for it.
    """

    def __init__(self, *, patience: float) -> None:
        self._give_up = time.monotonic() + patience
        self._pause = POLL_SECONDS

    def pause_after(self, seconds: float) -> float | None:
        """How long to wait after an attempt that took `seconds`; None if it was the last one."""
        if time.monotonic() >= self._give_up:
            return None
        # A store that is far away or busy is asked less often.
        pause = max(self._pause, min(PAUSE_FACTOR * seconds, SLOW_POLL_SECONDS))
        self._pause = min(1.5 * pause, MAX_POLL_SECONDS)
        return pause
