"""The sandbox in a process of its own: it is C42 for the proxies of tests and benchmarks that are processes, too."""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from harness.processes import C42_PROXY, Process, clean_environ, free_port, until

TIMEOUT = 15.0

_numbers = count(1)


class Sandbox(Process):
    """C42, how it behaves, and what it was asked. As a context manager it is stopped at the end.

    `command` starts it: the sandbox itself, or one that knows other events.
    """

    def __init__(self, command: Sequence[str] = (*C42_PROXY, "sandbox")) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__([*command, "--bind", f"127.0.0.1:{self.port}"], clean_environ())
        try:
            self.wait_until_answers(f"{self.url}/sandbox/")
        except BaseException:
            self.close()
            raise

    @property
    def variables(self) -> dict[str, str]:
        """The settings with which a proxy uses it as C42."""
        return {"C42_API_URL": f"{self.url}/api/v2/", "C42_API_TOKEN": SANDBOX_TOKEN}

    def set(self, **changes: object) -> None:
        """Change how it behaves (see `c42_proxy.sandbox.state.Change`)."""
        self._control(json.dumps(changes).encode(), "PUT")

    def new_event(self) -> str:
        """The id of an event that nobody has asked for."""
        event_id = f"new-{next(_numbers)}"
        self.set(events={event_id: {"title": event_id, "names": ["Ann"]}})
        return event_id

    @property
    def calls(self) -> dict[str, int]:
        """How often it was asked for `events`, and for `subscriptions`."""
        calls: dict[str, int] = self._control(None, "GET")["calls"]
        return calls

    def wait_for_call(self) -> None:
        """Until somebody has asked for an event."""
        until(lambda: self.calls["events"], "a call")

    @contextmanager
    def with_latency(self, seconds: float) -> Iterator[None]:
        self.set(latency=seconds)
        try:
            yield
        finally:
            self.set(latency=0)

    @contextmanager
    def with_fault(self, **fault: object) -> Iterator[None]:
        self.set(fault=fault)
        try:
            yield
        finally:
            self.set(fault=None)

    def _control(self, body: bytes | None, method: str) -> dict[str, dict[str, int]]:
        request = urllib.request.Request(f"{self.url}/sandbox/", body, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            report: dict[str, dict[str, int]] = json.load(response)
        return report
