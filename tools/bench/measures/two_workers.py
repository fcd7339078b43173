"""Two workers on two cores."""

from contextlib import ExitStack
from functools import partial

from tools.bench.bench import HOT, Bench
from tools.bench.load import warm_up, wrk
from tools.bench.peers import WORKER
from tools.bench.processes import Gunicorn
from tools.bench.results import Goal, Section, Table, interleaved, middle, number

CONNECTIONS = 64


def measure(bench: Bench) -> Section:
    """What a second worker brings, to the proxy and to a bare function."""
    cores = bench.cores.both
    bare = Gunicorn("tools.bench.peers.bare_asgi:app", WORKER)
    with ExitStack() as running:
        servers = {
            ("bare", 1): running.enter_context(bare.start(cores, bench.variables)),
            ("bare", 2): running.enter_context(bare.start(cores, bench.variables, workers=2)),
            ("ours", 1): running.enter_context(bench.ours(cores=cores)),
            ("ours", 2): running.enter_context(bench.ours("--workers", "2", cores=cores)),
        }
        for server in servers.values():
            # Each connection may be another worker's.
            for _ in range(10):
                warm_up(server.port, HOT)
        runs = interleaved(
            bench.plan.runs,
            {
                f"{who} {workers}": partial(
                    wrk, server.url(HOT), bench.plan.seconds, cores=cores, connections=CONNECTIONS
                )
                for (who, workers), server in servers.items()
            },
        )
    rates = {name: middle(loads, lambda load: load.rate) for name, loads in runs.items()}
    gains = {who: rates[f"{who} 2"] / rates[f"{who} 1"] for who in ("bare", "ours")}
    names = {"bare": "bare ASGI function, our worker", "ours": "c42_proxy"}
    return Section(
        "Two workers",
        f"Hits on {CONNECTIONS} connections, with one worker and with two, all free to use both cores. wrk needs a "
        "good part of one itself, so what a bare function gains is the measure.",
        tables=[
            Table(
                ["server", "1 worker, requests/s", "2 workers, requests/s", "gain"],
                [
                    [names[who], number(rates[f"{who} 1"]), number(rates[f"{who} 2"]), f"{gain:.2f} times"]
                    for who, gain in gains.items()
                ],
            )
        ],
        goals=[Goal("gain of a second worker, relative to a bare function", gains["ours"] / gains["bare"], 0.95)],
    )
