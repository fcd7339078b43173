"""Misses: as fast as C42 lets us, and not dear."""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from statistics import median

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from harness.processes import clean_environ
from tools.bench.bench import PREFIX, Bench
from tools.bench.load import Client
from tools.bench.peers import FASTAPI, OURS_GTHREAD, PEERS, TEXTBOOK
from tools.bench.processes import PYTHON, Server
from tools.bench.results import Curves, Goal, Section, Table, interleaved, middle, number

LATENCY = 0.05
MANY = 1000

MEMORY = "c42_proxy, memory"
SQLITE = "c42_proxy, SQLite (default)"

_fresh = count()


def measure(bench: Bench) -> Section:
    """Latency, growth with the subscribers, and CPU of misses."""
    section = Section(
        "Misses",
        f"Events that are not cached, one after the other; C42 takes {1000 * LATENCY:.0f} ms for each "
        "call (no time at all where CPU is measured). In turn with them, a client makes the slower of C42's two calls "
        "itself. The plain `requests` calls are a script that calls `requests.get(...).json()` twice for each event.",
    )
    with ExitStack() as running:
        servers = {
            MEMORY: running.enter_context(bench.ours()),
            SQLITE: running.enter_context(bench.ours(C42_CACHE_URL=f"sqlite:///{bench.folder}/misses.sqlite3")),
            **{name: running.enter_context(PEERS[name](bench)) for name in (OURS_GTHREAD, TEXTBOOK, FASTAPI)},
        }
        _latency(bench, section, servers)
        _growth(bench, section, servers)
        bench.c42.takes(0)
        _cpu(bench, section, servers)
    return section


def _latency(bench: Bench, section: Section, servers: dict[str, Server]) -> None:
    bench.c42.takes(LATENCY)
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

    candidates: dict[str, Callable[[], float]] = {"the slower of C42's calls": slower_call}
    candidates |= {name: partial(misses, server) for name, server in servers.items()}
    runs = interleaved(bench.plan.runs, candidates)
    milliseconds = {name: 1000 * median(values) for name, values in runs.items()}
    slower = milliseconds["the slower of C42's calls"]
    section.tables.append(
        Table(
            ["a miss, one subscriber", "median ms", "more than the slower call, ms"],
            [[name, f"{value:.2f}", f"{value - slower:.2f}"] for name, value in milliseconds.items()],
        )
    )
    more = milliseconds[SQLITE] - slower
    section.goals.append(Goal("a miss: time beyond the slower of C42's calls", more, 5, at_least=False, unit=" ms"))


def _growth(bench: Bench, section: Section, servers: dict[str, Server]) -> None:
    bench.c42.takes(LATENCY)

    def miss(server: Server, size: int) -> float:
        with Client(server.port) as client:
            return client.seconds(f"{PREFIX}{size}-grown-{next(_fresh)}/")

    compared = {name: server for name, server in servers.items() if name in {SQLITE, TEXTBOOK, FASTAPI}}
    seconds = {
        (name, size): median(values)
        for size in bench.plan.subscribers
        for name, values in interleaved(
            bench.plan.runs, {name: partial(miss, server, size) for name, server in compared.items()}
        ).items()
    }
    sizes = bench.plan.subscribers
    section.tables.append(
        Table(
            ["a miss, ms, with subscribers", *(f"{size:,}" for size in sizes)],
            [[name, *(number(1000 * seconds[name, size]) for size in sizes)] for name in compared],
        )
    )
    section.pictures.append(
        Curves(
            "subscribers",
            f"A miss, C42 taking {1000 * LATENCY:.0f} ms a call",
            "subscribers",
            "ms",
            sizes,
            {name: [1000 * seconds[name, size] for size in sizes] for name in compared},
        )
    )
    calls = seconds[SQLITE, MANY] / LATENCY
    section.goals.append(Goal(f"{MANY:,} subscribers: time, in multiples of one call", calls, 4, at_least=False))


def _cpu(bench: Bench, section: Section, servers: dict[str, Server]) -> None:
    misses = bench.plan.cpu_misses

    def of_server(server: Server) -> float:
        with Client(server.port) as client:
            before = server.cpu_seconds
            for _ in range(misses):
                client.seconds(f"{PREFIX}1-cpu-{next(_fresh)}/")
            return (server.cpu_seconds - before) / misses

    def of_script(kind: str) -> float:
        command = ["taskset", "--cpu-list", str(bench.cores.server), PYTHON, "-m", "tools.bench.peers.plain_requests"]
        told = subprocess.run(  # noqa: S603  # our own words
            [*command, kind, str(misses)],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
            env=clean_environ(**bench.variables),
        )
        return float(told.stdout) / misses

    candidates: dict[str, Callable[[], float]] = {
        "two plain requests calls": partial(of_script, "plain"),
        "two calls on a kept requests.Session": partial(of_script, "session"),
    }
    candidates |= {name: partial(of_server, server) for name, server in servers.items()}
    runs = interleaved(bench.plan.runs, candidates)
    cpu = {name: 1000 * middle(values, lambda seconds: seconds) for name, values in runs.items()}
    plain = cpu["two plain requests calls"]
    section.tables.append(
        Table(
            ["CPU time of a miss", "ms", "relative to two plain requests calls"],
            [[name, number(value), f"{value / plain:.2f} times"] for name, value in cpu.items()],
        )
    )
    section.goals.append(
        Goal(
            "CPU time of a miss relative to two plain requests calls",
            cpu[SQLITE] / plain,
            1.5,
            at_least=False,
            unit=" times",
        )
    )
