"""The checker of `make soak`, on records written by hand: what is well is not reported, and each promise that is broken
is, by the one rule that it breaks."""

import hashlib
import json
import math
import tempfile
import unittest
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

from tools.soak.bounds import CLOSING, JOINED, MOVED, NGINX_CLOCK, ON_ITS_WAY, SCHEDULING, STORE_RECOVERS
from tools.soak.checker import violations_of
from tools.soak.faults import C42_FAULTS, STACK_FAULTS, planned
from tools.soak.history import History
from tools.soak.logs import store_states, tracebacks
from tools.soak.marks import Mark, name, title
from tools.soak.record import (
    Call,
    Fault,
    FaultKind,
    Outcome,
    Record,
    Request,
    Run,
    StoreState,
    Traceback,
    Version,
    read,
    write,
)
from tools.soak.rules_for_answers import RULES as FOR_ANSWERS
from tools.soak.rules_for_answers import UNTIL_EXPIRES
from tools.soak.rules_for_calls import RULES as FOR_CALLS
from tools.soak.rules_for_hosts import RULES as FOR_HOSTS

START = 1_700_000_000.0
"""All instants below are counted from this one."""
RUN = Run(seed=1, ttl=3, stale_if_error=6, budget=1, threshold=3, processes=4)
TEA = "tea"
HOST = "host-1"
ASKED = 0.01
"""From a request to the call for it, in these records."""
TOOK = 0.02
"""How long such a call takes, and its way back."""
A_MOMENT = 0.001

STATUS = {"failed": 502, "cut": 502, "left": 504, "told to wait": 503, "token refused": 502}
OF_C42 = {"answered": 200, "gone": 404, "failed": 500, "told to wait": 429, "token refused": 401}


@dataclass(frozen=True)
class Entry:
    """An answer that may be reused, and from when on it has expired."""

    event: str
    status: int
    body: str
    headers: dict[str, str]
    expiry: float


class Tape:
    """The records of a run in which all is well, except for what a test changes."""

    def __init__(self, **run: Any) -> None:
        self.records: list[Record] = [replace(RUN, **run)]
        self._calls = 0
        self.version(1, -100)

    def version(self, number: int, since: float, *, event: str = TEA, size: int = 1, gone: bool = False) -> None:
        """What the event is from now on."""
        self.records.append(Version(event, number, START + since, size, gone))

    def fault(self, kind: FaultKind, since: float, until: float, at: str = "") -> None:
        self.records.append(Fault(kind, START + since, START + until, at))

    def fetch(
        self,
        request: str,
        sent: float,
        outcome: Outcome = "answered",
        *,
        event: str = TEA,
        version: int = 1,
        size: int = 1,
        took: float = TOOK,
        wait: int = 0,
        asked: float = ASKED,
        at: str = "nginx",
    ) -> Entry:
        """Somebody asks, the proxy asks C42, and tells what came of it."""
        began, ended = START + sent + asked, START + sent + asked + took
        names: list[str] = []
        for offset in (None, *range(0, size, 100)):
            self._calls += 1
            status = None if outcome in {"cut", "left"} else OF_C42[outcome]
            told = version if outcome in {"answered", "gone"} else None
            self.records.append(
                Call(self._calls, request, event, offset, began, ended, outcome, status, told, wait, used=False)
            )
            mark = Mark(version, self._calls)
            if offset is None:
                called = title(event, mark)
            else:
                names += [name(index, mark) for index in range(offset, min(offset + 100, size))]
        body = json.dumps({"id": event, "title": called, "names": names}) if outcome == "answered" else ""
        headers = {"cache-status": f"c42-proxy; fwd=uri-miss; fwd-status={OF_C42.get(outcome, '')}".rstrip("=")}
        own_status = STATUS.get(outcome, 200 if body else 404)
        if own_status < 500:
            headers["cache-control"], headers["expires"] = UNTIL_EXPIRES, _date(began + RUN.ttl - A_MOMENT)
        else:
            headers["cache-control"], headers["x-accel-expires"] = "no-store", "0"
        if own_status == 503:
            headers["retry-after"] = f"{wait}"
        headers["content-type"] = "application/json" if body else "application/problem+json"
        if body:
            headers["etag"] = _etag(body)
        entry = Entry(event, own_status, body, headers, sent + asked + RUN.ttl)
        self.tell(request, sent, entry, headers["cache-status"], took=asked + took + 0.02, at=at)
        return entry

    def tell(
        self, request: str, sent: float, entry: Entry, cache_status: str, *, took: float = 0.001, at: str = "nginx"
    ) -> None:
        """A client is told this entry."""
        headers = {**entry.headers, "cache-status": cache_status}
        if at != "nginx" and "expires" in headers:
            headers["x-accel-expires"] = f"@{math.floor(START + entry.expiry - A_MOMENT) - 1}"
        sent += START
        self.records.append(
            Request(request, entry.event, at, sent, sent + took, entry.status, None, headers, entry.body)
        )

    def hit(self, request: str, sent: float, entry: Entry, *, took: float = 0.001, at: str = "nginx") -> None:
        """One of a host, through nginx or straight."""
        self.tell(request, sent, entry, "c42-proxy; hit; ttl=1, nginx; fwd=stale; stored", took=took, at=at)

    def hit_of_nginx(self, request: str, sent: float, entry: Entry) -> None:
        self.tell(request, sent, entry, f"{entry.headers['cache-status']}, nginx; hit")

    def stale(self, request: str, sent: float, entry: Entry, own: str = "fwd=stale; fwd-status=500") -> None:
        """An expired answer instead of a failure."""
        kept = {"cache-control": "no-store", "x-accel-expires": "0", "content-type": "application/json"}
        told = replace(entry, headers=kept)
        self.tell(request, sent, told, f"c42-proxy; {own}; detail=stale-if-error, nginx; fwd=stale")

    def problem(self, request: str, sent: float, own: str, *, event: str = TEA, status: int = 503) -> None:
        """A failure of which C42 knows nothing."""
        headers = {"cache-control": "no-store", "x-accel-expires": "0", "content-type": "application/problem+json"}
        if status == 503:
            headers["retry-after"] = "1"
        self.tell(request, sent, Entry(event, status, "", headers, 0), f"c42-proxy; {own}")

    def change(self, request: str, **changes: Any) -> None:
        """What was recorded of a request."""
        self._change(lambda one: isinstance(one, Request) and one.id == request, changes)

    def change_call(self, number: int, **changes: Any) -> None:
        self._change(lambda one: isinstance(one, Call) and one.number == number, changes)

    def _change(self, is_meant: Any, changes: dict[str, Any]) -> None:
        [index] = [index for index, one in enumerate(self.records) if is_meant(one)]
        self.records[index] = replace(self.records[index], **changes)

    def headers_of(self, request: str) -> dict[str, str]:
        [found] = [one for one in self.records if isinstance(one, Request) and one.id == request]
        return found.headers


def _date(instant: float) -> str:
    """What `Expires` says of the instant."""
    return formatdate(math.floor(instant) - 1, usegmt=True)


def _etag(body: str) -> str:
    return f'"{hashlib.sha256(body.encode()).hexdigest()}"'


class HistoryTest(unittest.TestCase):
    def setUp(self) -> None:
        self.tape = Tape()

    def assert_well(self) -> None:
        self.assertEqual(violations_of(self.tape.records), [])

    def assert_violated(self, rule: str, *requests: str) -> None:
        """This rule and no other, by these."""
        found = [(violation.rule, violation.request) for violation in violations_of(self.tape.records)]
        self.assertEqual(found, [(rule, request) for request in requests])


class WellTest(HistoryTest):
    def test_all_that_may_be(self) -> None:
        """Hits, misses, refreshes, 404s, pages, stale copies, back-offs and an open breaker violate nothing."""
        tape = self.tape
        tea = tape.fetch("r1", 0.0)
        tape.tell("r2", 0.01, tea, "c42-proxy; fwd=uri-miss; collapsed; fwd-status=200", took=0.04)
        tape.hit("r3", 1, tea)
        tape.hit("r4", 2.9, tea, at=HOST)
        tape.hit_of_nginx("r5", 1.9, tea)
        tape.version(2, 2.5)
        again = tape.fetch("r6", 3.02, version=2)
        tape.change("r6", if_none_match=_etag("other"))
        tape.tell("r7", 4, replace(again, status=304, body=""), "c42-proxy; hit; ttl=2")
        tape.change("r7", headers={k: v for k, v in tape.headers_of("r7").items() if k != "content-type"})
        tape.version(1, -100, event="club", size=250)
        tape.fetch("r8", 4, event="club", size=250)
        gone = tape.fetch("r9", 4, "gone", event="nobody")
        tape.hit_of_nginx("r10", 5, gone)
        tape.fetch("r11", 6.04, "failed")
        tape.stale("r12", 6.2, again)
        tape.stale("r13", 6.5, again, "hit; ttl=-1")
        tape.fetch("r14", 7.1, "told to wait", wait=2)
        tape.problem("r15", 8, "detail=told-to-wait", event="cake")
        tape.stale("r16", 8, again, "hit; ttl=-2")
        tape.fetch("r17", 9.2, "token refused")
        tape.problem("r18", 9.5, "fwd-status=401; detail=recent-failure", status=502)
        tape.fetch("down-1", 10, "failed", event="a")
        tape.fetch("down-2", 10.1, "failed", event="b")
        tape.stale("r19", 12, again, "hit; ttl=-6")
        tape.problem("r20", 14, "detail=c42-down", event="cake")
        tape.fetch("r21", 15.2, "failed", event="d")
        tape.fetch("r22", 20.3, version=2)
        self.assert_well()

    def test_record_that_was_kept(self) -> None:
        """What is written is read as it was."""
        self.tape.fault("worker killed", 0, 1, HOST)
        self.tape.records.append(StoreState(HOST, START, works=False))
        self.tape.records.append(Traceback(HOST, START, "Traceback (most recent call last):"))
        self.tape.fetch("r1", 0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "new", "record.jsonl")
            write(path, self.tape.records)
            self.assertEqual(list(read(path)), self.tape.records)

    def test_log(self) -> None:
        """What a host says of the store is read from its log, among all that it says."""
        lines = [
            {"event": "request", "path": "/the shared store/", "timestamp": "2026-11-24T12:06:14.100000Z"},
            {"event": "the shared store fails: each process ...", "timestamp": "2026-11-24T12:06:14.113844Z"},
            {"event": "the shared store works again", "timestamp": "2026-11-24T12:06:15.5Z"},
        ]
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, f"{HOST}.log")
            log.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "no JSON at all\n")
            states = list(store_states(log))
        self.assertEqual(
            states,
            [StoreState(HOST, 1795521974.113844, works=False), StoreState(HOST, 1795521975.5, works=True)],
        )

    def test_records_of_no_run(self) -> None:
        """Records without the settings of their run prove nothing."""
        with self.assertRaises(ValueError):
            violations_of(self.tape.records[1:])


