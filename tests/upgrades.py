"""Earlier versions beside this one on one store, while clients request, forth and back: `make upgrade`, a minute.

nginx stands in front of two hosts, and one after the other is replaced by the other version. Each of three clients
requests a new event at the same moment from nginx and from both hosts. No request is lost that nginx or a host has
taken, no answer is wrong, and C42 gets each call once: both versions can read what the other one has stored, which a
host that has just come is asked for, and respect its leases.
"""

import json
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.client import HTTPException
from itertools import count
from pathlib import Path
from threading import Event

from c42_proxy.version import __version__
from harness.history import extract
from harness.needs import needs
from harness.nginx import FILES, Nginx
from harness.processes import C42_PROXY, ROOT, Process, clean_environ, free_port, until
from harness.redis_server import RedisServer
from harness.sandbox import Sandbox
from harness.stack import Answer, ask, path_of

EARLIER = {"0.1": "68b5a57"}
"""Each version that may run beside this one while somebody upgrades, and its commit: a release has its tag here."""

EVENTS = 5000
CLIENTS = 3
FIRST = 10
VISITS = 30
"""How many events are requested with each pair of versions, at least."""
PATIENCE = 60.0

Visit = tuple[str, list[tuple[str, Answer | BaseException]]]
"""An event, and what each gave that was asked for it: NGINX, or a host by its version."""
NGINX = "nginx"


