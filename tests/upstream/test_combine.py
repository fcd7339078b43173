"""An event and its subscribers are combined whole, fast and in order, and whatever goes wrong ends in one error."""

import errno
import json
import os
import socket
import sys
import threading
import time
import unittest
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from itertools import product
from typing import Any, ParamSpec, TypeVar, cast
from unittest.mock import patch

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from c42_proxy.app import CALLS_AT_ONCE, LATER_PAGES_AT_ONCE
from c42_proxy.caching.circuit_breaker import CircuitBreaker
from c42_proxy.errors import (
    BackingOff,
    InvalidAnswer,
    Overloaded,
    RateLimited,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from c42_proxy.observability.metrics import Metrics
from c42_proxy.stores.contract import Entry, SharedStates
from c42_proxy.stores.memory import MemoryStore
from c42_proxy.threads import Threads
from c42_proxy.upstream.client import C42Client
from c42_proxy.upstream.combine import Combiner
from c42_proxy.upstream.pages import MAX_PAGES
from c42_proxy.upstream.transport import new_session
from harness.processes import until
from harness.wire import (
    EVENT_ID,
    PAGE,
    Behaviour,
    Connection,
    Wire,
    after,
    answer,
    but,
    c42,
    closes,
    dead_address,
    is_silent,
    kind,
    offset,
    page,
    people,
    says,
    subscription,
)
from tests.upstream.test_client import BUDGET, PLENTY, SLACK, TOKEN, Fault, budget_for, event_faults, page_faults

SILENT_BUDGET = 1.5
"""In seconds: long enough for the other call to be answered on a busy machine."""

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

NOW = 1_475_000_000.0
GONE = says({"error": {"status_code": 404}}, "404 Not Found")

FAILURES: list[tuple[Behaviour, type[UpstreamError]]] = [
    (says({}, "429 Too Many Requests"), RateLimited),
    (says({}, "401 Unauthorized"), TokenRefused),
    (is_silent, UpstreamTimeout),
    (says({}, "500 Oops"), UpstreamUnavailable),
]
"""In the order in which they win."""


def clock() -> float:
    return NOW


class CombinerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.wire = self.enterContext(Wire())
        self.threads_before = set(threading.enumerate())

    def combiner(
        self,
        budget: float = PLENTY,
        states: SharedStates | None = None,
        threads: type[Threads] = Threads,
        page_threads: type[Threads] = Threads,
        session: requests.Session | None = None,
    ) -> Combiner:
        """Without a connection yet."""
        self.session = self.enterContext(session or new_session(CALLS_AT_ONCE + LATER_PAGES_AT_ONCE))
        client = C42Client(self.wire.url, SecretStr(TOKEN), session=self.session, clock=clock, metrics=Metrics())
        breaker = CircuitBreaker(
            states or MemoryStore(100_000), clock=clock, threshold=0, probe_seconds=2 * budget, metrics=Metrics()
        )
        calls = self.enterContext(closing(threads(CALLS_AT_ONCE, name="c42-call")))
        pages = self.enterContext(closing(page_threads(LATER_PAGES_AT_ONCE, name="c42-page")))
        return Combiner(client, breaker, calls=calls, pages=pages, budget=budget, clock=clock)

    def fetch(self, behaviour: Behaviour, budget: float = PLENTY) -> Entry:
        self.wire.behaviour = behaviour
        return self.combiner(budget).combined(EVENT_ID).entry

    def names(self, behaviour: Behaviour, budget: float = PLENTY) -> list[str]:
        names: list[str] = json.loads(self.fetch(behaviour, budget).body)["names"]
        return names

    def pages_asked(self) -> int:
        return self.wire.calls.total() - self.wire.calls["event"]

    def pool_threads(self) -> set[threading.Thread]:
        """Those of this test: others may still have some."""
        return {each for each in set(threading.enumerate()) - self.threads_before if each.name.startswith("c42-")}

    def busy_threads(self) -> list[threading.Thread]:
        """Threads of this test that are neither the server's own, nor wait in a pool for something to do."""
        pool, frames = self.pool_threads(), sys._current_frames()
        return [
            thread
            for thread in set(threading.enumerate()) - self.threads_before
            if thread.name != "wire"
            and not (thread in pool and (frame := frames.get(thread.ident or 0)) and frame.f_code.co_name == "_work")
        ]

    def assert_fails(self, behaviour: Behaviour, expected: type[UpstreamError]) -> None:
        """In time, if need be in a second attempt: a C42 that sends without end works in this process as well."""
        most = budget_for(expected) + SLACK
        for _attempt in range(2):
            start = time.monotonic()
            with self.assertRaises(UpstreamError) as raised:
                self.fetch(behaviour, budget_for(expected))
            took = time.monotonic() - start
            self.assertIs(expected, type(raised.exception), raised.exception)
            if took < most:
                break
        self.assertLess(took, most)


def named(numbers: Iterable[int]) -> list[str]:
    return [str(number) for number in numbers]


class CombiningTest(CombinerTest):
    def test_answer(self) -> None:
        """The answer is compact UTF-8 JSON: the id, the title, the first names."""
        entry = self.fetch(c42("Кофе ☕", [subscription(1, "Zoë"), subscription(2, "李")]))
        expected = f'{{"id":"{EVENT_ID}","title":"Кофе ☕","names":["Zoë","李"]}}'
        self.assertEqual(Entry(200, expected.encode(), NOW), entry)

    def test_any_unicode(self) -> None:
        """Names and titles of any Unicode come through as they are, in C42's order."""
        texts = ["👩‍🚀", "\u202eevE", "ﷺ", 'a"b\\c', "\u0000", "\U0010ffff", "Ann", "a\u0301", " Bob "]
        entry = self.fetch(c42("\n".join(texts), [subscription(n, text) for n, text in enumerate(texts)]))
        self.assertEqual({"id": EVENT_ID, "title": "\n".join(texts), "names": texts}, json.loads(entry.body))

    def test_nobody_to_name(self) -> None:
        """Removed subscriptions, null, empty and blank names are left out; the same name of two people is not."""
        several: list[object] = [
            subscription(1, "Ann"),
            {"id": "2", "permission": "removed"},
            subscription(3, None),
            subscription(4, ""),
            subscription(5, " \u3000"),
            subscription(6, "Ann"),
        ]
        self.assertEqual(["Ann", "Ann"], self.names(c42(people=several)))

    def test_no_title(self) -> None:
        """An event without a title has null for one, and nobody who comes is an empty list."""
        self.assertEqual({"id": EVENT_ID, "title": None, "names": []}, json.loads(self.fetch(c42(None)).body))

    def test_not_there(self) -> None:
        """An unknown event, an empty list and a deleted event are a 404."""
        deleted = {"data": [{"id": EVENT_ID, "permission": "removed"}]}
        for gone in (GONE, says({"data": []}), says(deleted)):
            self.assertEqual(Entry(404, b"", NOW), self.fetch(but(c42(), {"event": gone})))


class PagingTest(CombinerTest):
    def test_calls(self) -> None:
        """One call is made for the event and one for every hundred subscribers, even where there are none."""
        for number, calls in {0: 1, 1: 1, 99: 1, 100: 1, 101: 2, 200: 2, 250: 3}.items():
            with self.subTest(subscribers=number):
                self.wire.calls.clear()
                self.assertEqual(named(range(number)), self.names(c42(people=people(number))))
                self.assertEqual(calls, self.pages_asked())
                self.assertEqual(1, self.wire.calls["event"])

    def test_at_once(self) -> None:
        """The event call and the first page start together."""
        start = time.monotonic()
        self.names(after(0.3, c42(people=people(3))))
        self.assertLess(time.monotonic() - start, 0.5)

    def test_ten_pages(self) -> None:
        """Ten pages of 0.3 s take well under 1.3 s, in C42's order whichever comes first."""
        usual = c42(people=people(1000))
        start = time.monotonic()
        self.assertEqual(named(range(1000)), self.names(after(0.3, usual)))
        self.assertLess(time.monotonic() - start, 1.25)

    def test_order(self) -> None:
        """The order is C42's, however the pages overtake each other."""
        usual = c42(people=people(700))

        def behave(path: str, connection: Connection) -> None:
            if kind(path) != "event":
                connection.pause((700 - offset(path)) / 5000)
            usual(path, connection)

        self.assertEqual(named(range(700)), self.names(behave))

    def test_without_threads_for_pages(self) -> None:
        """If there is no thread for a further page, the one that reads the list asks for it itself."""

        class NoThreads(Threads):
            def __init__(self, _limit: int, *, name: str) -> None:
                super().__init__(0, name=name)

        self.wire.behaviour = c42(people=people(250))
        entry = self.combiner(page_threads=NoThreads).combined(EVENT_ID).entry
        self.assertEqual(named(range(250)), json.loads(entry.body)["names"])

    def test_at_most_eight(self) -> None:
        """Pages are fetched together, at most eight at a time."""
        self.fetch(after(0.05, tiny_pages(30)))
        self.assertEqual(8, self.wire.most_at_once)
        self.assertEqual(30, self.pages_asked())

    def test_kept_alive(self) -> None:
        """Twenty fetches after each other use the connections of the first."""
        self.wire.behaviour = c42(people=people(3))
        combiner = self.combiner()
        for _ in range(20):
            combiner.combined(EVENT_ID)
        self.assertEqual(40, self.wire.calls.total())
        self.assertEqual(2, self.wire.connections)

    def test_same_subscription_twice(self) -> None:
        """A subscription that moves to the next page in the meantime is named once."""
        moved = {"page 100": says(page([subscription(99, "99"), subscription(100, "100")], count=102))}
        self.assertEqual(named(range(101)), self.names(but(c42(people=people(102)), moved)))

    def test_count_missing(self) -> None:
        """Without a count, pages are asked for until a short one."""
        for number, calls in {0: 1, 99: 1, 100: 2, 250: 3}.items():
            for meta in ({"offset": 0}, {"count": None}):
                with self.subTest(subscribers=number, meta=meta):
                    self.wire.calls.clear()
                    self.assertEqual(named(range(number)), self.names(c42(people=people(number), **meta)))
                    self.assertEqual(calls, self.pages_asked())

    def test_no_meta_data(self) -> None:
        """No meta_data at all is no count."""
        everybody = people(150)

        def behave(path: str, connection: Connection) -> None:
            start = offset(path)
            connection.send(answer({"data": everybody[start : start + PAGE]}))

        pages = {"page 0": behave, "page 100": behave}
        self.assertEqual(named(range(150)), self.names(but(c42(), pages)))

    def test_count_too_large(self) -> None:
        """Where the count promises too much, the first empty page ends the list."""
        for there, count, calls in ((100, 250, 3), (30, 250, 2), (0, 250, 1), (100, 10**30, 9), (30, 10**30, 2)):
            # A server for each: calls beyond the end may still be on their way.
            with self.subTest(there=there, count=count), Wire() as self.wire:
                self.assertEqual(named(range(there)), self.names(c42(people=people(there), count=count)))
                self.assertLessEqual(self.pages_asked(), calls)

    def test_count_too_small(self) -> None:
        """Where more come than the count promises, a full page may have another one behind it."""
        for there, count in ((250, 0), (250, 1), (250, 99), (250, 150), (250, -1), (300, 101), (200, -(10**30))):
            with self.subTest(there=there, count=count):
                self.assertEqual(named(range(there)), self.names(c42(people=people(there), count=count)))

    def test_a_short_page_in_between(self) -> None:
        """Behind a page that comes short, the rest is asked for again from where it ended: nobody is left out."""
        short = {"page 100": says(page(people(160)[100:], count=250))}
        self.assertEqual(named(range(250)), self.names(but(c42(people=people(250)), short)))
        self.assertEqual({"event": 1, "page 0": 1, "page 100": 1, "page 200": 1, "page 160": 1}, dict(self.wire.calls))

    def test_at_most_eight_behind_a_short_page(self) -> None:
        """The pages that are asked for in vain then count among the eight."""
        usual = c42(people=people(2000))
        slow = {f"page {n}": after(0.2, usual) for n in range(200, 900, 100)}
        short = {"page 100": says(page(people(150)[100:], count=2000))}
        self.assertEqual(named(range(2000)), self.names(but(after(0.02, usual), slow | short)))
        self.assertLessEqual(self.wire.most_at_once, 8)

    def test_a_list_that_changes(self) -> None:
        """Where somebody leaves while the list is read, it is read again: nobody who stayed is left out."""
        before, now = people(250), people(250)[1:]
        for name, changed in {"somebody leaves": now, "somebody joins": [subscription(250, "new"), *before]}.items():
            with self.subTest(change=name):
                self.wire.calls.clear()

                def behave(path: str, connection: Connection, changed: list[object] = changed) -> None:
                    is_first = kind(path) == "page 0" and self.wire.calls["page 0"] == 1
                    c42(people=before if is_first else changed)(path, connection)

                expected = {"somebody leaves": named(range(1, 250)), "somebody joins": ["new", *named(range(250))]}
                self.assertEqual(expected[name], self.names(behave))
                self.assertEqual({"event": 1, "page 0": 2, "page 100": 2, "page 200": 2}, dict(self.wire.calls))

    def test_a_list_that_changes_all_the_time(self) -> None:
        """What the second reading gives is the answer, whatever its counts say."""
        usual = c42(people=people(250))

        def behave(path: str, connection: Connection) -> None:
            changing = c42(people=people(250), count=250 + self.wire.calls.total())
            (usual if kind(path) == "event" else changing)(path, connection)

        self.assertEqual(named(range(250)), self.names(behave))
        self.assertEqual(2, self.wire.calls["page 0"])

    def test_reading_again_takes_no_longer(self) -> None:
        """The second reading has what is left of the one budget."""
        usual = c42(people=people(150))
        changed = {"page 100": says(page(people(150)[100:], count=151))}
        for second in (is_silent, after(0.6 * BUDGET, usual)):
            self.wire.calls.clear()

            def behave(path: str, connection: Connection, second: Behaviour = second) -> None:
                again = kind(path) == "page 0" and self.wire.calls["page 0"] == 2
                (second if again else after(0.6 * BUDGET, but(usual, changed)))(path, connection)

            self.assert_fails(behave, UpstreamTimeout)

    def test_smaller_pages(self) -> None:
        """Where C42 gives fewer at a time than it was asked for, all come all the same."""
        for there, at_most in ((25, 10), (30, 10), (250, 99), (3, 1)):
            with self.subTest(there=there, at_most=at_most):
                self.assertEqual(named(range(there)), self.names(c42(people=people(there), at_most=at_most)))

    def test_a_thousand_pages(self) -> None:
        """A hundred thousand subscribers are all named, in a thousand calls."""
        full = tiny_pages(MAX_PAGES)
        self.assertEqual(named(range(100_000)), self.names(full, budget=30))
        self.assertEqual(MAX_PAGES, self.pages_asked())

    def test_without_end(self) -> None:
        """A list that does not end is given up after a thousand calls, whatever its count says."""
        one = json.dumps(page([{"id": "x", "subscriber": {}}] * 100, count=0)).encode()
        for meta in (b"{}", b'{"count": 7}', b'{"count": 1%030d}' % 0):
            with self.subTest(meta=meta):
                self.wire.calls.clear()
                body = one.replace(b'{"count": 0}', meta)
                pages = says(body)

                def behave(path: str, connection: Connection, pages: Behaviour = pages) -> None:
                    (c42() if kind(path) == "event" else pages)(path, connection)

                with self.assertRaises(InvalidAnswer) as raised:
                    self.fetch(behave, budget=30)
                self.assertEqual(200, raised.exception.upstream_status)
                self.assertEqual(MAX_PAGES, self.pages_asked())


def tiny_pages(number: int) -> Behaviour:
    """So many full pages; as few bytes as will do, for there are many."""

    def behave(path: str, connection: Connection) -> None:
        if kind(path) == "event":
            c42()(path, connection)
            return
        start = offset(path)
        numbers = range(start, min(start + PAGE, number * PAGE))
        data = ",".join(f'{{"id":"{n}","subscriber":{{"first_name":"{n}"}}}}' for n in numbers)
        connection.send(answer(f'{{"data":[{data}],"meta_data":{{"count":{number * PAGE}}}}}'.encode()))

    return behave


class FaultsTest(CombinerTest):
    def test_event(self) -> None:
        """Each fault of the event call ends in its error, within the budget."""
        self.each(event_faults(), lambda fault: but(c42(), {"event": fault}))

    def test_first_page(self) -> None:
        """Each fault of the first page ends in its error, within the budget."""
        self.each(page_faults(), lambda fault: but(c42(), {"page 0": fault}))

    def test_later_page(self) -> None:
        """Each fault of a later page ends in its error, within the budget: an answer is never given in part."""
        usual = c42(people=people(250))
        self.each(page_faults(), lambda fault: but(usual, {"page 100": fault}))

    def each(self, faults: Iterable[Fault], behaviour: Callable[[Behaviour], Behaviour]) -> None:
        for name, fault, expected in faults:
            with self.subTest(fault=name):
                self.assert_fails(behaviour(fault), expected)

    def test_many_slow_pages(self) -> None:
        """The budget is one for all pages together."""
        self.assert_fails(after(0.08, c42(people=people(500), at_most=100, count=None)), UpstreamTimeout)

    def test_a_name_that_does_not_resolve(self) -> None:
        """A resolver that hangs, which knows no time-out, takes no more than the budget; nothing is asked after it."""
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        resolve = socket.getaddrinfo

        def hang(*arguments: Any, **keywords: Any) -> list[Any]:
            go_on.wait(PLENTY)
            return resolve(*arguments, **keywords)

        with patch("socket.getaddrinfo", hang):
            start = time.monotonic()
            with self.assertRaises(UpstreamTimeout):
                self.combiner(BUDGET).combined(EVENT_ID)
            self.assertLess(time.monotonic() - start, BUDGET + 2 * SLACK)
            go_on.set()
            until(lambda: not self.busy_threads(), "no busy thread")
        self.assertEqual(0, self.wire.connections)

    def test_a_dead_address(self) -> None:
        """Where one of two addresses is dead, C42 is asked at the other one within the budget."""
        dead = self.enterContext(dead_address())
        for addresses in ([dead, self.wire.address], [self.wire.address, dead]):
            with self.subTest(dead=addresses.index(dead)), patch("socket.getaddrinfo", return_value=addresses):
                start = time.monotonic()
                self.assertEqual(named(range(250)), self.names(c42(people=people(250))))
                self.assertLess(time.monotonic() - start, 1)

    def test_refused_token_is_logged(self) -> None:
        """A refused token is an error in the log, for nobody but the operator can mend it."""
        with self.assertLogs("c42_proxy", "ERROR") as logs:
            self.assert_fails(says({}, "401 Unauthorized"), TokenRefused)
        self.assertIn("refuses our token", logs.output[0])

    def test_late_failure_is_logged(self) -> None:
        """What C42 says of the list when the event's 404 was the answer already is in the log, too."""
        self.wire.behaviour = late(says({}, "401 Unauthorized"))
        combiner = self.combiner()
        with self.assertLogs("c42_proxy.upstream.causes", "INFO") as logs:
            self.assertEqual(404, combiner.combined(EVENT_ID).entry.status)
            until(lambda: not self.busy_threads(), "the end of the other call")
        self.assertEqual(["C42 refuses our token: status 401"], [record.getMessage() for record in logs.records])

    def test_late_break_is_not_logged(self) -> None:
        """A call that is broken off because the fetch has ended is no failure of C42."""
        self.wire.behaviour = late(closes)
        combiner = self.combiner()
        with self.assertNoLogs("c42_proxy.upstream.causes"):
            self.assertEqual(404, combiner.combined(EVENT_ID).entry.status)
            until(lambda: not self.busy_threads(), "the end of the other call")

    def test_failures_begin_and_end(self) -> None:
        """The log says when C42 begins to fail, and when it answers again: with an event, or without one."""
        combiner = self.combiner()
        with self.assertLogs("c42_proxy.upstream.causes", "INFO") as logs:
            for status, usual in (("500 Oops", c42()), ("502 Bad", but(c42(), {"event": GONE}))):
                self.wire.behaviour = says({}, status)
                with self.assertRaises(UpstreamUnavailable):
                    combiner.combined(EVENT_ID)
                self.wire.behaviour = usual
                combiner.combined(EVENT_ID)
        said = [record.getMessage().removeprefix("C42 answers again. It was: ") for record in logs.records]
        self.assertEqual([f"C42 fails: status {status}" for status in (500, 500, 502, 502)], said)

    def test_no_descriptor(self) -> None:
        """If this process lacks what a call needs, that is no failure of C42, and no call is made."""
        lacking = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with patch("socket.getaddrinfo", side_effect=lacking), self.assertRaises(Overloaded):
            self.combiner().combined(EVENT_ID)
        self.assertEqual(0, self.wire.calls.total())

    def test_another_process_is_told_to_wait(self) -> None:
        """If another process begins a back-off meanwhile, this one does not ask for the remaining pages."""
        store = MemoryStore(1_000_000)
        other = CircuitBreaker(store, clock=clock, threshold=0, probe_seconds=1, metrics=Metrics())
        usual = c42(people=people(250))

        def behave(path: str, connection: Connection) -> None:
            if kind(path) == "page 0":
                other.begin_back_off(RateLimited(30, 429))
            usual(path, connection)

        self.wire.behaviour = behave
        with self.assertRaises(BackingOff):
            self.combiner(states=store).combined(EVENT_ID)
        self.assertEqual({"event": 1, "page 0": 1}, dict(self.wire.calls))

    def test_no_further_calls(self) -> None:
        """Once the answer is decided, no further page is asked for, also with requests' own session."""
        usual = c42(people=people(3000))
        decisions: tuple[dict[str, Behaviour], ...] = ({"event": after(0.1, GONE)}, {"page 100": says({}, "401 No")})
        for decision, public in product(decisions, (False, True)):
            session = requests.Session() if public else new_session(8)
            session.trust_env = False
            with self.subTest(decision=list(decision), public=public):
                self.wire.calls.clear()
                self.wire.behaviour = but(after(0.05, usual), decision)
                with suppress(TokenRefused):
                    self.combiner(session=session).combined(EVENT_ID)
                until(lambda: not self.busy_threads(), "the end of the pages under way")
                self.assertLess(self.pages_asked(), 25)

    def test_no_page_after_a_slow_look(self) -> None:
        """If the answer is decided while a page is looking for a back-off, that page is not asked for."""
        looks, decided = threading.Event(), threading.Event()
        self.addCleanup(decided.set)

        class Slow(MemoryStore):
            def read_state(self, name: str) -> str | None:
                looks.set()
                decided.wait(PLENTY)
                return super().read_state(name)

        self.wire.behaviour = but(c42(people=people(150)), {"event": once(looks, GONE)})
        self.assertEqual(404, self.combiner(states=Slow(100_000)).combined(EVENT_ID).entry.status)
        decided.set()
        until(lambda: not self.busy_threads(), "the end of the page's thread")
        self.assertEqual({"event": 1, "page 0": 1}, dict(self.wire.calls))

    def test_no_call_after_the_answer(self) -> None:
        """A call whose connection is there only when the client has its answer already is not made."""
        hangs, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        resolve, resolved = socket.getaddrinfo, list[object]()

        def hang_from_the_third_on(*arguments: Any, **keywords: Any) -> list[Any]:
            resolved.append(arguments)
            if len(resolved) > 2:
                hangs.set()
                go_on.wait(PLENTY)
            return resolve(*arguments, **keywords)

        # The first two are those of the event and of the first page. One later page uses the latter's once more, and
        # keeps it until the other one has asked for an address.
        usual = c42(people=people(300))
        later = dict.fromkeys(("page 100", "page 200"), once(hangs, usual))
        self.wire.behaviour = but(usual, {"event": once(hangs, GONE), **later})
        with patch("socket.getaddrinfo", hang_from_the_third_on):
            self.assertEqual(404, self.combiner().combined(EVENT_ID).entry.status)
            go_on.set()
            until(lambda: not self.busy_threads(), "no busy thread")
        self.assertEqual(3, len(resolved))
        self.assertEqual(2, self.pages_asked())


class DisagreementTest(CombinerTest):
    def test_event_gone_answers_at_once(self) -> None:
        """Where there is no such event, nobody waits for its subscriptions."""
        start = time.monotonic()
        self.assertEqual(404, self.fetch(but(is_silent, {"event": GONE}), BUDGET).status)
        self.assertLess(time.monotonic() - start, 0.1)

    def test_event_gone_wins(self) -> None:
        """Where there is no such event, a failure of its subscriptions is no matter, not even an earlier one."""
        for fault, _ in FAILURES:
            gone = but(fault, {"event": after(0.05, GONE)})
            self.assertEqual(404, self.fetch(gone, BUDGET).status)

    def test_event_gone_wins_over_a_wait_that_came_before_its_call(self) -> None:
        """The two calls go together: that the subscriptions are faster, and told to wait, does not stop the other."""

        class InReverse(Threads):
            def submit_both(self, work: Callable[[], R], other: Callable[[], S]) -> tuple[Future[R], Future[S]]:
                others = self.submit(other)
                wait([others], PLENTY)
                return self.submit(work), others

        self.wire.behaviour = but(FAILURES[0][0], {"event": GONE})
        self.assertEqual(404, self.combiner(threads=InReverse).combined(EVENT_ID).entry.status)

    def test_failure_waits_for_the_event(self) -> None:
        """A failure of the subscriptions is raised when the event call has ended, or the budget."""
        late = after(0.2, c42())
        start = time.monotonic()
        self.assert_fails(but(late, {"page 0": closes}), UpstreamUnavailable)
        self.assertGreater(time.monotonic() - start, 0.19)

    def test_precedence(self) -> None:
        """A call to wait goes before a refused token, that before a time-out, and that before the rest."""
        for one, other in product(range(len(FAILURES)), repeat=2):
            fault, _ = FAILURES[one]
            other_fault, _ = FAILURES[other]
            expected = FAILURES[min(one, other)][1]
            first_calls = but(c42(), {"event": fault, "page 0": other_fault})
            # Late enough for both to be asked for: once one has failed, the other would not be.
            late = {"page 100": after(0.05, fault), "page 200": after(0.05, other_fault)}
            later_pages = but(c42(people=people(300)), late)
            # Where the event call fails first, no later page is asked for.
            event_and_later_page = but(c42(people=people(300)), {"event": is_silent, "page 200": other_fault})
            for calls in (first_calls, later_pages, *([event_and_later_page] if fault is is_silent else [])):
                with self.subTest(one=FAILURES[one][1], other=FAILURES[other][1]):
                    # Only where a call is silent is the budget used up. The other call must have failed before.
                    self.assert_precedes(
                        calls, expected, SILENT_BUDGET if is_silent in {fault, other_fault} else PLENTY
                    )

    def assert_precedes(self, calls: Behaviour, expected: type[UpstreamError], budget: float) -> None:
        start = time.monotonic()
        with self.assertRaises(expected):
            self.fetch(calls, budget)
        self.assertLess(time.monotonic() - start, budget + 4 * SLACK)

    def test_precedence_of_a_later_failure(self) -> None:
        """Which of two pages fails first does not matter."""
        usual = c42(people=people(300))
        for delays in ((0.0, 0.1), (0.1, 0.0)):
            # A page is not asked for once another one has failed: neither fails before both are asked for.
            asked, other_asked = threading.Event(), threading.Event()
            faults = {
                "page 100": together(asked, other_asked, after(delays[0], closes)),
                "page 200": together(other_asked, asked, after(delays[1], FAILURES[0][0])),
            }
            self.assert_fails(but(usual, faults), RateLimited)

    def test_nothing_is_asked_in_vain(self) -> None:
        """Once a call has failed, no later page is asked for: the answer cannot be whole any more."""
        slow_pages = but(after(0.05, c42(people=people(300))), {"event": FAILURES[3][0]})
        self.assert_fails(slow_pages, UpstreamUnavailable)
        self.assertEqual({"event": 1, "page 0": 1}, dict(self.wire.calls))

    def test_a_page_that_overtakes_with_a_failure(self) -> None:
        """Nor is one asked for when it is known that a page has failed which comes behind one that is still awaited."""
        usual = c42(people=people(1500))
        pages = {"page 100": after(0.1, usual), "page 200": after(0.3, usual), "page 300": FAILURES[3][0]}
        self.assert_fails(but(usual, pages), UpstreamUnavailable)
        self.assertEqual(0, self.wire.calls["page 900"])

    def test_beyond_the_end(self) -> None:
        """A failure beyond the first empty page is no failure: the list has ended."""
        few = c42(people=people(100), count=300)
        self.assertEqual(named(range(100)), self.names(but(few, {"page 200": closes})))

    def test_beyond_the_end_and_earlier(self) -> None:
        """Nor is it one if that page fails before the empty one is asked for."""

        class InReverse(Threads):
            def submit(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
                def late() -> R:
                    fetch, offset = cast("tuple[Any, int]", args)
                    if offset == 100:
                        until(lambda: bool(fetch.failures), "the failure of the page behind it", PLENTY)
                    return work(*args, **kwargs)

                return super().submit(late)

        self.wire.behaviour = but(c42(people=people(100), count=300), {"page 200": closes})
        entry = self.combiner(page_threads=InReverse).combined(EVENT_ID).entry
        self.assertEqual(named(range(100)), json.loads(entry.body)["names"])


class NothingLeftTest(CombinerTest):
    def test_eighty_hostile_fetches(self) -> None:
        """Eighty hostile fetches, and eighty more, leave no connection, and no thread but idle ones of the pool."""
        combiner = self.combiner(BUDGET)
        self.wire.behaviour = hostile()
        counts = []
        for _ in range(2):
            with ThreadPoolExecutor(8) as clients:
                fetches = [clients.submit(combiner.combined, f"{EVENT_ID[:-2]}{n}") for n in range(10, 90)]
            failures = [fetch.exception() for fetch in fetches]
            self.assertEqual([], [failure for failure in failures if not isinstance(failure, UpstreamError)])
            until(lambda: not self.busy_threads(), "no busy thread")
            self.close_kept_alive()
            until(lambda: self.wire.open_connections == 0, "no connection")
            counts.append(len(self.pool_threads()))
        # A pool may grow by a few where the second eighty happened to overlap more closely; never by one each.
        self.assertLessEqual(counts[1], counts[0] + 8)
        self.assertLess(counts[1], 80)

    def close_kept_alive(self) -> None:
        """Those that wait for the next call are the session's; any other connection would stay open."""
        adapter = self.session.get_adapter(self.wire.url)
        assert isinstance(adapter, HTTPAdapter)
        pools = adapter.poolmanager.pools
        for key in pools.keys():  # noqa: SIM118  # no dict: it refuses to be iterated
            pools[key].close()


def once(event: threading.Event, behaviour: Behaviour) -> Behaviour:
    """A behaviour that waits until something has happened."""

    def behave(path: str, connection: Connection) -> None:
        event.wait(PLENTY)
        behaviour(path, connection)

    return behave


def together(asked: threading.Event, other_asked: threading.Event, fault: Behaviour) -> Behaviour:
    """A fault that waits until another call has come, too."""

    def behave(path: str, connection: Connection) -> None:
        asked.set()
        once(other_asked, fault)(path, connection)

    return behave


def late(behaviour: Behaviour) -> Behaviour:
    """There is no such event, and what C42 says of its list comes after that, though it was asked before."""
    asked = threading.Event()

    def behave(path: str, connection: Connection) -> None:
        asked.set()
        after(0.1, behaviour)(path, connection)

    return but(behave, {"event": once(asked, GONE)})


def hostile() -> Behaviour:
    """Each fetch meets with another fault, on the event, the first page or a later one; all else is well."""
    # Whoever is told to wait asks nothing more: there would be nothing hostile after that.
    event_faulty = [behaviour for _, behaviour, expected in event_faults() if expected is not RateLimited]
    page_faulty = [behaviour for _, behaviour, expected in page_faults() if expected is not RateLimited]
    usual = c42(people=people(250))
    lock = threading.Lock()
    turn = {"event": 0, "page": 0}

    def behave(path: str, connection: Connection) -> None:
        calls = "event" if kind(path) == "event" else "page"
        faults = event_faulty if calls == "event" else page_faulty
        with lock:
            number = turn[calls]
            turn[calls] += 1
        # Two in three first pages are well: their second page is not.
        faulty = number % 3 == 0 or kind(path) == "page 100"
        (faults[number % len(faults)] if faulty else usual)(path, connection)

    return behave


if __name__ == "__main__":
    unittest.main()
