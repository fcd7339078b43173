"""Whatever C42 sends, over a real socket, the client and the whole proxy end in what is right, or in one of our errors.

`C42_FUZZ_EXAMPLES` says how many examples each test is to try; beyond the usual number they differ each time.
"""

import copy
import math
import os
import time
import unittest
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import takewhile
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from werkzeug.test import Client, TestResponse

from c42_proxy.app import CALLS_AT_ONCE, LATER_PAGES_AT_ONCE, build
from c42_proxy.errors import UpstreamError
from c42_proxy.settings import Settings
from c42_proxy.upstream.client import Event, Page
from c42_proxy.upstream.transport import new_session
from harness.openapi import RESPONSES, validator
from harness.wire import (
    EVENT_ID,
    PAGE,
    Behaviour,
    Connection,
    answer,
    but,
    c42,
    event,
    kind,
    offset,
    page,
    sends,
    sends_and_closes,
    subscription,
)

from .hostile import answers, endings, no_answers
from .oracle import REMOVED, UnusableError, first_names, subscriptions_of, title_of
from .test_client import LONE, NOW, PLENTY, TOKEN, C42Test, json_values

EXAMPLES = 50
SHORT = 0.2
"""The budget, in seconds, where C42 may be silent."""
SLACK = 2.0
HOURS = 7200.0
"""After this time, nothing earlier is served any more, or keeps the proxy from asking C42."""

INSTEAD: dict[str, list[object]] = {
    "id": ["x", EVENT_ID, f"{EVENT_ID}__1", LONE, 1],
    "event_id": ["x", EVENT_ID, None, 1],
    "title": ["x", LONE, None, 1],
    "permission": [REMOVED, REMOVED, "x", None, 1],
    "subscriber": [{}, None, [], "x"],
    "first_name": ["x", "\u3000", LONE, None, 1],
    "meta_data": [{}, None, []],
    "count": [0, 1, PAGE, 10**30, -1, None, True, 1.0, "1"],
    "data": [[], None, {}, [None]],
}
"""What each field may hold: right, almost right and wrong."""
ELSEWHERE: list[object] = [math.nan, math.inf, LONE, None, {}, []]


