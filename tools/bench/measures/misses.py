"""Misses: as fast as C42 lets us."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from statistics import median

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from tools.bench.bench import EARLIER, OURS, PREFIX, Bench
from tools.bench.load import Client
from tools.bench.processes import Server
from tools.bench.results import Goal, Section, Table, interleaved

LATENCY = 0.05
SLOWER_CALL = "the slower of C42's calls"

_fresh = count()


def measure(bench: Bench) -> Section:
    """The latency of misses, beside that of C42."""
    with ExitStack() as running:
        servers = {
            name: running.enter_context(start(C42_CACHE_URL=f"sqlite:///{bench.folder}/misses-{next(_fresh)}.sqlite3"))
            for name, start in bench.versions.items()
        }
        candidates: dict[str, Callable[[], float]] = {SLOWER_CALL: partial(_slower_call, bench)}
        candidates |= {name: partial(_misses, bench, server) for name, server in servers.items()}
        bench.c42.takes(LATENCY)
        runs = interleaved(bench.plan.runs, candidates)
        bench.c42.takes(0)
    milliseconds = {name: 1000 * median(values) for name, values in runs.items()}
    more = {name: value - milliseconds[SLOWER_CALL] for name, value in milliseconds.items()}
    rows = [[name, f"{value:.2f}", f"{more[name]:.2f}"] for name, value in milliseconds.items()]
    section = Section(
        "Misses",
        f"Events that are not cached, one after the other; C42 takes {1000 * LATENCY:.0f} ms for each call, and the "
        "proxy has its SQLite file. In turn with them, a client makes the slower of C42's two calls itself.",
        [Table(["a miss, one subscriber", "median ms", "more than the slower call, ms"], rows)],
        decision="ADR 0001",
    )
    if EARLIER in more:
        what = "a miss: time beyond the slower of C42's calls, of the earlier version's"
        section.goals.append(Goal(what, more[OURS] / more[EARLIER], 0.8, at_least=False))
    return section


def _slower_call(bench: Bench) -> float:
    with Client(bench.c42.port, f"Authorization: Token {SANDBOX_TOKEN}\r\n") as client:
        event = median(client.seconds(f"/api/v2/events/1-{next(_fresh)}/") for _ in range(bench.plan.misses))
        path = "/api/v2/event-subscriptions/?event_ids=[1-{}]&limit=100&offset=0"
        names = median(client.seconds(path.format(next(_fresh))) for _ in range(bench.plan.misses))
        return max(event, names)


def _misses(bench: Bench, server: Server) -> float:
    with Client(server.port) as client:
        return median(client.seconds(f"{PREFIX}1-miss-{next(_fresh)}/") for _ in range(bench.plan.misses))
