"""What clients are promised: each rule is a function that says how an answer (or its lack) violates it, if it does.

If the record leaves a doubt, the proxy has the benefit of it; each time of grace has its reason in `bounds.py`.
"""

import math
from functools import lru_cache

from .bounds import CLOSING, JOINED, LOOKED, REPEATED_AT_LEAST, SCHEDULING
from .fetches import PAGE, Fetch
from .history import Answer, History
from .marks import Mark
from .reasons import Reasons
from .record import Call, FaultKind, Request

UNTIL_EXPIRES = "must-revalidate, stale-while-revalidate=0, stale-if-error=0"


def every_request_has_its_answer(history: History, answer: Answer) -> str | None:
    """From the proxy: nginx never has to say that it cannot be reached."""
    request = answer.request
    if request.status is None:
        return None if is_excusable(history, request) else f"no answer from {request.at}: {request.loss}"
    is_ours = answer.own.startswith("c42-proxy")
    return None if is_ours else f"{request.at} answered {request.status} in the proxy's place"


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


def nobody_waits_longer_than_twice_the_budget(history: History, answer: Answer) -> str | None:
    """For an answer. nginx begins anew, at another host, when a worker dies."""
    request = answer.request
    is_late = request.waited > 2 * history.run.budget + SCHEDULING
    is_begun_anew = history.struck(request.sent, request.ended, "worker killed")
    return f"{request.waited:.3f} s" if is_late and not is_begun_anew else None


def a_hit_waits_for_nobody(history: History, answer: Answer) -> str | None:
    """Not for C42, a miss, a store that hangs, or a log that nobody reads.

    What was told to somebody before is a hit for all who share the store. nginx begins anew when a worker dies.
    """
    request, fetch = answer.request, answer.fetch
    if answer.kind != "hit" or fetch is None or request.waited <= SCHEDULING or fetch.noted + JOINED > request.sent:
        return None
    is_begun_anew = history.struck(request.sent, request.ended, "worker killed")
    if is_begun_anew or not history.has_store(fetch.latest, fetch.noted):
        return None
    return f"{request.waited:.3f} s, for what was told at {fetch.noted:.3f}"


def an_answer_is_whole(history: History, answer: Answer) -> str | None:
    """It says what C42 has said of this event in one fetch: the title, and each subscriber once and in order."""
    request, entry = answer.request, answer.entry
    if request.status not in {200, 304}:
        return None
    if entry is None:
        return "C42 cannot have said that, or it has an ETag that no answer had"
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


def an_answer_is_reused_no_longer_than_the_ttl(history: History, answer: Answer) -> str | None:
    """Counted from the instant at which the proxy began to ask C42, which was before its first call came there."""
    sent, fetch = answer.request.sent, answer.fetch
    if not answer.is_fresh or fetch is None:
        return None
    if sent >= fetch.latest + history.run.ttl + answer.grace:
        return f"C42 was asked {sent - fetch.latest:.3f} s ago"
    if answer.kind == "hit of nginx" and answer.expires is not None and sent >= answer.expires + answer.grace:
        return f"nginx told it {sent - answer.expires:.3f} s after its instant"
    return None


def what_is_told_was_there_within_the_ttl(history: History, answer: Answer) -> str | None:
    """As clients see it: each version was the event's at some moment since then; a stale copy's, within its window."""
    request, entry = answer.request, answer.entry
    if entry is None:
        return None
    window = history.run.ttl + (history.run.stale_if_error if answer.kind == "stale" else 0)
    # A result that arrives after its expiry is given to the requests that waited for it.
    window += 2 * history.run.budget if answer.kind == "past expiry" else 0
    there = history.exists(request.event, request.sent - window - answer.grace, request.ended)
    missing = {mark.version for mark in (entry.title, *entry.names)} - {version.number for version in there}
    if not missing:
        return None
    return f"v{min(missing)}, and in the last {window:g} s it was {[one.number for one in there]}"


def one_expiry_instant_is_told_to_everyone(history: History, answer: Answer) -> str | None:
    """Whoever gets an entry gets the same `Expires` and `ETag`. It is that of its fetch, rounded down."""
    request, fetch, ttl = answer.request, answer.fetch, history.run.ttl
    if request.status != 200 or not answer.is_fresh:
        return None
    expires, etag = request.headers.get("expires"), request.headers.get("etag", "")
    first = history.first_told[request.event, request.body]
    if (expires, etag) != (first.headers.get("expires"), first.headers.get("etag", "")):
        return f"Expires is {expires} and ETag {etag}, and before they were those of {first.id}"
    if history.first_told[request.event, etag].body != request.body:
        return f"ETag {etag} stands for two answers"
    if fetch is None or answer.expires is None:
        return None
    bounds = math.floor(fetch.earliest + ttl), math.floor(fetch.latest + ttl)
    is_right = bounds[0] <= answer.expires <= bounds[1]
    return None if is_right else f"Expires is {answer.expires}, and its fetch allows {bounds}"


def an_answer_says_what_it_is(_history: History, answer: Answer) -> str | None:
    """In `Cache-Control`, `Expires`, `ETag`, `Content-Type`, `Retry-After` and `Cache-Status`."""
    request, kept = answer.request, answer.is_fresh
    if request.status is None:
        return None
    until = f"@{(answer.expires or 0) - 1}" if request.at != "nginx" else None
    expected = {
        "cache-control": UNTIL_EXPIRES if kept else "no-store",
        "x-accel-expires": until if kept else "0",
        "content-type": {200: "application/json", 304: None}.get(request.status, "application/problem+json"),
    }
    wrong = {name: request.headers.get(name) for name in expected if request.headers.get(name) != expected[name]}
    present = {"expires": kept, "etag": kept and request.status != 404, "retry-after": request.status == 503}
    wrong |= {name: request.headers.get(name) for name in present if (name in request.headers) != present[name]}
    if wrong or answer.kind == "unknown" or request.status not in {200, 304, 404, 502, 503, 504}:
        return f"{request.status} ({answer.kind}) with {wrong}, Cache-Status {answer.own}"
    return None


