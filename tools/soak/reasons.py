"""The possible reasons for a failure that a client was given, or that a stale copy hides."""

from bisect import bisect_left

from .bounds import JOINED, LOOKED, OPEN_SECONDS, OWN_TIME, REPEATED, SLOW
from .fetches import Fetch, is_overloaded
from .history import Answer, History
from .record import Call, Request


class Reasons:
    """What C42 did, and what the proxy may have made of it."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._back_offs = [(fetch, call) for fetch in history.fetches for call in fetch.calls if call.wait]
        self._failures = [
            fetch
            for fetch in history.fetches
            if fetch.result in {"down", "unknown"} and not self._took_too_long_to_connect(fetch)
        ]
        successes = sorted((fetch for fetch in history.fetches if fetch.has_succeeded), key=lambda fetch: fetch.noted)
        self._cleared = [fetch.noted for fetch in successes]
        self._latest_clearing = [0.0]
        for fetch in successes:
            self._latest_clearing.append(max(self._latest_clearing[-1], fetch.ended))

    def found(self, answer: Answer) -> bool:
        """Whether there is a reason for this failure, and if the answer names its reason, that very one."""
        request = answer.request
        if is_overloaded(request):
            return self._history.is_short(request)
        if answer.own.endswith("detail=told-to-wait"):
            return self._is_backing_off(request)
        if answer.own.endswith("detail=c42-down"):
            return self._is_breaker_open(request, request.sent)
        failed = self._failed(answer)
        if answer.kind == "stale":
            failed = failed or self._history.is_short(request)
            if not answer.was_asked:
                # A process may not have looked since the breaker was closed.
                is_open = self._is_breaker_open(request, request.sent - LOOKED)
                return failed or self._is_backing_off(request) or is_open
        return failed

    def _failed(self, answer: Answer) -> bool:
        """Its event was asked for in vain a moment ago, or C42 could not be reached at all."""
        request, budget = answer.request, self._history.run.budget
        if self._history.struck(request.sent, request.ended, "C42 refuses", lasting=budget + REPEATED + JOINED):
            return True
        for fetch in self._history.fetches_by_event[request.event]:
            if fetch.latest > request.ended or fetch.noted + REPEATED + JOINED <= request.sent:
                continue
            bad = {call.outcome for call in _failures(fetch) if call.ended <= request.ended}
            if answer.kind == "stale":
                bad -= {"token refused"}
            late = max(call.ended for call in fetch.calls) - fetch.earliest >= SLOW * budget
            if self._took_too_long_to_connect(fetch):
                late = False
                bad -= {"left"}
            if bad or late:
                return True
        return False

    def _took_too_long_to_connect(self, fetch: Fetch) -> bool:
        """Whether it was a dead address, and not C42, that cost the time: a part of the budget is all that it may."""
        budget = self._history.run.budget
        took = max(call.ended - call.received for call in fetch.calls)
        return took < OWN_TIME * budget and bool(self._history.struck(fetch.earliest, fetch.latest, "one address dead"))

    def _is_backing_off(self, request: Request) -> bool:
        return any(
            call.ended <= request.ended and request.sent < fetch.noted + call.wait + JOINED
            for fetch, call in self._back_offs
        )

    def _is_breaker_open(self, request: Request, since: float) -> bool:
        """Enough events had failed in a row, and the breaker may have been open, or half-open with a probe under way.

        That is, at some moment from `since` until the request's answer.
        """
        run, store = self._history.run, self._history.has_store
        cleared = self._latest_clearing[bisect_left(self._cleared, since - JOINED)]
        if self._history.is_refused(cleared, request.ended):
            return True
        failures = [
            fetch
            for fetch in self._failures
            if fetch.latest <= request.ended and (fetch.noted >= cleared or not store(fetch.latest, request.ended))
        ]
        if len({fetch.event for fetch in failures}) < run.threshold:
            return False
        is_open = any(since < fetch.noted + OPEN_SECONDS + JOINED for fetch in failures)
        on_its_way = self._history.on_its_way(since, request.ended)
        probe = since - 2 * run.budget, request.ended + on_its_way
        return is_open or any(probe[0] <= fetch.latest <= probe[1] for fetch in self._history.fetches)


def _failures(fetch: Fetch) -> list[Call]:
    """The calls that failed. A 404 for the subscriptions is a failure unless the event is a 404, too."""
    is_there = not any(call.outcome == "gone" and call.offset is None for call in fetch.calls)
    fine = {"answered"} if is_there else {"answered", "gone"}
    return [call for call in fetch.calls if call.outcome not in fine]
