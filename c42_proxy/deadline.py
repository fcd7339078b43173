"""The end of a time budget."""

import time


class Deadline:
    """The end of a time budget of `seconds`, on the monotonic clock: no clock set back or forth moves it."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def remaining(self) -> float:
        """The seconds that are left; raises TimeoutError where there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._at
