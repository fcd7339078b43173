"""The sandbox behaves as C42 does, and as it is told to."""

import contextlib
import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from click.testing import CliRunner
from werkzeug.wrappers import Response

from c42_proxy.sandbox.api import Sandbox
from c42_proxy.sandbox.command import SANDBOX_TOKEN, sandbox
from c42_proxy.sandbox.events import (
    BABEL,
    BASEBALL,
    COFFEE,
    DELETED,
    DINNER,
    SAMPLES,
    UNTITLED,
    sample,
)
from c42_proxy.sandbox.shapes import Person
from c42_proxy.sandbox.state import Fault

UNKNOWN = "f" * 32 + "_00000000000000"


class SandboxTest(unittest.TestCase):
    """A fresh sandbox for each test, in this process; `naps` is how long its replies would have taken."""

    def setUp(self) -> None:
        self.naps: list[float] = []
        self.start()

    def start(self, *, latency: float = 0.0, fault: Fault | None = None) -> None:
        self.sandbox = Sandbox(token="right", latency=latency, fault=fault)

    def api(self, path: str, token: str | None = "Token right", method: str = "GET") -> Response:
        return self.send(method, f"/api/v2/{path}", token)

    def send(self, method: str, target: str, token: str | None = None, body: bytes = b"") -> Response:
        reply = self.sandbox.receive(method, target, token, body)
        self.naps.append(reply.seconds)
        return Response(reply.body, reply.status, reply.headers, content_type="application/json")

    def event(self, event_id: str) -> Response:
        return self.api(f"events/{event_id}/")

    def subscriptions(self, *event_ids: str, query: str = "") -> Response:
        return self.api(f"event-subscriptions/?event_ids=[{','.join(event_ids)}]{query}")

    def change(self, **wanted: object) -> Response:
        return self.send("PUT", "/sandbox/", body=json.dumps(wanted).encode())

    def report(self) -> Any:
        return self.send("GET", "/sandbox/").get_json()

    def assert_c42_error(self, response: Response, status: int, code: str) -> None:
        self.assertEqual(response.status_code, status)
        self.assertEqual(response.content_type, "application/json")
        error = json.loads(response.data)["error"]
        self.assertEqual(set(error), {"status_code", "message", "code"})
        self.assertEqual((error["status_code"], error["code"]), (status, code))
        self.assertTrue(error["message"])


class EventTest(SandboxTest):
    def test_one_event_in_a_list(self) -> None:
        """An event comes as the only entry of `data`, with a count of one."""
        answer = self.event(COFFEE).get_json()
        self.assertEqual(answer["meta_data"], {"count": 1})
        (event,) = answer["data"]
        self.assertEqual(event["id"], COFFEE)
        self.assertEqual(event["title"], "Drink a cup of coffee with C42 Team")
        self.assertEqual(event["permission"], "subscribed_write")
        self.assertLessEqual({"event_type", "start", "end", "creator"}, set(event))

    def test_without_a_title(self) -> None:
        """An event without a title has one that is null."""
        self.assertIsNone(self.event(UNTITLED).get_json()["data"][0]["title"])

    def test_deleted(self) -> None:
        """A deleted event still answers 200, with nothing but its id and the permission `removed`."""
        response = self.event(DELETED)
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.get_json()["data"], [{"id": DELETED, "permission": "removed"}])

    def test_unknown(self) -> None:
        """An unknown event is a 404."""
        self.assert_c42_error(self.event(UNKNOWN), 404, "not_found")

    def test_scripts(self) -> None:
        """Text of any script is sent as it is, in UTF-8 and not normalised."""
        self.assertIn("コーヒー · ☕🐟".encode(), self.event(BABEL).data)
        self.assertIn("Zoe\u0308".encode(), self.subscriptions(BABEL).data)


