"""What all measurements share: the plan, the cores, the stand-in C42, and the proxy as a user starts it."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from c42_proxy.settings import Settings
from c42_proxy.stores.contract import Entry
from c42_proxy.stores.opening import open_shared
from harness.history import extract
from harness.processes import ROOT, clean_environ, free_port

from .c42 import TITLE, StandIn
from .load import Client
from .machine import Cores
from .processes import PYTHON, Server

PREFIX = "/events-with-subscriptions/"
HOT = f"{PREFIX}1-coffee/"
"""The event that everybody asks for where hits are measured."""
OURS = "c42_proxy"
EARLIER = "c42_proxy, earlier version"
MEMORY = {"C42_CACHE_URL": "memory://", "C42_CACHE_TTL": "7200", "C42_LOG_LEVEL": "warning", "C42_OPS_BIND": ""}
"""What is remembered outlasts the measurement."""


@dataclass(frozen=True)
class Plan:
    """`runs` are interleaved (A B C A B C ...), so that a slow moment of the machine meets everybody.

    `seconds` is the length of one run of wrk, `steady` that of the one with steady misses; the other fields are counts.
    """

    runs: int
    seconds: float
    misses: int
    cached: tuple[int, ...]
    shared_hits: int
    steady: float


FULL = Plan(runs=7, seconds=2, misses=20, cached=(10, 10_000, 1_000_000), shared_hits=500, steady=60)
QUICK = Plan(runs=1, seconds=1, misses=10, cached=(10, 1000, 20_000), shared_hits=300, steady=2)


@dataclass
class Bench:
    """`earlier` is the commit of the version to compare with."""

    plan: Plan
    cores: Cores
    earlier: str

    @contextmanager
    def started(self) -> Iterator[Self]:
        """Ends all that it started."""
        with tempfile.TemporaryDirectory(prefix="c42-bench-") as folder, StandIn(self.cores.load) as self.c42:
            self.folder = Path(folder)
            self.answer = self.folder / "answer.json"
            self._beside = self.folder / "earlier"
            extract(self.earlier, self._beside)
            with self.ours() as proxy:
                self.answer.write_text(json.dumps(_repeatable(proxy.port)))
            yield self

    @property
    def versions(self) -> dict[str, Callable[..., Server]]:
        """The ways to start the proxy: this version, and the earlier one."""
        return {OURS: self.ours, EARLIER: partial(self.ours, root=self._beside)}

    @property
    def variables(self) -> dict[str, str]:
        """For the peers: where C42 is, and the answer that the bare ones give."""
        return {**self.c42.variables, "BENCH_ANSWER": str(self.answer)}

    def fill(self, url: str, events: int, age: float = 0) -> None:
        """Write so many events, `1-0` and so on, into a shared store as this version does. All versions read that.

        `age` is the number of seconds since they were fetched.
        """
        store = open_shared(Settings.from_env(self.c42.variables | MEMORY | {"C42_CACHE_URL": url}), time.time)
        if store is None:
            raise RuntimeError(f"{url} is not shared")
        with closing(store):
            for number in range(events):
                now = time.time()
                body = f'{{"id":"1-{number}","title":"{TITLE}","names":["Michel"]}}'
                if not store.put(f"1-{number}", Entry(200, body.encode(), now - age), now):
                    raise RuntimeError(f"{url} has not kept an event")

    def ours(self, *options: str, root: Path = ROOT, **variables: str) -> Server:
        """`c42-proxy serve` of the version in a folder, with gunicorn's `options`."""
        port = free_port()
        more = {"C42_BIND": f"127.0.0.1:{port}", "GUNICORN_CMD_ARGS": " ".join(options), "PYTHONPATH": f"{root}"}
        environ = clean_environ(**(self.c42.variables | MEMORY | more | variables))
        command = [PYTHON, "-m", "c42_proxy", "serve"]
        return Server(command, port=port, core=self.cores.server, environ=environ, cwd=root)


def _repeatable(port: int) -> dict[str, object]:
    """A hit of the proxy: its body, and its headers but those that the server adds."""
    with Client(port) as client:
        client.seconds(HOT)
        _status, received = client.get(HOT)
    head, _, body = received.decode().partition("\r\n\r\n")
    headers = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
    return {"headers": [header for header in headers if header[0] not in {"date", "connection"}], "body": body}
