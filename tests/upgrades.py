"""Earlier versions beside this one on one store, while clients request, forth and back: `make upgrade`, a minute.

nginx stands in front of two hosts, and one after the other is replaced by the other version. Each of three clients
requests a new event at the same moment from nginx and from both hosts. No request is lost that nginx or a host has
taken, no answer is wrong, and C42 gets each call once: both versions can read what the other one has stored, and
respect its leases.
"""

import json
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from pathlib import Path
from threading import Event

from c42_proxy.version import __version__
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
VISITS = 30
"""How many events are requested with each pair of versions, at least."""
PATIENCE = 60.0

Visit = tuple[str, list[tuple[str, Answer]]]
"""An event, and what answered: the command of the process."""


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
        source.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
        pip = [str(folder / "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check", str(source)]
        subprocess.run(pip, check=True)
        (folder / "installed").touch()
    return (str(folder / "venv/bin/c42-proxy"),)


def is_missing(event_id: str) -> bool:
    """Every fifth event is one that C42 does not have."""
    return int(event_id.removeprefix("event-")) % 5 == 0


def is_right(event_id: str, command: str, answer: Answer) -> bool:
    if not is_missing(event_id):
        expected = f'{{"id":"{event_id}","title":"Tea of {event_id}","names":["Arthur"]}}'
        return (answer.status, answer.body.decode()) == (200, expected)
    problem = json.loads(answer.body)
    # Version 0.1 has no reasons; nginx passes on what either of them says.
    reasons = {"event-not-found"} if command.startswith(" ".join(C42_PROXY)) else {"event-not-found", None}
    return (
        answer.status == problem["status"] == 404 and event_id in problem["detail"] and problem.get("reason") in reasons
    )


@needs("git")
@needs("nginx")
class UpgradeTest(unittest.TestCase):
    def setUp(self) -> None:
        self.visits: list[Visit] = []
        self.lost: list[tuple[str, str, BaseException]] = []
        self.over, self.numbers = Event(), count()
        self.c42 = self.enterContext(Sandbox())
        ids = [f"event-{number}" for number in range(EVENTS)]
        events = {each: {"title": f"Tea of {each}", "names": ["Arthur"]} for each in ids if not is_missing(each)}
        self.c42.set(events=events, latency=0.03)
        self.ports = [free_port(), free_port()]
        self.up: dict[int, Process] = {}

    def start(self, port: int, command: tuple[str, ...], store: str) -> None:
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
        self.up[port] = process

    def stop(self, port: int) -> None:
        process = self.up.pop(port)
        process.send(signal.SIGTERM)
        self.assertEqual(0, process.wait(PATIENCE), process.output())
        self.assertNotIn("Traceback", process.output())

    def visit(self, nginx: Nginx, asking: ThreadPoolExecutor) -> None:
        """What a client does until it is over: it requests new events, each at three places at once."""
        while not self.over.is_set():
            event_id = f"event-{next(self.numbers)}"
            hosts = list(self.up.items())
            direct = [asking.submit(ask, port, path_of(event_id)) for port, _ in hosts]
            answers = [(nginx.command, nginx.ask(path_of(event_id)))]
            for (port, host), each in zip(hosts, direct, strict=True):
                error = each.exception()
                if error is None:
                    answers.append((host.command, each.result()))
                # A host that ends may take no more connections. It must answer what it has taken.
                elif not isinstance(error, ConnectionRefusedError) or self.up.get(port) is host:
                    self.lost.append((event_id, host.command, error))
            self.visits.append((event_id, answers))

    def assert_upgrades(self, version: str, store: str) -> None:
        old, new = installed(version), C42_PROXY
        one, other = self.ports
        for port in self.ports:
            self.start(port, old, store)
        rows = re.findall(r"(?m)^server 127.0.0.1:4242(.*)$", (FILES / "machine" / "hosts.conf").read_text())
        nginx = self.enterContext(Nginx(f"server 127.0.0.1:{port}{row}" for row in rows for port in self.ports))
        self.over.clear()
        self.visits, before = [], self.c42.calls
        with ThreadPoolExecutor(2 * CLIENTS) as asking, ThreadPoolExecutor(CLIENTS) as clients:
            working = [clients.submit(self.visit, nginx, asking) for _ in range(CLIENTS)]
            try:
                # Forth, and back: (old, old), (new, old), (new, new), (new, old), (old, old).
                self.wait_for_visits()
                for port, command in ((one, new), (other, new), (other, old), (one, old)):
                    self.stop(port)
                    self.start(port, command, store)
                    self.wait_for_visits()
            finally:
                self.over.set()
            for client in working:
                client.result()
        self.assertEqual([], self.lost)
        wrong = [(event, *each) for event, answers in self.visits for each in answers if not is_right(event, *each)]
        self.assertEqual([], wrong)
        twice = [visit for visit in self.visits if sum("stored" in each.cache_status[0] for _, each in visit[1]) > 1]
        self.assertEqual([], twice)
        calls = {name: number - before[name] for name, number in self.c42.calls.items()}
        self.assertEqual(len(self.visits), calls["events"], "C42 was asked more than once")
        # If there is no such event, its subscriptions may have been asked for meanwhile.
        known = sum(not is_missing(event_id) for event_id, _ in self.visits)
        self.assertIn(calls["subscriptions"], range(known, len(self.visits) + 1))
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
