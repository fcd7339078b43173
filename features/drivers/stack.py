"""`-D driver=stack`: nginx, two hosts and Redis, as `scripts/stack` starts them. Time jumps in all of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from features.drivers.processes import START_SECONDS, Processes
from harness import stack as harness
from harness.processes import Process, until


class _Stack(harness.Stack):
    """With an environment as it is."""

    def __init__(self, environ: dict[str, str]) -> None:
        Process.__init__(self, [sys.executable, harness.STACK], environ)


def stack() -> Processes:
    @contextmanager
    def start(environ: dict[str, str]) -> Iterator[tuple[Process, int]]:
        with _Stack({**environ, "C42_LOG_LEVEL": "warning", "STACK_PORT": ""}) as process:
            until(lambda: "ready" in process.output() or not process.is_running, "the stack", START_SECONDS)
            process.wait_until_ready()
            yield process, process.port

    return Processes("redis", start)
