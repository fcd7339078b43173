"""What may be switched on, and what it costs a hit."""

from contextlib import ExitStack
from functools import partial

from harness.processes import free_port
from tools.bench.bench import HOT, Bench
from tools.bench.load import warm_up, wrk
from tools.bench.results import Section, Table, interleaved, middle, number

ACCESS_LOG = ("--access-logfile", "-")


def measure(bench: Bench) -> Section:
    """Hits with metrics, and with gunicorn's access log."""
    cores = str(bench.cores.load)
    with ExitStack() as running:
        servers = {
            "as it is": running.enter_context(bench.ours()),
            "metrics": running.enter_context(bench.ours(C42_OPS_BIND=f"127.0.0.1:{free_port()}")),
            "access log": running.enter_context(bench.ours(*ACCESS_LOG)),
            "access log, JSON": running.enter_context(bench.ours(*ACCESS_LOG, C42_LOG_FORMAT="json")),
        }
        for server in servers.values():
            warm_up(server.port, HOT)
        runs = interleaved(
            bench.plan.runs,
            {name: partial(wrk, server.url(HOT), bench.plan.seconds, cores=cores) for name, server in servers.items()},
        )
    rates = {name: middle(loads, lambda load: load.rate) for name, loads in runs.items()}
    plain = rates["as it is"]
    return Section(
        "What extras cost",
        "Hits as above, with one thing switched on.",
        tables=[
            Table(
                ["c42_proxy", "requests/s", "of its rate without", "µs a hit"],
                [
                    [name, number(rate), number(rate / plain), number(1e6 / rate - 1e6 / plain)]
                    for name, rate in rates.items()
                ],
            )
        ],
    )
