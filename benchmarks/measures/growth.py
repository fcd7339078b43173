"""A full memory: it costs hits nothing, and holds what it says."""

from contextlib import ExitStack
from functools import partial

from ..bench import Bench
from ..load import wrk
from ..peers import WORKER
from ..processes import Gunicorn, Server
from ..results import Curves, Goal, Section, Table, interleaved, middle, number

BODY_BYTES = 96
"""Of each cached event, as `peers/filled.py` makes them."""


def measure(bench: Bench) -> Section:
    """Hits on events picked by chance out of 10, 10,000 and 1,000,000, and the memory that each takes."""
    cores = str(bench.cores.load)
    sizes = bench.plan.cached
    with ExitStack() as running:
        # A server without load is as large as it will be: all its events have been answered once.
        servers = {size: running.enter_context(_filled(bench, size)) for size in sizes}
        resident = {size: server.resident_bytes for size, server in servers.items()}
        runs = interleaved(
            bench.plan.runs,
            {
                f"{size:,}": partial(wrk, server.url("/"), bench.plan.seconds, cores=cores, any_of=size)
                for size, server in servers.items()
            },
        )
    rates = [middle(loads, lambda load: load.rate) for loads in runs.values()]
    p99s = [middle(loads, lambda load: load.p99) for loads in runs.values()]
    each = [(resident[size] - resident[sizes[0]]) / max(1, size - sizes[0]) for size in sizes]
    return Section(
        "A full memory",
        "Hits on events picked by chance out of all that are cached (bounds raised), each of which was answered "
        f"before; and the memory of the worker for each of them beyond the first {sizes[0]}. "
        f"Their bodies have {BODY_BYTES} bytes.",
        tables=[
            Table(
                ["cached events", "hits/s", "p99 ms", "worker, MB", "bytes an event"],
                [
                    [
                        f"{size:,}",
                        number(rate),
                        number(p99),
                        number(resident[size] / 1e6),
                        number(bytes_each) if bytes_each else "-",
                    ]
                    for size, rate, p99, bytes_each in zip(sizes, rates, p99s, each, strict=True)
                ],
            )
        ],
        goals=[
            Goal(f"hits with {sizes[-1]:,} cached events, of those with {sizes[0]}", rates[-1] / rates[0], 0.95),
            Goal(
                f"memory a cached event (1.5 times {BODY_BYTES} bytes + 1 KB)",
                each[-1],
                1.5 * BODY_BYTES + 1024,
                at_least=False,
                unit=" bytes",
            ),
        ],
        pictures=[
            Curves(
                "cached_events",
                "Hits a second with so many cached events",
                "cached events",
                "hits/s",
                sizes,
                {"c42_proxy": rates},
            )
        ],
    )


def _filled(bench: Bench, size: int) -> Server:
    variables = {
        **bench.variables,
        "BENCH_CACHED": str(size),
        "C42_CACHE_URL": "memory://",
        "C42_CACHE_TTL": "7200",
        "C42_CACHE_MAX_BYTES": str(10**11),
        "C42_LOG_LEVEL": "warning",
    }
    return Gunicorn("benchmarks.peers.filled:app()", WORKER).start(str(bench.cores.server), variables)
