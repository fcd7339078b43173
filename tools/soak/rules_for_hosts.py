"""What is promised to operators: each rule is a function from the history to what violates it: where, when, and how."""

from collections.abc import Iterator

from .history import History

Violated = Iterator[tuple[str, float, str]]


def a_redis_that_has_moved_is_left_in_time(history: History) -> Violated:
    """By all connections: after that nobody reads from the old one, or tries to write to it."""
    for fault in history.faults:
        if fault.left:
            yield fault.at, fault.since, f"the old one was still asked: {fault.left}"


def no_host_logs_a_traceback(history: History) -> Violated:
    """Whatever the machine lacks, and whatever C42 or the store does, the proxy handles it."""
    for traceback in history.tracebacks:
        yield traceback.at, traceback.since, traceback.said


RULES = (a_redis_that_has_moved_is_left_in_time, no_host_logs_a_traceback)
