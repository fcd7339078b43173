"""Load: wrk for rates and percentiles, own clients for what wrk cannot tell."""

import asyncio
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

CONNECTIONS = 32
PERCENTILES = (50, 75, 90, 99, 99.9)

_REPORT = """
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %d, "micros": %d, "lost": %d, "refused": %d, "percentiles": [',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.timeout, e.status))
  io.write(string.format('%d', latency:percentile(50)))
  for _, p in ipairs({75, 90, 99, 99.9}) do io.write(string.format(', %d', latency:percentile(p))) end
  io.write(']}\\n')
end
"""
_ANY_OF = """
function request()
  return wrk.format(nil, string.format("/events-with-subscriptions/1-%%d/", math.random(0, %d - 1)))
end
"""


@dataclass(frozen=True)
class Load:
    """A run of wrk. `rate` is in requests a second, `percentiles` in milliseconds for each of `PERCENTILES`.

    `lost` are requests that got no answer, `refused` those that got a status of 400 or more.
    """

    rate: float
    percentiles: tuple[float, ...]
    requests: int
    lost: int
    refused: int

    @property
    def p99(self) -> float:
        return self.percentiles[PERCENTILES.index(99)]


def wrk(
    url: str, seconds: float, *, cores: str, connections: int = CONNECTIONS, any_of: int = 0, timeout: float = 10
) -> Load:
    """Requests one after the other on each of `connections`; with `any_of`, each is for one of so many events."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_REPORT + (_ANY_OF % any_of if any_of else ""))
        script.flush()
        command = ["taskset", "--cpu-list", cores, "wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", f"{timeout:.0f}s"]
        told = subprocess.run(  # noqa: S603  # our own words
            [*command, "--script", script.name, url],
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds + 30,
        )
    report = json.loads(told.stdout.splitlines()[-1])
    return Load(
        rate=report["requests"] / report["micros"] * 1e6,
        percentiles=tuple(micros / 1000 for micros in report["percentiles"]),
        requests=report["requests"],
        lost=report["lost"],
        refused=report["refused"],
    )


@dataclass(frozen=True)
class Answer:
    """`status` is 0 where none came. `seconds` is from the request to the end of the answer."""

    status: int
    seconds: float


def together(port: int, paths: Sequence[str], timeout: float) -> list[Answer]:
    """Clients that all ask at once, each on a connection of its own."""

    async def ask(path: str) -> Answer:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(_request(path, "close"))
                answer = await reader.read(-1)
                writer.close()
        except (OSError, TimeoutError):
            answer = b""
        return Answer(_status(answer), time.perf_counter() - began)

    async def ask_all() -> list[Answer]:
        return await asyncio.gather(*map(ask, paths))

    return asyncio.run(ask_all())


def warm_up(port: int, path: str) -> None:
    """Until everything that is made once is made."""
    with Client(port) as client:
        for _ in range(300):
            client.seconds(path)


class Client:
    """Asks for one thing after the other on one kept-alive connection, with next to no cost of its own."""

    def __init__(self, port: int, headers: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = headers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def get(self, path: str) -> tuple[Answer, bytes]:
        """The answer, and all of its bytes."""
        request = _request(path, "keep-alive", self._headers)
        began = time.perf_counter()
        self._socket.sendall(request)
        received = self._socket.recv(65536)
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head = received[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(received) < end + 4 + length:
            received += self._more()
        return Answer(_status(received), time.perf_counter() - began), received

    def seconds(self, path: str) -> float:
        """How long a 200 took; anything else is an error."""
        answer, received = self.get(path)
        if answer.status != 200:
            raise RuntimeError(f"{path}: {received[:500]!r}")
        return answer.seconds

    def _more(self) -> bytes:
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError("the server closed the connection within an answer")
        return received


def _request(path: str, connection: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n{headers}\r\n".encode()


def _status(answer: bytes) -> int:
    words = answer[:16].split(b" ")
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") else 0
