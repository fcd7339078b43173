"""From the start of the process to the first answer."""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

from tools.bench.bench import HOT, Bench
from tools.bench.load import Client
from tools.bench.peers import BARE_ASGI, PEERS
from tools.bench.processes import Server
from tools.bench.results import Goal, Section, Table, interleaved, number


def measure(bench: Bench) -> Section:
    """Of a bare function, of the proxy without a file, and of the proxy with one that it has used before."""
    bench.c42.takes(0)
    warm = f"sqlite:///{bench.folder}/warm.sqlite3"
    runs = interleaved(
        bench.plan.starts,
        {
            "bare ASGI function, our worker": partial(_seconds, lambda: PEERS[BARE_ASGI](bench)),
            "c42_proxy, memory": partial(_seconds, bench.ours),
            "c42_proxy, SQLite (default)": partial(_seconds, lambda: bench.ours(C42_CACHE_URL=warm)),
        },
    )
    seconds = {name: median(values) for name, values in runs.items()}
    return Section(
        "Start-up",
        "From the start of the process to the end of the first answer with an event in it.",
        tables=[Table(["server", "seconds"], [[name, number(value)] for name, value in seconds.items()])],
        goals=[
            Goal("start-up to the first answer", seconds["c42_proxy, SQLite (default)"], 1, at_least=False, unit=" s")
        ],
    )


def _seconds(start: Callable[[], Server]) -> float:
    began = time.perf_counter()
    with start() as server:
        with Client(server.port) as client:
            client.seconds(HOT)
        return time.perf_counter() - began
