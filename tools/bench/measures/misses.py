"""Misses: as fast as C42 lets us."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from statistics import median

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from tools.bench.bench import EARLIER, OURS, PREFIX, Bench
from tools.bench.load import Client
from tools.bench.peers import FASTAPI, PEERS, TEXTBOOK
from tools.bench.processes import Server
from tools.bench.results import Goal, Section, Table, interleaved, number

LATENCY = 0.05
MANY = 1000
SLOWER_CALL = "the slower of C42's calls"

_fresh = count()


def measure(bench: Bench) -> Section:
    """The latency of misses, and its growth with the subscribers."""
    section = Section(
        "Misses",
        f"Events that are not cached, one after the other; C42 takes {1000 * LATENCY:.0f} ms for each call, and the "
        "proxy has its SQLite file. In turn with them, a client makes the slower of C42's two calls itself.",
    )
    with ExitStack() as running:
        servers = {
            name: running.enter_context(start(C42_CACHE_URL=f"sqlite:///{bench.folder}/misses-{next(_fresh)}.sqlite3"))
            for name, start in bench.versions.items()
        }
        servers |= {name: running.enter_context(PEERS[name](bench)) for name in (TEXTBOOK, FASTAPI)}
        bench.c42.takes(LATENCY)
        _latency(bench, section, servers)
        _growth(bench, section, servers)
        bench.c42.takes(0)
    return section


def _latency(bench: Bench, section: Section, servers: dict[str, Server]) -> None:
    number_of = bench.plan.misses

    def slower_call() -> float:
        with Client(bench.c42.port, f"Authorization: Token {SANDBOX_TOKEN}\r\n") as client:
            event = median(client.seconds(f"/api/v2/events/1-{next(_fresh)}/") for _ in range(number_of))
            path = "/api/v2/event-subscriptions/?event_ids=[1-{}]&limit=100&offset=0"
            names = median(client.seconds(path.format(next(_fresh))) for _ in range(number_of))
            return max(event, names)

    def misses(server: Server) -> float:
        with Client(server.port) as client:
            return median(client.seconds(f"{PREFIX}1-miss-{next(_fresh)}/") for _ in range(number_of))

    candidates: dict[str, Callable[[], float]] = {SLOWER_CALL: slower_call}
    candidates |= {name: partial(misses, server) for name, server in servers.items()}
    runs = interleaved(bench.plan.runs, candidates)
    milliseconds = {name: 1000 * median(values) for name, values in runs.items()}
    more = {name: value - milliseconds[SLOWER_CALL] for name, value in milliseconds.items()}
    rows = [[name, f"{value:.2f}", f"{more[name]:.2f}"] for name, value in milliseconds.items()]
    section.tables.append(Table(["a miss, one subscriber", "median ms", "more than the slower call, ms"], rows))
    if EARLIER in more:
        what = "a miss: time beyond the slower of C42's calls, of the earlier version's"
        section.goals.append(Goal(what, more[OURS] / more[EARLIER], 0.8, at_least=False))


def _growth(bench: Bench, section: Section, servers: dict[str, Server]) -> None:
    def miss(server: Server, size: int) -> float:
        with Client(server.port) as client:
            return 1000 * client.seconds(f"{PREFIX}{size}-grown-{next(_fresh)}/")

    sizes = bench.plan.subscribers
    runs = interleaved(
        bench.plan.runs,
        {(name, size): partial(miss, server, size) for size in sizes for name, server in servers.items()},
    )
    rows = [[name, *(number(median(runs[name, size])) for size in sizes)] for name in servers]
    section.tables.append(Table(["a miss, ms, with subscribers", *(f"{size:,}" for size in sizes)], rows))
    calls = median(runs[OURS, MANY]) / 1000 / LATENCY
    section.goals.append(Goal(f"{MANY:,} subscribers: time, in multiples of one call", calls, 4, at_least=False))
