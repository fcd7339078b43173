"""Proxies that err: each as C42 sees it (its calls) or as an app sees it (its answers), and right in all else.

Nothing of the proxy's code is touched. A fault stands on the wire between the proxy and C42, or between an app and the
proxy, or it is a setting.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from features.drivers.wires import Receive
from features.support.fake_c42 import Answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SUBSCRIBERS = "/event-subscriptions/"
EMPTY_PAGE: Answer = (200, {"Content-Type": "application/json"}, '{"data": [], "meta_data": {}}')

Headers = Mapping[str, str]
Known = dict[str, Answer]
Calls = Callable[[Receive, Known, str, Headers], Answer]
"""How the proxy asks C42, instead of by `Receive` alone. What is known is kept for the length of a scenario."""
Answers = Callable[["WSGIApplication", Receive], "WSGIApplication"]


def _asked_once(receive: Receive, _known: Known, path: str, headers: Headers) -> Answer:
    return receive(path, headers)


@dataclass(frozen=True)
class Fault:
    """What the proxy does wrong. It is planted anew in each scenario."""

    name: str
    calls: Calls = _asked_once
    answers: Answers = lambda app, _receive: app
    settings: Mapping[str, str] = field(default_factory=dict)
    """Instead of those of the scenario."""
    said: str | None = None
    """What the operator reads, instead of the proxy's lines."""
    places: tuple[str, ...] = ()
    """The features in which it is planted; none for all."""
    driver: str = "flask"


def _subscribers(path: str) -> bool:
    return SUBSCRIBERS in path


def _event(path: str) -> bool:
    return SUBSCRIBERS not in path


def _later_page(path: str) -> bool:
    return _subscribers(path) and "offset=0" not in path


def _doubled(concerned: Callable[[str], bool], *, renewals_alone: bool = False) -> Calls:
    """Questions of this kind are asked twice; of the two answers, the second counts."""

    def ask(receive: Receive, known: Known, path: str, headers: Headers) -> Answer:
        if concerned(path) and (path in known or not renewals_alone):
            receive(path, headers)
        known[path] = receive(path, headers)
        return known[path]

    return ask


def _twice_at_once(concerned: Callable[[str], bool]) -> Calls:
    """Questions of this kind are asked twice at the same time; one of the two answers counts."""

    def ask(receive: Receive, _known: Known, path: str, headers: Headers) -> Answer:
        with ThreadPoolExecutor(2) as both:
            asked = [both.submit(receive, path, headers) for _ in range(1 + concerned(path))]
            return asked[-1].result()

    return ask


def _dropped_when_renewed(concerned: Callable[[str], bool]) -> Calls:
    """Questions of this kind are asked once for all: later, the old answer counts."""

    def ask(receive: Receive, known: Known, path: str, headers: Headers) -> Answer:
        answer = known.get(path) or receive(path, headers)
        if concerned(path) and isinstance(answer, tuple) and answer[0] == 200:
            known[path] = answer
        return answer

    return ask


def _without_pages_from(offset: int) -> Calls:
    def ask(receive: Receive, _known: Known, path: str, headers: Headers) -> Answer:
        asked = re.search(r"offset=(\d+)", path)
        return EMPTY_PAGE if asked and int(asked[1]) >= offset else receive(path, headers)

    return ask


def _without_those_who_do_not_come(receive: Receive, _known: Known, path: str, headers: Headers) -> Answer:
    answer = receive(path, headers)
    if not isinstance(answer, tuple) or answer[0] != 200 or "not_attending" not in answer[2]:
        return answer
    page = json.loads(answer[2])
    page["data"] = [each for each in page["data"] if each.get("rsvp_status") != "not_attending"]
    return answer[0], answer[1], json.dumps(page)


def _pages_in_another_order(receive: Receive, _known: Known, path: str, headers: Headers) -> Answer:
    other = {"offset=100": "offset=200", "offset=200": "offset=100"}
    return receive(re.sub(r"offset=[12]00\b", lambda found: other[found[0]], path), headers)


_one_at_a_time = Lock()


def _one_after_the_other(receive: Receive, _known: Known, path: str, headers: Headers) -> Answer:
    with _one_at_a_time:
        return receive(path, headers)


def _asked_again_after_a_failure(receive: Receive, _known: Known, path: str, headers: Headers) -> Answer:
    answer = receive(path, headers)
    failed = not isinstance(answer, tuple) or answer[0] >= 500
    return receive(path, headers) if failed else answer


def _asked_at_each_request(app: "WSGIApplication", receive: Receive) -> "WSGIApplication":
    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        event = environ["PATH_INFO"].rstrip("/").rpartition("/")[2]
        receive(f"/api/v2/events/{event}/", {})
        return app(environ, start_response)

    return answer


Change = Callable[["WSGIEnvironment", Response], None]