def fuzzed(*strategies: st.SearchStrategy[Any], times: int = 1) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Try a check with many examples; with so many times as many, where one takes little time."""
    count = int(os.environ.get("C42_FUZZ_EXAMPLES", EXAMPLES))

    def decorate(check: Callable[..., None]) -> Callable[[], None]:
        tried: Callable[[], None] = settings(
            max_examples=times * count,
            derandomize=count == EXAMPLES,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow],
        )(given(*strategies)(check))
        return tried

    return decorate


def people(number: int) -> list[object]:
    """So many subscriptions, with all kinds of people among them."""
    names = ["Zoë", "Ann", None, "Bob", "", "Ann", "👩‍🚀", "  "]
    return [
        {"id": f"{EVENT_ID}__{n}", "permission": REMOVED}
        if n % 7 == 3
        else subscription(n, names[n % len(names)], rsvp_status=None)
        for n in range(number)
    ]


TITLE = "Coffee ☕"
TWO_PAGES = people(PAGE + 30)
WELL = c42(TITLE, TWO_PAGES)
CALLS: dict[str, object] = {
    "event": event(TITLE),
    "page 0": page(TWO_PAGES[:PAGE], count=len(TWO_PAGES)),
    f"page {PAGE}": page(TWO_PAGES[PAGE:], count=len(TWO_PAGES)),
}
"""What C42 says when it is well, call by call."""


def further_headers() -> st.SearchStrategy[list[str]]:
    """Headers that say nothing about how long an answer is, and how to read it."""
    names = st.from_regex(r"[!#-'*+.0-9A-Z^-z|~-]{1,20}", fullmatch=True)
    values = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]) | st.just("\t"), max_size=30)
    harmless = names.filter(lambda name: not name.lower().endswith(("-length", "-encoding", "connection")))
    return st.lists(st.builds("{}:{}".format, harmless, values), max_size=5)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each thing within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


@st.composite
def near_misses(draw: st.DrawFn, value: Any) -> Any:
    """The same JSON value but for something in it: another value there, nothing, or the same once more."""
    changed: Any = copy.deepcopy(value)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        # First what, then where: there are many subscriptions, and one count.
        found = list(places(changed))
        name = draw(st.sampled_from(sorted(set(map(_name, found)))))
        *path, key = draw(st.sampled_from([place for place in found if _name(place) == name]))
        parent = changed
        for step in path:
            parent = parent[step]
        usual = "twice" if isinstance(parent, list) else "instead"
        how = draw(st.sampled_from([*[usual] * 6, "instead", "anything", "nothing"]))
        if how == "instead":
            parent[key] = copy.deepcopy(draw(st.sampled_from(INSTEAD.get(key, ELSEWHERE))))
        elif how == "anything":
            parent[key] = draw(json_values())
        elif how == "nothing":
            del parent[key]
        else:
            parent.append(copy.deepcopy(parent[key]))
        if not changed:
            break
    return changed


def _name(path: tuple[Any, ...]) -> str:
    return path[-1] if isinstance(path[-1], str) else "one of a list"


class ProxyTest(C42Test):
    """The proxy, with two budgets, and its client. Each request finds nothing remembered."""

    def setUp(self) -> None:
        super().setUp()
        self.now = NOW
        self.proxies = {budget: self.proxy(budget) for budget in (PLENTY, SHORT)}

    def proxy(self, budget: float) -> Client:
        configured = Settings(
            api_token=SecretStr(TOKEN),
            api_url=self.wire.url,
            cache_url="memory://",
            timeout=budget,
            breaker_threshold=0,
        )
        session = self.enterContext(new_session(CALLS_AT_ONCE + LATER_PAGES_AT_ONCE))
        return self.enterContext(
            closing(build(configured, session=session, clock=lambda: self.now))
        ).flask.test_client()

    def ask(self, behaviour: Behaviour, budget: float = PLENTY) -> TestResponse:
        """One request; its answer is described in `openapi.yaml`, comes in time and keeps the token to itself."""
        self.wire.behaviour = behaviour
        self.now += HOURS
        self.records.clear()
        start = time.monotonic()
        response: TestResponse = self.proxies[budget].get(f"/events-with-subscriptions/{EVENT_ID}/")
        self.assertLess(time.monotonic() - start, 2 * budget + SLACK)
        self.assertIn(response.status_code, {200, 404, 502, 503, 504}, response.text)
        ((media_type, described),) = RESPONSES[response.status_code]["content"].items()
        self.assertEqual(response.content_type, media_type)
        validator(described["schema"]).validate(response.get_json())
        # A title is what C42 says it is.
        self.assertNotIn(TOKEN, f"{response.headers}{'' if response.status_code == 200 else response.text}")
        self.assert_not_logged()
        return response

    def assert_says(self, response: TestResponse, title: str | None, names: list[str]) -> None:
        self.assertEqual(response.status_code, 200, response.text)
        self.assertEqual(response.get_json(), {"id": EVENT_ID, "title": title, "names": names})

    def assert_well(self, budget: float) -> None:
        """What went wrong before leaves nothing behind: neither on a connection, nor in the proxy."""
        start = time.monotonic()
        response = self.ask(WELL, budget)
        if response.status_code != 504 or time.monotonic() - start < budget:
            self.assert_says(response, TITLE, first_names(TWO_PAGES))


class JsonTest(ProxyTest):
    def test_near_misses(self) -> None:
        """Where something in one answer is other than usual, the proxy's answer is the one that is right then."""

        @fuzzed(st.data(), st.sampled_from([0, 1, 2, 8, PAGE, PAGE + 1]), st.text(max_size=3), times=6)
        def check(data: st.DataObject, number: int, title: str) -> None:
            everybody = people(number)
            said: dict[str, Any] = {"event": event(title, all_day=False)}
            for start in range(0, number or 1, PAGE):
                said[f"page {start}"] = page(everybody[start : start + PAGE], count=number)
            which = data.draw(st.sampled_from([*said, *said, *list(said)[1:]]))
            usual = said[which]
            said[which] = data.draw(data.draw(st.sampled_from([*[near_misses(usual)] * 9, json_values()])))

            def behave(path: str, connection: Connection) -> None:
                further = page(everybody[offset(path) :][:PAGE], count=number) if kind(path) != "event" else None
                connection.send(answer(said.get(kind(path), further)))

            self.assert_right(self.ask(behave), said, number)

        check()

    def assert_right(self, response: TestResponse, said: Mapping[str, Any], number: int) -> None:
        try:
            there, title = title_of(said["event"])
            if not there:
                self.assertEqual(response.status_code, 404)
                return
            pages = [subscriptions_of(said[f"page {start}"]) for start in range(0, number or 1, PAGE)]
        except UnusableError:
            self.assertEqual(response.status_code, 502, response.text)
            return
        self.assertEqual((response.status_code, response.get_json()["title"]), (200, title))
        first = said["page 0"]
        if len(pages[0]) == min(number, PAGE) and first.get("meta_data", {}).get("count") == number:
            # Else there are other pages than those to be asked for.
            listed = [each for before in takewhile(bool, pages) for each in before]
            self.assert_says(response, title, first_names(listed))


