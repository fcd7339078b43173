"""What all measurements share: the plan, the cores, the stand-in C42, and the proxy as a user starts it."""

import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.processes import clean_environ, free_port

from .c42 import StandIn
from .load import Client
from .machine import Cores
from .plan import Plan
from .processes import PYTHON, Server

PREFIX = "/events-with-subscriptions/"
HOT = f"{PREFIX}1-coffee/"
"""The event that everybody asks for where hits are measured."""


@dataclass
class Bench:
    """As a context manager it ends all that it started."""

    plan: Plan
    cores: Cores

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self.folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="c42-bench-")))
            self.c42 = StandIn(self.cores.load)
            started.enter_context(self.c42)
            self.answer = self.folder / "answer.json"
            with self.ours() as proxy:
                self.answer.write_text(json.dumps(_repeatable(proxy.port)))
            self._started = started.pop_all()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._started.close()

    @property
    def variables(self) -> dict[str, str]:
        """For the peers: where C42 is, and the answer that the bare ones give."""
        return {**self.c42.variables, "BENCH_ANSWER": str(self.answer)}

    def ours(self, *options: str, cores: str | None = None, **variables: str) -> Server:
        """`c42-proxy serve` with gunicorn's `options`; what is remembered outlasts the measurement."""
        port = free_port()
        environ = clean_environ(
            **self.c42.variables,
            **{
                "C42_BIND": f"127.0.0.1:{port}",
                "C42_OPS_BIND": "",
                "C42_CACHE_URL": "memory://",
                "C42_CACHE_TTL": "7200",
                "C42_LOG_LEVEL": "warning",
                "GUNICORN_CMD_ARGS": " ".join(options),
                **variables,
            },
        )
        return Server(
            [PYTHON, "-m", "c42_proxy", "serve"],
            port=port,
            cores=cores or str(self.cores.server),
            environ=environ,
        )


def _repeatable(port: int) -> dict[str, object]:
    """A hit of the proxy: its body, and its headers but those that the server adds."""
    with Client(port) as client:
        client.seconds(HOT)
        _answer, received = client.get(HOT)
    head, _, body = received.decode().partition("\r\n\r\n")
    headers = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
    return {"headers": [header for header in headers if header[0] not in {"date", "connection"}], "body": body}
