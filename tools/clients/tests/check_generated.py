"""Each generator makes a client of `openapi.yaml`, the client compiles, and a program with it tells all causes apart.

The programs are in `tools/clients/programs/`. Each makes the requests that it is given, and prints what it learns.
"""

import json
import re
import shutil
import unittest
from http import HTTPStatus
from typing import ClassVar

from c42_proxy.sandbox.events import COFFEE, UNTITLED
from harness.cluster import Cluster, Host
from harness.openapi import FILE, REASONS, RESPONSES
from harness.processes import ROOT, run
from harness.wire import Connection, Wire, asked, is_silent, says
from tools.clients import FOLDER, environ

PROGRAMS = ROOT / "tools" / "clients" / "programs"
MADE = FOLDER / "made"
SECONDS = 120

OPENAPI_GENERATOR = ("openapi-generator-cli", "generate", "-i", str(FILE))
GENERATORS: dict[str, tuple[str, ...]] = {
    "openapi-python-client": (
        *("openapi-python-client", "generate", "--meta", "none"),
        *("--path", str(FILE), "--output-path", "c42_proxy_client"),
    ),
    "datamodel-code-generator": (
        *("datamodel-codegen", "--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel"),
        *("--formatters", "builtin", "--input", str(FILE), "--output", "c42_proxy_models.py"),
    ),
    "openapi-generator for Python": (
        *OPENAPI_GENERATOR,
        *("-g", "python", "-o", "openapi_generator_python", "--package-name", "c42_proxy_openapi"),
    ),
    "openapi-generator for TypeScript": (
        *OPENAPI_GENERATOR,
        *("-g", "typescript-fetch", "-o", "openapi_generator", "--additional-properties=importFileExtension=.js"),
    ),
    "openapi-typescript": ("openapi-typescript", str(FILE), "-o", "openapi_typescript.d.ts"),
    "hey-api": ("openapi-ts",),  # the rest is in openapi-ts.config.ts
}
WARNS = re.compile(r"(?i)warn(?!.*(OpenAPI 3\.1 support is still in beta|Failed to get the schema name: null))")
"""But for what openapi-generator says of every description in OpenAPI 3.1, and of every response without content."""

PROGRAMS_MADE = (
    *(("python", path.name) for path in sorted(PROGRAMS.glob("with_*.py"))),
    *(("node", path.with_suffix(".js").name) for path in sorted(PROGRAMS.glob("with_*.ts"))),
)

is_broken = says({}, "500 Oops")
C42 = {
    "silent": is_silent,
    "odd": says(b"<html>"),
    "refused": says({}, "401 No"),
    "busy": says({}, "429 Wait", "Retry-After: 30"),
}
"""How C42 answers for these events, where it is not the sandbox; for any other it is broken, too."""

JSON = "Content-Type: application/json"
PROBLEM = "Content-Type: application/problem+json"
OF_A_LATER_VERSION = {
    "later-event": says({"id": "later-event", "title": None, "names": ["Ann"], "more": {"later": 1}}, "200 OK", JSON),
    "later-problem": says(
        {"type": "/later", "title": "", "status": 502, "reason": "later", "detail": "", "more": 1}, "502 Later", PROBLEM
    ),
}


def as_told(path: str, connection: Connection) -> None:
    """A proxy that answers with the reason that is the event's id, or as a later version may."""
    what = asked(path)[0]
    if what in OF_A_LATER_VERSION:
        OF_A_LATER_VERSION[what](path, connection)
    else:
        status = HTTPStatus(status_of(what))
        problem = {"type": "about:blank", "title": status.phrase, "status": status, "reason": what, "detail": "No."}
        says(problem, f"{status} {status.phrase}", PROBLEM)(path, connection)


def status_of(reason: str) -> int:
    """With which a client may get it that knows the statuses in the description."""
    return min(REASONS[reason] & set(RESPONSES))


Situation = tuple[list[str | None], dict[str, object]]
"""A request as the programs take it, and what is to be learnt of its answer."""


