"""A TCP proxy that makes a server as far away as another region: `python -m harness.distance PORT TARGET MILLISECONDS`.

It is a process of its own: the threads of a test must not hold it up.
"""

import asyncio
import os
import socket
import sys
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self, cast

import uvloop

from harness.processes import Process, clean_environ, free_port, until


class Distance:
    """A server of this machine, `round_trip` seconds away at `port`. As a context manager it is stopped at the end."""

    def __init__(self, target: int, round_trip: float) -> None:
        self.port = free_port()
        words = [sys.executable, "-m", "harness.distance", str(self.port), str(target), str(1000 * round_trip)]
        self._process = Process(words, clean_environ())

    def __enter__(self) -> Self:
        until(lambda: self._accepts() or not self._process.is_running, "the distance")
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._process.close()

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


class _Later(asyncio.Protocol):
    """Passes on what one side sends to the other one, half of the round trip later."""

    def __init__(self, seconds: float) -> None:
        self.other: _Later | None = None
        self._seconds = seconds
        self._due: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no asyncio.Transport
        if self.other is not None:
            self.other.other = self
            self.other.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._due.append(data)
        asyncio.get_running_loop().call_later(self._seconds, self._pass_on)

    def _pass_on(self) -> None:
        assert self.other is not None
        self.other.transport.write(self._due.popleft())

    def connection_lost(self, _error: Exception | None) -> None:
        if self.other is not None:
            asyncio.get_running_loop().call_later(self._seconds, self.other.transport.close)


class _Client(_Later):
    """A client's side: the server is connected for it, before anything is read."""

    def __init__(self, target: int, seconds: float) -> None:
        super().__init__(seconds)
        self._target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        server = _Later(self._seconds)
        server.other = self
        try:
            await asyncio.get_running_loop().create_connection(lambda: server, "127.0.0.1", self._target)
        except OSError:
            self.transport.close()


async def _serve(port: int, target: int, milliseconds: float) -> None:
    seconds = milliseconds / 2000
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Client(target, seconds), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(PermissionError):
        # A real network is not slower when this machine is busy, so this process gets priority.
        os.nice(-10)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
