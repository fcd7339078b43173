"""Hits: what most requests are."""

from contextlib import ExitStack
from functools import partial
from operator import itemgetter

from tools.bench.bench import HOT, Bench
from tools.bench.load import PERCENTILES, Load, warm_up, wrk
from tools.bench.peers import (
    BARE_ASGI,
    BARE_WSGI,
    BARE_WSGI_GEVENT,
    EMPTY_FLASK,
    EMPTY_FLASK_GEVENT,
    NGINX,
    OURS,
    PEERS,
)
from tools.bench.processes import Server
from tools.bench.results import Bars, Goal, Section, Table, interleaved, middle, number


def measure(bench: Bench) -> Section:
    """The same event, asked for again and again on 32 connections."""
    cores = str(bench.cores.load)
    with ExitStack() as running:
        servers = {name: running.enter_context(start(bench)) for name, start in PEERS.items()}
        for server in servers.values():
            warm_up(server.port, HOT)
        runs = interleaved(
            bench.plan.runs,
            {name: partial(_run, server, bench.plan.seconds, cores) for name, server in servers.items()},
        )
    cpu = {name: middle(measured, itemgetter(1)) for name, measured in runs.items()}
    loads = {name: [load for load, _cpu in measured] for name, measured in runs.items()}
    wrong = {name: sum(load.lost + load.refused for load in each) for name, each in loads.items()}
    if any(wrong.values()):
        raise RuntimeError(f"requests without a 200: {wrong}")
    rates = {name: middle(each, lambda load: load.rate) for name, each in loads.items()}
    ours = rates[OURS]
    return Section(
        "Hits",
        "One event that is cached, asked for on 32 connections. One worker on one core, wrk on the other; the servers "
        "take turns, and each figure is the median of its runs. All answer the same body; the bare functions and nginx "
        "also send the same headers. `CPU` is the server's CPU time for an answer.",
        tables=[
            Table(
                ["server", "requests/s", "c42_proxy is", "CPU, µs", "p50 ms", "p99 ms", "p99.9 ms"],
                [
                    [
                        name,
                        number(rate),
                        f"{number(ours / rate)} times",
                        number(cpu[name]),
                        *(number(_percentile(loads[name], p)) for p in (50, 99, 99.9)),
                    ]
                    for name, rate in sorted(rates.items(), key=lambda pair: -pair[1])
                ],
            )
        ],
        goals=[
            Goal("hits/s relative to a bare ASGI function under the same worker", ours / rates[BARE_ASGI], 0.85),
            Goal(
                "hits/s relative to a bare WSGI function",
                ours / max(rates[BARE_WSGI], rates[BARE_WSGI_GEVENT]),
                2.5,
                unit=" times",
            ),
            Goal(
                "hits/s relative to an empty Flask view",
                ours / max(rates[EMPTY_FLASK], rates[EMPTY_FLASK_GEVENT]),
                5,
                unit=" times",
            ),
            Goal("hits/s relative to nginx from its cache", ours / rates[NGINX], 0.5),
        ],
        pictures=[
            Bars(
                "throughput",
                "Hits a second, one worker on one core",
                "requests/s",
                list(rates),
                {"": list(rates.values())},
            ),
            Bars(
                "latency",
                "Latency of hits, 32 connections",
                "ms",
                list(rates),
                {f"p{p:g}": [_percentile(loads[name], p) for name in rates] for p in PERCENTILES},
                logarithmic=True,
            ),
        ],
    )


def _run(server: Server, seconds: float, cores: str) -> tuple[Load, float]:
    """The load, and the CPU time of the server for each answer, in µs: a busy machine has less of a say in that."""
    before = server.cpu_seconds
    load = wrk(server.url(HOT), seconds, cores=cores)
    return load, 1e6 * (server.cpu_seconds - before) / load.requests


def _percentile(loads: list[Load], p: float) -> float:
    return middle(loads, lambda load: load.percentiles[PERCENTILES.index(p)])