@cache
def installed(version: str) -> tuple[str, ...]:
    """The command of an earlier version, built from its commit, in an environment of its own."""
    commit = EARLIER[version]
    there = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{tree}}"], cwd=ROOT, check=False, capture_output=True)
    if there.returncode:
        raise unittest.SkipTest(f"there is no git history here with {commit}, which is version {version}")
    folder = ROOT / "build" / "earlier" / commit
    if not (folder / "installed").exists():
        source = folder / "source"
        extract(commit, source)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
        pip = [str(folder / "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check", str(source)]
        subprocess.run(pip, check=True)
        (folder / "installed").touch()
    return (str(folder / "venv/bin/c42-proxy"),)


def is_missing(event_id: str) -> bool:
    """Every fifth event is one that C42 does not have."""
    return int(event_id.removeprefix("event-")) % 5 == 0


def is_right(event_id: str, version: str, answer: Answer) -> bool:
    if not is_missing(event_id):
        expected = f'{{"id":"{event_id}","title":"Tea of {event_id}","names":["Arthur"]}}'
        return (answer.status, answer.body.decode()) == (200, expected)
    if answer.status != 404:
        return False
    problem = json.loads(answer.body)
    # Version 0.1 has no reasons; nginx passes on what either of them says.
    reasons = {"event-not-found"} if version == __version__ else {"event-not-found", None}
    return problem["status"] == 404 and event_id in problem["detail"] and problem.get("reason") in reasons


def faults(visits: list[Visit], calls: dict[str, int]) -> Iterator[str]:
    """What is not as it is promised, a sentence for each."""
    for event_id, came in visits:
        stored = []
        for version, answer in came:
            if isinstance(answer, BaseException):
                yield f"{event_id}: {version} has lost a request, {answer!r}"
            elif not is_right(event_id, version, answer):
                yield f"{event_id}: {version} has answered {answer.status} {answer.body.decode()}"
            elif "stored" in answer.cache_status[0]:
                stored.append(version)
        if len(stored) > 1:
            yield f"{event_id}: C42 was asked by {' and by '.join(stored)}"
    if calls["events"] != len(visits):
        yield f"C42 was asked {calls['events']} times for {len(visits)} events"
    # If there is no such event, its subscriptions may have been asked for meanwhile.
    known = sum(not is_missing(event_id) for event_id, _ in visits)
    if not known <= calls["subscriptions"] <= len(visits):
        yield f"C42 was asked {calls['subscriptions']} times for subscriptions, of {known} to {len(visits)} events"


@needs("git")
@needs("nginx")
class UpgradeTest(unittest.TestCase):
    def setUp(self) -> None:
        self.visits: list[Visit] = []
        self.over, self.numbers = Event(), count()
        self.c42 = self.enterContext(Sandbox())
        ids = [f"event-{number}" for number in range(EVENTS)]
        events = {each: {"title": f"Tea of {each}", "names": ["Arthur"]} for each in ids if not is_missing(each)}
        self.c42.set(events=events, latency=0.03)
        self.ports = [free_port(), free_port()]
        self.up: dict[int, tuple[str, Process]] = {}

    def start(self, port: int, version: str, store: str) -> None:
        command = C42_PROXY if version == __version__ else installed(version)
        settings = {
            "C42_BIND": f"127.0.0.1:{port}",
            "C42_OPS_BIND": "",
            "C42_CACHE_URL": store,
            "C42_LOG_LEVEL": "warning",
        }
        # An earlier version has modules of its own, and may leave something open.
        own = {} if command == C42_PROXY else {"PYTHONPATH": "", "PYTHONWARNINGS": ""}
        environ = clean_environ(**self.c42.variables, **settings, **own)
        process = self.enterContext(Process([*command, "serve"], environ))
        process.wait_until_answers(f"http://127.0.0.1:{port}/", PATIENCE)
        self.up[port] = version, process

    def stop(self, port: int) -> None:
        _, process = self.up.pop(port)
        process.send(signal.SIGTERM)
        self.assertEqual(0, process.wait(PATIENCE), process.output())
        self.assertNotIn("Traceback", process.output())

    def visit(self, nginx: Nginx, asking: ThreadPoolExecutor) -> None:
        """What a client does until it is over: it requests new events, each at three places at once."""
        while not self.over.is_set():
            event_id = f"event-{next(self.numbers)}"
            hosts = list(self.up.items())
            asked = [asking.submit(ask, port, path_of(event_id)) for port, _ in hosts]
            came: list[tuple[str, Answer | BaseException]] = []
            try:
                came.append((NGINX, nginx.ask(path_of(event_id))))
            except (OSError, HTTPException) as lost:
                came.append((NGINX, lost))
            for (port, host), each in zip(hosts, asked, strict=True):
                error = each.exception()
                # A host that ends may take no more connections. It must answer what it has taken.
                if not isinstance(error, ConnectionRefusedError) or self.up.get(port) is host:
                    came.append((host[0], error or each.result()))
            self.visits.append((event_id, came))

    def assert_upgrades(self, version: str, store: str) -> None:
        one, other = self.ports
        for port in self.ports:
            self.start(port, version, store)
        rows = re.findall(r"(?m)^server 127.0.0.1:4242(.*)$", (FILES / "machine" / "hosts.conf").read_text())
        nginx = self.enterContext(Nginx(f"server 127.0.0.1:{port}{row}" for row in rows for port in self.ports))
        self.over.clear()
        self.visits, before = [], self.c42.calls
        with ThreadPoolExecutor(2 * CLIENTS) as asking, ThreadPoolExecutor(CLIENTS) as clients:
            working = [clients.submit(self.visit, nginx, asking) for _ in range(CLIENTS)]
            try:
                # Forth, and back: (old, old), (new, old), (new, new), (new, old), (old, old).
                self.wait_for_visits()
                for port, next_version in ((one, __version__), (other, __version__), (other, version), (one, version)):
                    self.stop(port)
                    self.start(port, next_version, store)
                    # It reads what was stored before it came: of five events in a row, one is missing.
                    for event_id, came in self.visits[-5:]:
                        came.append((next_version, ask(port, path_of(event_id))))
                    self.wait_for_visits()
            finally:
                self.over.set()
            for client in working:
                client.result()
        calls = {name: number - before[name] for name, number in self.c42.calls.items()}
        found = list(faults(self.visits, calls))
        if found:
            self.fail(f"{len(found)} faults, of which the first are:\n" + "\n".join(found[:FIRST]))
        for port in self.ports:
            self.stop(port)
        print(f"{version} and {__version__} on {store.partition(':')[0]}: {len(self.visits)} events", file=sys.stderr)

    def wait_for_visits(self) -> None:
        enough = len(self.visits) + VISITS
        until(lambda: len(self.visits) >= enough, "visits", PATIENCE)

    def test_sqlite(self) -> None:
        """On one SQLite file."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        for version in EARLIER:
            with self.subTest(version):
                self.assert_upgrades(version, f"sqlite:///{Path(folder, version)}")

    @needs("redis-server")
    def test_redis(self) -> None:
        """On one Redis."""
        redis = self.enterContext(RedisServer())
        for version in EARLIER:
            with self.subTest(version):
                self.assert_upgrades(version, redis.url)


if __name__ == "__main__":
    unittest.main()
