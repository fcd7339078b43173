"""A full memory: it costs hits nothing, and holds what it says."""

from contextlib import ExitStack
from functools import partial

from tools.bench.bench import Bench
from tools.bench.load import wrk
from tools.bench.peers import WORKER
from tools.bench.processes import Gunicorn, Server
from tools.bench.results import Curves, Goal, Section, Table, interleaved, middle, number

BODY_BYTES = 96
"""Of each cached event, as `peers/filled.py` makes them."""


def measure(bench: Bench) -> Section:
    """Hits on ten events, and on events picked by chance out of 10, 10,000 and 1,000,000, and the memory of each."""
    cores = str(bench.cores.load)
    sizes = bench.plan.cached
    with ExitStack() as running:
        # A server without load is as large as it will be: all its events have been answered once.
        servers = {size: running.enter_context(_filled(bench, size)) for size in sizes}
        resident = {size: server.resident_bytes for size, server in servers.items()}
        runs = interleaved(
            bench.plan.runs,
            {
                (size, any_of): partial(wrk, server.url("/"), bench.plan.seconds, cores=cores, any_of=any_of)
                for size, server in servers.items()
                for any_of in (sizes[0], size)
            },
        )
    few = [middle(runs[size, sizes[0]], lambda load: load.rate) for size in sizes]
    rates = [middle(runs[size, size], lambda load: load.rate) for size in sizes]
    p99s = [middle(runs[size, size], lambda load: load.p99) for size in sizes]
    each = [(resident[size] - resident[sizes[0]]) / max(1, size - sizes[0]) for size in sizes]
    return Section(
        "A full memory",
        f"Hits with so many cached events (bounds raised), each of which was asked for before: on {sizes[0]} of them, "
        "and on random ones of all. No step of a hit depends on how many there are; the second column is lower because "
        "the processor's own caches are too small for all of them. The last columns show the memory of the worker, and "
        f"its growth for each event beyond the first {sizes[0]}. The bodies have {BODY_BYTES} bytes.",
        tables=[
            Table(
                ["cached events", f"hits/s on {sizes[0]}", "hits/s on any", "p99 ms", "worker, MB", "bytes an event"],
                [
                    [
                        f"{size:,}",
                        number(rate_of_few),
                        number(rate),
                        number(p99),
                        number(resident[size] / 1e6),
                        number(bytes_each) if bytes_each else "-",
                    ]
                    for size, rate_of_few, rate, p99, bytes_each in zip(sizes, few, rates, p99s, each, strict=True)
                ],
            )
        ],
        goals=[
            Goal(
                f"hits/s on {sizes[0]} of {sizes[-1]:,} cached events, relative to {sizes[0]} cached",
                few[-1] / few[0],
                0.95,
            ),
            Goal(
                f"hits/s on any of {sizes[-1]:,} cached events, relative to {sizes[0]} cached",
                rates[-1] / rates[0],
                0.95,
            ),
            Goal(
                f"memory for each cached event (1.5 times {BODY_BYTES} bytes + 1 KB)",
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
                {f"on {sizes[0]} of them": few, "on any of them": rates},
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
    return Gunicorn("tools.bench.peers.filled:app()", WORKER).start(str(bench.cores.server), variables)
