"""A sandbox C42 and any number of proxy hosts in front of it, as real processes."""

import json
import signal
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from c42_proxy.sandbox.events import COFFEE
from harness.processes import C42_PROXY, Process, clean_environ, free_port
from harness.sandbox import TIMEOUT, Sandbox

PATH = "/events-with-subscriptions/"


@dataclass(frozen=True)
class Answer:
    """What a client got, and after how many seconds. Status 0: the connection was refused, or cut."""

    status: int
    body: str
    cache_status: str
    seconds: float

    @property
    def names(self) -> list[str]:
        names: list[str] = json.loads(self.body)["names"]
        return names


class Host:
    """A proxy that is being started: gunicorn with some workers."""

    def __init__(self, stack: ExitStack, sandbox: Sandbox, store: str, workers: int, settings: dict[str, str]) -> None:
        self.port = free_port()
        environ = {
            **sandbox.variables,
            "C42_BIND": f"127.0.0.1:{self.port}",
            "C42_OPS_BIND": "",
            "C42_CACHE_URL": store,
            "WEB_CONCURRENCY": str(workers),
            **settings,
        }
        self.process = stack.enter_context(Process([*C42_PROXY, "serve"], clean_environ(**environ)))

    def wait_until_answers(self) -> None:
        self.process.wait_until_answers(f"http://127.0.0.1:{self.port}/")

    def get(self, event_id: str = COFFEE) -> Answer:
        """Ask for an event, on a connection of its own."""
        start = time.monotonic()
        try:
            url = f"http://127.0.0.1:{self.port}{PATH}{event_id}/"
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                return self._answer(response, start)
        except urllib.error.HTTPError as error:
            with error:
                return self._answer(error, start)
        except OSError:
            return Answer(0, "", "", time.monotonic() - start)

    def _answer(self, response: Any, start: float) -> Answer:
        body = response.read().decode()
        return Answer(response.status, body, response.headers.get("Cache-Status", ""), time.monotonic() - start)


class Cluster:
    """As a context manager, it ends all that it started."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.hosts: list[Host] = []

    def __enter__(self) -> Self:
        self.sandbox = self._stack.enter_context(Sandbox())
        self._clients = self._stack.enter_context(ThreadPoolExecutor(500))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # All at once: each takes most of a second to end.
        for host in self.hosts:
            host.process.send(signal.SIGTERM)
        self._stack.__exit__(kind, error, traceback)

    def add_host(self, store: str, *, workers: int = 1, **settings: str) -> Host:
        """Start one more host."""
        (host,) = self._add_hosts(1, store, workers, settings)
        return host

    def add_two_hosts(self, store: str, *, workers: int = 1, **settings: str) -> tuple[Host, Host]:
        """Start two more at the same time."""
        one, other = self._add_hosts(2, store, workers, settings)
        return one, other

    def _add_hosts(self, number: int, store: str, workers: int, settings: dict[str, str]) -> list[Host]:
        hosts = [Host(self._stack, self.sandbox, store, workers, settings) for _ in range(number)]
        for host in hosts:
            host.wait_until_answers()
        self.hosts += hosts
        return hosts

    def later(self, host: Host, event_id: str = COFFEE) -> "Future[Answer]":
        """Ask in the background."""
        return self._clients.submit(host.get, event_id)

    def storm(self, number: int, *event_ids: str) -> list[Answer]:
        """`number` clients ask at once, spread over the events and the hosts."""
        events = event_ids or (COFFEE,)
        rounds = (divmod(client, len(events)) for client in range(number))
        asked = [(self.hosts[sum(turn) % len(self.hosts)], events[turn[1]]) for turn in rounds]
        return list(self._clients.map(lambda one: one[0].get(one[1]), asked))
