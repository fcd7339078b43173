"""Load: wrk for rates and percentiles, own clients for what wrk cannot tell."""

import asyncio
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import uvloop

CONNECTIONS = 32

_REPORT = """
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"rate": %f, "p50": %f, "p99": %f, "wrong": %d}\\n',
    1e6 * summary.requests / summary.duration, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""
_REQUEST = """
local number = %d
function request()
  number = %s
  return wrk.format(nil, string.format("/events-with-subscriptions/1-%%d/", number))
end
"""


@dataclass(frozen=True)
class Load:
    """A run of wrk: requests a second, the median and the 99th percentile in milliseconds."""

    rate: float
    p50: float
    p99: float


def wrk(url: str, seconds: float, *, core: int, any_of: int = 0, once_from: int | None = None) -> Load:
    """Requests one after the other on each connection, for `url`.

    With `any_of`, each is for one of so many events, at random; with `once_from`, for the next event from this number
    on. Raises RuntimeError if one of them gets no 200: a failure may be faster than an answer.
    """
    lua = _REPORT
    if any_of:
        lua += _REQUEST % (0, f"math.random(0, {any_of} - 1)")
    elif once_from is not None:
        lua += _REQUEST % (once_from - 1, "number + 1")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua)
        script.flush()
        command = ["taskset", "--cpu-list", f"{core}", "wrk", "--threads", "1", "--connections", f"{CONNECTIONS}"]
        command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", "10s", "--script", script.name, url]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30)  # noqa: S603  # our own words
    found = json.loads(said.stdout.splitlines()[-1])
    if found.pop("wrong"):
        raise RuntimeError(f"{url}: requests without a 200\n{said.stdout}")
    return Load(**found)


@dataclass(frozen=True)
class Answer:
    """`status` is 0 where none came. `seconds` is from the request to the end of the answer; `connecting` is before."""

    status: int
    connecting: float
    seconds: float


def together(port: int, paths: Sequence[str], timeout: float, every: float = 0) -> list[Answer]:
    """Clients that all ask at once, or one each `every` seconds, each on a connection of its own.

    On uvloop, and without asyncio's streams: else these clients would take longer than the server.
    """
    return uvloop.run(_ask_all(port, paths, timeout, every))


async def _ask_all(port: int, paths: Sequence[str], timeout: float, every: float) -> list[Answer]:
    loop = asyncio.get_running_loop()
    clients = []
    for number, path in enumerate(paths):
        client = _OneShot(_request(path, "close"))
        # The first ones ask while the others are still made: each has a time of its own.
        loop.call_later(number * every, client.begin, port)
        clients.append(client)
    await asyncio.wait([client.ended for client in clients], timeout=len(paths) * every + timeout)
    return [client.answer(timeout) for client in clients]


class _OneShot(asyncio.Protocol):
    """Asks once, and notes when the last byte has come. The server closes the connection."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self._connecting = self._seconds = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, port: int) -> None:
        self._began = time.perf_counter()
        self._task = asyncio.ensure_future(self._connect(port))

    async def _connect(self, port: int) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        except OSError:
            self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._asked = time.perf_counter()
        self._connecting = self._asked - self._began
        cast("asyncio.WriteTransport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._seconds = time.perf_counter() - self._asked

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def answer(self, timeout: float) -> Answer:
        complete = self.ended.done() and self._connecting + self._seconds <= timeout
        return Answer(_status(self._received) if complete else 0, self._connecting, self._seconds)


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

    def get(self, path: str) -> tuple[int, bytes]:
        """The status, and all bytes of the answer."""
        self._socket.sendall(_request(path, "keep-alive", self._headers))
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        length = int(received[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(received) < end + 4 + length:
            received += self._more()
        return _status(received), received

    def seconds(self, path: str) -> float:
        """How long a 200 took; anything else is an error."""
        began = time.perf_counter()
        status, received = self.get(path)
        if status != 200:
            raise RuntimeError(f"{path}: {received[:500]!r}")
        return time.perf_counter() - began

    def _more(self) -> bytes:
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError("the server closed the connection within an answer")
        return received


def _request(path: str, connection: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n{headers}\r\n".encode()


def _status(answer: bytes) -> int:
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0