class SubscriptionsTest(SandboxTest):
    def test_shape(self) -> None:
        """A subscription names its event, its subscriber and, apart from them, who invited them."""
        answer = self.subscriptions(COFFEE).get_json()
        self.assertEqual(set(answer["meta_data"]), {"count", "offset", "sync_token"})
        self.assertIsInstance(answer["meta_data"]["sync_token"], int)
        (one,) = answer["data"]
        self.assertEqual(one["event_id"], COFFEE)
        self.assertEqual(one["id"], f"{COFFEE}__{one['subscriber']['id']}")
        self.assertEqual(one["subscriber"]["first_name"], "Michel")
        self.assertNotEqual(one["actor"]["id"], one["subscriber"]["id"])

    def test_names(self) -> None:
        """A removed subscription has no subscriber; first names may be null, empty or shared."""
        answer = self.subscriptions(DINNER).get_json()
        self.assertEqual(answer["meta_data"]["count"], 8)
        gone = [each for each in answer["data"] if "subscriber" not in each]
        self.assertEqual([set(each) for each in gone], [{"id", "permission"}])
        self.assertEqual(gone[0]["permission"], "removed")
        names = [each["subscriber"]["first_name"] for each in answer["data"] if "subscriber" in each]
        self.assertEqual(names, ["Arthur", "Ford", "Zaphod", "Tricia", None, "", "Arthur"])

    def test_ten_without_a_limit(self) -> None:
        """Without a limit the first ten come, and the count of all of them."""
        answer = self.subscriptions(BASEBALL).get_json()
        self.assertEqual(answer["data"], list(SAMPLES[BASEBALL].subscriptions[:10]))
        self.assertEqual((answer["meta_data"]["count"], answer["meta_data"]["offset"]), (250, 0))

    def test_pages(self) -> None:
        """All pages together are all subscriptions, each once and in order."""
        pages = [
            self.subscriptions(BASEBALL, query=f"&limit=100&offset={start}").get_json() for start in (0, 100, 200, 300)
        ]
        self.assertEqual([len(page["data"]) for page in pages], [100, 100, 50, 0])
        self.assertEqual([page["meta_data"]["offset"] for page in pages], [0, 100, 200, 300])
        self.assertEqual({page["meta_data"]["count"] for page in pages}, {250})
        everyone = [each for page in pages for each in page["data"]]
        self.assertEqual(everyone, list(SAMPLES[BASEBALL].subscriptions))
        self.assertEqual(len({each["id"] for each in everyone}), 250)

    def test_a_crowd(self) -> None:
        """The large event has removed subscriptions and many different names."""
        people = SAMPLES[BASEBALL].subscriptions
        self.assertEqual(sum(each["permission"] == "removed" for each in people), 12)
        names = {json.dumps(each["subscriber"]) for each in people if "subscriber" in each}
        self.assertEqual(len(names), 238)

    def test_wrong_limit_or_offset(self) -> None:
        """A limit that is over 100, under 1 or no number is an error, and so is such an offset."""
        for query in (
            *("limit=101", "limit=0", "limit=-1", "limit=ten", "limit=", "limit=1e1", "limit=٣", "limit=+1"),
            *("offset=-1", "offset=", "offset=x", "offset=1.0", f"offset={10**12}"),
        ):
            with self.subTest(query):
                self.assert_c42_error(self.subscriptions(COFFEE, query=f"&{query}"), 400, "bad_request")

    def test_several_events(self) -> None:
        """Several ids ask for the subscriptions of all these events, each event once."""
        answer = self.subscriptions(UNTITLED, COFFEE, UNKNOWN, UNTITLED).get_json()
        self.assertEqual(answer["meta_data"]["count"], 3)
        self.assertEqual([each["event_id"] for each in answer["data"]], [UNTITLED, UNTITLED, COFFEE])

    def test_wrong_list(self) -> None:
        """Ids without brackets, with quotes, or none at all, are an error."""
        for query in ("", COFFEE, "[]", f'["{COFFEE}"]', f"['{COFFEE}']", "[a,]", "[a][b]", "[a", "[a b]"):
            with self.subTest(query):
                response = self.api(f"event-subscriptions/?event_ids={query}")
                self.assert_c42_error(response, 400, "bad_request")
        self.assert_c42_error(self.api("event-subscriptions/"), 400, "bad_request")

    def test_unknown_or_deleted(self) -> None:
        """An unknown and a deleted event have an empty list of subscriptions."""
        for event_id in (UNKNOWN, DELETED):
            with self.subTest(event_id):
                response = self.subscriptions(event_id)
                self.assertEqual(response.status_code, 200)
                self.assertEqual(response.get_json()["data"], [])
                self.assertEqual(response.get_json()["meta_data"]["count"], 0)


