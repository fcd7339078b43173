"""`-D driver=stack`: nginx, two hosts and Redis, as `scripts/stack` starts them. Time jumps in all of them."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from features.drivers.processes import PLACE, START_SECONDS, Processes
from harness import stack as harness
from harness.processes import Process, descendants, until


class _Parts(harness.Stack):
    """With an environment as it is."""

    def __init__(self, environ: dict[str, str]) -> None:
        Process.__init__(self, [sys.executable, harness.STACK], environ)


class Stack(Processes):
    """Apps ask nginx. If proxies remember answers in one place, that is Redis, and each host is a proxy."""

    def __init__(self) -> None:
        super().__init__("redis", _started)
        self._asked: list[int] = []
        """The hosts that this scenario asks: each is a proxy."""

    def in_one_place(self, settings: dict[str, str], _folder: Path) -> dict[str, str]:
        settings = self.as_they_have_them(settings)
        return {**settings, PLACE: f"redis://127.0.0.1:{self._parts_with(settings).redis_port}/0"}

    def _port_in_place(self, settings: dict[str, str], scenario: ExitStack) -> int:
        parts = self._parts_with({name: value for name, value in settings.items() if name != PLACE})
        self._used = parts.port
        host = next(number for number in range(len(parts.hosts)) if number not in self._asked)
        self._asked.append(host)
        scenario.callback(self._end_proxy, parts, host)
        return parts.host_ports[host]

    def _parts_with(self, settings: dict[str, str]) -> _Parts:
        parts, _port = self._kept_with(settings)
        assert isinstance(parts, _Parts)
        return parts

    def _end_proxy(self, parts: _Parts, host: int) -> None:
        """The workers of a host end, with what they remember, and others begin."""
        self._asked.remove(host)
        workers = descendants(parts.hosts[host])
        os.kill(parts.hosts[host], signal.SIGHUP)
        until(lambda: not workers & descendants(parts.hosts[host]), "the end of the host's workers", START_SECONDS)


@contextmanager
def _started(environ: dict[str, str]) -> Iterator[tuple[Process, int]]:
    with _Parts({**environ, "C42_LOG_LEVEL": "warning", "STACK_PORT": ""}) as parts:
        until(lambda: "ready" in parts.output() or not parts.is_running, "the stack", START_SECONDS)
        parts.wait_until_ready()
        yield parts, parts.port
