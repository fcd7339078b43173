"""The lease of an event: over all processes that share the store, one fetches at a time. The others try again."""

import time
from collections.abc import Iterator

POLL_SECONDS = 0.02
MAX_POLL_SECONDS = 0.1

PAUSE_OF_ATTEMPT = 4
SLOW_POLL_SECONDS = 0.5
"""After an attempt that took long, the pause is so many times as long, up to this."""


def attempts(*, patience: float) -> Iterator[bool]:
    """When to try to get a lease: at once, and after ever longer pauses for `patience` seconds.

    Each attempt is told whether there was one before it: somebody else had the lease then.
    """
    began = time.monotonic()
    give_up = began + patience
    pause = POLL_SECONDS
    yield False
    while (now := time.monotonic()) < give_up:
        # A store that is far away or busy is asked less often.
        pause = max(pause, min(PAUSE_OF_ATTEMPT * (now - began), SLOW_POLL_SECONDS))
        # Neither a byte-range lock nor a key of Redis tells its waiters when it is free.
        time.sleep(pause)
        pause = min(1.5 * pause, MAX_POLL_SECONDS)
        began = time.monotonic()
        yield True
