"""`openapi.yaml` tells what there is, and the real service keeps to it, whatever it is asked.

`C42_OPENAPI_REQUESTS` says how many requests are to be generated; beyond the usual number they differ each time.
"""

import json
import os
import re
import time
import tomllib
import unittest
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from unittest import mock
from urllib.parse import quote

import jsonschema_rs
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from pydantic import SecretStr
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from c42_proxy import __version__
from c42_proxy.app import build
from c42_proxy.caching.reply import Hit
from c42_proxy.errors import (
    BackingOff,
    CircuitOpen,
    InvalidAnswer,
    NotAsked,
    Overloaded,
    Problem,
    RateLimited,
    TokenRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from c42_proxy.observability.metrics import STATUSES
from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.sandbox.events import SAMPLES
from c42_proxy.server.uvicorn_protocol import HEAD_TOO_LONG
from c42_proxy.settings import Settings
from c42_proxy.stores.contract import Entry
from c42_proxy.web.responses import response_to
from c42_proxy.web.routes import EVENT_ID, PREFIX
from harness.cluster import Cluster, Host
from harness.openapi import DOCUMENT, FILE, REASONS, RESPONSES, examples, parts, schemas, validator
from harness.processes import ROOT
from harness.sandbox import Sandbox

NGINX = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text()

ADDRESS = f"{PREFIX}{{event_id}}/"
WITHOUT_SLASH = ADDRESS[:-1]
PARAMETERS = DOCUMENT["components"]["parameters"]
REQUEST_ID: str = PARAMETERS["X-Request-ID"]["schema"]["pattern"]

REQUESTS = 500
SERVERS_OWN_HEADERS = {"content-type", "content-length"}
CORS = {"access-control-allow-origin", "access-control-expose-headers", "vary"}
OTHER_METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def subclasses(root: type[Problem]) -> Iterator[type[Problem]]:
    for found in root.__subclasses__():
        yield found
        yield from subclasses(found)


NOT_ASKED = {vars(error)["why"] for error in subclasses(NotAsked)}
CACHE_STATUS = re.compile(
    r"c42-proxy; ("
    r"hit; ttl=-?[0-9]+(; detail=stale-if-error)?|"
    r"detail=past-expiry|"
    r"fwd=(uri-miss|stale)(; stored)?(; collapsed)?(; fwd-status=[0-9]{3})?(; detail=(past-expiry|stale-if-error))?|"
    rf"detail=({'|'.join(sorted(NOT_ASKED))}))"
)


class DescriptionTest(unittest.TestCase):
    def test_valid(self) -> None:
        """It is OpenAPI 3.1, of valid schemas, and every component in it is used."""
        schemathesis.openapi.from_path(FILE, config=schemathesis.Config()).validate()
        for schema in schemas():
            jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        components = {f"#/components/{kind}/{name}" for kind, all_ in DOCUMENT["components"].items() for name in all_}
        self.assertEqual(components, {part["$ref"] for part in parts() if "$ref" in part})

    def test_for_generators(self) -> None:
        """It has nothing that makes generators fail, or their clients when something new comes.

        An object with `$ref` has nothing else, and no schema is closed. HEAD has the headers of GET and no content.
        Parameters stand at the operation, and none but the id has an example: a page would send it for everybody. No
        example has a request id either: a server that answers with examples would give it to everybody.
        """
        self.assertEqual([part for part in parts() if "$ref" in part and len(part) > 1], [])
        self.assertEqual([part for part in parts() if {"const", "additionalProperties"} & set(part)], [])
        address = DOCUMENT["paths"][ADDRESS]
        self.assertEqual(set(address), {"get", "head"})
        self.assertEqual(
            [parameter["$ref"].rpartition("/")[2] for parameter in address["get"]["parameters"]],
            list(PARAMETERS),
        )
        self.assertEqual(address["head"]["parameters"], address["get"]["parameters"])
        self.assertEqual([name for name, parameter in PARAMETERS.items() if "example" in parameter], ["event_id"])
        self.assertNotIn("example", DOCUMENT["components"]["headers"]["X-Request-ID"])
        self.assertEqual([each for _, each in examples() if isinstance(each, dict) and "request_id" in each], [])
        for status, reference in address["head"]["responses"].items():
            response = DOCUMENT["components"]["responses"][reference["$ref"].rpartition("/")[2]]
            self.assertEqual(response["headers"], RESPONSES[int(status)]["headers"])
            self.assertNotIn("content", response)

    def test_about(self) -> None:
        """It is of this version, under this licence, and names the default address."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        info = DOCUMENT["info"]
        self.assertEqual(
            (info["version"], info["summary"], info["license"]["identifier"]),
            (__version__, project["description"], project["license"]),
        )
        bind = Settings.model_fields["bind"].default
        self.assertEqual([server["url"] for server in DOCUMENT["servers"]], [f"http://{bind}"])

    def test_addresses(self) -> None:
        """It describes the one address, and ids as the proxy takes them."""
        self.assertEqual(set(DOCUMENT["paths"]), {ADDRESS})
        self.assertEqual(PARAMETERS["event_id"]["schema"]["pattern"], f"^{EVENT_ID}$")

    def test_statuses(self) -> None:
        """It describes every status that the proxy counts, and nginx's 429, but not redirects and preflights."""
        counted = {status for statuses in STATUSES.values() for status in statuses}
        for method in ("get", "head"):
            with self.subTest(method=method):
                self.assertEqual(
                    set(map(int, DOCUMENT["paths"][ADDRESS][method]["responses"])), counted - {204, 308} | {429}
                )

    def test_headers(self) -> None:
        """Each answer says when it was sent, whether a cache may keep it, also to nginx, and its id."""
        for status, response in RESPONSES.items():
            with self.subTest(status):
                needed = {"Date", "Cache-Control", "X-Accel-Expires", "X-Request-ID"}
                self.assertEqual(needed - response["headers"].keys(), set())

    def test_reasons(self) -> None:
        """It explains every reason of a problem, of the proxy and of nginx, with its statuses, and no other."""
        maps = re.findall(r"map \$status \$problem_(?:title|reason) \{(.*?)\}", NGINX, re.DOTALL)
        of_nginx: dict[str, str] = dict(re.findall(r"(\w+) +([a-z-]+);", maps[1]))
        expected: dict[str, set[int]] = {"event-not-found": {404}}
        for status in re.findall(r"^ +([0-9]+)", "".join(maps), re.MULTILINE):
            expected.setdefault(of_nginx.get(status, of_nginx["default"]), set()).add(int(status))
        for error in subclasses(Problem):
            if "reason" in vars(error):
                expected.setdefault(vars(error)["reason"], set()).add(error.status)
        self.assertEqual(REASONS, expected)

    def test_details(self) -> None:
        """It explains every reason for which C42 is not asked."""
        described = set(
            re.findall(r"`([a-z0-9-]+)` \(", DOCUMENT["components"]["headers"]["Cache-Status"]["description"])
        )
        self.assertEqual(described, NOT_ASKED)

    def test_examples(self) -> None:
        """Each example is as its schema says."""
        for schema, example in examples():
            with self.subTest(example):
                validator(schema).validate(example)

    def test_problems(self) -> None:
        """The problems among the examples are the proxy's own or nginx's, word for word; the ETag is nobody's."""
        client = self.enterContext(
            closing(build(Settings(api_token=SecretStr("s3kr3t"), cache_url="memory://")))
        ).flask.test_client()
        not_found = Hit(Entry(404, b"", 0.0), 0.0, 0)
        gone = json.loads(response_to("d6e6_14752373875438", not_found).body)
        refused = [gone, client.get("/").get_json(), client.post(f"{PREFIX}x/").get_json()]
        refused.append(client.get("/", headers={"Host": "a b"}).get_json())
        errors: list[Problem] = [
            *(TokenRefused(401), UpstreamTimeout(), UpstreamUnavailable(500)),
            *(
                UpstreamUnavailable(),
                InvalidAnswer("it is not JSON", 200),
                RateLimited(30, 429),
                BackingOff(30),
                CircuitOpen(5),
            ),
            Overloaded(),
        ]
        bodies = [
            json.dumps(example, separators=(",", ":"), ensure_ascii=False).encode()
            for _schema, example in examples()
            if isinstance(example, dict) and "names" in example
        ]
        tags = [dict(response_to("x", Hit(Entry(200, body, 0.0), 1.0, 1)).headers)["ETag"] for body in bodies]
        self.assertNotIn(DOCUMENT["components"]["headers"]["ETag"]["example"], tags)
        said = {(error.status, error.reason, error.detail) for error in errors}
        said.add((431, "bad-request", HEAD_TOO_LONG))
        said |= {(problem["status"], problem["reason"], problem["detail"]) for problem in refused}
        for _schema, example in examples():
            if isinstance(example, dict) and example.get("status") == 429:
                self.assertIn(f'429        "{example["detail"]}";', NGINX)
            elif isinstance(example, dict) and "detail" in example and example["status"] != 500:
                self.assertIn((example["status"], example["reason"], example["detail"]), said)


Situation = tuple[Host, dict[str, object]]


class Service:
    """The proxy twice, in front of one stand-in C42 that changes from request to request.

    Both give C42 little time, and forget soon. One tells no expired answers and never leaves C42 alone: its clients
    see what C42 does. The other tells expired answers, and leaves C42 alone after two failures.
    """

    def __init__(self, cluster: Cluster) -> None:
        budget, soon = 0.2, 0.1
        plain = cluster.add_host(
            "memory://",
            C42_TIMEOUT=f"{budget}",
            C42_CACHE_TTL=f"{5 * soon}",
            C42_STALE_IF_ERROR="0",
            C42_BREAKER_THRESHOLD="0",
            C42_ALLOW_ORIGINS="https://app.example",
        )
        sparing = cluster.add_host(
            "memory://", C42_TIMEOUT=f"{budget}", C42_CACHE_TTL=f"{soon}", C42_BREAKER_THRESHOLD="2"
        )
        late: Situation = (plain, {"latency": 2 * budget})
        self.situations: list[Situation] = [
            *[(plain, {})] * 4,
            (plain, {"fault": {"status": 500}}),
            (plain, {"fault": {"status": 401}}),
            # A wait of no seconds: with any other, hardly anything but the wait would be seen.
            (plain, {"fault": {"status": 429, "retry_after": 0}}),
            (plain, {"fault": {"body": "<html>"}}),
            # Only what is not cached is late.
            *[late] * 3,
            *[(sparing, {})] * 4,
            (sparing, {"fault": {"status": 500}}),
            (sparing, {"fault": {"status": 503, "retry_after": 1}}),
            (sparing, {"latency": 1.5 * soon}),
        ]
        self._sandbox: Sandbox = cluster.sandbox
        self._now: dict[str, object] = {}

    def address_in(self, situation: Situation) -> str:
        """Where to ask, after C42 has become as it is in that situation."""
        host, c42 = situation
        if c42 != self._now:
            self._sandbox.set(**{"fault": None, "latency": 0, **c42})
            self._now = c42
        return f"http://127.0.0.1:{host.port}"


def cases() -> st.SearchStrategy[Case[Any]]:
    """Requests as described, and others: ids, headers, methods and addresses of all kinds."""
    described = schemathesis.openapi.from_path(FILE, config=schemathesis.Config())
    gets = described.include(method="GET")
    segments = st.text(st.characters(codec="utf-8", exclude_characters="/")).filter(
        lambda text: text not in {".", ".."}
    )

    def of_samples(operation: Any) -> st.SearchStrategy[Case[Any]]:
        return st.sampled_from(sorted(SAMPLES)).flatmap(
            lambda event_id: operation.as_strategy(path_parameters={"event_id": event_id})
        )

    def with_method(case: Case[Any], method: Any) -> Case[Any]:
        case.method = method
        return case

    def without_slash(case: Case[Any]) -> Case[Any]:
        case.path = WITHOUT_SLASH
        return case

    def with_path(case: Case[Any], path: list[str]) -> Case[Any]:
        case.path = "/" + "/".join(quote(segment, safe="") for segment in path)
        return case

    return st.one_of(
        of_samples(described[ADDRESS]["GET"]),
        of_samples(described[ADDRESS]["GET"]),
        of_samples(described[ADDRESS]["HEAD"]),
        described.as_strategy(),
        described.as_strategy(GenerationMode.NEGATIVE),
        st.builds(with_method, gets.as_strategy(), st.sampled_from(OTHER_METHODS)),
        described.as_strategy().map(without_slash),
        st.builds(with_path, gets.as_strategy(), st.lists(segments, max_size=4)),
    )


class ServiceTest(unittest.TestCase):
    def test_generated_requests(self) -> None:
        """No request gets a 500, nor an answer that is not described; all that is described comes to be seen."""
        count = int(os.environ.get("C42_OPENAPI_REQUESTS", REQUESTS))
        service = Service(self.enterContext(Cluster()))
        session = self.enterContext(requests.Session())
        session.trust_env = False
        # schemathesis puts another one in its place, which tells nothing of what fails, for the whole process.
        with mock.patch("hypothesis.core.RepresentationPrinter", RepresentationPrinter):
            generated = cases()
        tags: dict[str, str] = {}
        seen: Counter[int] = Counter()

        @settings(
            max_examples=count,
            derandomize=count == REQUESTS,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(
            generated,
            st.sampled_from(service.situations),
            st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
            st.booleans(),
        )
        def check(case: Case[Any], situation: Situation, query: dict[str, str], tells_tag: bool) -> None:
            if tells_tag and case.formatted_path in tags:
                case.headers["If-None-Match"] = tags[case.formatted_path]
            else:
                case.headers["Origin"] = "https://app.example"
            address, sent = service.address_in(situation), int(time.time())
            response = case.call(address, session, params=query)
            (date,) = response.headers["date"]
            self.assertTrue(sent <= parsedate_to_datetime(date).timestamp() <= time.time(), date)
            seen[response.status_code] += 1
            # The redirect is no answer of an operation, so the description has it in words alone.
            case.validate_response(
                response, [self.leads_to_slash] if response.status_code == 308 else [*CHECKS, self.is_as_told]
            )
            for tag in response.headers.get("etag", []):
                tags[case.formatted_path] = tag

        check()
        self.assertGreaterEqual(seen.total(), count)
        self.assertEqual(set(seen), {308, *RESPONSES} - {400, 429, 431, 500})

    def leads_to_slash(self, _context: CheckContext, response: Response, case: Case[Any]) -> None:
        """A further check: only the address without its closing slash leads elsewhere, without a body and a query."""
        self.assertEqual((case.path, case.method in {"GET", "HEAD"}), (WITHOUT_SLASH, True))
        self.assertEqual(set(response.headers) - SERVERS_OWN_HEADERS - CORS, {"date", "location", "x-request-id"})
        self.assertRegex(response.headers["location"][0], f"^{PREFIX}{EVENT_ID}/$")
        self.assertEqual(response.content, b"")

    def is_as_told(self, _context: CheckContext, response: Response, case: Case[Any]) -> None:
        """A further check: what the description says in words."""
        status, described = response.status_code, RESPONSES.get(response.status_code)
        if described is None:
            return  # the check of the status tells
        headers = {name: value for name, values in response.headers.items() for value in values}
        self.assertNotEqual(status, 500)
        self.assertEqual(sum(map(len, response.headers.values())), len(headers), "a header twice")
        self.assertEqual(set(headers) - {name.lower() for name in described["headers"]} - SERVERS_OWN_HEADERS, set())
        self.assertNotIn(SANDBOX_TOKEN, f"{headers}{response.content!r}")
        self.assertEqual(status == 405, case.method not in {"GET", "HEAD"} and case.path in {ADDRESS, WITHOUT_SLASH})
        how = headers.get("cache-status", "none; detail=refused")
        if status != 404:
            self.assertIs("cache-status" in headers, status in {200, 304, 502, 503, 504})
        self.assertRegex(how, rf"^({CACHE_STATUS.pattern}|none; detail=refused)$")
        may_be_reused = status in {200, 304, 404} and "detail=" not in how
        self.assertEqual(headers.get("cache-control", "no-store") != "no-store", may_be_reused, how)
        self.assertEqual(headers["x-accel-expires"] == "0", not may_be_reused)
        for name, is_there in (
            ("expires", may_be_reused),
            ("etag", may_be_reused and status != 404),
            ("content-type", "content" in described),
        ):
            self.assertEqual(name in headers, is_there, name)
        if "etag" in headers and headers["etag"] == case.headers.get("If-None-Match"):
            self.assertEqual(status, 304)
        if case.method == "HEAD" or "content" not in described:
            self.assertEqual(response.content, b"")
        else:
            self.assertIn(headers["content-type"], described["content"])
            if status == 200:
                self.assertEqual(list(json.loads(response.content)), ["id", "title", "names"])
            else:
                self.is_problem(json.loads(response.content), status, headers["x-request-id"])
        if re.fullmatch(REQUEST_ID, sent_id := case.headers.get("X-Request-ID", "")):
            self.assertEqual(headers["x-request-id"], sent_id)

    def is_problem(self, problem: dict[str, Any], status: int, request_id: str) -> None:
        """It has the members that it has today, and no other: the description leaves room for more."""
        reason = problem["reason"]
        told = ["type", "title", "status", "reason", "detail"] + ["request_id"] * (reason != "event-not-found")
        self.assertEqual(list(problem), told)
        self.assertIn(status, REASONS[reason])
        self.assertEqual(
            (problem["type"], problem["title"], problem["status"]), ("about:blank", HTTPStatus(status).phrase, status)
        )
        self.assertRegex(problem["detail"], r"^[A-Z].*\.$")
        self.assertIn(problem.get("request_id"), {None, request_id})


if __name__ == "__main__":
    unittest.main()
