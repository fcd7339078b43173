"""Misses: as fast as C42 lets us."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from statistics import median

import requests

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from tools.bench.bench import EARLIER, OURS, PREFIX, Bench
from tools.bench.load import Client
from tools.bench.peers import bare
from tools.bench.processes import Server
from tools.bench.results import Goal, Section, Table, interleaved

LATENCY = 0.05
ROUNDS = 3
"""Three times as many runs as elsewhere: one miss may take half a millisecond longer than the next."""
CPU_MISSES = 200
"""CPU time is counted in hundredths of a second."""
SLOWER_CALL = "the slower of C42's calls"
BOTH_CALLS = "both calls by requests, each in a thread, and nothing else"

_fresh = count()


def measure(bench: Bench) -> Section:
    """The latency of misses, beside that of C42."""
    with ExitStack() as running:
        servers = {
            name: running.enter_context(start(C42_CACHE_URL=f"sqlite:///{bench.folder}/misses-{next(_fresh)}.sqlite3"))
            for name, start in bench.versions.items()
        }
        servers[BOTH_CALLS] = running.enter_context(bare("two_calls", bench))
        candidates: dict[str, Callable[[], float]] = {SLOWER_CALL: partial(_slower_call, bench)}
        candidates |= {name: partial(_misses, bench, server) for name, server in servers.items()}
        bench.c42.takes(LATENCY)
        runs = interleaved(ROUNDS * bench.plan.runs, candidates)
        bench.c42.takes(0)
    milliseconds = {name: 1000 * median(values) for name, values in runs.items()}
    more = {name: value - milliseconds[SLOWER_CALL] for name, value in milliseconds.items()}
    rows = [[name, f"{value:.2f}", f"{more[name]:.2f}"] for name, value in milliseconds.items()]
    section = Section(
        "Misses",
        f"Events that are not cached, one after the other; C42 takes {1000 * LATENCY:.0f} ms for each call, and the "
        "proxy has its SQLite file. In turn with them, a client makes the slower of C42's two calls itself, and a bare "
        "ASGI function under the same worker makes both calls for each request and stores nothing. Then C42 answers at "
        "once, and the CPU time of a miss is compared with that of the two calls alone.",
        [Table(["a miss, one subscriber", "median ms", "more than the slower call, ms"], rows)],
        decision="ADR 0020",
    )
    _cpu(bench, section)
    what = "a miss: time beyond the slower of C42's calls"
    section.goals.append(Goal(what, more[OURS], 2, at_least=False, unit=" ms", earlier=more[EARLIER]))
    section.goals.append(Goal(f"{what}, of the earlier version's", more[OURS] / more[EARLIER], 0.8, at_least=False))
    return section


def _cpu(bench: Bench, section: Section) -> None:
    """The CPU time of a miss, beside that of the same two calls by requests alone."""
    with (
        requests.Session() as session,
        bench.ours(C42_CACHE_URL=f"sqlite:///{bench.folder}/misses-cpu.sqlite3") as server,
        Client(server.port) as client,
    ):
        session.headers["Authorization"] = f"Token {SANDBOX_TOKEN}"
        api = f"{bench.c42.url}/api/v2"

        def two_calls() -> float:
            began = time.process_time()
            for number in (next(_fresh) for _ in range(CPU_MISSES)):
                session.get(f"{api}/events/1-{number}/", timeout=4).json()
                params: dict[str, str | int] = {"event_ids": f"[1-{number}]", "limit": 100, "offset": 0}
                session.get(f"{api}/event-subscriptions/", params=params, timeout=4).json()
            return (time.process_time() - began) / CPU_MISSES

        def misses() -> float:
            began = server.cpu_seconds
            for _ in range(CPU_MISSES):
                client.seconds(f"{PREFIX}1-miss-{next(_fresh)}/")
            return (server.cpu_seconds - began) / CPU_MISSES

        runs = interleaved(bench.plan.runs, {"two calls on a kept session of requests": two_calls, OURS: misses})
    milliseconds = {name: 1000 * median(values) for name, values in runs.items()}
    section.tables.append(Table(["CPU time", "ms"], [[name, f"{each:.2f}"] for name, each in milliseconds.items()]))
    plain, ours = milliseconds.values()
    what = "CPU time of a miss, of that of two calls on a kept session of requests"
    section.goals.append(Goal(what, ours / plain, 1.25, at_least=False))


def _slower_call(bench: Bench) -> float:
    with Client(bench.c42.port, f"Authorization: Token {SANDBOX_TOKEN}\r\n") as client:
        event = median(client.seconds(f"/api/v2/events/1-{next(_fresh)}/") for _ in range(bench.plan.misses))
        path = "/api/v2/event-subscriptions/?event_ids=[1-{}]&limit=100&offset=0"
        names = median(client.seconds(path.format(next(_fresh))) for _ in range(bench.plan.misses))
        return max(event, names)


def _misses(bench: Bench, server: Server) -> float:
    with Client(server.port) as client:
        return median(client.seconds(f"{PREFIX}1-miss-{next(_fresh)}/") for _ in range(bench.plan.misses))
