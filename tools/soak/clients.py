"""Clients that ask all the time, and record what they sent and what they got."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Mapping

from .c42 import C42, FEW, FLICKERING, MANY, UNKNOWN
from .record import Loss, Record, Request

CLIENTS = 32
BURST = 40
PATIENCE = 15.0
"""Seconds after which a client no longer waits: nobody should have to wait for half of that."""
PAUSE = 0.08
BURST_PAUSE = 2.5
KEPT = {"cache-control", "cache-status", "content-type", "etag", "expires", "retry-after", "x-accel-expires"}

NGINX = "nginx"


class Clients:
    """`ports` are those of nginx and of the hosts, by name. Requests are numbered over all clients."""

    def __init__(
        self, record: Callable[[Record], None], chance: random.Random, c42: C42, ports: Mapping[str, int]
    ) -> None:
        self._record = record
        self._chance = chance
        self._c42 = c42
        self._ports = ports
        self._numbers = itertools.count(1)
        self._etags: dict[str, str] = {}

    async def ask_all_the_time(self, seconds: float) -> None:
        """Ask for so long; returns when all answers are there."""
        over = time.monotonic() + seconds
        hosts = [at for at in self._ports if at != NGINX]
        every_fourth = [NGINX if number % 4 else hosts[number // 4 % len(hosts)] for number in range(CLIENTS)]
        async with asyncio.TaskGroup() as group:
            for at in every_fourth:
                group.create_task(self._ask_on(at, over))
            group.create_task(self._burst_on(over))

    async def _ask_on(self, at: str, over: float) -> None:
        # A few events are asked for most of the time; some of the others have expired each time that they are.
        events = [*FEW, *FLICKERING, *MANY, *UNKNOWN]
        weights = [1 / rank for rank in range(1, len(events) + 1)]
        connection = _Connection(self._ports[at])
        while time.monotonic() < over:
            [event] = self._chance.choices(events, weights)
            await self._ask(connection, at, event)
            await asyncio.sleep(self._chance.expovariate(1 / PAUSE))
        connection.close()

    async def _burst_on(self, over: float) -> None:
        """Now and then, all clients ask at once for one event, often one that nobody has asked for yet."""
        everywhere = [NGINX, NGINX, *self._ports]
        connections = [(at, _Connection(self._ports[at])) for at, _ in zip(itertools.cycle(everywhere), range(BURST))]
        for number in itertools.count(1):
            await asyncio.sleep(self._chance.expovariate(1 / BURST_PAUSE))
            if time.monotonic() >= over:
                break
            event = self._chance.choice([f"cold-{number}", f"cold-{number}", *FEW])
            if event not in FEW:
                self._c42.add(event, self._chance.choice([2, 220]))
            await asyncio.gather(*(self._ask(connection, at, event) for at, connection in connections))
        for _, connection in connections:
            connection.close()

    async def _ask(self, connection: "_Connection", at: str, event: str) -> None:
        etag = self._etags.get(event) if self._chance.random() < 0.15 else None
        request = await connection.get(f"soak-{next(self._numbers)}", event, at, etag)
        self._record(request)
        if request.loss == "closed":
            # RFC 9112, section 9.3.1: a request on a kept-alive connection that ends may be sent once more.
            request = await connection.get(f"soak-{next(self._numbers)}", event, at, etag)
            self._record(request)
        if request.status == 200 and "etag" in request.headers:
            self._etags[event] = request.headers["etag"]


class _Connection:
    """A connection that is kept, and opened again where it has ended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._has_head = False

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    async def get(self, request_id: str, event: str, at: str, etag: str | None) -> Request:
        """Ask for an event. Never raises: what went wrong is the request's `loss`."""
        if self._open is not None and self._open[0].at_eof():
            self.close()
        used, sent = self._open is not None, time.time()
        status, headers, body = None, dict[str, str](), ""
        loss: Loss | None = None
        self._has_head = False
        try:
            async with asyncio.timeout(PATIENCE):
                status, headers, body = await self._exchange(request_id, event, etag)
        except TimeoutError:
            loss = "timed out"
        except (OSError, EOFError, ValueError) as error:
            partial = isinstance(error, asyncio.IncompleteReadError) and error.partial
            loss = "half an answer" if self._has_head else "closed" if used and not partial else "broken off"
        ended = time.time()
        if loss is not None or headers.get("connection") == "close":
            self.close()
        kept = {name: value for name, value in headers.items() if name in KEPT}
        return Request(request_id, event, at, sent, ended, status, loss, kept, body, etag, used)

    async def _exchange(self, request_id: str, event: str, etag: str | None) -> tuple[int, dict[str, str], str]:
        if self._open is None:
            self._open = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._open
        lines = [f"GET /events-with-subscriptions/{event}/ HTTP/1.1", "Host: soak", f"X-Request-ID: {request_id}"]
        writer.write("\r\n".join([*lines, *([f"If-None-Match: {etag}"] if etag else []), "", ""]).encode())
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self._has_head = True
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(start.split()[1])
        body = b"" if status == 304 else await reader.readexactly(int(headers["content-length"]))
        return status, headers, body.decode()