class RefusalTest(SandboxTest):
    def test_token(self) -> None:
        """A call with a wrong token, none, or another scheme is a 401 that tells nothing."""
        for path in (f"events/{COFFEE}/", f"event-subscriptions/?event_ids=[{COFFEE}]"):
            for token in (None, "", "Token wrong", "Token ", "Bearer right", "right"):
                with self.subTest(path=path, token=token):
                    self.assert_c42_error(self.api(path, token=token), 401, "unauthorized")

    def test_no_such_address(self) -> None:
        """Any other address, also one without the closing slash, is a 404 in C42's format."""
        for path in ("/x", "/api/v2/", f"/api/v2/events/{COFFEE}", f"/api/v2//events/{COFFEE}/", "/sandbox"):
            with self.subTest(path):
                self.assert_c42_error(self.send("GET", path), 404, "not_found")

    def test_no_such_method(self) -> None:
        """Another method is a 405 in C42's format that names the allowed ones."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            with self.subTest(method):
                response = self.api(f"events/{COFFEE}/", method=method)
                self.assert_c42_error(response, 405, "method_not_allowed")
                self.assertEqual(set(response.allow), {"GET", "HEAD"})


class ControlTest(SandboxTest):
    def test_report(self) -> None:
        """A fresh sandbox has received nothing, is in no hurry to fail and takes no time."""
        expected = {"calls": {"events": 0, "subscriptions": 0}, "latency": 0.0, "fault": None}
        self.assertEqual(self.report(), expected)

    def test_count(self) -> None:
        """Every API call counts, also one that is refused or goes wrong; nothing else does."""
        self.event(COFFEE)
        self.event(UNKNOWN)
        self.api(f"events/{COFFEE}/", token=None)
        self.subscriptions(COFFEE, query="&limit=101")
        self.api("nonsense/")
        self.api(f"events/{COFFEE}/", method="POST")
        self.assertEqual(self.report()["calls"], {"events": 3, "subscriptions": 1})
        self.change(fault={"status": 500})
        self.subscriptions(COFFEE)
        self.assertEqual(self.report()["calls"], {"events": 3, "subscriptions": 2})

    def test_count_under_threads(self) -> None:
        """No call is lost from the count when many come at once."""

        def call() -> None:
            for _ in range(50):
                self.event(COFFEE)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.report()["calls"]["events"], 400)

    def test_reset(self) -> None:
        """The count starts anew on demand, and the answer shows it."""
        self.event(COFFEE)
        self.assertEqual(self.change(calls="reset").get_json()["calls"], {"events": 0, "subscriptions": 0})

    def test_latency(self) -> None:
        """Every API call takes the latency, also one that goes wrong; the control does not."""
        self.start(latency=1.5)
        self.event(COFFEE)
        self.change(latency=3, fault={"status": 500})
        self.event(COFFEE)
        self.subscriptions(COFFEE)
        self.api("events/x/", token=None)
        self.assertEqual(self.naps, [1.5, 0, 3, 3, 3])
        self.assertEqual(self.report()["latency"], 3)

    def test_only_what_is_given_changes(self) -> None:
        """A change leaves alone what it does not name."""
        self.event(COFFEE)
        self.change(latency=2)
        self.change(fault={"status": 503})
        self.change()
        report = self.report()
        self.assertEqual((report["latency"], report["calls"]["events"]), (2, 1))
        self.assertEqual(report["fault"], {"status": 503, "call": "both"})
        self.change(fault=None)
        self.assertIsNone(self.report()["fault"])
        self.assertEqual(self.report()["latency"], 2)

    def test_status_fault(self) -> None:
        """A fault's status answers both calls, in C42's format, before the token is looked at."""
        self.change(fault={"status": 503, "retry_after": 30})
        for response in (self.event(COFFEE), self.subscriptions(COFFEE), self.api("events/x/", token=None)):
            self.assert_c42_error(response, 503, "service_unavailable")
            self.assertEqual(response.headers["Retry-After"], "30")
        self.change(fault=None)
        self.assertEqual(self.event(COFFEE).status_code, 200)

    def test_fault_from_the_start(self) -> None:
        """A fault can be there from the start; Retry-After may be any text, or missing."""
        self.start(fault=Fault(status=429, retry_after="Fri, 21 Oct 2016 15:00:00 GMT"))
        self.assertEqual(self.event(COFFEE).headers["Retry-After"], "Fri, 21 Oct 2016 15:00:00 GMT")
        self.start(fault=Fault(status=429))
        self.assertNotIn("Retry-After", self.event(COFFEE).headers)

    def test_fault_of_one_call(self) -> None:
        """A fault of one call leaves the other one well."""
        self.change(fault={"status": 500, "call": "events"})
        self.assertEqual([self.event(COFFEE).status_code, self.subscriptions(COFFEE).status_code], [500, 200])
        self.change(fault={"status": 500, "call": "subscriptions"})
        self.assertEqual([self.event(COFFEE).status_code, self.subscriptions(COFFEE).status_code], [200, 500])

    def test_fault_of_one_event(self) -> None:
        """A fault of one event leaves the others well, in both calls."""
        self.change(fault={"status": 500, "event_id": COFFEE})
        self.assertEqual([self.event(COFFEE).status_code, self.event(DINNER).status_code], [500, 200])
        self.assertEqual(self.subscriptions(DINNER).status_code, 200)
        self.assertEqual(self.subscriptions(DINNER, COFFEE).status_code, 500)

    def test_garbage(self) -> None:
        """A fault's body is sent as it is, with a 200 unless another status is given."""
        self.change(fault={"body": "not json é"})
        response = self.event(COFFEE)
        self.assertEqual((response.status_code, response.data), (200, "not json é".encode()))
        self.assertEqual(response.content_type, "application/json")
        self.change(fault={"body": "", "status": 502})
        self.assertEqual((self.event(COFFEE).status_code, self.event(COFFEE).data), (502, b""))

    def test_wrong_changes(self) -> None:
        """A change that is not allowed is a 400 that says what is, and nothing of it happens."""
        before = self.report()
        for body in (
            *("", "nonsense", "[]", "null", '{"speed": 1}', '{"calls": "double"}', '{"calls": null}'),
            *('{"latency": -1}', '{"latency": "1"}', '{"latency": NaN}', '{"latency": null}'),
            *('{"latency": 1e9}', '{"latency": 2, "fault": {}}', '{"fault": {"status": 200}}'),
            *('{"fault": {"status": 600}}', '{"fault": {"status": 503, "call": "all"}}'),
            *('{"fault": {"status": 503, "retry_after": -1}}', '{"fault": {"status": 503, "x": 1}}'),
            r'{"fault": {"status": 503, "retry_after": "1\r\nX: y"}}',
            *('{"events": {"a,b": {"title": "", "names": []}}}', '{"events": {"a": {"title": "A"}}}'),
        ):
            with self.subTest(body):
                response = self.send("PUT", "/sandbox/", body=body.encode())
                self.assert_c42_error(response, 400, "bad_request")
                self.assertIn("Allowed is", response.get_json()["error"]["message"])
                self.assertEqual(self.report(), before)

    def test_other_sites(self) -> None:
        """A page changes the sandbox from an address of the sandbox alone, never from another site; curl does, too."""
        for origin, host, status in (
            *((None, "sandbox:4244", 200), ("http://127.0.0.1:4244", "127.0.0.1:4244", 200)),
            *(("http://[::1]:4244", "[::1]:4244", 200), ("http://localhost", "localhost", 200)),
            *(("http://127.0.0.1:4242", "127.0.0.1:4244", 403), ("null", "127.0.0.1:4244", 403)),
            # This name leads here, by the doing of whoever owns it.
            *(("http://thief.example", "thief.example", 403), ("http://127.0.0.1.example", "127.0.0.1.example", 403)),
        ):
            with self.subTest(origin=origin, host=host):
                self.start()
                reply = self.sandbox.receive("PUT", "/sandbox/", None, b'{"latency": 2}', origin=origin, host=host)
                self.assertEqual((reply.status, self.report()["latency"]), (status, 2 if status == 200 else 0))

    def test_page(self) -> None:
        """The page asks its own server and the proxy alone, and no site may show it in a frame."""
        reply = Sandbox(token="t", proxy="http://127.0.0.1:1").receive("GET", "/")
        self.assertIn(b'data-proxy="http://127.0.0.1:1"', reply.body)
        policy = reply.headers["Content-Security-Policy"]
        self.assertIn("connect-src 'self' http://127.0.0.1:1;", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertEqual(self.send("PUT", "/").status_code, 405)

    def test_latest_calls(self) -> None:
        """What the page shows names the latest calls, the oldest first, with their status."""
        self.event(COFFEE)
        self.subscriptions(COFFEE, query="&limit=101")
        latest = self.send("GET", "/sandbox/live").get_json()["latest"]
        self.assertEqual([each["status"] for each in latest], [200, 400])
        self.assertTrue(latest[1]["target"].endswith("&limit=101"), latest)
        for _ in range(60):
            self.event(UNKNOWN)
        self.assertEqual(len(self.send("GET", "/sandbox/live").get_json()["latest"]), 50)

    def test_wrong_field_is_named(self) -> None:
        """The 400 names the field and its bound."""
        message = self.change(fault={"status": 700}).get_json()["error"]["message"]
        self.assertIn("fault.status: Input should be less than or equal to 599", message)

    def test_new_event(self) -> None:
        """An event can be added, with a title or without, and with nameless subscribers."""
        self.change(events={"new-1": {"title": None, "names": ["A", None, "A"]}})
        self.assertIsNone(self.event("new-1").get_json()["data"][0]["title"])
        people = self.subscriptions("new-1").get_json()["data"]
        self.assertEqual([each["subscriber"]["first_name"] for each in people], ["A", None, "A"])
        self.assertEqual(len({each["id"] for each in people}), 3)

    def test_renamed_event(self) -> None:
        """An event can be replaced; the others stay, the sync token grows, other sandboxes do not see it."""
        before = self.subscriptions(COFFEE).get_json()["meta_data"]["sync_token"]
        self.change(events={COFFEE: {"title": "Tea", "names": ["Deep"]}})
        self.assertEqual(self.event(COFFEE).get_json()["data"][0]["title"], "Tea")
        after = self.subscriptions(COFFEE).get_json()
        self.assertEqual([each["subscriber"]["first_name"] for each in after["data"]], ["Deep"])
        self.assertGreater(after["meta_data"]["sync_token"], before)
        self.assertEqual(self.event(DINNER).status_code, 200)
        self.start()
        self.assertIn("coffee", self.event(COFFEE).get_json()["data"][0]["title"])


class SamplesTest(unittest.TestCase):
    def test_ids(self) -> None:
        """Each sample is filed under its own id, which looks like C42's."""
        for event_id, each in SAMPLES.items():
            self.assertRegex(event_id, r"\A[0-9a-f]{32}_[0-9]{14}\Z")
            self.assertEqual(each.event["id"], event_id)

    def test_same_in_every_run(self) -> None:
        """The same people make the same subscriptions, ids included."""
        self.assertEqual(sample("a", "A", [Person("B"), None]), sample("a", "A", [Person("B"), None]))
        self.assertNotEqual(
            sample("a", "A", [Person("B")]).subscriptions[0]["id"],
            sample("b", "A", [Person("B")]).subscriptions[0]["id"],
        )


class CommandTest(unittest.TestCase):
    def test_help(self) -> None:
        """The help shows examples before the options, and the address of every sample event."""
        text = CliRunner().invoke(sandbox, ["--help"]).output
        self.assertLess(text.index("Examples:"), text.index("Options:"))
        self.assertIn(SANDBOX_TOKEN, text)
        for event_id in SAMPLES:
            self.assertIn(event_id, text)

    def test_wrong_options(self) -> None:
        """A wrong option ends the command with status 2 and says what is allowed."""
        for options, hint in (
            (["--bind", "4244"], "give HOST:PORT"),
            (["--bind", "127.0.0.1:70000"], "give HOST:PORT"),
            (["--latency", "-1"], "range"),
            (["--fault", "200"], "range"),
            (["--proxy", "http://x; script-src *"], "give http://HOST:PORT"),
            (["--retry-after", "5"], "--retry-after goes with --fault"),
        ):
            with self.subTest(options):
                result = CliRunner().invoke(sandbox, options)
                self.assertEqual(result.exit_code, 2)
                self.assertIn(hint, result.output)

    def test_serves_until_sigterm(self) -> None:
        """It says where it is, counts over kept-alive connections, and SIGTERM ends it without a trace."""
        with self.running("--token", "t") as (process, url):
            address = urlsplit(url).netloc
            with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                for _ in range(20):
                    connection.request("GET", f"/api/v2/events/{COFFEE}/", headers={"Authorization": "Token t"})
                    self.assertEqual(json.load(connection.getresponse())["data"][0]["id"], COFFEE)
                self.assertIsNotNone(connection.sock, "the connection was not kept alive")
                self.assertEqual(self.calls(url), {"events": 20, "subscriptions": 0})
                self.assert_ends(process, url, lambda: process.send_signal(signal.SIGTERM))

    def test_ctrl_c(self) -> None:
        """Ctrl-C, which goes to the whole process group, ends it in the middle of a slow call."""
        with (
            self.running("--latency", "60") as (process, url),
            contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc)) as waiting,
        ):
            waiting.request("GET", f"/api/v2/events/{COFFEE}/")
            self.wait_for_the_call(url)
            self.assert_ends(process, url, lambda: os.killpg(process.pid, signal.SIGINT))

    def test_fault_option(self) -> None:
        """With --fault every call answers that status, with the given Retry-After."""
        with self.running("--fault", "503", "--retry-after", "7") as (_process, url):
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{url}events/{COFFEE}/", timeout=5)
            with caught.exception as error:
                self.assertEqual((error.code, error.headers["Retry-After"]), (503, "7"))

    @contextlib.contextmanager
    def running(self, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """The command on a free port, in a process group of its own, and the address that it prints."""
        code = "from c42_proxy.sandbox.command import sandbox; sandbox()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "--bind", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout
            ready, _, _ = select.select([process.stdout], [], [], 20)
            line = process.stdout.readline() if ready else ""
            match = re.fullmatch(r"sandbox C42 on (http://127\.0\.0\.1:[0-9]+/api/v2/)\n", line)
            self.assertIsNotNone(match, line)
            assert match
            yield process, match[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def calls(self, url: str) -> Any:
        with urllib.request.urlopen(url.replace("api/v2", "sandbox"), timeout=5) as response:
            return json.load(response)["calls"]

    def wait_for_the_call(self, url: str) -> None:
        for _ in range(500):
            if self.calls(url)["events"]:
                return
            time.sleep(0.01)
        self.fail("The call has not arrived.")

    def assert_ends(self, process: subprocess.Popen[str], url: str, end: Callable[[], None]) -> None:
        end()
        started = time.monotonic()
        out, err = process.communicate(timeout=10)
        self.assertEqual((process.returncode, out, err), (0, "", ""))
        self.assertLess(time.monotonic() - started, 5)
        with self.assertRaises(ProcessLookupError):
            os.killpg(process.pid, 0)
        with self.assertRaises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=5)


if __name__ == "__main__":
    unittest.main()