def _unchanged(*_request_or_response: object) -> None:
    """What the proxy gets or gives."""


def _changed(change: Change = _unchanged, *, asked: Callable[["WSGIEnvironment"], object] = _unchanged) -> Answers:
    """Each request is changed on its way to the proxy, or each answer on its way to the app."""

    def answers(app: "WSGIApplication", _receive: Receive) -> "WSGIApplication":
        def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            asked(environ)
            response = Response.from_app(app, environ)
            change(environ, response)
            return response(environ, start_response)

        return answer

    return answers


def _json(change: Callable[[dict[str, Any]], object], *statuses: int) -> Answers:
    """The JSON of each answer of these statuses is changed."""

    def changed(_environ: "WSGIEnvironment", response: Response) -> None:
        if response.status_code in statuses:
            body = json.loads(response.get_data())
            change(body)
            response.set_data(json.dumps(body, ensure_ascii=False, separators=(",", ":")))

    return _changed(changed)


def _names(change: Callable[[list[str]], list[str]]) -> Answers:
    return _json(lambda body: body.update(names=change(body["names"])), 200)


def _header(name: str, change: Callable[[str], str | None]) -> Answers:
    """A header of each answer is changed, or left out."""

    def changed(_environ: "WSGIEnvironment", response: Response) -> None:
        if name in response.headers:
            value = change(response.headers.pop(name))
            if value is not None:
                response.headers[name] = value

    return _changed(changed)


def _reused(duration: timedelta, *statuses: int) -> Answers:
    """An answer of these statuses is given again, for some time, to whoever sends the same request."""

    def answers(app: "WSGIApplication", _receive: Receive) -> "WSGIApplication":
        known: dict[str, tuple[datetime, Response]] = {}

        def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            now, path = datetime.now(UTC), environ["PATH_INFO"]
            if path in known and timedelta() <= now - known[path][0] < duration:
                return known[path][1](environ, start_response)
            response = Response.from_app(app, environ, buffered=True)
            if response.status_code in statuses:
                known[path] = now, response
            return response(environ, start_response)

        return answer

    return answers


def _later(moment: str) -> str:
    return format_datetime(parsedate_to_datetime(moment) + timedelta(seconds=1), usegmt=True)


def _from_now(_moment: str) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=252), usegmt=True)


def _with_insides(_environ: "WSGIEnvironment", response: Response) -> None:
    if response.status_code == 500:
        response.set_data(response.get_data() + b"Traceback (most recent call last)")


def _for_each_page(_environ: "WSGIEnvironment", response: Response) -> None:
    response.headers["Access-Control-Allow-Origin"] = "*"


def _nobody_is_told_of_the_slash(environ: "WSGIEnvironment", response: Response) -> None:
    if response.status_code == 308:
        response.headers["Location"] += "?" + environ["QUERY_STRING"]


def _shown_by_the_query(environ: "WSGIEnvironment", response: Response) -> None:
    if environ["QUERY_STRING"] and response.status_code == 200:
        response.set_data(re.sub(rb'"names":\[.*\]', b'"names":[]', response.get_data()))