class LossTest(HistoryTest):
    RULE = "every_request_has_its_answer"

    def lose(self, loss: str, *, at: str = "nginx") -> None:
        self.tape.fetch("r1", 0, at=at)
        self.tape.change("r1", status=None, loss=loss, headers={}, body="", ended=START + 1)

    def test_no_answer(self) -> None:
        """A request without an answer is one too many, whatever was struck, unless the request went that way."""
        self.lose("broken off")
        self.tape.fault("Redis restarted", 0, 1)
        self.tape.fault("worker killed", -1, -0.5, HOST)
        self.assert_violated(self.RULE, "r1")

    def test_worker_killed_behind_nginx(self) -> None:
        """nginx asks the other host when a worker is killed: that costs nobody an answer, nor half of one."""
        for loss in ("broken off", "half an answer"):
            with self.subTest(loss):
                self.tape = Tape()
                self.lose(loss)
                self.tape.fault("worker killed", 0.5, 0.6, HOST)
                self.assert_violated(self.RULE, "r1")

    def test_worker_killed_at_a_host(self) -> None:
        """Straight at a host, whose worker was killed, there is nobody else to answer; at the other host there is."""
        self.lose("broken off", at=HOST)
        self.tape.fault("worker killed", 0.5, 0.6, "host-2")
        self.assert_violated(self.RULE, "r1")
        self.tape.fault("worker killed", 0.5, 0.6, HOST)
        self.assert_well()

    def test_when_the_worker_was_killed(self) -> None:
        """Only while the request was under way: it was sent at 0, and lost at 1."""
        for since, until, excused in ((-1, -0.1, False), (-1, 0, True), (1, 2, True), (1.1, 2, False)):
            with self.subTest(since=since):
                self.tape = Tape()
                self.lose("broken off", at=HOST)
                self.tape.fault("worker killed", since, until, HOST)
                self.assert_well() if excused else self.assert_violated(self.RULE, "r1")

    def test_not_closed_by_that(self) -> None:
        """The reload of somebody else, a reload that came later, and a connection that was not idle are no excuse."""
        for loss, at, kind, since, of in (
            ("closed", "nginx", "host reloaded", -1, HOST),
            ("closed", HOST, "nginx reloaded", -1, ""),
            ("closed", HOST, "host reloaded", -1, "host-2"),
            ("closed", "nginx", "nginx reloaded", 1.1, ""),
            ("broken off", "nginx", "nginx reloaded", -1, ""),
            ("broken off", HOST, "host reloaded", 0.5, HOST),
        ):
            with self.subTest(loss, at=at, kind=kind):
                self.tape = Tape()
                self.lose(loss, at=at)
                self.tape.fault(kind, since, since, of)  # type: ignore[arg-type]  # one of the kinds
                self.assert_violated(self.RULE, "r1")

    def test_closed_by_a_reload(self) -> None:
        """A kept-alive connection may be closed under a request by a reload just before, of whom it leads to."""
        for at, kind in (("nginx", "nginx reloaded"), (HOST, "host reloaded")):
            for before, excused in ((CLOSING - A_MOMENT, True), (CLOSING + A_MOMENT, False)):
                with self.subTest(at=at, before=before):
                    self.tape = Tape()
                    self.lose("closed", at=at)
                    self.tape.fault(kind, -before, -before, at)  # type: ignore[arg-type]  # one of the kinds
                    self.assert_well() if excused else self.assert_violated(self.RULE, "r1")

    def test_answered_by_nginx(self) -> None:
        """nginx's own 502 is no answer of the proxy."""
        self.tape.problem("r1", 0, "", status=502)
        self.tape.change(
            "r1",
            headers={"content-type": "application/problem+json", "cache-control": "no-store", "x-accel-expires": "0"},
        )
        found = {violation.rule for violation in violations_of(self.tape.records)}
        self.assertIn(self.RULE, found)

    def test_waiting(self) -> None:
        """Nobody waits longer than twice the budget, unless a worker was killed and another host asked."""
        tea = self.tape.fetch("r1", 0)
        self.tape.hit("r2", 0.2, tea, took=2 * RUN.budget + SCHEDULING)
        self.assert_well()
        self.tape.hit("r3", 0.2, tea, took=2 * RUN.budget + SCHEDULING + A_MOMENT)
        self.tape.fault("worker killed", 0, 0.1, HOST)
        self.tape.fault("worker killed", 3, 3.1, HOST)
        self.assert_violated("nobody_waits_longer_than_twice_the_budget", "r3")
        self.tape.fault("worker killed", 1, 1.1, HOST)
        self.assert_well()

    def test_hit(self) -> None:
        """A hit waits for nobody, once its entry was told to somebody."""
        rule = "a_hit_waits_for_nobody"
        tea = self.tape.fetch("r1", 0)
        known = ASKED + TOOK + 0.02 + JOINED
        self.tape.hit("r2", known + A_MOMENT, tea, took=SCHEDULING)
        self.tape.hit("r3", known - A_MOMENT, tea, took=1)
        self.tape.tell("r4", known + 0.1, tea, "c42-proxy; fwd=uri-miss; collapsed; fwd-status=200", took=1)
        self.assert_well()
        self.tape.hit("r5", known + A_MOMENT, tea, took=SCHEDULING + A_MOMENT)
        self.tape.fault("log not read", -1, 2, HOST)
        self.assert_violated(rule, "r5")
        self.tape.fault("worker killed", 0.5, 0.6, HOST)
        self.assert_well()

    def test_hit_without_a_store(self) -> None:
        """Where the store was away when it was told, not everybody has it."""
        tea = self.tape.fetch("r1", 0)
        self.tape.hit("r2", 1, tea, took=1)
        self.tape.fault("Redis hangs", -0.1, 0.1)
        self.assert_well()


