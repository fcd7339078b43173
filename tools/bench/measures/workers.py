"""Which ASGI worker: what docs/adr/0005-which-asgi-worker.md decides on."""

import signal
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import TypeVar

from tools.bench.bench import HOT, PREFIX, Bench
from tools.bench.load import Client, warm_up, wrk
from tools.bench.results import Section, Table, interleaved, middle, number

CANDIDATES = {
    "our worker (uvicorn's)": (),
    "gunicorn's asgi, gunicorn_h1c": ("--worker-class", "asgi", "--http-parser", "fast"),
    "gunicorn's asgi, Python parser": ("--worker-class", "asgi", "--http-parser", "python"),
}
ROWS = [
    "hits, requests/s",
    "p99 ms",
    "TERM: the slow request",
    "TERM: a request on an idle connection, 0.1 s later",
    "TERM: ends after, s",
    "HUP under load: lost of all requests",
    "idle after a request: closed after, s",
    "nothing sent: closed after, s",
    "half a request sent: closed after, s",
    "memory over so many requests, KB",
]
KEEP_ALIVE = 3
SLOW = 1.5

_fresh = count()

T = TypeVar("T")


def measure(bench: Bench) -> Section:
    """The ASGI app under each worker: speed, signals, connections that do not behave, memory."""
    section = Section(
        "Which ASGI worker",
        "The ASGI app under our worker (uvicorn's, with httptools) and under gunicorn's own with uvloop. Signals: TERM "
        f"while a request waits {SLOW} s for C42, and HUP each second under load. Connections: watched for "
        f"{bench.plan.patience:.0f} s with `--keep-alive {KEEP_ALIVE}`.",
    )
    told = [
        *_speed(bench),
        *_term(bench),
        _each(partial(_hup, bench)),
        *_connections(bench),
        _each(partial(_leak, bench)),
    ]
    rows = [[name, *values] for name, values in zip(ROWS, told, strict=True)]
    section.tables.append(Table(["", *CANDIDATES], rows))
    return section


def _each(measure: Callable[[Iterable[str]], T]) -> list[T]:
    return [measure(options) for options in CANDIDATES.values()]


def _at_once(measure: Callable[[Iterable[str]], T]) -> list[T]:
    """For what is waiting more than working."""
    with ThreadPoolExecutor(len(CANDIDATES)) as threads:
        return list(threads.map(measure, CANDIDATES.values()))


def _speed(bench: Bench) -> tuple[list[str], list[str]]:
    cores = str(bench.cores.load)
    with ExitStack() as running:
        servers = {name: running.enter_context(bench.ours(*options)) for name, options in CANDIDATES.items()}
        for server in servers.values():
            warm_up(server.port, HOT)
        runs = interleaved(
            bench.plan.runs,
            {name: partial(wrk, server.url(HOT), bench.plan.seconds, cores=cores) for name, server in servers.items()},
        )
    rates = [number(middle(loads, lambda load: load.rate)) for loads in runs.values()]
    return rates, [number(middle(loads, lambda load: load.p99)) for loads in runs.values()]


def _term(bench: Bench) -> list[list[str]]:
    """TERM while a request is under way, with another connection that is idle and asks a moment later."""
    bench.c42.takes(SLOW)

    def term(options: Iterable[str]) -> tuple[str, str, str]:
        with bench.ours(*options) as server, ThreadPoolExecutor(1) as thread:
            with Client(server.port) as slow, Client(server.port) as idle:
                idle.get("/nothing/")
                waiting = thread.submit(_outcome, partial(slow.get, f"{PREFIX}1-term-{next(_fresh)}/"))
                time.sleep(0.3)
                server.send(signal.SIGTERM)
                began = time.monotonic()
                time.sleep(0.1)
                late = _outcome(partial(idle.get, "/nothing/"))
                answered = waiting.result()
            try:
                status = server.wait(40)
            except TimeoutError:
                return answered, late, "not in 40"
            return answered, late, f"{time.monotonic() - began:.1f} (status {status})"

    told = _at_once(term)
    bench.c42.takes(0)
    return [list(row) for row in zip(*told, strict=True)]


def _outcome(get: Callable[[], tuple[object, bytes]]) -> str:
    try:
        _answer, received = get()
    except OSError as exc:
        return type(exc).__name__
    return f"status {received.split()[1].decode()}" if received else "closed"


def _hup(bench: Bench, options: Iterable[str]) -> str:
    """A request counts as lost if its connection was closed without an answer, or refused."""
    seconds = max(4, 2 * bench.plan.seconds)
    with bench.ours(*options) as server, ThreadPoolExecutor(1) as thread:
        warm_up(server.port, HOT)
        load = thread.submit(wrk, server.url(HOT), seconds, cores=str(bench.cores.load))
        for _ in range(round(seconds) - 2):
            time.sleep(1)
            server.send(signal.SIGHUP)
        told = load.result()
    return f"{told.lost + told.refused} of {told.requests:,}"


def _connections(bench: Bench) -> list[list[str]]:
    """When the server closes a connection that is idle, that never sent anything, that sent half a request."""
    request = f"GET {HOT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def watch(options: Iterable[str]) -> list[str]:
        with (
            bench.ours(*options, "--keep-alive", str(KEEP_ALIVE)) as server,
            ThreadPoolExecutor(3) as threads,
        ):
            sent = (request, b"", request[: len(request) // 2])
            return list(threads.map(partial(_closed_after, server.port, bench.plan.patience), sent))

    return [list(row) for row in zip(*_at_once(watch), strict=True)]


def _closed_after(port: int, patience: float, sent: bytes) -> str:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        while (left := began + patience - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                if not connection.recv(65536):
                    return f"{time.monotonic() - began:.1f}"
            except TimeoutError:
                break
            except ConnectionError:
                return f"{time.monotonic() - began:.1f}"
    return f"not in {patience:.0f}"


def _leak(bench: Bench, options: Iterable[str]) -> str:
    """How much larger the worker is after so many requests more, once it is warm."""
    with bench.ours(*options) as server:
        wrk(server.url(HOT), 2, cores=str(bench.cores.load))
        before = server.resident_bytes
        requests = 0
        while requests < bench.plan.leak_requests:
            requests += wrk(server.url(HOT), 5 if bench.plan.runs > 1 else 1, cores=str(bench.cores.load)).requests
        return f"{(server.resident_bytes - before) / 1024:+.0f} ({requests:,})"