def request(
    method: str, server: Host | Wire, event_id: str, if_none_match: str | None = None, **expected: object
) -> Situation:
    return [method, f"http://127.0.0.1:{server.port}", event_id, if_none_match], expected


class Generated(unittest.TestCase):
    """Made once for all tests, with what the generators said meanwhile."""

    said: ClassVar[dict[str, str]] = {}

    @classmethod
    def setUpClass(cls) -> None:
        shutil.rmtree(MADE, ignore_errors=True)
        shutil.copytree(PROGRAMS, MADE)
        for name, command in GENERATORS.items():
            done = run(*command, environ=environ(), cwd=MADE, seconds=SECONDS)
            cls.said[name] = f"{done.stdout}\n{done.stderr}"
            if done.returncode:
                raise AssertionError(f"{name}: {cls.said[name]}")
        shutil.move(MADE / "openapi_generator_python" / "c42_proxy_openapi", MADE)

    def runs(self, *command: str) -> str:
        done = run(*command, environ=environ(), cwd=MADE, seconds=SECONDS)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def test_no_warnings(self) -> None:
        """No generator warns of anything in the description."""
        for name, said in self.said.items():
            with self.subTest(name):
                self.assertEqual([line for line in said.splitlines() if WARNS.search(line)], [])

    def test_python(self) -> None:
        """All that was made for Python compiles, and the programs use it as its types say."""
        self.runs("python", "-m", "compileall", "-q", ".")
        programs = sorted(path.name for path in PROGRAMS.glob("*.py"))
        self.runs("mypy", "--strict", "--config-file=", "--follow-imports=silent", *programs)

    def test_in_use(self) -> None:
        """What was made for TypeScript compiles, and each program tells all answers and causes apart."""
        self.runs("tsc", "--project", ".")
        with (
            Cluster() as cluster,
            Wire(as_told) as later,
            Wire(lambda path, at: C42.get(asked(path)[0], is_broken)(path, at)) as c42,
        ):
            sandbox = cluster.add_host("memory://")
            failing, waiting, down = (
                cluster.add_host("memory://", C42_API_URL=c42.url, C42_TIMEOUT="0.5", C42_BREAKER_THRESHOLD=threshold)
                for threshold in ("0", "0", "1")
            )
            situations = [
                # Two events open the circuit breaker: one that failed last fails again without opening it.
                request("GET", down, "one", status=None),
                request("GET", down, "another", status=None),
                request("GET", down, "a-third", status=503, reason="c42-down", waits=True),
                request("GET", sandbox, COFFEE, status=200, names=["Michel"]),
                request("GET", sandbox, UNTITLED, status=200, names=["Agnes", "Deep"]),
                request("GET", sandbox, COFFEE, "*", status=304),
                request("HEAD", sandbox, COFFEE, status=200),
                request("HEAD", sandbox, "nobody", status=404),
                request("GET", sandbox, "nobody", status=404, reason="event-not-found"),
                request("GET", failing, "broken", status=502, reason="c42-unavailable"),
                request("GET", failing, "odd", status=502, reason="c42-invalid-answer"),
                request("GET", failing, "refused", status=502, reason="c42-refuses-token"),
                request("GET", failing, "silent", status=504, reason="c42-timeout"),
                request("HEAD", failing, "silent", status=504),
                request("GET", waiting, "busy", status=503, reason="c42-asks-to-wait", waits=True),
                request("GET", later, "later-event", status=200, names=["Ann"]),
                request("GET", later, "later-problem", status=502, reason="later"),
                *(
                    request("GET", later, reason, status=status_of(reason), reason=reason)
                    for reason, statuses in REASONS.items()
                    if statuses & set(RESPONSES)
                ),
            ]
            for command in PROGRAMS_MADE:
                with self.subTest(command):
                    learnt = json.loads(self.runs(*command, json.dumps([asking for asking, _ in situations])))
                    for (asking, expected), found in zip(situations, learnt, strict=True):
                        if "wait" in found:
                            self.assertIn(found.pop("wait"), range(1, 31), asking)
                            found["waits"] = True
                        if expected["status"]:
                            self.assertEqual(found, expected, asking)


if __name__ == "__main__":
    unittest.main()
