"""The end of a time budget."""

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar


class Deadline:
    """The end of a time budget of `seconds`, on the monotonic clock, so that setting a clock does not move it."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds
        self.fetch_ended = False
        """Whether the fetch has its result, or has failed. Calls under way may then go on; no further call is begun."""
        self.at_http_proxy: set[int] = set()
        """The connections that have not come through the HTTP proxy yet, also those that have failed there."""

    def remaining(self) -> float:
        """The seconds that are left. Raises TimeoutError if there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._at

    @property
    def may_begin(self) -> bool:
        return not (self.fetch_ended or self.passed)

    def check_may_begin(self) -> None:
        """Raises TimeoutError if no call may be begun any more."""
        if not self.may_begin:
            raise TimeoutError


_in_force: ContextVar[Deadline] = ContextVar("deadline")


@contextlib.contextmanager
def ends_at(deadline: Deadline) -> Iterator[None]:
    """Within this block, reads of this thread from a session of `transport.new_session` end at `deadline`."""
    token = _in_force.set(deadline)
    try:
        yield
    finally:
        _in_force.reset(token)


def deadline_in_force() -> Deadline:
    """The deadline of the `ends_at` block around the caller. Raises LookupError if there is none."""
    return _in_force.get()