def a_stale_copy_has_expired_within_its_window(history: History, answer: Answer) -> str | None:
    """It is a 200 that is older than the TTL, and no older than the time beyond for which stale copies may be told.

    What expires on its way is told to those who waited for it, and to those who asked while it was fresh.
    """
    request, fetch, ttl, window = answer.request, answer.fetch, history.run.ttl, history.run.stale_if_error
    if fetch is None:
        return None
    wrong = None
    if answer.kind == "past expiry" and request.sent >= max(fetch.noted, fetch.latest + ttl):
        wrong = "it was past its instant when it was asked for"
    elif answer.kind == "stale":
        if request.status != 200:
            wrong = f"it is a {request.status}"
        elif request.ended < fetch.earliest + ttl:
            wrong = f"it is fresh until {fetch.earliest + ttl:.3f}"
        elif request.sent >= fetch.latest + ttl + window:
            wrong = f"its window ended at {fetch.latest + ttl + window:.3f}"
    return wrong


def a_failure_has_its_reason(history: History, answer: Answer) -> str | None:
    """A client gets an error or a stale copy only if C42 has failed, or may not be asked by the rules."""
    if answer.kind not in {"problem", "stale"} or _reasons(history).found(answer):
        return None
    return f"{answer.request.status} {answer.own}: C42 did nothing that would call for it"


@lru_cache(1)
def _reasons(history: History) -> Reasons:
    return Reasons(history)


def a_404_is_told_of_what_was_not_there(history: History, answer: Answer) -> str | None:
    """The event was not there at some moment within the TTL, and C42 has said so."""
    request, begin = answer.request, answer.request.sent - history.run.ttl - answer.grace
    if request.status != 404 or not answer.is_fresh:
        return None
    there = history.exists(request.event, begin, request.ended)
    if there and not any(version.gone for version in there) and there[0].since <= begin:
        return "it was there all the time"
    if any(_denies(fetch, answer, history.run.ttl) for fetch in history.fetches_by_event[request.event]):
        return None
    return f"no call with that answer makes it expire at {answer.expires}"


def _denies(fetch: Fetch, answer: Answer, ttl: float) -> bool:
    """Whether this fetch may have led to a 404."""
    request = answer.request
    expires = answer.expires if answer.expires is not None else -1
    return (
        any(call.outcome == "gone" and call.offset is None and call.ended <= request.ended for call in fetch.calls)
        and request.sent < fetch.latest + ttl + answer.grace
        and math.floor(fetch.earliest + ttl) <= expires <= math.floor(fetch.latest + ttl)
    )


def _learnt_after(answer: Answer) -> float:
    """Seconds after which every process has learnt what another one was told, as far as this answer shows.

    A process that knows that C42 may not be asked looks at that beside the requests, and not for each.
    """
    return LOOKED + JOINED if answer.kind == "stale" and answer.own.startswith("c42-proxy; hit; ") else JOINED


def no_stale_copy_hides_a_404(history: History, answer: Answer) -> str | None:
    """A 404 is an answer: after it, nobody gets an older answer any more.

    A process that lacks threads or descriptors cannot learn from the store what another one has been told.
    """
    request, fetch = answer.request, answer.fetch
    if answer.kind != "stale" or fetch is None or not history.has_store(fetch.latest, request.ended):
        return None
    if history.is_short(request):
        return None
    for other in history.fetches_by_event[request.event]:
        known = other.noted + _learnt_after(answer)
        if other.result == "gone" and other.latest > fetch.latest and known < request.sent:
            return f"C42 had said at {other.ended:.3f} that there is none"
    return None


def no_stale_copy_hides_a_refused_token(history: History, answer: Answer) -> str | None:
    """Neither for the request that asked C42, nor for those that get the same failure a moment later.

    A process that lacks threads or descriptors cannot learn from the store what another one was told.
    """
    request = answer.request
    if answer.kind != "stale":
        return None
    if "; fwd-status=401" in answer.own or "; fwd-status=403" in answer.own:
        return answer.own
    for fetch in history.fetches_by_event[request.event]:
        is_own = fetch.request == request.id
        is_repeated = (
            fetch.noted + _learnt_after(answer) < request.sent and request.ended < fetch.ended + REPEATED_AT_LEAST
        )
        is_known = is_own or (is_repeated and not history.is_short(request))
        if fetch.result == "token refused" and is_known and history.has_store(fetch.latest, request.ended):
            return f"our token was refused at {fetch.ended:.3f}"
    return None


def an_entry_never_replaces_a_later_one(history: History, answer: Answer) -> str | None:
    """Once any client has got an answer, no client gets an older one.

    A process that lacks threads or descriptors cannot learn from the store what another one has fetched: the stale copy
    in its memory is the best that it has.
    """
    request, fetch = answer.request, answer.fetch
    if answer.kind == "stale" and history.is_short(request):
        return None
    newer = history.newest_told(request.event, request.sent - _learnt_after(answer))
    if fetch is None or newer is None or fetch.latest >= newer.earliest:
        return None
    if not history.has_store(fetch.latest, request.ended):
        return None
    return f"of {fetch.latest:.3f}, and before that of {newer.earliest:.3f} was told"


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
