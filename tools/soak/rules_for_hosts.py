"""What is promised to operators: each rule is a function from the history to what violates it, and how."""

from collections.abc import Iterator

from .history import History
from .record import Fault, Traceback


def a_redis_that_has_moved_is_left_in_time(history: History) -> Iterator[tuple[Fault, str]]:
    """By all connections: after that nobody reads from the old one, or tries to write to it."""
    return ((fault, f"the old one was still asked: {fault.left}") for fault in history.faults if fault.left)


def no_host_logs_a_traceback(history: History) -> Iterator[tuple[Traceback, str]]:
    """Whatever the machine lacks, and whatever C42 or the store does, the proxy handles it."""
    return ((traceback, traceback.said) for traceback in history.tracebacks)


RULES = (a_redis_that_has_moved_is_left_in_time, no_host_logs_a_traceback)
