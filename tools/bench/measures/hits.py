"""Hits: what most requests are."""

from contextlib import ExitStack
from functools import partial

from tools.bench.bench import EARLIER, HOT, OURS, Bench
from tools.bench.load import warm_up, wrk
from tools.bench.peers import BARE_ASGI, NGINX, PEERS
from tools.bench.results import Goal, Section, Table, interleaved, middle, number


def measure(bench: Bench) -> Section:
    """The same event, asked for again and again on 32 connections."""
    with ExitStack() as running:
        servers = {name: running.enter_context(start()) for name, start in bench.versions.items()}
        servers |= {name: running.enter_context(start(bench)) for name, start in PEERS.items()}
        for server in servers.values():
            warm_up(server.port, HOT)
        runs = interleaved(
            bench.plan.runs,
            {
                name: partial(wrk, server.url(HOT), bench.plan.seconds, core=bench.cores.load)
                for name, server in servers.items()
            },
        )
    rates = {name: middle(loads, lambda load: load.rate) for name, loads in runs.items()}
    ours, earlier = rates[OURS], rates[EARLIER]
    rows = [
        [
            name,
            number(rate),
            f"{number(ours / rate)} times",
            number(middle(runs[name], lambda load: load.p50)),
            number(middle(runs[name], lambda load: load.p99)),
        ]
        for name, rate in sorted(rates.items(), key=lambda pair: -pair[1])
    ]
    return Section(
        "Hits",
        "One event that is cached, asked for on 32 connections. One worker on one core, wrk on the other; the servers "
        "take turns, and each figure is the median of its runs. All answer the same body; the bare function and nginx "
        "also send the same headers.",
        [Table(["server", "requests/s", "c42_proxy is", "p50 ms", "p99 ms"], rows)],
        [
            Goal(f"hits/s relative to {what}", ours / rates[peer], bound, earlier=earlier / rates[peer])
            for what, peer, bound in (
                ("a bare ASGI function under the same worker", BARE_ASGI, 1.2),
                ("nginx from its cache", NGINX, 0.67),
            )
        ],
    )