class LackTest(HistoryTest):
    """What is allowed where the machine lacks something: nothing but that, and only then."""

    SHORT: tuple[FaultKind, ...] = ("no threads", "no descriptors")
    REASON = "a_failure_has_its_reason"

    def test_overloaded(self) -> None:
        """A host without threads or descriptors may answer `overloaded`; no other host may, and only at that time."""
        for kind in self.SHORT:
            for at, of, since, until, right in (
                ("nginx", HOST, -1, 1, True),
                (HOST, HOST, -1, 1, True),
                (HOST, "host-2", -1, 1, False),
                ("nginx", HOST, -1, -JOINED, True),
                ("nginx", HOST, -1, -JOINED - A_MOMENT, False),
                ("nginx", HOST, A_MOMENT, 1, True),
                ("nginx", HOST, 2 * A_MOMENT, 1, False),
            ):
                for own in ("detail=busy", "detail=overloaded"):
                    with self.subTest(kind, at=at, of=of, since=since, until=until, own=own):
                        self.tape = Tape()
                        self.tape.problem("r1", 0, own)
                        self.tape.change("r1", at=at)
                        self.tape.fault(kind, since, until, of)
                        self.assert_well() if right else self.assert_violated(self.REASON, "r1")

    def test_other_failures(self) -> None:
        """What the machine lacks is no reason for an open breaker, a back-off or another failure."""
        others: tuple[FaultKind, ...] = ("shared memory full", "log not read", "one address dead", "Redis moved")
        for own, kinds in (
            ("detail=c42-down", (*self.SHORT, *others)),
            ("detail=told-to-wait", (*self.SHORT, *others)),
            ("fwd=uri-miss", (*self.SHORT, *others)),
            ("detail=overloaded", others),
        ):
            for kind in kinds:
                with self.subTest(own, kind=kind):
                    self.tape = Tape()
                    self.tape.problem("r1", 0, own)
                    self.tape.fault(kind, -1, 1, HOST)
                    self.assert_violated(self.REASON, "r1")

    def test_stale_copy(self) -> None:
        """A stale copy may take the place of that failure."""
        tea = self.tape.fetch("r1", 0)
        self.tape.stale("r2", 4, tea, "hit; ttl=-1")
        self.tape.fault("shared memory full", 3.9, 4.1, HOST)
        self.assert_violated(self.REASON, "r2")
        self.tape.fault("no threads", 3.9, 4.1, HOST)
        self.assert_well()

    def test_nothing_counts_against_c42(self) -> None:
        """A fetch that failed because of that is no failure of C42."""
        for number, event in enumerate("abc"):
            self.tape.fetch(event, number / 10, "cut", event=event)
            self.tape.problem("overloaded", 0, "fwd=uri-miss; detail=overloaded")
            overloaded = self.tape.headers_of("overloaded")
            self.tape.records.pop()
            self.tape.change(event, status=503, headers=overloaded)
        self.tape.fault("no threads", -1, 1, HOST)
        self.assertEqual({fetch.result for fetch in History(self.tape.records).fetches}, {"overloaded"})
        self.tape.problem("r1", 0.5, "detail=c42-down")
        self.assert_violated(self.REASON, "r1")

    def test_connection_that_is_not_let_in(self) -> None:
        """A worker without descriptors may drop new connections straight to it, not open ones, nor those of nginx."""
        for at, of, used, loss, right in (
            (HOST, HOST, False, "broken off", True),
            (HOST, HOST, True, "broken off", False),
            (HOST, HOST, False, "half an answer", False),
            (HOST, "host-2", False, "broken off", False),
            ("nginx", HOST, False, "broken off", False),
        ):
            with self.subTest(at=at, of=of, used=used, loss=loss):
                self.tape = Tape()
                self.tape.fetch("r1", 0, at=at)
                self.tape.change("r1", status=None, loss=loss, headers={}, body="", used=used)
                self.tape.fault("no threads", -1, 1, of)
                self.assert_violated("every_request_has_its_answer", "r1")
                self.tape.fault("no descriptors", -1, 1, of)
                self.assert_well() if right else self.assert_violated("every_request_has_its_answer", "r1")

    def test_dead_address(self) -> None:
        """It costs a part of the budget, not all of it: where C42 itself was fast, its call is answered."""
        for took, right in ((0.19, False), (0.21, True)):
            for since, until in ((-1, 0.5), (0.5, 1)):
                with self.subTest(took=took, since=since):
                    self.tape = Tape()
                    self.tape.fetch("r1", 0, "left", asked=1 - took + A_MOMENT, took=took)
                    self.assert_well()
                    self.tape.fault("one address dead", since, until)
                    if right or since > 1 - took:
                        self.assert_well()
                    else:
                        self.assert_violated(self.REASON, "r1")

    def test_dead_address_does_not_open_the_breaker(self) -> None:
        """What such an address costs is no failure of C42, however often."""
        for event in "abc":
            self.tape.fetch(event, 0, "left", event=event, asked=0.9, took=0.1 + A_MOMENT)
        self.tape.problem("r1", 1.2, "detail=c42-down")
        self.assert_well()
        self.tape.fault("one address dead", -1, 1)
        self.assert_violated(self.REASON, "a", "b", "c", "r1")

    def test_calls_by_a_dead_address(self) -> None:
        """A call may arrive later: it was on its way."""
        for asked, right in ((0.8, True), (0.9, False)):
            with self.subTest(asked=asked):
                self.tape = Tape()
                self.tape.fetch("r1", 0, "told to wait", wait=2)
                self.tape.fetch("r2", -0.1, event="cake", asked=asked)
                self.tape.version(1, -100, event="cake")
                self.assert_violated(BackOffTest.RULE, "r2")
                self.tape.fault("one address dead", -1, 1)
                self.assert_well() if right else self.assert_violated(BackOffTest.RULE, "r2")

    def test_redis_moved(self) -> None:
        """Within 10 s all have found the new one, and leave the old one."""
        self.tape.fault("Redis moved", -MOVED, 1)
        self.tape.fetch("r1", A_MOMENT)
        self.tape.fetch("r2", 1)
        self.assert_violated("c42_is_asked_once_within_the_ttl", "r2")
        self.tape.fault("Redis moved", -MOVED + 0.1, 1)
        self.assert_well()
        self.tape.records.append(Fault("Redis moved", START + 10, START + 21, left="get:calls=1"))
        self.assert_violated("a_redis_that_has_moved_is_left_in_time", "")

    def test_traceback(self) -> None:
        """No host logs one, in whichever form."""
        lines = [
            '{"event": "request", "timestamp": "2026-11-24T12:06:14.5Z"}',
            "Traceback (most recent call last):",
            "ValueError: no",
            '{"event": "no", "exception": "Traceback (most recent call last):", "timestamp": "2026-11-24T12:06:15.5Z"}',
            '{"event": "mixed wi{"event": "Traceback (most recent call last):',
        ]
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, f"{HOST}.log")
            log.write_text("\n".join(lines))
            found = list(tracebacks(log))
        self.assertEqual(
            [(one.at, one.since, one.said) for one in found],
            [(HOST, 1795521974.5, lines[1]), (HOST, 1795521975.5, lines[3]), (HOST, 1795521975.5, lines[4])],
        )
        self.tape.records.append(found[0])
        self.assert_violated("no_host_logs_a_traceback", HOST)


class WholeTest(HistoryTest):
    RULE = "an_answer_is_whole"

    def setUp(self) -> None:
        super().setUp()
        self.tape.version(1, -100, event="club", size=250)
        self.club = self.tape.fetch("r1", 0, event="club", size=250)

    def tell(self, **changes: Any) -> None:
        """Tell an answer that differs from what C42 has said."""
        answer = json.loads(self.club.body)
        body = json.dumps({key: changes.get(key, value) for key, value in answer.items()})
        etag = _etag(body)
        self.tape.hit("r2", 1, replace(self.club, body=body, headers={**self.club.headers, "etag": etag}))

    def test_half_a_list(self) -> None:
        """Neither the last subscriber nor a page of them may be missing."""
        names = json.loads(self.club.body)["names"]
        for left in (249, 200, 0):
            with self.subTest(left):
                self.setUp()
                self.tell(names=names[:left])
                self.assert_violated(self.RULE, "r2")

    def test_wrong_order(self) -> None:
        """Subscribers come in C42's order, each of them once."""
        names = json.loads(self.club.body)["names"]
        first, second, *rest = names
        for some in ([*names[1:], first], [first, *names[:-1]], [second, first, *rest], ["Ann", second, *rest]):
            with self.subTest(some[:2]):
                self.setUp()
                self.tell(names=some)
                self.assert_violated(self.RULE, "r2")

    def test_what_c42_has_not_said(self) -> None:
        """A version that the call did not tell, a call that was none, one of a page, and another event's title."""
        for text in ("club v2 c1", "club v1 c99", "club v1 c2", "tea v1 c1", "club"):
            with self.subTest(text):
                self.setUp()
                self.tell(title=text)
                found = {violation.rule for violation in violations_of(self.tape.records)}
                self.assertIn(self.RULE, found)

    def test_another_shape(self) -> None:
        """What is no answer to this request: of another event, with other members, or no JSON."""
        other = {"id": "tea", "title": "club v1 c1", "names": []}
        for body in (json.dumps(other), json.dumps({**json.loads(self.club.body), "more": 1}), "[]", "club"):
            with self.subTest(body[:20]):
                self.setUp()
                self.tape.hit(
                    "r2", 1, replace(self.club, body=body, headers={**self.club.headers, "etag": _etag(body)})
                )
                self.assert_violated(self.RULE, "r2")

    def test_before_c42_has_said_so(self) -> None:
        """An answer comes after the calls that it is made of."""
        self.tape.hit("r2", 0, self.club, took=ASKED + TOOK - A_MOMENT)
        self.assert_violated(self.RULE, "r2")

    def test_what_c42_has_said_in_vain(self) -> None:
        """An answer that C42 began and broke off is not told."""
        self.tape.change_call(2, outcome="cut")
        self.assert_violated(self.RULE, "r1")

    def test_two_fetches(self) -> None:
        """The title of one fetch and the names of another make no answer."""
        other = self.tape.fetch("r3", 3.1, event="club", size=250)
        names = json.loads(other.body)["names"]
        self.club = replace(self.club, expiry=other.expiry, headers=other.headers)
        body = json.dumps({**json.loads(self.club.body), "names": names})
        self.tape.hit("r2", 2, replace(self.club, body=body, headers={**other.headers, "etag": _etag(body)}))
        self.tape.change("r2", ended=START + 3.2)
        self.assertIn((self.RULE, "r2"), {(one.rule, one.request) for one in violations_of(self.tape.records)})

    def test_not_modified(self) -> None:
        """A 304 is about an answer that somebody had."""
        self.tape.tell("r2", 1, replace(self.club, status=304, body=""), "c42-proxy; hit; ttl=2")
        headers = {key: value for key, value in self.club.headers.items() if key != "content-type"}
        self.tape.change("r2", headers={**headers, "cache-status": "c42-proxy; hit; ttl=2"})
        self.assert_well()
        self.tape.change("r2", headers={**headers, "etag": '"x"', "cache-status": "c42-proxy; hit; ttl=2"})
        self.assert_violated(self.RULE, "r2")


