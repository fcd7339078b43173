"""`-D driver=command -D command='…'`: any program that serves the one address.

It reads `C42_API_URL`, `C42_API_TOKEN` and `PORT` from its environment, and listens at that port of 127.0.0.1. It may
be of any language, if it is linked dynamically. With `-D monotonic=yes` its monotonic clock jumps, too: some caches
live by it. gunicorn watches its workers by that clock, and has to be told not to (`--timeout 0`).
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.drivers.processes import START_SECONDS, Processes
from harness.processes import Process, free_port


def command(words: str, folder: Path, *, monotonic: bool) -> Processes:
    has_answered: list[bool] = []

    @contextmanager
    def start(environ: dict[str, str]) -> Iterator[tuple[Process, int]]:
        # One that does not start is not waited for in each scenario anew.
        assert has_answered != [False], "the program has given no answer when it was started first"
        port = free_port()
        with Process(shlex.split(words), {**environ, "PORT": str(port)}, folder) as process:
            has_answered.append(False)
            process.wait_until_answers(f"http://127.0.0.1:{port}/", START_SECONDS)
            has_answered[-1] = True
            yield process, port

    return Processes("memory", start, monotonic=monotonic)
