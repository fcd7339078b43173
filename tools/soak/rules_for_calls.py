"""What is promised to C42: each rule is a function from the history to the fetches that violate it, and how."""

from collections.abc import Iterator
from itertools import pairwise

from .bounds import OPEN_SECONDS, REPEATED_AT_LEAST
from .fetches import PAGE, Fetch
from .history import History
from .openings import openings_of

PAGES_AT_ONCE = 8
WORKERS_OF_A_HOST = 2

Violated = Iterator[tuple[Fetch, str]]


def one_call_for_the_event_and_one_for_each_hundred_subscribers(history: History) -> Violated:
    """No call is made twice, none asks beyond the end, and none is made without a request for the event."""
    for fetch in history.fetches:
        request = history.by_id.get(fetch.request)
        if request is None or request.event != fetch.event or request.sent > fetch.latest:
            yield fetch, "nobody has asked for it"
        size = max((version.size for version in history.versions.get(fetch.event, [])), default=0)
        beyond = [call.offset for call in fetch.calls if call.offset and (call.offset % PAGE or call.offset >= size)]
        if beyond:
            yield fetch, f"asked for subscribers from {beyond} on, of {size}"


def at_most_8_pages_at_a_time(history: History) -> Violated:
    """Of those after the first."""
    for fetch in history.fetches:
        pages = [call for call in fetch.calls if call.offset]
        at_once = max(
            (sum(other.received <= page.received < other.ended for other in pages) for page in pages), default=0
        )
        if at_once > PAGES_AT_ONCE:
            yield fetch, f"{at_once} at a time"


def c42_is_asked_once_within_the_ttl(history: History) -> Violated:
    """Over all processes that share the store; by each of them once, where the store is away."""
    for fetches in history.fetches_by_event.values():
        for index, fetch in enumerate(fetches):
            fresh = [
                other
                for other in fetches[:index]
                if other.has_succeeded and fetch.latest < other.earliest + history.run.ttl
            ]
            yield from _too_many(history, fetch, fresh, "is fresh yet")


def a_failed_fetch_is_not_retried_by_those_who_waited(history: History) -> Violated:
    """They get the failure, and so do requests that come within a moment."""
    for fetches in history.fetches_by_event.values():
        for index, fetch in enumerate(fetches):
            failed = [
                other
                for other in fetches[:index]
                if other.result in {"down", "invalid", "token refused"}
                and fetch.latest < other.ended + REPEATED_AT_LEAST
            ]
            yield from _too_many(history, fetch, failed, "has just failed")


def one_fetch_at_a_time(history: History) -> Violated:
    """For an event; another process takes over if the one that fetched was killed."""
    for fetches in history.fetches_by_event.values():
        for index, fetch in enumerate(fetches):
            under_way = [other for other in fetches[:index] if other.result != "unknown" and fetch.latest < other.ended]
            yield from _too_many(history, fetch, under_way, "is under way yet")


def _too_many(history: History, fetch: Fetch, others: list[Fetch], how: str) -> Violated:
    """If all processes share the store, any other fetch is one too many; else each process may have had one."""
    shared = [other for other in others if history.has_store(other.latest, fetch.latest)]
    if shared:
        yield fetch, f"that of {shared[-1].latest:.3f} for {shared[-1].request} {how}"
    elif others:
        started = sum(
            {"worker killed": 1, "host reloaded": WORKERS_OF_A_HOST}.get(fault.kind, 0)
            for fault in history.faults
            if others[0].latest - history.run.ttl <= fault.since <= fetch.latest
        )
        if len(others) >= history.run.processes + started:
            yield fetch, f"{len(others)} of {history.run.processes + started} processes have one that {how}"


def c42_is_not_asked_during_a_back_off(history: History) -> Violated:
    """Once the proxy has told a client of it, no call begins; a call that was on its way to C42 may still arrive."""
    back_offs = [
        (fetch.noted, call.ended + call.wait)
        for fetch in history.fetches
        if fetch.result == "told to wait"
        for call in fetch.calls
        if call.wait
    ]
    for fetch in history.fetches:
        request = history.by_id.get(fetch.request)
        sent = request.sent if request else 0.0
        for since, until in back_offs:
            grace = 0 if sent > since else history.on_its_way(since, fetch.latest)
            forbidden = [call for call in fetch.calls if since + grace < call.received < until]
            if forbidden and history.has_store(since - history.run.budget, forbidden[0].received):
                yield fetch, f"{until - forbidden[0].received:.3f} s too early: the proxy knew at {since:.3f}"
                break


def c42_is_not_asked_while_the_breaker_is_open(history: History) -> Violated:
    """Nobody asks for 5 s. Then one fetch at a time probes; if it fails, the breaker is open for 5 s again.

    A failed probe of the event that failed last does not open it: another fetch may probe after it.
    """
    for opening in openings_of(history):
        half_open = opening.opened + OPEN_SECONDS
        asking = [
            fetch
            for fetch in history.fetches
            if opening.known < fetch.latest < opening.until
            and fetch.request in history.by_id
            and history.by_id[fetch.request].sent > opening.known
            and history.has_store(opening.cleared, fetch.latest)
            and not history.is_refused(opening.cleared, fetch.latest)
        ]
        for fetch in asking:
            if fetch.latest < half_open:
                yield fetch, f"{half_open - fetch.latest:.3f} s too early: known at {opening.known:.3f}"
        last = opening.last
        for probe, following in pairwise(fetch for fetch in asking if fetch.latest >= half_open):
            opens_again = probe.result == "down" and probe.event not in last
            allowed = probe.ended + (OPEN_SECONDS if opens_again else 0)
            last = {probe.event} if probe.result == "down" else last
            if following.latest < allowed:
                yield following, f"{allowed - following.latest:.3f} s too early after the probe at {probe.latest:.3f}"


def no_call_begins_after_the_answer(history: History) -> Violated:
    """Its result would be of use to nobody."""
    for fetch in history.fetches:
        request = history.by_id.get(fetch.request)
        if request is None or request.status is None:
            continue
        late = fetch.calls[-1].received - request.ended - history.on_its_way(request.sent, request.ended)
        if late > 0:
            yield (
                fetch,
                f"call {fetch.calls[-1].number} came {late:.3f} s too late for the answer at {request.ended:.3f}",
            )


RULES = (
    one_call_for_the_event_and_one_for_each_hundred_subscribers,
    at_most_8_pages_at_a_time,
    c42_is_asked_once_within_the_ttl,
    a_failed_fetch_is_not_retried_by_those_who_waited,
    one_fetch_at_a_time,
    c42_is_not_asked_during_a_back_off,
    c42_is_not_asked_while_the_breaker_is_open,
    no_call_begins_after_the_answer,
)