class AgeTest(HistoryTest):
    def test_hit_of_a_host(self) -> None:
        """An answer is reused for less than the TTL from its first call on, and not a moment more."""
        tea = self.tape.fetch("r1", 0)
        self.tape.hit("r2", tea.expiry - A_MOMENT, tea)
        self.assert_well()
        self.tape.hit("r3", tea.expiry, tea)
        self.assert_violated("an_answer_is_reused_no_longer_than_the_ttl", "r3")

    def test_collapsed(self) -> None:
        """A request that waits for a fetch gets its answer; one that comes a TTL later must not."""
        tea = self.tape.fetch("r1", 0)
        self.tape.tell("r2", 3.1, tea, "c42-proxy; fwd=stale; collapsed; fwd-status=200")
        self.assert_violated("an_answer_is_reused_no_longer_than_the_ttl", "r2")

    def test_hit_of_nginx(self) -> None:
        """nginx reuses an answer up to its Expires, by a clock that it does not read each time."""
        tea = self.tape.fetch("r1", 0.5)
        self.assertEqual(self.tape.headers_of("r1")["expires"], _date(START + 3))
        self.tape.hit_of_nginx("r2", 3 + NGINX_CLOCK - A_MOMENT, tea)
        self.assert_well()
        self.tape.hit_of_nginx("r3", 3 + NGINX_CLOCK, tea)
        self.assert_violated("an_answer_is_reused_no_longer_than_the_ttl", "r3")

    def test_not_modified(self) -> None:
        """A 304 says that the client's answer is fresh: it is no older than a 200 may be."""
        tea = self.tape.fetch("r1", 0)
        self.tape.tell("r2", 3.1, replace(tea, status=304, body=""), "c42-proxy; hit; ttl=2")
        self.tape.change("r2", headers={k: v for k, v in self.tape.headers_of("r2").items() if k != "content-type"})
        self.assert_violated("an_answer_is_reused_no_longer_than_the_ttl", "r2")

    def test_version(self) -> None:
        """A version is told for no longer than the TTL after the next one came, even if a call had told it later."""
        rule = "what_is_told_was_there_within_the_ttl"
        self.tape.fetch("r1", 0, version=1)
        self.tape.version(2, -RUN.ttl + A_MOMENT)
        self.assert_well()
        self.tape = Tape()
        self.tape.fetch("r1", 0, version=1)
        self.tape.version(2, -RUN.ttl - A_MOMENT)
        self.assert_violated(rule, "r1")

    def test_version_that_is_yet_to_come(self) -> None:
        """What is told was there before it was told."""
        self.tape.fetch("r1", 0, version=2)
        self.tape.version(2, 0.04)
        self.assert_well()
        self.tape = Tape()
        self.tape.fetch("r1", 0, version=2)
        self.tape.version(2, 0.06)
        self.assert_violated("what_is_told_was_there_within_the_ttl", "r1")

    def test_version_of_a_stale_copy(self) -> None:
        """It was there within the TTL and the stale window."""
        tea = self.tape.fetch("r1", 0)
        self.tape.version(2, 0.02)
        self.tape.fetch("r2", 8.9, "failed")
        self.tape.stale("r3", 9.005, tea)
        self.assert_well()
        self.tape = Tape()
        tea = self.tape.fetch("r1", 0)
        self.tape.version(2, 0.004)
        self.tape.fetch("r2", 8.9, "failed")
        self.tape.stale("r3", 9.005, tea)
        self.assert_violated("what_is_told_was_there_within_the_ttl", "r3")

    def test_past_its_instant(self) -> None:
        """What expires on its way is told to those who waited for it or asked before, and to nobody after them."""
        own = "c42-proxy; fwd=uri-miss; fwd-status=200; detail=past-expiry"
        late = {"content-type": "application/json", "cache-control": "no-store", "x-accel-expires": "0"}
        tea = replace(self.tape.fetch("r1", 0, took=0.9), headers=late)
        self.tape.change("r1", headers={**late, "cache-status": own})
        self.tape.tell("r2", 0.92, tea, f"{own}, nginx; fwd=uri-miss", took=0.03)
        self.tape.tell("r3", tea.expiry - A_MOMENT, tea, "c42-proxy; detail=past-expiry, nginx; fwd=stale")
        self.assert_well()
        self.tape.tell("r4", tea.expiry, tea, f"{own}, nginx; fwd=uri-miss")
        self.assert_violated("a_stale_copy_has_expired_within_its_window", "r4")


class HeadersTest(HistoryTest):
    def test_expires(self) -> None:
        """All who get an entry are told the same instant."""
        tea = self.tape.fetch("r1", 0.5)
        other = {**tea.headers, "expires": _date(START + 4)}
        self.tape.hit("r2", 1, replace(tea, headers=other))
        found = [(one.rule, one.how[:2]) for one in violations_of(self.tape.records) if one.request == "r2"]
        self.assertIn(("one_expiry_instant_is_told_to_everyone", "('"), found)

    def test_instant(self) -> None:
        """The instant is that at which the proxy began to ask, and the TTL; of the second in doubt both are right."""
        for expires, right in ((2, False), (3, True), (4, True), (5, False)):
            with self.subTest(expires=expires):
                self.tape = Tape()
                # Sent in one second, and C42 asked in the next.
                self.tape.fetch("r1", 0.9, asked=0.2)
                self.tape.change("r1", headers={**self.tape.headers_of("r1"), "expires": _date(START + expires)})
                self.assert_well() if right else self.assert_violated("one_expiry_instant_is_told_to_everyone", "r1")

    def test_etag(self) -> None:
        """An entry has one ETag, and an ETag one entry."""
        rule = "one_expiry_instant_is_told_to_everyone"
        tea = self.tape.fetch("r1", 0)
        self.tape.hit("r2", 1, replace(tea, headers={**tea.headers, "etag": '"other"'}))
        self.assert_violated(rule, "r2")
        self.tape = Tape()
        tea = self.tape.fetch("r1", 0)
        self.tape.fetch("r2", 3.1)
        self.tape.change("r2", headers={**self.tape.headers_of("r2"), "etag": tea.headers["etag"]})
        self.assert_violated(rule, "r2")

    def test_headers(self) -> None:
        """Each kind of answer has its own headers: one that is wrong, missing or too many is found."""
        own = "c42-proxy; fwd=stale; fwd-status=500; detail=stale-if-error"
        for request, wrong in (
            ("r1", {"cache-control": "no-store"}),
            ("r1", {"cache-control": "max-age=252"}),
            ("r1", {"etag": None}),
            ("r1", {"expires": None}),
            ("r1", {"content-type": "text/html"}),
            ("r1", {"cache-status": "c42-proxy; hit"}),
            ("r1", {"cache-status": "c42-proxy; hit; ttl=-4"}),
            ("r1", {"x-accel-expires": "@1"}),
            ("r2", {"x-accel-expires": f"@{START + 3:.0f}"}),
            ("r2", {"x-accel-expires": None}),
            ("r3", {"etag": '"x"'}),
            ("r3", {"expires": None}),
            ("r4", {"cache-control": UNTIL_EXPIRES}),
            ("r4", {"content-type": "application/json"}),
            ("r4", {"x-accel-expires": None}),
            ("r4", {"retry-after": "1"}),
            ("r6", {"retry-after": None}),
            ("r5", {"cache-control": UNTIL_EXPIRES}),
            ("r5", {"expires": _date(START + 9)}),
            ("r5", {"cache-status": own.replace("detail=stale-if-error", "detail=other")}),
        ):
            with self.subTest(request, wrong=wrong):
                self.tape = Tape()
                tea = self.tape.fetch("r1", 0)
                self.tape.hit("r2", 1, tea, at=HOST)
                self.tape.fetch("r3", 1, "gone", event="nobody")
                self.tape.fetch("r4", 3.1, "failed")
                self.tape.stale("r5", 3.2, tea)
                self.tape.fetch("r6", 4.2, "told to wait", wait=1)
                self.assert_well()
                headers = {**self.tape.headers_of(request), **wrong}
                self.tape.change(request, headers={key: value for key, value in headers.items() if value is not None})
                found = [(one.rule, one.request) for one in violations_of(self.tape.records)]
                self.assertIn(("an_answer_says_what_it_is", request), found)

    def test_own_fault(self) -> None:
        """A 500 is nothing that C42 could call for."""
        self.tape.problem("r1", 0, "", status=500)
        self.assertIn("an_answer_says_what_it_is", {one.rule for one in violations_of(self.tape.records)})