FAULTS = (
    Fault("each event is asked for twice", calls=_doubled(_event)),
    Fault("each page of subscribers is asked for twice", calls=_doubled(_subscribers)),
    Fault("each page after the first is asked for twice", calls=_doubled(_later_page)),
    Fault(
        "the subscribers are read twice when an answer is renewed", calls=_doubled(_subscribers, renewals_alone=True)
    ),
    Fault("the event is read twice when an answer is renewed", calls=_doubled(_event, renewals_alone=True)),
    Fault("the subscribers are not read again when an answer is renewed", calls=_dropped_when_renewed(_subscribers)),
    Fault("the event is not read again when an answer is renewed", calls=_dropped_when_renewed(_event)),
    Fault("no page after the first is asked for", calls=_without_pages_from(100)),
    Fault("no page after the ninth is asked for", calls=_without_pages_from(900)),
    Fault("those who do not come are left out", calls=_without_those_who_do_not_come),
    Fault("the second and the third page change places", calls=_pages_in_another_order),
    Fault("the two questions are asked one after the other", calls=_one_after_the_other),
    Fault("what failed is asked once more at once", calls=_asked_again_after_a_failure),
    Fault("C42 is asked at each request", answers=_asked_at_each_request),
    Fault("names come in another order", answers=_names(lambda names: names[::-1])),
    Fault("names come sorted", answers=_names(sorted)),
    Fault("two people of one name are named once", answers=_names(lambda names: list(dict.fromkeys(names)))),
    Fault("the last one is not named", answers=_names(lambda names: names[:-1])),
    Fault(
        "an event without a title has an empty one",
        answers=_json(lambda body: body.update(title=body["title"] or ""), 200),
    ),
    Fault("an answer tells more", answers=_json(lambda body: body.update(last_names=[]), 200)),
    Fault("an answer is valid for a second longer", answers=_header("Expires", _later)),
    Fault("reading an answer prolongs its life", answers=_header("Expires", _from_now)),
    Fault("failures may be kept", answers=_header("Cache-Control", lambda rule: None if rule == "no-store" else rule)),
    Fault(
        "an expired answer is not marked",
        answers=_header("Cache-Status", lambda mark: mark.replace("; detail=stale-if-error", "")),
    ),
    Fault("nothing is said of where an answer comes from", answers=_header("Cache-Status", lambda _mark: None)),
    Fault("nobody is told how long to wait", answers=_header("Retry-After", lambda _wait: None)),
    Fault("everybody is told to wait a second longer", answers=_header("Retry-After", lambda wait: str(int(wait) + 1))),
    Fault(
        "a problem is not explained",
        answers=_json(lambda body: body.update(detail="Try again."), 404, 405, 500, 502, 503, 504),
    ),
    Fault(
        "a problem has another status inside", answers=_json(lambda body: body.update(status=500), 404, 502, 503, 504)
    ),
    Fault(
        "an app is always sent the whole answer",
        answers=_changed(asked=lambda environ: environ.pop("HTTP_IF_NONE_MATCH", None)),
    ),
    Fault("an addition to the address changes the answer", answers=_changed(_shown_by_the_query)),
    Fault("the address with the slash has additions", answers=_changed(_nobody_is_told_of_the_slash)),
    Fault(
        "capital letters are small ones",
        answers=_changed(asked=lambda environ: environ.update(PATH_INFO=environ["PATH_INFO"].lower())),
    ),
    Fault(
        "every attempt is taken for reading",
        answers=_changed(asked=lambda environ: environ.update(REQUEST_METHOD="GET")),
    ),
    Fault("a mistake shows the proxy's insides", answers=_changed(_with_insides)),
    Fault("an event is reused for too long by a millisecond", answers=_reused(timedelta(seconds=252.001), 200)),
    Fault(
        "there is no such event is reused for too long by a millisecond",
        answers=_reused(timedelta(seconds=252.001), 404),
    ),
    Fault("a failure is reused for 6 s", answers=_reused(timedelta(seconds=6), 500, 502, 503, 504)),
    Fault("each page may read each answer", answers=_changed(_for_each_page)),
    Fault("no page may read any answer", answers=_header("Access-Control-Allow-Origin", lambda _site: None)),
    Fault("an app waits for a second longer", settings={"C42_TIMEOUT": "5"}),
    Fault("an expired answer is given for a second longer", settings={"C42_STALE_IF_ERROR": "3601"}),
)


NONE = Fault("nothing is wrong")


def _wrong(_environ: "WSGIEnvironment", response: Response) -> None:
    """An answer in which nothing is right."""
    response.status_code = 299
    response.headers.clear()
    response.headers["Cache-Control"] = "public, max-age=9"
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.set_data("Traceback: an inner detail")


_OTHER_SETTINGS = {"C42_CACHE_URL": "memory://", "C42_TIMEOUT": "5"}
_OF_SETTINGS = ("features/explaining_what_went_wrong.feature", "features/riding_out_an_outage.feature")
_OF_CALLS = ("features/sparing_c42.feature",)
_OF_LINES = ("features/finding_out_why_c42_gives_no_answer.feature",)
_OF_TIME = ("features/reusing_an_answer_for_4.2_minutes.feature",)
GROSS = (
    Fault("no answer is right", answers=_changed(_wrong)),
    Fault("no answer of the ASGI app is right", answers=_changed(_wrong), places=_OF_TIME, driver="asgi"),
    Fault("no answer is right in real time", answers=_changed(_wrong), places=_OF_CALLS, driver="sockets"),
    Fault("C42 is asked at each request", answers=_asked_at_each_request),
    Fault("each page of subscribers is asked for twice", calls=_doubled(_subscribers)),
    Fault(
        "nothing is remembered in a file, and apps wait for a second longer",
        settings=_OTHER_SETTINGS,
        places=_OF_SETTINGS,
    ),
    Fault(
        "each page of subscribers is asked for twice at the same time",
        calls=_twice_at_once(_subscribers),
        places=("features/combining_an_event_with_its_subscribers.feature",),
    ),
    Fault("the operator reads something else", said="WARNING of something else", places=_OF_LINES),
    Fault(
        "the operator of the ASGI app reads something else",
        said="WARNING of something else",
        places=_OF_LINES,
        driver="asgi",
    ),
    Fault("what is over is kept for a day", settings={"C42_STALE_IF_ERROR": "86400"}, places=_OF_SETTINGS),
)
"""Faults in which each check of the features must fail somewhere."""
