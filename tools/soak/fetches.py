"""From the calls that C42 saw to the fetches of the proxy, with what can be known of each for certain.

Nobody outside sees when a fetch begins or is over. So each has bounds that hold whatever the machine was busy with: a
request is recorded before it leaves and an answer after it has come, a call when it has come and before it is answered.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .record import Call, Fault, Request, Run

PAGE = 100
IN_TIME = 0.9
"""The part of the budget within which an answer of C42 has certainly come in time."""

Result = Literal["answered", "gone", "told to wait", "token refused", "down", "invalid", "overloaded", "unknown"]


@dataclass(frozen=True, slots=True)
class Fetch:
    """The calls that one process made for one answer.

    It began at `fetched_at`, which lies between `earliest` and `latest`, was not over before `ended`, and what came of
    it was in the store by `noted`. `result` is `unknown` where the calls do not decide it: a worker was killed
    meanwhile, say, or an answer came at the last moment. It is `overloaded` where the proxy said that it has come to
    limits of its own: that says nothing of C42.
    """

    event: str
    request: str
    calls: tuple[Call, ...]
    earliest: float
    latest: float
    ended: float
    noted: float
    result: Result

    @property
    def has_succeeded(self) -> bool:
        """Whether C42 certainly told of the event, or that there is none."""
        return self.result in {"answered", "gone"}


def fetches_of(
    run: Run,
    calls: Iterable[Call],
    *,
    requests: Mapping[str, Request],
    kills: list[Fault],
    sizes: Mapping[str, int],
    told: Mapping[int, float],
    is_short: Callable[[Request], bool],
) -> list[Fetch]:
    """All fetches, in the order in which they began.

    `sizes` maps an event to the number of its subscribers; `told` maps a call's number to the `fetched_at` that the
    answers made from that call tell, rounded down. `is_short` says whether a host lacked threads or descriptors.
    """
    found = [
        _fetch(
            run,
            some,
            requests.get(some[0].request),
            kills,
            size=sizes.get(some[0].event, 0),
            told=max((told[call.number] for call in some if call.number in told), default=0.0),
            is_short=is_short,
        )
        for some in _by_fetch(calls)
    ]
    return sorted(found, key=lambda fetch: fetch.latest)


def _by_fetch(calls: Iterable[Call]) -> Iterable[list[Call]]:
    """The calls of each fetch.

    A fetch asks for nothing twice. So what is asked again belongs to another one, of the process that nginx asked when
    the first had died. But what was cut on a used connection may have been sent once more.
    """
    by_request: dict[tuple[str, str], list[list[Call]]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.received):
        known = by_request[call.request, call.event]
        before = [other for other in known[-1] if other.offset == call.offset] if known else []
        if not known or (before and not may_be_sent_again(before[-1])):
            known.append([])
        known[-1].append(call)
    return (some for known in by_request.values() for some in known)


def may_be_sent_again(call: Call) -> bool:
    """Whether a call was cut before its answer began, on a connection that had been used before."""
    return call.used and call.outcome == "cut" and call.status is None


_OVERLOADED = re.compile(r"detail=(?:busy|overloaded)$")


def is_overloaded(request: Request) -> bool:
    """Whether its client was told that the proxy is at its own limits."""
    own, _, _ = request.headers.get("cache-status", "").partition(", ")
    return request.status == 503 and (_OVERLOADED.search(own) is not None or '"reason":"overloaded"' in request.body)


def _fetch(
    run: Run,
    calls: list[Call],
    request: Request | None,
    kills: list[Fault],
    *,
    size: int,
    told: float,
    is_short: Callable[[Request], bool],
) -> Fetch:
    latest = calls[0].received
    # It was begun for this request, and not before that was sent.
    earliest = min(max(told, request.sent if request else 0.0), latest)
    # The request was answered after that, unless it had waited for as long as any may: then it was answered anyway.
    waited = request is not None and request.status is not None and request.ended - request.sent < 2 * run.budget
    noted = request.ended if request is not None and waited else max(call.ended for call in calls) + run.budget
    killed = any(kill.until >= latest and kill.since <= noted for kill in kills)
    last = {call.offset: call for call in calls}
    result: Result = "unknown"
    if request is not None and is_overloaded(request):
        # What some of its calls came to is of no account: the others were not made.
        result = "overloaded"
    elif request is not None and not {None, 0} <= set(last) and is_short(request):
        # The host lacked what the other call takes. A stale copy may have been given, which does not say so.
        result = "unknown"
    elif waited and not killed:
        result = "answered" if told else _result(last, earliest, run.budget, size)
    # Where there is no such event, nobody waits for the other call.
    deciding = [last[None]] if result == "gone" else calls
    ended = min(max(call.ended for call in deciding), earliest + run.budget)
    return Fetch(calls[0].event, calls[0].request, tuple(calls), earliest, latest, ended, noted, result)


def _result(last: dict[int | None, Call], earliest: float, budget: float, size: int) -> Result:
    """What C42's answers come to, by the order in which the proxy weighs them."""
    outcomes = {call.outcome for call in last.values()}
    event = last[None].outcome if None in last else None
    pages = {offset: call.outcome for offset, call in last.items() if offset is not None}
    has_no_list = "gone" in pages.values()
    late = [call for call in last.values() if call.ended >= earliest + IN_TIME * budget and call.outcome != "left"]
    early = [call for call in last.values() if call.ended < earliest + budget and call.outcome == "left"]
    is_whole = event == "answered" and set(pages) == set(range(0, size, PAGE))
    verdicts: list[tuple[bool, Result]] = [
        (bool(late or early), "unknown"),
        (event == "gone", "gone"),
        ("told to wait" in outcomes, "told to wait"),
        ("token refused" in outcomes, "token refused"),
        ("left" in outcomes, "down"),
        (not outcomes.isdisjoint({"failed", "cut"}), "unknown" if has_no_list else "down"),
        (event is None, "unknown"),
        (has_no_list, "invalid"),
        (is_whole, "answered"),
    ]
    return next((result for holds, result in verdicts if holds), "unknown")