class StaleTest(HistoryTest):
    RULE = "a_stale_copy_has_expired_within_its_window"

    def test_window(self) -> None:
        """A stale copy is older than the TTL, and younger than the window beyond it."""
        for sent, right in (
            (RUN.ttl - 2 * A_MOMENT, False),
            (RUN.ttl, True),
            (ASKED + RUN.ttl + RUN.stale_if_error - A_MOMENT, True),
            (ASKED + RUN.ttl + RUN.stale_if_error, False),
        ):
            with self.subTest(sent=sent):
                self.tape = Tape()
                tea = self.tape.fetch("r1", 0)
                self.tape.fetch("other", sent - 0.1, "failed", event=TEA if sent > 5 else "cake")
                self.tape.fault("C42 refuses", sent - 1, sent)
                self.tape.stale("r2", sent, tea)
                self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_reason(self) -> None:
        """A stale copy needs a failure of its event, a moment ago, or one that forbids to ask at all."""
        rule = "a_failure_has_its_reason"
        for outcome, seconds, right in (
            ("failed", 2 + JOINED, True),
            ("failed", 2.1 + JOINED, False),
            ("left", 2 + JOINED, True),
            ("answered", 0.1, False),
            ("told to wait", 3 + JOINED, True),
            ("told to wait", 3.1 + JOINED, False),
        ):
            with self.subTest(outcome, seconds=seconds):
                self.tape = Tape()
                tea = self.tape.fetch("r1", 0)
                took = RUN.budget if outcome == "left" else TOOK
                wait = 3 if outcome == "told to wait" else 0
                self.tape.fetch("r2", 4, outcome, took=took, wait=wait)  # type: ignore[arg-type]  # one of the outcomes
                sent = 4 + took + seconds
                self.tape.stale("r3", sent, tea, "hit; ttl=-1")
                found = [(one.rule, one.request) for one in violations_of(self.tape.records) if one.rule == rule]
                self.assertEqual(found, [] if right else [(rule, "r3")])

    def test_refused(self) -> None:
        """While C42 refuses connections it sees no call, and its failures are known all the same."""
        tea = self.tape.fetch("r1", 0)
        self.tape.fault("C42 refuses", 3, 3.5)
        self.tape.stale("r2", 5.5 + RUN.budget + JOINED - A_MOMENT, tea)
        self.assert_well()
        self.tape.stale("r3", 5.5 + RUN.budget + JOINED, tea)
        self.assert_violated("a_failure_has_its_reason", "r3")

    def test_another_event(self) -> None:
        """What happened to another event is no reason, unless it was told to wait."""
        tea = self.tape.fetch("r1", 0)
        self.tape.fetch("r2", 3.1, "failed", event="cake")
        self.tape.stale("r3", 3.2, tea)
        self.assert_violated("a_failure_has_its_reason", "r3")


class ReasonTest(HistoryTest):
    RULE = "a_failure_has_its_reason"

    def test_named_reason(self) -> None:
        """A problem that names its reason needs that one: one failure does not mean that C42 is down."""
        for own in ("detail=told-to-wait", "detail=c42-down"):
            with self.subTest(own):
                self.tape = Tape()
                self.tape.fetch("r1", 0, "failed")
                self.tape.problem("r2", 0.5, own)
                self.assert_violated(self.RULE, "r2")

    def test_slow(self) -> None:
        """Answers that took most of the budget may have come too late."""
        for took, right in ((0.8 - ASKED + A_MOMENT, True), (0.8 - ASKED - A_MOMENT, False)):
            with self.subTest(took=took):
                self.tape = Tape()
                self.tape.fetch("r1", 0, took=took)
                self.tape.problem("r2", 0.5, "fwd=uri-miss; collapsed", status=504)
                self.tape.change("r2", ended=START + 0.9)
                self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_reason_that_came_later(self) -> None:
        """What had not happened when the answer was there is no reason for it."""
        outcomes: tuple[tuple[Outcome, str, int], ...] = (
            ("failed", "fwd=uri-miss; collapsed; fwd-status=500", 502),
            ("told to wait", "detail=told-to-wait", 503),
        )
        for outcome, own, status in outcomes:
            for ended, right in ((ASKED + TOOK - A_MOMENT, False), (ASKED + TOOK + A_MOMENT, True)):
                with self.subTest(own, ended=ended):
                    self.tape = Tape()
                    self.tape.fetch("r1", 0, outcome, wait=2)
                    self.tape.problem("r2", 0, own, status=status)
                    self.tape.change("r2", ended=START + ended)
                    self.assert_well() if right else self.assert_violated(self.RULE, "r2")
        for own, status in (("fwd=uri-miss", 502), ("detail=c42-down", 503)):
            with self.subTest(own, refused=True):
                self.tape = Tape()
                self.tape.problem("r2", 0, own, status=status)
                self.tape.fault("C42 refuses", 0.1, 0.2)
                self.assert_violated(self.RULE, "r2")

    def test_no_list(self) -> None:
        """That there are no subscriptions of an event that there is, is a failure; that there is no event, is none."""
        for event, right in (("answered", True), ("gone", False)):
            with self.subTest(event):
                self.tape = Tape()
                self.tape.fetch("r1", 0, "gone")
                self.tape.version(1, -100, event="club")
                self.tape.fetch("r2", 0, "gone", event="club")
                self.tape.change_call(3, outcome=event)
                self.tape.change("r2", status=502, headers=self.problem_headers())
                found = [one.request for one in violations_of(self.tape.records) if one.rule == self.RULE]
                self.assertEqual(found, [] if right else ["r2"])

    def problem_headers(self) -> dict[str, str]:
        return {
            "cache-control": "no-store",
            "x-accel-expires": "0",
            "content-type": "application/problem+json",
            "cache-status": "c42-proxy; fwd=uri-miss; fwd-status=404",
        }

    def test_down_by_refusals(self) -> None:
        """What C42 refused may have been too much, until something has succeeded since."""
        for succeeds, right in ((False, True), (True, False)):
            with self.subTest(succeeds=succeeds):
                self.tape = Tape()
                self.tape.fault("C42 refuses", -1.5, -1.1)
                if succeeds:
                    self.tape.fetch("r1", 0)
                self.tape.problem("r2", 0.5, "detail=c42-down", event="cake")
                self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_down_during_a_probe(self) -> None:
        """While one fetch probes, other requests are told that C42 is down, however long the breaker was half-open."""
        for sent, right in ((8.01, True), (8.01 + 2 * RUN.budget + A_MOMENT, False)):
            with self.subTest(sent=sent):
                self.tape = Tape()
                for number, event in enumerate("abc"):
                    self.tape.fetch(f"r{number}", number / 10, "failed", event=event)
                self.tape.fetch("r3", 8 - ASKED, "token refused")
                self.tape.problem("r9", sent, "detail=c42-down", event="cake")
                self.assert_well() if right else self.assert_violated(self.RULE, "r9")

    def test_down_without_the_store(self) -> None:
        """Not everybody hears of a success while the store is away."""
        for number, event in enumerate("abc"):
            self.tape.fetch(f"r{number}", number / 10, "failed", event=event)
        self.tape.fetch("r3", -0.1, took=0.6)
        self.tape.problem("r4", 2, "detail=c42-down", event="cake")
        self.assert_violated(self.RULE, "r4")
        self.tape.fault("Redis hangs", 0.4, 0.9)
        self.assert_well()

    def test_busy(self) -> None:
        """There are never as many fetches as that."""
        self.tape.problem("r1", 0, "detail=busy")
        self.assert_violated(self.RULE, "r1")

    def test_down(self) -> None:
        """The breaker is open for 5 s after enough events failed in a row, each counted once, without a success."""
        for events, seconds, right in (
            ("abc", 4.9 + JOINED, True),
            ("abc", 5.1 + JOINED, False),
            ("ab", 0.2, False),
            ("aab", 0.2, False),
            ("ab!c", 0.3, False),
        ):
            with self.subTest(events, seconds=seconds):
                self.tape = Tape()
                for number, event in enumerate(events):
                    outcome: Outcome = "answered" if event == "!" else "failed"
                    # One every 1.1 s, so that none is retried too early.
                    self.tape.fetch(f"r{number}", 1.1 * number, outcome, event=TEA if event == "!" else event)
                sent = 1.1 * (len(events) - 1) + 0.05 + seconds
                self.tape.problem("r9", sent, "detail=c42-down", event="cake")
                self.assert_well() if right else self.assert_violated(self.RULE, "r9")


class NotFoundTest(HistoryTest):
    RULE = "a_404_is_told_of_what_was_not_there"

    def test_event_that_is_there(self) -> None:
        """A 404 is true of a moment within the TTL before it was asked for."""
        for back, right in ((0.02, True), (-0.1, False)):
            with self.subTest(back=back):
                self.tape = Tape()
                self.tape.version(2, -50, gone=True)
                self.tape.version(3, back)
                gone = self.tape.fetch("r1", -0.005, "gone", version=2)
                self.tape.hit("r2", 2.95, gone)
                self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_too_old(self) -> None:
        """It is reused for no longer than any other answer."""
        gone = self.tape.fetch("r1", 0, "gone", event="nobody")
        self.tape.hit("r2", gone.expiry - A_MOMENT, gone)
        self.assert_well()
        self.tape.hit("r3", gone.expiry, gone)
        self.assert_violated(self.RULE, "r3")

    def test_nobody_has_said_so(self) -> None:
        """C42 was asked, and said that there is none, in the fetch whose instant is told."""
        self.tape.fetch("r1", 0, "gone", event="nobody")
        self.tape.change_call(1, outcome="failed")
        self.assert_violated(self.RULE, "r1")
        self.tape = Tape()
        self.tape.fetch("r1", 0, "gone", event="nobody")
        self.tape.change("r1", headers={**self.tape.headers_of("r1"), "expires": _date(START + 9)})
        self.assert_violated(self.RULE, "r1")
        self.tape = Tape()
        gone = self.tape.fetch("r1", 0, "gone", event="nobody")
        self.tape.hit("r2", 0, gone, took=ASKED + TOOK - A_MOMENT)
        self.assert_violated(self.RULE, "r2")

    def test_hidden_by_a_stale_copy(self) -> None:
        """Once somebody was told that it is gone, nobody is told what it was."""
        known = 3.1 + ASKED + TOOK + 0.02 + JOINED
        for sent, right in ((known - A_MOMENT, True), (known + A_MOMENT, False)):
            with self.subTest(sent=sent):
                self.tape = Tape()
                tea = self.tape.fetch("r1", 0)
                self.tape.version(2, 1, gone=True)
                self.tape.fetch("r2", 3.1, "gone", version=2)
                self.tape.fault("C42 refuses", 3, 4)
                self.tape.stale("r3", sent, tea)
                self.assert_well() if right else self.assert_violated("no_stale_copy_hides_a_404", "r3")

    def test_hidden_while_the_store_is_away(self) -> None:
        """A process that goes on without the store may not have heard of it."""
        tea = self.tape.fetch("r1", 0)
        self.tape.version(2, 1, gone=True)
        self.tape.fault("Redis hangs", 3, 3.5)
        self.tape.fetch("r2", 3.1, "gone", version=2)
        self.tape.fault("C42 refuses", 3, 4)
        self.tape.stale("r3", 4, tea)
        self.assert_well()