class BytesTest(ProxyTest):
    def test_forms(self) -> None:
        """An answer in any form that HTTP allows, and with any further headers, is taken for what it is."""

        @fuzzed(st.data(), st.sampled_from(sorted(CALLS)), further_headers())
        def check(data: st.DataObject, which: str, further: list[str]) -> None:
            told = data.draw(answers(CALLS[which], further=further))
            response = self.ask(but(WELL, {which: sends_and_closes(told.data)}))
            self.assert_says(response, TITLE, first_names(TWO_PAGES))

        check()

    def test_cut(self) -> None:
        """Part of an answer is a failure; where its last bytes say nothing more, it may be taken for whole."""

        @fuzzed(st.data(), st.sampled_from([*sorted(CALLS), "no event"]), endings())
        def check(data: st.DataObject, which: str, ends: Callable[[bytes], Behaviour]) -> None:
            gone = which == "no event"
            told = data.draw(answers({}, "404 Not Found") if gone else answers(CALLS[which]))
            end = data.draw(st.integers(0, len(told.data) - 1) | st.integers(len(told.data) - 20, len(told.data) - 1))
            budget = SHORT if ends is sends else PLENTY
            behave = but(WELL, {"event" if gone else which: ends(told.data[:end])})
            response = self.ask(behave, budget)
            if end < told.needed or response.status_code >= 500:
                self.assertIn(response.status_code, {502, 504}, response.text)
            elif gone:
                self.assertEqual(response.status_code, 404)
            else:
                self.assert_says(response, TITLE, first_names(TWO_PAGES))
            self.assert_well(budget)

        check()

    def test_damaged(self) -> None:
        """Whatever bytes come for one call, the answers to the others are given unchanged, or not at all."""

        @fuzzed(st.data(), st.sampled_from(sorted(CALLS)), endings())
        def check(data: st.DataObject, which: str, ends: Callable[[bytes], Behaviour]) -> None:
            sent = data.draw(no_answers(CALLS[which], TOKEN))
            budget = SHORT if ends is sends else PLENTY
            response = self.ask(but(WELL, {which: ends(sent)}), budget)
            if response.status_code == 200 and which == "event":
                self.assertEqual(response.get_json()["names"], first_names(TWO_PAGES))
            elif response.status_code == 200:
                self.assertEqual(response.get_json()["title"], TITLE)
            elif response.status_code == 404:
                self.assertEqual(which, "event")
            self.assert_well(budget)

        check()


class ClientTest(C42Test):
    def test_any_bytes(self) -> None:
        """Whatever bytes come, a call ends in an event, a page or one of our errors, in time and without the token."""

        @fuzzed(no_answers(event(), TOKEN), endings())
        def check(sent: bytes, ends: Callable[[bytes], Behaviour]) -> None:
            budget = SHORT if ends is sends else PLENTY
            for call in (self.event, self.page):
                self.records.clear()
                start = time.monotonic()
                try:
                    self.assertIsInstance(call(ends(sent), budget), Event | Page)
                except UpstreamError as error:
                    self.assert_hidden(error)
                self.assertLess(time.monotonic() - start, budget + SLACK)
                self.assert_not_logged()

        check()


if __name__ == "__main__":
    unittest.main()
