"""Whatever C42 answers ends in one of our own types or one of our own errors, in time, without the token."""

import contextlib
import errno
import http.client
import logging
import os
import re
import socket
import time
import traceback
import tracemalloc
import unittest
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from email.utils import formatdate
from typing import NoReturn
from unittest.mock import patch

import requests
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from c42_proxy.deadline import Deadline
from c42_proxy.errors import (
    Cause,
    InvalidAnswer,
    Overloaded,
    RateLimited,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from c42_proxy.observability.metrics import Metrics
from c42_proxy.upstream.client import C42Client, Event, Page, Subscription
from c42_proxy.upstream.transport import new_session
from harness.wire import (
    BROKEN,
    CHUNKED,
    DAWDLING,
    EVENT_ID,
    MALFORMED_HEADS,
    SPACES,
    UNUSABLE,
    Behaviour,
    Connection,
    Wire,
    answer,
    c42,
    closes,
    event,
    is_silent,
    page,
    says,
    sends_and_closes,
    sends_without_end,
    subscription,
)
from tests.test_threads import no_descriptors

NOW = 1_475_000_000.0
TOKEN = "s3cr3t-t0ken-of-arthur"
BUDGET = 0.15
SLACK = 0.3
PLENTY = 5.0

PYTHON_BOUNDS_INTERIM_ANSWERS = hasattr(http.client, "_MAXINTERIMRESPONSES")
"""Newer versions do: then too many of them are decided at once, and not by the deadline."""

LONE = "\ud83d"
OTHER = "d6e6_14752373875438"

ODD_EVENTS: dict[str, object] = {
    "another event": {"data": [{"id": OTHER, "title": "x"}]},
    "the same id in capitals": {"data": [{"id": EVENT_ID.upper(), "title": "x"}]},
    "several events": {"data": [{"id": EVENT_ID}, {"id": OTHER}]},
    "the same event twice": {"data": [{"id": EVENT_ID}, {"id": EVENT_ID}]},
    "a number for a title": event(42),
    "an object for a title": event({}),
    "a lone surrogate in the title": event("Coffee " + LONE),
    "an array for a permission": event(permission=[]),
}
ODD_PAGES: dict[str, object] = {
    "101 subscriptions": page([subscription(n) for n in range(101)], count=101),
    "those of another event": page([subscription(1), subscription(2, event_id=OTHER)], count=2),
    "a number for a name": page([subscription(1, 42)], count=1),
    "a lone surrogate in a name": page([subscription(1, "Ann" + LONE)], count=1),
    "text for a subscriber": page([subscription(1, subscriber="Ann")], count=1),
    "an array for a subscriber": page([subscription(1, subscriber=[])], count=1),
    "no subscriber": page([subscription(1, subscriber=None)], count=1),
    "an array for meta_data": {"data": [], "meta_data": []},
    "null for meta_data": {"data": [], "meta_data": None},
    "text for a count": page([], count="1"),
    "true for a count": page([], count=True),
    "a broken count": page([], count=1.5),
}

Fault = tuple[str, Behaviour, type[UpstreamError]]


def faults() -> Iterator[Fault]:
    """What may be wrong with any call, and the error it ends in."""
    for name, behaviour in DAWDLING.items():
        bounded = name == "endless 100 Continue" and PYTHON_BOUNDS_INTERIM_ANSWERS
        yield name, behaviour, InvalidAnswer if bounded else UpstreamTimeout
    yield from ((name, behaviour, UpstreamUnavailable) for name, behaviour in BROKEN.items())
    yield from ((name, behaviour, InvalidAnswer) for name, behaviour in UNUSABLE.items())
    yield "429", says({}, "429 Too Many"), RateLimited
    yield "503 with Retry-After", says({}, "503 Unavailable", "Retry-After: 7"), RateLimited
    yield "401", says({}, "401 Unauthorized"), TokenRefused
    yield "403", says({}, "403 Forbidden"), TokenRefused
    yield "401 with an endless body", sends_without_end(CHUNKED.replace(b"200 OK", b"401 No"), SPACES), TokenRefused


def page_faults() -> Iterator[Fault]:
    yield from faults()
    yield "404", says({"error": {"status_code": 404}}, "404 Not Found"), InvalidAnswer
    yield from ((name, says(content), InvalidAnswer) for name, content in ODD_PAGES.items())


def event_faults() -> Iterator[Fault]:
    yield from faults()
    yield from ((name, says(content), InvalidAnswer) for name, content in ODD_EVENTS.items())


def budget_for(expected: type[UpstreamError]) -> float:
    """Short where it is to be used up; else so long that only a real answer can come within it."""
    return BUDGET if expected is UpstreamTimeout else PLENTY


class C42Test(unittest.TestCase):
    def setUp(self) -> None:
        self.wire = self.enterContext(Wire())
        self.session = self.enterContext(new_session(8))
        self.client = C42Client(
            self.wire.url, SecretStr(TOKEN), session=self.session, clock=lambda: NOW, metrics=Metrics()
        )
        self.records: list[logging.LogRecord] = []
        handler = logging.Handler(logging.DEBUG)
        handler.emit = self.records.append  # type: ignore[assignment, method-assign]
        # Those of urllib3 are named as well: another test may have told it to be quiet.
        for name in (None, "urllib3", "urllib3.connection", "urllib3.connectionpool"):
            logger = logging.getLogger(name)
            self.addCleanup(logger.setLevel, logger.level)
            logger.setLevel(logging.DEBUG)
        logging.getLogger().addHandler(handler)
        self.addCleanup(logging.getLogger().removeHandler, handler)

    def event(self, behaviour: Behaviour, budget: float = PLENTY) -> Event:
        self.wire.behaviour = behaviour
        return self.client.event(EVENT_ID, Deadline(budget))

    def page(self, behaviour: Behaviour, budget: float = PLENTY) -> Page:
        self.wire.behaviour = behaviour
        return self.client.subscriptions(EVENT_ID, 0, Deadline(budget))

    def failure(self, call: Callable[[Behaviour, float], object], fault: Fault) -> UpstreamError:
        """The error that a fault ends in: the expected one, in time, without the token."""
        _, behaviour, expected = fault
        start = time.monotonic()
        with self.assertRaises(UpstreamError) as raised:
            call(behaviour, budget_for(expected))
        self.assertLess(time.monotonic() - start, budget_for(expected) + SLACK)
        self.assertIs(expected, type(raised.exception), raised.exception)
        self.assertTrue(Cause.is_one(raised.exception.cause), raised.exception.cause)
        self.assert_hidden(raised.exception)
        return raised.exception

    def assert_hidden(self, error: BaseException) -> None:
        said = "".join(traceback.format_exception(error))
        for one in chain(error):
            said += f"{one}{one!r}{one.args!r}"
        self.assertNotIn(TOKEN, said)
        self.assert_not_logged()

    def assert_not_logged(self) -> None:
        formatter = logging.Formatter()
        for record in self.records:
            self.assertNotIn(TOKEN, formatter.format(record) + repr(record.args))


class RequestTest(C42Test):
    def test_what_is_sent(self) -> None:
        """Both calls carry the token and ask for JSON; the list is asked for a hundred at a time, ids in brackets."""
        requests: list[bytes] = []

        def behave(path: str, connection: Connection) -> None:
            requests.append(connection.request)
            c42()(path, connection)

        self.event(behave)
        self.client.subscriptions(EVENT_ID, 200, Deadline(PLENTY))
        self.assertTrue(requests[0].startswith(f"GET /api/v2/events/{EVENT_ID}/ HTTP/1.1\r\n".encode()))
        self.assertTrue(
            requests[1].startswith(
                f"GET /api/v2/event-subscriptions/?event_ids=%5B{EVENT_ID}%5D&limit=100&offset=200 HTTP".encode()
            )
        )
        for request in requests:
            self.assertIn(f"\r\nAuthorization: Token {TOKEN}\r\n".encode(), request)
            self.assertIn(b"\r\nAccept: application/json\r\n", request)

    def test_kept_alive(self) -> None:
        """Answers of any status that are read to their end leave their connection for the next call."""
        for _ in range(10):
            self.event(says({}, "404 Not Found"))
            self.page(c42())
        self.assertEqual(1, self.wire.connections)

    def test_nothing_is_begun_in_vain(self) -> None:
        """Past the deadline, no call is begun."""
        with self.assertRaises(UpstreamTimeout):
            self.client.event(EVENT_ID, Deadline(0))
        self.assertEqual(0, self.wire.calls.total())


class EventTest(C42Test):
    def test_title(self) -> None:
        """An event has its title, of any Unicode, or none."""
        for title in ("Coffee", "", "Кофе ☕ 👩‍🚀 \u202e \x00", None):
            with self.subTest(title=title):
                self.assertEqual(Event(True, title, 200), self.event(says(event(title))))
        self.assertEqual(Event(True, None, 200), self.event(says({"data": [{"id": EVENT_ID}]})))

    def test_not_there(self) -> None:
        """A 404, an empty list and a deleted event all mean that there is no such event."""
        self.assertEqual(Event(False, None, 404), self.event(says(b"<html>", "404 Not Found")))
        self.assertEqual(Event(False, None, 200), self.event(says({"data": []})))
        deleted = {"data": [{"id": EVENT_ID, "permission": "removed"}]}
        self.assertEqual(Event(False, None, 200), self.event(says(deleted)))

    def test_malformed_heads(self) -> None:
        """An answer whose end cannot be known is refused as soon as its head has come."""
        for fault in MALFORMED_HEADS.items():
            with self.subTest(fault=fault[0]):
                start = time.monotonic()
                self.failure(self.event, (*fault, InvalidAnswer))
                self.assertLess(time.monotonic() - start, SLACK)

    def test_other_fields(self) -> None:
        """What is in fields that we do not pass on does not matter."""
        odd = event("Coffee", start=[1], event_type=LONE, permission=LONE, **{LONE: {}})
        self.assertEqual("Coffee", self.event(says(odd)).title)

    def test_faults(self) -> None:
        """Each fault of the event call ends in its error, in time, without the token in it or in a log line."""
        for fault in event_faults():
            with self.subTest(fault=fault[0]):
                self.failure(self.event, fault)


class SubscriptionsTest(C42Test):
    def test_page(self) -> None:
        """A page has its subscriptions in C42's order, and the count, where C42 tells one."""
        people = [subscription(2, "Zoë"), subscription(1, "Ann")]
        first, second = (Subscription(f"{EVENT_ID}__{n}", name) for n, name in ((2, "Zoë"), (1, "Ann")))
        self.assertEqual(Page([first, second], 2), self.page(says(page(people, count=2))))
        self.assertEqual(Page([], None), self.page(says({"data": []})))
        self.assertEqual(Page([], None), self.page(says(page([], count=None))))
        self.assertEqual(Page([], 10**30), self.page(says(page([], count=10**30))))
        self.assertEqual(Page([], -1), self.page(says(page([], count=-1))))

    def test_nobody_to_name(self) -> None:
        """Removed subscriptions and those without a first name have nobody to name."""
        nobody: list[object] = [
            {"id": "1", "permission": "removed"},
            subscription(2, "Ann", permission="removed"),
            subscription(3, None),
            subscription(4, ""),
            subscription(5, " \t\u00a0\u3000"),
            subscription(6, subscriber={}),
        ]
        found = self.page(says(page(nobody, count=6))).subscriptions
        self.assertEqual([None] * 6, [one.first_name for one in found])

    def test_no_list(self) -> None:
        """A 404 is no list, whatever comes with it."""
        with self.assertRaises(InvalidAnswer) as raised:
            self.page(says(page([]), "404 Not Found"))
        self.assertEqual(404, raised.exception.upstream_status)

    def test_other_fields(self) -> None:
        """A lone surrogate is no matter in what we do not pass on, even where it is a first name."""
        people: list[object] = [
            subscription(1, "Ann", rsvp_status=LONE, permission=LONE),
            subscription(2, subscriber={"first_name": "Bob", "last_name": LONE, "email": [LONE]}),
            subscription(3, LONE, permission="removed"),
            subscription(4, "Cid") | {"id": LONE},
        ]
        found = self.page(says(page(people, count=4, sync_token=LONE))).subscriptions
        self.assertEqual(["Ann", "Bob", None, "Cid"], [one.first_name for one in found])

    def test_faults(self) -> None:
        """Each fault of the call for a page ends in its error, in time, without the token in it or in a log line."""
        for fault in page_faults():
            with self.subTest(fault=fault[0]):
                self.failure(self.page, fault)


class SizeTest(C42Test):
    def test_exactly_as_much_as_allowed(self) -> None:
        """An answer of 4,194,304 bytes is read."""
        self.assertFalse(self.event(says(b'{"data": []}'.ljust(4_194_304))).exists)

    def test_little_memory(self) -> None:
        """However much an answer holds, little more than its 4 MiB are ever in memory."""
        unusable = ("spaces without end, in chunks", "a gigabyte, compressed", "a gigabyte, compressed twice")
        broken = ("a chunk of negative length", "an endless chunk length")
        faults: list[Fault] = [(name, UNUSABLE[name], InvalidAnswer) for name in unusable]
        faults += [(name, BROKEN[name], UpstreamUnavailable) for name in broken]
        for fault in faults:
            with self.subTest(answer=fault[0]):
                tracemalloc.start()
                self.addCleanup(tracemalloc.stop)
                self.failure(self.event, fault)
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                self.assertLess(peak, 32 * 2**20)

    def test_redirect_is_not_followed(self) -> None:
        """A redirect is an answer that cannot be used; where it leads is never asked."""
        for status in (301, 302, 303, 307, 308):
            with self.assertRaises(InvalidAnswer):
                self.event(says(b"", f"{status} Moved", "Location: /elsewhere"))
        self.assertEqual(5, self.wire.calls["event"])

    def test_body_of_a_redirect(self) -> None:
        """A redirect's body is not waited for, not even one without an end."""
        endless = sends_without_end(
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 1000
        )
        with self.assertRaisesRegex(InvalidAnswer, "302"):
            self.event(endless)

    def test_cookies(self) -> None:
        """A cookie of C42 is not sent back."""
        sent: list[str | None] = []

        def behave(_path: str, connection: Connection) -> None:
            sent.append(connection.header("Cookie"))
            connection.send(answer(event(), "200 OK", "Set-Cookie: a=b; Path=/"))

        self.event(behave)
        self.event(behave)
        self.assertEqual([None, None], sent)

    def test_refused(self) -> None:
        """Where nobody listens, C42 is down."""
        client = C42Client(
            "http://127.0.0.1:1/", SecretStr(TOKEN), session=self.session, clock=lambda: NOW, metrics=Metrics()
        )
        with self.assertRaises(UpstreamUnavailable):
            client.event(EVENT_ID, Deadline(PLENTY))


class TransportTest(C42Test):
    def test_whatever_is_raised(self) -> None:
        """Whatever the libraries below raise ends in our errors: a time-out in its own, all else as C42 being down."""
        raised: dict[Exception, type[UpstreamError]] = {
            requests.ReadTimeout(): UpstreamTimeout,
            TimeoutError(): UpstreamTimeout,
            requests.RequestException(): UpstreamUnavailable,
            urllib3.exceptions.HTTPError(): UpstreamUnavailable,
            http.client.HTTPException(): UpstreamUnavailable,
            OSError(): UpstreamUnavailable,
            ValueError(): UpstreamUnavailable,
        }
        for error, expected in raised.items():

            class Raising(HTTPAdapter):
                def send(self, *_: object, error: Exception = error, **__: object) -> NoReturn:
                    raise error

            with self.subTest(error=error):
                self.session.mount("http://", Raising())
                client = C42Client(
                    self.wire.url, SecretStr(TOKEN), session=self.session, clock=lambda: NOW, metrics=Metrics()
                )
                with self.assertRaises(expected):
                    client.event(EVENT_ID, Deadline(PLENTY))


class OurOwnLimitsTest(C42Test):
    def test_no_descriptors(self) -> None:
        """Where this process can open no socket, C42 is not at fault, and all is well as soon as it can again."""
        with no_descriptors(), self.assertRaises(Overloaded):
            self.event(c42())
        # The stand-in is in this process: it has lost what it accepts connections with.
        self.wire = self.enterContext(Wire())
        self.client = C42Client(
            self.wire.url, SecretStr(TOKEN), session=self.session, clock=lambda: NOW, metrics=Metrics()
        )
        self.assertTrue(self.event(c42()).exists)

    def test_name(self) -> None:
        """A name that cannot be looked up for that reason is no failure of C42; one that is not known is one."""
        unknown = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        for setting, expected in ((no_descriptors, Overloaded), (nullcontext, UpstreamUnavailable)):
            with (
                self.subTest(expected=expected),
                patch("socket.getaddrinfo", side_effect=unknown),
                setting(),
                self.assertRaises(expected),
            ):
                self.event(c42())

    def test_for_a_moment(self) -> None:
        """Where descriptors have lacked for the call alone, that is no failure of C42 either."""
        lacking = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with patch("socket.getaddrinfo", side_effect=lacking), self.assertRaises(Overloaded):
            self.event(c42())

    def test_not_counted(self) -> None:
        """The call was never made: it counts neither as answered by C42 nor as failed."""
        metrics = Metrics()
        client = C42Client(self.wire.url, SecretStr(TOKEN), session=self.session, clock=lambda: NOW, metrics=metrics)
        with no_descriptors(), self.assertRaises(Overloaded):
            client.event(EVENT_ID, Deadline(PLENTY))
        counts = re.findall(rb"call_duration_seconds_count\S+ (\S+)", metrics.exposition())
        self.assertEqual(set(counts), {b"0.0"})


class StatusTest(C42Test):
    def test_upstream_status(self) -> None:
        """An error knows the status that decided it; None where none came."""
        for status in (204, 301, 400, 401, 403, 418, 429, 500, 502, 503, 504):
            with self.subTest(status=status), self.assertRaises(UpstreamError) as raised:
                self.event(says({}, f"{status} So it is"))
            self.assertEqual(status, raised.exception.upstream_status)
        for behaviour in (is_silent, closes):
            with self.assertRaises(UpstreamError) as raised:
                self.event(behaviour, BUDGET)
            self.assertIsNone(raised.exception.upstream_status)


class RetryAfterTest(C42Test):
    def wait(self, *headers: str, status: str = "429 Too Many Requests") -> float:
        with self.assertRaises(RateLimited) as raised:
            self.event(says({}, status, *headers))
        return raised.exception.seconds

    def test_seconds(self) -> None:
        """A number of seconds is taken as it is, up to an hour."""
        for value, seconds in {
            "0": 0,
            "1": 1,
            "007": 7,
            " 42 ": 42,
            "3600": 3600,
            "3601": 3600,
            "9" * 9999: 3600,
        }.items():
            with self.subTest(value=value[:9]):
                self.assertEqual(seconds, self.wait(f"Retry-After: {value}"))

    def test_date(self) -> None:
        """A date is so many seconds ahead on our clock: none where it is past, an hour at most."""
        for ahead, seconds in {90: 90, 0: 0, -90: 0, 3600: 3600, 7200: 3600}.items():
            with self.subTest(ahead=ahead):
                self.assertEqual(seconds, self.wait(f"Retry-After: {formatdate(NOW + ahead, usegmt=True)}"))
        self.assertEqual(3600, self.wait("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"))
        an_hour_east = formatdate(NOW + 90 + 3600, usegmt=True).replace("GMT", "+0100")
        self.assertEqual(90, self.wait(f"Retry-After: {an_hour_east}"))

    def test_unreadable(self) -> None:
        """What is neither, or missing, is half a minute."""
        for value in ("soon", "-5", "1.5", "1e3", "", "٣", "5, 6", "Mon, 01 Jan 99999999999 00:00:00 GMT"):
            with self.subTest(value=value):
                self.assertEqual(30, self.wait(f"Retry-After: {value}"))
        self.assertEqual(30, self.wait())

    def test_503(self) -> None:
        """A 503 with a Retry-After tells us to wait; one without is a C42 that is down."""
        unavailable = "503 Service Unavailable"
        self.assertEqual(7, self.wait("Retry-After: 7", status=unavailable))
        self.assertEqual(30, self.wait("Retry-After: soon", status=unavailable))
        with self.assertRaises(UpstreamUnavailable):
            self.event(says({}, unavailable))

    def test_others(self) -> None:
        """With any other status a Retry-After means nothing."""
        for status, expected in {
            "500 Oops": UpstreamUnavailable,
            "403 No": TokenRefused,
            "301 x": InvalidAnswer,
        }.items():
            with self.assertRaises(expected):
                self.event(says({}, status, "Retry-After: 7"))

    def test_anything(self) -> None:
        """Whatever the header says, it is a wait of up to an hour."""

        @settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n")) | dates())
        def check(value: str) -> None:
            head = f"HTTP/1.1 429 x\r\nContent-Length: 0\r\nRetry-After: {value}\r\n\r\n".encode("latin-1")
            with self.assertRaises(RateLimited) as raised:
                self.event(lambda _path, connection: connection.send(head))
            self.assertTrue(0 <= raised.exception.seconds <= 3600)

        check()


def dates() -> st.SearchStrategy[str]:
    """Something like a date."""
    number = st.integers(0, 10**12)
    zone = st.sampled_from(["GMT", "+9999", "-0000", ""])
    return st.builds("Mon, {} Jan {} {}:{}:{} {}".format, number, number, number, number, number, zone)


def json_values() -> st.SearchStrategy[object]:
    """JSON of any shape, made of C42's own words."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(EVENT_ID)
    words = ["data", "meta_data", "id", "event_id", "title", "permission", "subscriber", "first_name", "count"]
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(words), inner),
        max_leaves=12,
    )


class ShapeTest(C42Test):
    def test_what_is_wrong(self) -> None:
        """The message distinguishes what is no JSON from JSON of another shape: operators look for different things."""
        for content, why in ((b"<html>", "not JSON"), ({"data": 7}, "another shape")):
            with self.assertRaisesRegex(InvalidAnswer, why):
                self.event(says(content))

    def test_anything(self) -> None:
        """JSON of any shape ends in an event, a page, or one of our errors."""

        @settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
        @given(json_values() | st.builds(lambda value: {"data": [value]}, json_values()))
        def check(value: object) -> None:
            for call in (self.event, self.page):
                with contextlib.suppress(UpstreamError):
                    self.assertIsInstance(call(says(value)), Event | Page)

        check()


def echoes() -> dict[str, Callable[[bytes], bytes]]:
    """Answers that give back what they were asked with: from the token to the bytes."""
    ok = b"HTTP/1.1 200 OK\r\n"
    return {
        "instead of an answer": lambda token: b"%b\r\n" % token,
        "as a status": lambda token: b"HTTP/1.1 " + token + b" OK\r\n\r\n",
        "as a version": lambda token: token + b" 200 OK\r\n\r\n",
        "as a reason": lambda token: b"HTTP/1.1 500 " + token + b"\r\nContent-Length: 0\r\n\r\n",
        "as a header without a colon": lambda token: ok + token + b"\r\nContent-Length: 0\r\n\r\n",
        "as a name of a header": lambda token: ok + token + b": x\r\nContent-Length: 0\r\n\r\n",
        "as a length": lambda token: ok + b"Content-Length: " + token + b"\r\n\r\n{}",
        "as one length of several": lambda token: ok + b"Content-Length: 1, " + token + b"\r\n\r\n{}",
        "as lengths": lambda token: ok + b"Content-Length: 1\r\nContent-Length: " + token + b"\r\n\r\n{}",
        "as an encoding": lambda token: answer(b"x", "200 OK", "Content-Encoding: gzip, " + token.decode()),
        "as a charset": lambda token: answer(b"x", "200 OK", "Content-Type: text/html; charset=" + token.decode()),
        "as a place": lambda token: answer(b"", "302 Found", "Location: http://" + token.decode()),
        "as a place that is none": lambda token: answer(b"", "302 Found", "Location: http://[" + token.decode()),
        "as a wait": lambda token: answer(b"", "429 Too Many", "Retry-After: " + token.decode()),
        "as a cookie": lambda token: answer(b"", "500 Oops", "Set-Cookie: a=" + token.decode()),
        "as a chunk length": lambda token: CHUNKED + token + b"\r\nx\r\n",
        "as a chunk": lambda token: CHUNKED + b"%x\r\n%b" % (len(token), token),
        "as a trailer": lambda token: CHUNKED + b"2\r\n{}\r\n0\r\n" + token,
        "as text": answer,
        "as invalid UTF-8": lambda token: answer(token + b"\xff"),
        "as a constant": lambda token: answer(b'{"data": [' + token + b"]}"),
        "as an id": lambda token: answer({"data": [{"id": token.decode()}]}),
        "as an event": lambda token: answer({"data": [token.decode()]}),
        "as data": lambda token: answer({"data": token.decode()}),
        "as a key": lambda token: answer({"data": [{token.decode(): token.decode()}]}),
        "as a title that is not Unicode": lambda token: answer(event(token.decode() + LONE)),
        "as a name that is not Unicode": lambda token: answer(page([subscription(1, token.decode() + LONE)])),
        "as a permission": lambda token: answer(event(permission=[token.decode()])),
        "as a refusal": lambda token: answer({"error": {"message": token.decode()}}, "401 " + token.decode()),
        "as compressed": lambda token: answer(token, "200 OK", "Content-Encoding: gzip"),
    }


class TokenTest(C42Test):
    def test_repr(self) -> None:
        """The token is not in what our objects say of themselves."""
        self.event(c42())
        for thing in (self.client, *vars(self.client).values(), self.session, *vars(self.session).values()):
            self.assertNotIn(TOKEN, repr(thing) + str(thing))

    def test_success(self) -> None:
        """The token is in no log line of an answer that came."""
        self.event(c42())
        self.page(c42())
        self.assertTrue(self.records, "urllib3 logs each request: this test would prove nothing")
        self.assert_not_logged()

    def test_echoes(self) -> None:
        """The token is in no exception and no log line, not even where the upstream gives back what it was sent."""
        for name, echo in echoes().items():
            for what in (TOKEN.encode(), b"Authorization: Token " + TOKEN.encode()):
                with self.subTest(echo=name, what=what):
                    self.records.clear()
                    for call in (self.event, self.page):
                        try:
                            call(sends_and_closes(echo(what)), PLENTY)
                        except UpstreamError as error:
                            self.assert_hidden(error)
                    self.assert_not_logged()

    def test_whole_request_as_answer(self) -> None:
        """A server that answers with the very request tells nobody of the token."""

        def behave(_path: str, connection: Connection) -> None:
            connection.send(connection.request)
            connection.close()

        for call in (self.event, self.page):
            with self.assertRaises(UpstreamUnavailable) as raised:
                call(behave)
            self.assert_hidden(raised.exception)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, its causes, its contexts, and the exceptions among their arguments."""
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        yield from chain(error.__context__)
        for argument in error.args:
            if isinstance(argument, BaseException):
                yield from chain(argument)


if __name__ == "__main__":
    unittest.main()