class TokenTest(HistoryTest):
    RULE = "no_stale_copy_hides_a_refused_token"

    def test_own_fetch(self) -> None:
        """The request whose fetch met the refused token reports it, and gets no stale copy."""
        tea = self.tape.fetch("r1", 0)
        self.tape.fetch("r2", 4, "token refused")
        self.assert_well()
        stale = {
            **tea.headers,
            "cache-control": "no-store",
            "x-accel-expires": "0",
            "cache-status": "c42-proxy; fwd=stale; detail=stale-if-error",
        }
        del stale["expires"], stale["etag"]
        self.tape.change("r2", status=200, body=tea.body, headers=stale)
        self.assertIn((self.RULE, "r2"), {(one.rule, one.request) for one in violations_of(self.tape.records)})

    def test_repeated(self) -> None:
        """Neither do requests of the moment after it; later, a stale copy may hide another failure."""
        for seconds, right in ((0.9, False), (1.1, True)):
            with self.subTest(seconds=seconds):
                self.tape = Tape()
                tea = self.tape.fetch("r1", 0)
                self.tape.fetch("r2", 4, "token refused")
                self.tape.fault("C42 refuses", 4.1, 9)
                self.tape.stale("r3", 4 + ASKED + TOOK + seconds, tea, "hit; ttl=-1")
                self.assert_well() if right else self.assert_violated(self.RULE, "r3")

    def test_store_away(self) -> None:
        """A process that goes on without the store may not have heard of it."""
        tea = self.tape.fetch("r1", 0)
        self.tape.fetch("r2", 4, "token refused")
        self.tape.fault("C42 refuses", 4.1, 9)
        self.tape.stale("r3", 4.5, tea, "hit; ttl=-1")
        self.assert_violated(self.RULE, "r3")
        self.tape.fault("Redis hangs", 4.2, 4.3)
        self.assert_well()

    def test_nothing_to_ask_the_store_with(self) -> None:
        """Nor may a process that lacks threads or descriptors; one of another host may not hide it."""
        for of, right in (("host-2", False), (HOST, True)):
            with self.subTest(of):
                self.tape = Tape()
                tea = self.tape.fetch("r1", 0)
                self.tape.fetch("r2", 4, "token refused")
                self.tape.fault("C42 refuses", 4.1, 9)
                self.tape.stale("r3", 4.5, tea, "hit; ttl=-1")
                self.tape.change("r3", at=HOST)
                self.tape.fault("no threads", 4.2, 4.7, of)
                self.assert_well() if right else self.assert_violated(self.RULE, "r3")

    def test_no_reason(self) -> None:
        """A refused token is no reason for a stale copy."""
        tea = self.tape.fetch("r1", 0)
        self.tape.fetch("r2", 4, "token refused")
        self.tape.stale("r3", 5.5, tea, "hit; ttl=-1")
        self.assert_violated("a_failure_has_its_reason", "r3")

    def test_said_in_so_many_words(self) -> None:
        """The copy itself says what it hides."""
        tea = self.tape.fetch("r1", 0)
        self.tape.fault("C42 refuses", 3, 4)
        self.tape.stale("r2", 3.5, tea, "fwd=stale; fwd-status=403")
        self.assert_violated(self.RULE, "r2")


class LaterEntryTest(HistoryTest):
    RULE = "an_entry_never_replaces_a_later_one"

    def setUp(self) -> None:
        super().setUp()
        self.old = self.tape.fetch("r1", 0)
        # Each process for itself: the only way in which there can be two that are fresh.
        self.new = self.tape.fetch("r2", 1)
        self.found = [one for one in violations_of(self.tape.records) if one.request == "r2"]

    def test_older_after_newer(self) -> None:
        """Once somebody was told what is newer, nobody who asks after that is told what is older."""
        self.assertEqual([one.rule for one in self.found], ["c42_is_asked_once_within_the_ttl"])
        self.tape.hit("r3", 1.04 + JOINED, self.old)
        self.assertEqual([one.request for one in violations_of(self.tape.records)], ["r2"])
        self.tape.hit("r4", 1.06 + JOINED, self.old)
        found = [(one.rule, one.request) for one in violations_of(self.tape.records)]
        self.assertEqual(found[1:], [(self.RULE, "r4")])

    def test_store_away(self) -> None:
        """Each process may have its own while the store is away."""
        self.tape.fault("Redis restarted", 0.5, 0.7)
        self.tape.hit("r3", 1.5, self.old)
        self.assert_well()


class CallsTest(HistoryTest):
    def test_nobody_has_asked(self) -> None:
        """C42 is asked for the sake of a request, which must have come before, and for that event."""
        rule = "one_call_for_the_event_and_one_for_each_hundred_subscribers"
        self.tape.fetch("r1", 0)
        self.tape.change("r1", id="other")
        self.assert_violated(rule, "r1")
        self.tape.change("other", id="r1", event="cake", status=None, loss="closed")
        self.tape.fault("nginx reloaded", -1, -1)
        self.assert_violated(rule, "r1")

    def test_asked_too_early(self) -> None:
        """C42 is not asked before somebody wants it."""
        self.tape.fetch("r1", 0)
        self.tape.change("r1", sent=START + ASKED + A_MOMENT)
        self.assert_violated("one_call_for_the_event_and_one_for_each_hundred_subscribers", "r1")

    def test_beyond_the_end(self) -> None:
        """No page is asked for that is not there, or that is none."""
        for offset, right in ((0, True), (100, False), (50, False)):
            with self.subTest(offset=offset):
                self.tape = Tape()
                self.tape.fetch("r1", 0, "failed")
                self.tape.change_call(2, offset=offset)
                rule = "one_call_for_the_event_and_one_for_each_hundred_subscribers"
                self.assert_well() if right else self.assert_violated(rule, "r1")

    def test_asked_twice(self) -> None:
        """The same call for the same request is another fetch: it overlaps with the first."""
        self.tape.fetch("r1", 0)
        self.tape.records.append(
            Call(9, "r1", TEA, None, START + 0.015, START + 0.02, "answered", 200, version=1, used=True)
        )
        found = {(one.rule, one.request) for one in violations_of(self.tape.records)}
        self.assertIn(("one_fetch_at_a_time", "r1"), found)

    def test_sent_again(self) -> None:
        """A call that was cut on a used connection before its answer began may be sent again; any other may not."""
        for used, status, right in ((True, None, True), (False, None, False), (True, 200, False)):
            with self.subTest(used=used, status=status):
                self.tape = Tape()
                self.tape.fetch("r1", 0)
                cut = Call(9, "r1", TEA, None, START + 0.005, START + 0.007, "cut", status, used=used)
                self.tape.records.append(cut)
                self.assert_well() if right else self.assert_violated(
                    "a_failed_fetch_is_not_retried_by_those_who_waited", "r1"
                )

    def test_pages_at_a_time(self) -> None:
        """Of the pages after the first, eight are asked for at a time, and not nine."""
        for size, right in ((900, True), (1000, False)):
            with self.subTest(size=size):
                self.tape = Tape()
                self.tape.version(1, -100, event="club", size=size)
                self.tape.fetch("r1", 0, event="club", size=size)
                self.assert_well() if right else self.assert_violated("at_most_8_pages_at_a_time", "r1")


