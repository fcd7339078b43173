"""What is promised to operators: each rule is a function from the history to what violates it, and how."""

import re
from collections.abc import Iterator

from .bounds import MOVED, STORE_TAKEN_BACK
from .history import History
from .record import Fault, Traceback

READ_ONCE = re.compile(r"get:calls=1")


def a_redis_that_has_moved_is_left_in_time(history: History) -> Iterator[tuple[Fault, str]]:
    """By all connections: after that nobody reads from the old one, or tries to write to it.

    A process that was not asked for anything until then notices it at its first write, and reads once before.
    """
    for fault in history.faults:
        if fault.left and not (READ_ONCE.fullmatch(fault.left) and _is_noticed_late(history, fault)):
            yield fault, f"the old one was still asked: {fault.left}"


def _is_noticed_late(history: History, fault: Fault) -> bool:
    late, end = fault.since + MOVED, fault.until + STORE_TAKEN_BACK
    return any(not state.works and late <= state.since <= end for state in history.store_states)


def no_host_logs_a_traceback(history: History) -> Iterator[tuple[Traceback, str]]:
    """Whatever the machine lacks, and whatever C42 or the store does, the proxy handles it."""
    return ((traceback, traceback.said) for traceback in history.tracebacks)


RULES = (a_redis_that_has_moved_is_left_in_time, no_host_logs_a_traceback)
