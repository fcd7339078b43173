"""What clients are promised: each rule is a function from the history to the requests that violate it, and how.

If the record leaves a doubt, the proxy has the benefit of it; each time of grace has its reason in `bounds.py`.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from .bounds import CLOSING, JOINED, NGINX_CLOCK, REPEATED_AT_LEAST, SCHEDULING
from .fetches import PAGE, Fetch
from .history import Answer, History
from .marks import Mark
from .reasons import Reasons
from .record import Call, FaultKind, Request

UNTIL_EXPIRES = "must-revalidate, stale-while-revalidate=0, stale-if-error=0"

Violated = Iterator[tuple[Request, str]]


def every_request_has_its_answer(history: History) -> Violated:
    """From the proxy: nginx never has to say that it cannot be reached."""
    for request in history.requests:
        if request.status is None:
            if not is_excusable(history, request):
                yield request, f"no answer from {request.at}: {request.loss}"
        elif not request.headers.get("cache-status", "").startswith("c42-proxy"):
            yield request, f"{request.at} answered {request.status} in the proxy's place"


def is_excusable(history: History, request: Request) -> bool:
    """Whether a request may be without an answer.

    Straight at a host, when one of its workers is killed: nobody is there to ask another. And a server that is reloaded
    may close a connection that idles at the very moment at which it is used (RFC 9112, section 9.3.1); its client asks
    again, and that request must be answered. A new connection straight to a worker that has no descriptor left is not
    accepted; a request on an open one is answered.
    """

    def is_by(*kinds: FaultKind, lasting: float = 0) -> bool:
        struck = history.struck(request.sent, request.ended, *kinds, lasting=lasting)
        return any((fault.at or "nginx") == request.at for fault in struck)

    ends: tuple[FaultKind, ...] = ("nginx reloaded", "host reloaded", "worker killed")
    return (
        is_by("worker killed")
        or (request.loss == "closed" and is_by(*ends, lasting=CLOSING))
        or (request.loss == "broken off" and not request.used and is_by("no descriptors"))
    )


def nobody_waits_longer_than_twice_the_budget(history: History) -> Violated:
    """For an answer. nginx begins anew, at another host, when a worker dies."""
    for request in history.requests:
        waited = request.ended - request.sent
        is_begun_anew = history.struck(request.sent, request.ended, "worker killed")
        if waited > 2 * history.run.budget + SCHEDULING and not is_begun_anew:
            yield request, f"{waited:.3f} s"


def a_hit_waits_for_nobody(history: History) -> Violated:
    """Not for C42, a miss, a store that hangs, or a log that nobody reads.

    What was told to somebody before is a hit for all who share the store. nginx begins anew when a worker dies.
    """
    for answer in history.answers:
        request, fetch = answer.request, answer.fetch
        waited = request.ended - request.sent
        if answer.kind != "hit" or fetch is None or waited <= SCHEDULING or fetch.noted + JOINED > request.sent:
            continue
        is_begun_anew = history.struck(request.sent, request.ended, "worker killed")
        if not is_begun_anew and history.has_store(fetch.latest, fetch.noted):
            yield request, f"{waited:.3f} s, for what was told at {fetch.noted:.3f}"


def an_answer_is_whole(history: History) -> Violated:
    """It says what C42 has said of this event in one fetch: the title, and each subscriber once and in order."""
    for answer in history.answers:
        if answer.request.status in {200, 304}:
            wrong = _what_is_not_whole(history, answer)
            if wrong is not None:
                yield answer.request, wrong


def _what_is_not_whole(history: History, answer: Answer) -> str | None:
    request, entry = answer.request, answer.entry
    if entry is None:
        return "it has an ETag that no answer had" if request.status == 304 else "C42 cannot have said that"
    parts: list[tuple[Mark, int | None]] = [(entry.title, None)]
    parts += [(mark, index - index % PAGE) for index, mark in enumerate(entry.names)]
    for mark, offset in dict.fromkeys(parts):
        call = history.calls.get(mark.call)
        if call is None or not _says(call, request.event, mark, offset) or call.ended > request.ended:
            return f"call {mark.call} did not say v{mark.version} at offset {offset}"
    fetches = {history.fetches_by_call[number].latest for number in entry.calls}
    if len(fetches) > 1:
        return f"it is made of {len(fetches)} fetches"
    [size] = {version.size for version in history.versions[request.event]}
    return None if len(entry.names) == size else f"{len(entry.names)} of {size} subscribers"


def _says(call: Call, event: str, mark: Mark, offset: int | None) -> bool:
    told = (call.event, call.version, call.offset)
    return call.outcome == "answered" and told == (event, mark.version, offset)


def an_answer_is_reused_no_longer_than_the_ttl(history: History) -> Violated:
    """Counted from the instant at which the proxy began to ask C42, which was before its first call came there."""
    for answer in history.answers:
        request, fetch = answer.request, answer.fetch
        if not answer.is_fresh or fetch is None:
            continue
        grace = NGINX_CLOCK if answer.kind == "hit of nginx" else 0
        too_old = request.sent - fetch.latest - history.run.ttl
        if too_old >= grace:
            yield request, f"{too_old:.3f} s too old: C42 was asked at {fetch.latest:.3f}"
        elif answer.kind == "hit of nginx" and answer.expires is not None and request.sent >= answer.expires + grace:
            yield request, f"nginx told it {request.sent - answer.expires:.3f} s after its instant"


def what_is_told_was_there_within_the_ttl(history: History) -> Violated:
    """As clients see it: each version was the event's at some moment since then; a stale copy's, within its window."""
    for answer in history.answers:
        request, entry = answer.request, answer.entry
        if entry is None:
            continue
        window = history.run.ttl + (history.run.stale_if_error if answer.kind == "stale" else 0)
        # A result that arrives after its expiry is given to the requests that waited for it.
        window += 2 * history.run.budget if answer.kind == "past expiry" else 0
        grace = NGINX_CLOCK if answer.kind == "hit of nginx" else 0
        there = history.exists(request.event, request.sent - window - grace, request.ended)
        missing = {mark.version for mark in (entry.title, *entry.names)} - {version.number for version in there}
        if missing:
            yield request, f"v{min(missing)}, and in the last {window:g} s it was {[one.number for one in there]}"


def one_expiry_instant_is_told_to_everyone(history: History) -> Violated:
    """Whoever gets an entry gets the same `Expires` and `ETag`. It is that of its fetch, rounded down."""
    told: dict[tuple[str, str], tuple[str | None, str | None]] = {}
    owners: dict[str, str] = {}
    ttl = history.run.ttl
    for answer in history.answers:
        request, fetch = answer.request, answer.fetch
        if request.status != 200 or not answer.is_fresh:
            continue
        said = request.headers.get("expires"), request.headers.get("etag")
        first = told.setdefault((request.event, request.body), said)
        if said != first:
            yield request, f"{said}, and before {first}"
        if owners.setdefault(f"{said[1]}", request.body) != request.body:
            yield request, f"ETag {said[1]} stands for two answers"
        if fetch is not None and answer.expires is not None:
            bounds = math.floor(fetch.earliest + ttl), math.floor(fetch.latest + ttl)
            if not bounds[0] <= answer.expires <= bounds[1]:
                yield request, f"Expires is {answer.expires}, and its fetch allows {bounds}"


def an_answer_says_what_it_is(history: History) -> Violated:
    """In `Cache-Control`, `Expires`, `ETag`, `Content-Type`, `Retry-After` and `Cache-Status`."""
    for answer in history.answers:
        request = answer.request
        kept = answer.is_fresh
        expected = {
            "cache-control": UNTIL_EXPIRES if kept else "no-store",
            "x-accel-expires": None
            if kept and request.at == "nginx"
            else f"@{(answer.expires or 0) - 1}"
            if kept
            else "0",
            "content-type": {200: "application/json", 304: None}.get(request.status or 0, "application/problem+json"),
        }
        wrong = {name: request.headers.get(name) for name in expected if request.headers.get(name) != expected[name]}
        present = {"expires": kept, "etag": kept and request.status != 404, "retry-after": request.status == 503}
        for name, wanted in present.items():
            if (name in request.headers) != wanted:
                wrong[name] = request.headers.get(name)
        if wrong or answer.kind == "unknown" or request.status not in {200, 304, 404, 502, 503, 504}:
            yield request, f"{request.status} ({answer.kind}) with {wrong}, Cache-Status {answer.own}"


def a_stale_copy_has_expired_within_its_window(history: History) -> Violated:
    """It is a 200 that is older than the TTL, and no older than the time beyond for which stale copies may be told.

    What expires on its way is told to those who waited for it, and to those who asked while it was fresh.
    """
    ttl, window = history.run.ttl, history.run.stale_if_error
    for answer in history.answers:
        request, fetch = answer.request, answer.fetch
        if answer.kind == "past expiry" and fetch is not None and request.sent >= max(fetch.noted, fetch.latest + ttl):
            yield request, "it was past its instant when it was asked for"
        if answer.kind != "stale" or fetch is None:
            continue
        if request.status != 200:
            yield request, f"it is a {request.status}"
        if request.ended < fetch.earliest + ttl:
            yield request, f"it is fresh for {fetch.earliest + ttl - request.ended:.3f} s yet"
        if request.sent >= fetch.latest + ttl + window:
            yield request, f"its window ended {request.sent - fetch.latest - ttl - window:.3f} s ago"


def a_failure_has_its_reason(history: History) -> Violated:
    """A client gets an error or a stale copy only if C42 has failed, or may not be asked by the rules."""
    reasons = Reasons(history)
    for answer in history.answers:
        if answer.kind in {"problem", "stale"} and not reasons.found(answer):
            yield answer.request, f"{answer.request.status} {answer.own}: C42 did nothing that would call for it"


def a_404_is_told_of_what_was_not_there(history: History) -> Violated:
    """The event was not there at some moment within the TTL, and C42 has said so."""
    ttl = history.run.ttl
    for answer in history.answers:
        request = answer.request
        if request.status != 404 or not answer.is_fresh:
            continue
        grace = NGINX_CLOCK if answer.kind == "hit of nginx" else 0
        there = history.exists(request.event, request.sent - ttl - grace, request.ended)
        if there and not any(version.gone for version in there) and there[0].since <= request.sent - ttl - grace:
            yield request, "it was there all the time"
        elif not any(_denies(fetch, answer, ttl, grace) for fetch in history.fetches_by_event[request.event]):
            yield request, f"no call with that answer makes it expire at {answer.expires}"


def _denies(fetch: Fetch, answer: Answer, ttl: float, grace: float) -> bool:
    """Whether this fetch may have led to a 404."""
    request = answer.request
    expires = answer.expires if answer.expires is not None else -1
    return (
        any(call.outcome == "gone" and call.offset is None and call.ended <= request.ended for call in fetch.calls)
        and request.sent < fetch.latest + ttl + grace
        and math.floor(fetch.earliest + ttl) <= expires <= math.floor(fetch.latest + ttl)
    )


def no_stale_copy_hides_a_404(history: History) -> Violated:
    """A 404 is an answer: after it, nobody gets an older answer any more."""
    for answer in history.answers:
        request, fetch = answer.request, answer.fetch
        if answer.kind != "stale" or fetch is None:
            continue
        for other in history.fetches_by_event[request.event]:
            is_known = other.result == "gone" and other.latest > fetch.latest and other.noted + JOINED < request.sent
            if is_known and history.has_store(fetch.latest, request.ended):
                yield request, f"C42 had said at {other.ended:.3f} that there is none"
                break


def no_stale_copy_hides_a_refused_token(history: History) -> Violated:
    """Neither for the request that asked C42, nor for those that get the same failure a moment later.

    A process that lacks threads or descriptors cannot learn from the store what another one was told.
    """
    for answer in history.answers:
        request = answer.request
        if answer.kind != "stale":
            continue
        if "; fwd-status=401" in answer.own or "; fwd-status=403" in answer.own:
            yield request, answer.own
            continue
        for fetch in history.fetches_by_event[request.event]:
            is_own = fetch.request == request.id
            is_repeated = fetch.noted + JOINED < request.sent and request.ended < fetch.ended + REPEATED_AT_LEAST
            is_known = is_own or (is_repeated and not history.is_short(request))
            is_refused = fetch.result == "token refused" and is_known
            if is_refused and history.has_store(fetch.latest, request.ended):
                yield request, f"our token was refused at {fetch.ended:.3f}"
                break


def an_entry_never_replaces_a_later_one(history: History) -> Violated:
    """Once any client has got an answer, no client gets an older one."""
    newest: dict[str, list[tuple[float, Fetch]]] = defaultdict(list)
    for answer in sorted(history.answers, key=lambda answer: answer.request.ended):
        known = newest[answer.request.event]
        fetch = answer.fetch
        if fetch is not None and (not known or known[-1][1].earliest < fetch.earliest):
            known.append((answer.request.ended, fetch))
    for answer in history.answers:
        request, fetch = answer.request, answer.fetch
        if fetch is None:
            continue
        known = newest[request.event]
        before = bisect_left(known, request.sent - JOINED, key=lambda told: told[0])
        newer = known[before - 1][1] if before else fetch
        if fetch.latest < newer.earliest and history.has_store(fetch.latest, request.ended):
            yield request, f"of {fetch.latest:.3f}, and before that of {newer.earliest:.3f} was told"


RULES = (
    every_request_has_its_answer,
    nobody_waits_longer_than_twice_the_budget,
    a_hit_waits_for_nobody,
    an_answer_is_whole,
    an_answer_is_reused_no_longer_than_the_ttl,
    what_is_told_was_there_within_the_ttl,
    one_expiry_instant_is_told_to_everyone,
    an_answer_says_what_it_is,
    a_stale_copy_has_expired_within_its_window,
    a_failure_has_its_reason,
    a_404_is_told_of_what_was_not_there,
    no_stale_copy_hides_a_404,
    no_stale_copy_hides_a_refused_token,
    an_entry_never_replaces_a_later_one,
)