class FetchTest(HistoryTest):
    """What C42's answers come to is said only where they decide it."""

    def setUp(self) -> None:
        super().setUp()
        self.tape.version(1, -100, event="club", size=250)

    def fetch(self, outcome: Outcome = "answered", *, took: float = TOOK) -> None:
        """A fetch of which no answer was told: calls 1 (the event) to 4 (its third page)."""
        self.tape.fetch("r1", 0, outcome, event="club", size=250, took=took)
        self.tape.change("r1", status=502, body="")

    def assert_result(self, result: str) -> None:
        self.assertEqual([fetch.result for fetch in History(self.tape.records).fetches], [result])

    def test_answered(self) -> None:
        """It is an answer where the event and all of its pages came in time, or where somebody was told it."""
        for took, result in ((0.88, "answered"), (0.9, "unknown")):
            with self.subTest(took=took):
                self.setUp()
                self.fetch(took=took)
                self.assert_result(result)
        self.setUp()
        self.tape.fetch("r1", 0, event="club", size=250, took=0.95)
        self.assert_result("answered")

    def test_incomplete(self) -> None:
        """Where the event or a page was not asked for, C42 has not seen what came in between."""
        for missing in (1, 2, 4):
            with self.subTest(missing):
                self.setUp()
                self.fetch()
                self.tape.records = [
                    one for one in self.tape.records if not (isinstance(one, Call) and one.number == missing)
                ]
                self.assert_result("unknown")

    def test_mixed(self) -> None:
        """The event's 404 goes before all; then a wish to wait, a refused token, what came too late, and the rest."""
        for event, page, result in (
            ("gone", "answered", "gone"),
            ("gone", "failed", "gone"),
            ("failed", "told to wait", "told to wait"),
            ("told to wait", "token refused", "told to wait"),
            ("failed", "token refused", "token refused"),
            ("answered", "failed", "down"),
            ("cut", "answered", "down"),
            ("answered", "gone", "invalid"),
            ("failed", "gone", "unknown"),
        ):
            with self.subTest(event=event, page=page):
                self.setUp()
                self.fetch()
                self.tape.change_call(1, outcome=event)
                self.tape.change_call(4, outcome=page)
                self.assert_result(result)

    def test_given_up(self) -> None:
        """The proxy leaves when its time is up; where it leaves before that, nobody knows why."""
        for took, result in ((RUN.budget - ASKED - A_MOMENT, "unknown"), (RUN.budget, "down")):
            with self.subTest(took=took):
                self.setUp()
                self.fetch("left", took=took)
                self.assert_result(result)

    def test_request_that_says_nothing(self) -> None:
        """If the first request got no answer, or only a time-out, nothing is known of the fetch."""
        for changes, result in (
            ({}, "down"),
            ({"status": None}, "unknown"),
            ({"ended": START + 2 * RUN.budget - A_MOMENT}, "down"),
            ({"ended": START + 2 * RUN.budget}, "unknown"),
            ({"id": "other"}, "unknown"),
        ):
            with self.subTest(changes):
                self.setUp()
                self.fetch("failed")
                self.tape.change("r1", **changes)
                self.assert_result(result)
                [fetch] = History(self.tape.records).fetches
                known = float(changes.get("ended", START + ASKED + TOOK + 0.02))  # type: ignore[arg-type]  # a float
                late = START + ASKED + TOOK + RUN.budget
                self.assertAlmostEqual(fetch.noted, known if result == "down" else late, 4)

    def test_killed(self) -> None:
        """Only while the fetch was under way: C42 was asked at 0.01, and somebody told at 0.05."""
        for since, until, result in (
            (0, 0.005, "down"),
            (0, 0.01, "unknown"),
            (0.045, 1, "unknown"),
            (0.06, 1, "down"),
        ):
            with self.subTest(since=since, until=until):
                self.setUp()
                self.fetch("failed")
                self.tape.fault("worker killed", since, until, HOST)
                self.assert_result(result)

    def test_bounds(self) -> None:
        """It began between its request (or what its Expires tells) and its first call; where the event is gone it was
        over by that, and in any case when its time was up."""
        self.tape.fetch("r1", 0, event="club", size=250, asked=0.5)
        self.tape.change_call(3, ended=START + 0.8)
        [fetch] = History(self.tape.records).fetches
        self.assertEqual((fetch.earliest, fetch.latest, fetch.ended), (START, START + 0.5, START + 0.8))
        self.tape.change_call(1, outcome="gone")
        self.tape.change("r1", status=404, body="")
        [fetch] = History(self.tape.records).fetches
        self.assertAlmostEqual(fetch.ended, START + 0.5 + TOOK, 4)
        self.tape.change_call(1, outcome="left", ended=START + 1.2)
        [fetch] = History(self.tape.records).fetches
        self.assertEqual(fetch.ended, START + RUN.budget)


class OneFetchTest(HistoryTest):
    RULE = "c42_is_asked_once_within_the_ttl"

    def test_within_the_ttl(self) -> None:
        """The next fetch begins when the last answer, or the last 404, has expired."""
        for outcome, event in (("answered", TEA), ("gone", "nobody")):
            for sent, right in ((3 - ASKED, True), (3 - ASKED - A_MOMENT, False)):
                with self.subTest(outcome, sent=sent):
                    self.tape = Tape()
                    for request, at in (("r1", 0.0), ("r2", sent)):
                        self.tape.fetch(request, at, outcome, event=event)  # type: ignore[arg-type]  # an outcome
                    self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_told_instant(self) -> None:
        """The instant in the answers counts, if the first request had waited before C42 was asked for it."""
        self.tape.fetch("r1", 0.1, asked=0.95)
        self.tape.fetch("r2", 3.5)
        self.assert_violated(self.RULE, "r2")

    def test_store_away(self) -> None:
        """Each process may fetch for itself while the store is away, and one more for each that is started."""
        self.tape.fault("Redis hangs", 0, 0.2)
        for number in range(4):
            self.tape.fetch(f"r{number}", number / 10)
        self.assert_well()
        self.tape.fetch("r4", 0.5)
        self.assert_violated(self.RULE, "r4")
        self.tape.fault("worker killed", -0.5, -0.4, HOST)
        self.assert_well()
        for number in range(5, 8):
            self.tape.fetch(f"r{number}", number / 10)
        self.assert_violated(self.RULE, "r5", "r6", "r7")
        self.tape.fault("host reloaded", 0.3, 0.3, HOST)
        self.assert_violated(self.RULE, "r7")

    def test_store_taken_back(self) -> None:
        """A process takes the store back when it needs it, however late; other requests do not wait for that."""
        self.tape.fetch("r1", 0)
        self.tape.fetch("r2", 1)
        for since, right in ((-0.4, False), (-0.2, True), (1.2, True), (1.4, False)):
            with self.subTest(since=since):
                self.tape.records = [one for one in self.tape.records if not isinstance(one, StoreState)]
                self.tape.records.append(StoreState(HOST, START + since, works=True))
                self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_store_lost(self) -> None:
        """A process that says so goes on without the store for a while, whatever made it lose it."""
        self.tape.records.append(StoreState(HOST, START - STORE_RECOVERS - A_MOMENT, works=False))
        self.tape.fetch("r1", 0)
        self.tape.fetch("r2", 1)
        self.assert_violated(self.RULE, "r2")
        self.tape.records.append(StoreState(HOST, START - STORE_RECOVERS + 0.02, works=False))
        self.assert_well()

    def test_store_back(self) -> None:
        """When the store is back all share it again."""
        self.tape.fault("Redis hangs", -4, -3.3)
        self.tape.fetch("r1", 0)
        self.tape.fetch("r2", 0.1)
        self.assert_violated(self.RULE, "r2")

    def test_killed(self) -> None:
        """Nobody knows whether a fetch was kept whose process may have been killed: another may come at once."""
        self.tape.fetch("r1", 0)
        self.tape.fault("worker killed", 0.035, 0.04, HOST)
        self.tape.fetch("r2", 0.1)
        self.assert_well()
        self.tape.fetch("r3", 0.2)
        self.assert_violated(self.RULE, "r3")

    def test_take_over(self) -> None:
        """Another process may begin before C42 notices that the one that fetched was killed."""
        self.tape.fetch("r1", 0, "failed", took=0.3)
        self.tape.fetch("r2", 0.2, "failed")
        found = {one.rule for one in violations_of(self.tape.records)}
        self.assertEqual(found, {"one_fetch_at_a_time", "a_failed_fetch_is_not_retried_by_those_who_waited"})
        self.tape.fault("worker killed", 0.1, 0.1, HOST)
        self.assert_well()

    def test_overlap(self) -> None:
        """A fetch begins when the one before is over: C42 has answered it, or its time is up."""
        rule = "one_fetch_at_a_time"
        for took, sent, right in ((0.5, 0.49, False), (0.5, 0.51, True), (1.2, 0.98, False), (1.2, 1.0, True)):
            with self.subTest(took=took, sent=sent):
                self.tape = Tape()
                self.tape.fetch("r1", 0, "told to wait" if took < 1 else "left", took=took)
                self.tape.fetch("r2", sent, "told to wait")
                rules = [one.rule for one in violations_of(self.tape.records) if one.rule == rule]
                self.assertEqual(rules, [] if right else [rule])

    def test_failure(self) -> None:
        """A failure is repeated for a second, before C42 is asked again for that event."""
        for outcome in ("failed", "cut", "token refused"):
            for sent, right in ((1 + TOOK, True), (1 + TOOK - A_MOMENT, False)):
                with self.subTest(outcome, sent=sent):
                    self.tape = Tape()
                    self.tape.fetch("r1", 0, outcome)
                    self.tape.fetch("r2", sent, "failed", event="cake")
                    self.tape.fetch("r3", sent)
                    rule = "a_failed_fetch_is_not_retried_by_those_who_waited"
                    self.assert_well() if right else self.assert_violated(rule, "r3")


