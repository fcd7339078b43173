"""A full memory costs hits next to nothing."""

from contextlib import ExitStack
from functools import partial

from tools.bench.bench import MEMORY, Bench
from tools.bench.load import wrk
from tools.bench.peers import WORKER
from tools.bench.processes import Server, under_gunicorn
from tools.bench.results import Goal, Section, Table, interleaved, middle, number


def measure(bench: Bench) -> Section:
    """Hits on ten events, and on events picked by chance out of 10, 10,000 and 1,000,000."""
    sizes = bench.plan.cached
    few = sizes[0]
    with ExitStack() as running:
        servers = {size: running.enter_context(_filled(bench, size)) for size in sizes}
        runs = interleaved(
            bench.plan.runs,
            {
                (size, any_of): partial(wrk, server.url("/"), bench.plan.seconds, core=bench.cores.load, any_of=any_of)
                for size, server in servers.items()
                for any_of in (few, size)
            },
        )
    rates = {key: middle(loads, lambda load: load.rate) for key, loads in runs.items()}
    rows = [
        [
            f"{size:,}",
            number(rates[size, few]),
            number(rates[size, size]),
            number(middle(runs[size, size], lambda load: load.p99)),
        ]
        for size in sizes
    ]
    ratio = rates[sizes[-1], sizes[-1]] / rates[few, few]
    return Section(
        "A full memory",
        f"Hits with so many cached events (bounds raised), each of which was asked for before: on {few} of them, and "
        "on random ones of all. No step of a hit depends on how many there are, but the processor's own caches are too "
        "small for all of them (ADR 0019).",
        [Table(["cached events", f"hits/s on {few}", "hits/s on any", "p99 ms"], rows)],
        [Goal(f"hits/s on any of {sizes[-1]:,} cached events, relative to {few} cached", ratio, 0.9)],
    )


def _filled(bench: Bench, size: int) -> Server:
    variables = {**bench.variables, **MEMORY, "BENCH_CACHED": str(size), "C42_CACHE_MAX_BYTES": str(10**11)}
    return under_gunicorn("filled:app()", bench.cores.server, variables, WORKER)