class AfterTheAnswerTest(HistoryTest):
    RULE = "no_call_begins_after_the_answer"

    def test_after_the_answer(self) -> None:
        """A call that was on its way when the client was answered may arrive; no other is made."""
        answered = ASKED + TOOK + 0.02
        for received, right in ((answered + ON_ITS_WAY - A_MOMENT, True), (answered + ON_ITS_WAY + A_MOMENT, False)):
            with self.subTest(received=received):
                self.tape = Tape()
                self.tape.fetch("r1", 0, "failed")
                self.tape.change_call(2, received=START + received, ended=START + received)
                self.assert_well() if right else self.assert_violated(self.RULE, "r1")
                self.tape.fault("one address dead", -1, 1)
                self.assert_well()


class BackOffTest(HistoryTest):
    RULE = "c42_is_not_asked_during_a_back_off"

    def test_back_off(self) -> None:
        """After the first client was told of the back-off, no request makes a call until it is over."""
        told = ASKED + TOOK + 0.02
        for sent, right in ((told - A_MOMENT, True), (told + A_MOMENT, False), (2, False), (2 + TOOK, True)):
            with self.subTest(sent=sent):
                self.tape = Tape()
                self.tape.fetch("r1", 0, "told to wait", wait=2)
                self.tape.fetch("r2", sent, event="cake")
                self.tape.version(1, -100, event="cake")
                self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_on_its_way(self) -> None:
        """A call that was on its way by then may arrive; a page may not be asked for after that."""
        for asked, right in ((0.2, True), (0.4, False)):
            with self.subTest(asked=asked):
                self.tape = Tape()
                self.tape.fetch("r1", 0, "told to wait", wait=2)
                self.tape.fetch("r2", -0.1, event="cake", asked=asked)
                self.tape.version(1, -100, event="cake")
                self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_store_away(self) -> None:
        """A process that goes on without the store may not have heard of it."""
        self.tape.fetch("r1", 0, "told to wait", wait=2)
        self.tape.version(1, -100, event="cake")
        self.tape.fetch("r2", 1, event="cake")
        self.tape.fault("Redis hangs", 0.5, 0.6)
        self.assert_well()


class BreakerTest(HistoryTest):
    RULE = "c42_is_not_asked_while_the_breaker_is_open"

    def fail_in_a_row(self, first: float, events: str = "abc") -> float:
        """Enough failures in a row; when the last of them ended."""
        for number, event in enumerate(events):
            self.tape.fetch(f"{event}-{first:g}", first + number / 10, "failed", event=event)
        return first + (len(events) - 1) / 10 + ASKED + TOOK

    def test_open(self) -> None:
        """For 5 s after that, no request makes a call; then one may."""
        for seconds, right in ((0.1, False), (4.9, False), (5.0, True)):
            with self.subTest(seconds=seconds):
                self.tape = Tape()
                ended = self.fail_in_a_row(0)
                self.tape.fetch("r1", ended - ASKED + seconds)
                self.assert_well() if right else self.assert_violated(self.RULE, "r1")

    def test_too_few(self) -> None:
        """Two events are not three, a success clears the count, and a refused token does not count."""
        self.fail_in_a_row(0, "ab")
        self.tape.fetch("r1", 0.3, "token refused", event="d")
        self.tape.fetch("r2", 0.4, "answered")
        self.fail_in_a_row(0.5, "c")
        self.tape.fetch("r3", 1.0, "failed", event="e")
        self.assert_well()

    def test_success_under_way(self) -> None:
        """A fetch that succeeds closes the breaker, even if it began before the breaker opened."""
        self.tape.fetch("r1", -0.1, took=0.5)
        self.fail_in_a_row(0)
        self.tape.fetch("r2", 0.6, "failed", event="d")
        self.assert_well()

    def test_probe(self) -> None:
        """While half-open, one fetch probes; if it fails, the breaker is open for 5 s again."""
        for seconds, right in ((0.1, False), (4.9, False), (5.0, True)):
            with self.subTest(seconds=seconds):
                self.tape = Tape()
                probe = self.fail_in_a_row(0) + 5
                self.tape.fetch("r1", probe, "failed", event="d")
                self.tape.fetch("r2", probe + TOOK + seconds, "failed", event="e")
                self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_probe_of_a_sick_event(self) -> None:
        """A failed probe of the event that failed last does not open the breaker: another may begin at once."""
        probe = self.fail_in_a_row(0) + 5
        self.tape.fetch("r1", probe, "failed", event="c")
        self.tape.fetch("r2", probe + 0.1, "failed", event="d")
        self.assert_well()
        self.tape.fetch("r3", probe + 0.2, "failed", event="e")
        self.assert_violated(self.RULE, "r3")

    def test_one_probe(self) -> None:
        """Two fetches do not probe at the same time."""
        probe = self.fail_in_a_row(0) + 5
        self.tape.fetch("r1", probe, took=0.5)
        self.tape.fetch("r2", probe + 0.1, event="d", took=0.5)
        self.tape.version(1, -100, event="d")
        self.assert_violated(self.RULE, "r2")

    def test_doubtful_row(self) -> None:
        """A fetch whose result nobody knows may have cleared the count, or may have been one of the failures."""
        self.tape.fetch("first", -3)
        self.fail_in_a_row(-1, "ab")
        self.tape.fetch("doubt", -0.5, "failed", event="c")
        self.tape.change("doubt", status=None, loss="closed")
        self.tape.fault("nginx reloaded", -1, -1)
        self.fail_in_a_row(0, "de")
        # If it was the third failure, the breaker opened at -0.5; if a success, not at all. So this may be right.
        self.tape.fetch("r1", 4.6, "failed", event="f")
        self.assert_well()

    def test_end_of_a_row(self) -> None:
        """A probe that succeeds closes the breaker: later requests may ask."""
        probe = self.fail_in_a_row(0) + 5
        self.tape.fetch("r1", probe)
        self.tape.fetch("r2", probe + TOOK + 0.1, event="d", took=0.5)
        self.tape.fetch("r3", probe + TOOK + 0.2, event="e", took=0.5)
        self.tape.version(1, -100, event="d")
        self.tape.version(1, -100, event="e")
        self.assert_well()

    def test_which_event_failed_last(self) -> None:
        """Of failures at the same time any may be the last: a failed probe of any of them need not open the breaker."""
        for event, right in (("a", False), ("b", True), ("c", True)):
            with self.subTest(event):
                self.tape = Tape()
                self.fail_in_a_row(0, "a")
                self.tape.fetch("b", 0.1, "failed", event="b")
                self.tape.fetch("c", 0.1 + A_MOMENT, "failed", event="c")
                self.tape.fetch("r1", 5.2, "failed", event=event)
                self.tape.fetch("r2", 5.3, "failed", event="d")
                self.assert_well() if right else self.assert_violated(self.RULE, "r2")

    def test_probe_without_a_verdict(self) -> None:
        """A probe whose token is refused does not open the breaker: another one may begin."""
        probe = self.fail_in_a_row(0) + 5
        self.tape.fetch("r1", probe, "token refused", event="d")
        self.tape.fetch("r2", probe + 0.1, "failed", event="e")
        self.assert_well()
        self.tape.fetch("r3", probe + 0.2, "failed", event="f")
        self.assert_violated(self.RULE, "r3")

    def test_failures_that_nobody_saw(self) -> None:
        """If C42 refused connections, or the store was away, nobody knows when the breaker opened."""
        faults: tuple[FaultKind, ...] = ("C42 refuses", "Redis hangs")
        for kind in faults:
            with self.subTest(kind):
                self.tape = Tape()
                self.tape.fetch("first", -1)
                ended = self.fail_in_a_row(0)
                self.tape.fetch("r1", ended + 2.5)
                self.tape.fault("C42 fails", -0.5, 1)
                self.tape.fault(kind, -9, -8)
                self.tape.fault(kind, ended + 2.6, ended + 2.7)
                self.assert_violated(self.RULE, "r1")
                self.tape.fault(kind, -0.5, -0.4)
                self.assert_well()

    def test_never(self) -> None:
        """With a threshold of 0, the breaker never opens."""
        self.tape = Tape(threshold=0)
        self.fail_in_a_row(0)
        self.tape.fetch("r1", 1)
        self.assert_well()


class PlanTest(unittest.TestCase):
    def test_same_seed(self) -> None:
        """A seed stands for its faults, however long the run; another seed for others."""
        short, long, other = planned(1, 60), planned(1, 180), planned(2, 180)
        for some, more in zip(short, long, strict=True):
            self.assertEqual(some, more[: len(some)])
            self.assertLess(len(some), len(more))
        self.assertNotEqual(long, other)

    def test_all_kinds(self) -> None:
        """A run of three minutes has each kind of fault in it, one after the other, and all are over before its end."""
        for seed in range(20):
            with self.subTest(seed):
                rows = planned(seed, 180)
                kinds = {fault.kind for row in rows for fault in row}
                self.assertEqual(kinds, {choice.kind for choice in (*C42_FAULTS, *STACK_FAULTS)})
                for row in rows:
                    ends = [fault.at + fault.seconds for fault in row]
                    self.assertLess(max(ends), 180)
                    self.assertTrue(all(end < after.at for end, after in zip(ends, row[1:], strict=False)))


class RulesTest(unittest.TestCase):
    def test_each_rule_can_be_violated(self) -> None:
        """There is a test for every rule: its name stands in this file."""
        text = Path(__file__).read_text()
        for one in (*FOR_ANSWERS, *FOR_CALLS, *FOR_HOSTS):
            self.assertIn(f'"{one.__name__}"', text)
