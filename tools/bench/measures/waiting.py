"""Hits beside clients that wait for a slow C42, and a crowd that opens the same event."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

from harness.processes import until
from tools.bench.bench import HOT, PREFIX, Bench
from tools.bench.load import Answer, Load, together, warm_up, wrk
from tools.bench.processes import Server
from tools.bench.results import Goal, Section, Table, interleaved, middle, number

WAITING = 200
SLOW = 3.0
CROWD = 2000
CROWD_WAITS = 1.0

_fresh = count()


def measure(bench: Bench) -> Section:
    """200 clients that wait for events of their own; 2,000 that wait for the same one."""
    section = Section(
        "Beside a slow C42",
        f"{WAITING} clients ask for {WAITING} events that are not cached, and C42 takes {SLOW:.0f} s for each call. "
        "Meanwhile wrk asks for an event that is cached. Then "
        f"{CROWD:,} clients ask at once for one event that is not cached.",
    )
    _beside_waiting(bench, section)
    _crowd(bench, section)
    bench.c42.takes(0)
    return section


def _beside_waiting(bench: Bench, section: Section) -> None:
    cores = str(bench.cores.load)
    answered: list[int] = []

    def unloaded(server: Server) -> Load:
        return wrk(server.url(HOT), 2, cores=cores)

    def loaded(server: Server) -> Load:
        bench.c42.takes(SLOW)
        with ThreadPoolExecutor(1) as thread:
            clients = thread.submit(_wait, server)
            until(lambda: bench.c42.calls["subscriptions"] == WAITING, "all clients wait for C42")
            load = wrk(server.url(HOT), 2, cores=cores)
            answered.append(sum(answer.status == 200 for answer in clients.result()))
        return load

    def through(server: Server) -> Load:
        """From before they come until after they are answered."""
        bench.c42.takes(SLOW)
        with ThreadPoolExecutor(1) as thread:
            load = thread.submit(wrk, server.url(HOT), 5, cores=cores)
            time.sleep(0.5)
            answered.append(sum(answer.status == 200 for answer in _wait(server)))
            return load.result()

    with bench.ours() as server:
        warm_up(server.port, HOT)
        runs = interleaved(
            bench.plan.runs,
            {
                "no client waits": lambda: unloaded(server),
                f"{WAITING} wait": lambda: loaded(server),
                f"{WAITING} come, wait, and are answered": lambda: through(server),
            },
        )
    section.tables.append(
        Table(
            ["hits while", "requests/s", "p50 ms", "p99 ms", "lost"],
            [
                [
                    name,
                    number(middle(loads, lambda load: load.rate)),
                    number(middle(loads, lambda load: load.percentiles[0])),
                    number(middle(loads, lambda load: load.p99)),
                    str(sum(load.lost + load.refused for load in loads)),
                ]
                for name, loads in runs.items()
            ],
        )
    )
    rates = [middle(loads, lambda load: load.rate) for loads in runs.values()]
    waiting = runs[f"{WAITING} wait"]
    section.goals += [
        Goal(f"hits/s while {WAITING} clients wait, relative to none waiting", rates[1] / rates[0], 0.7),
        Goal("p99 of hits meanwhile", middle(waiting, lambda load: load.p99), 25, at_least=False, unit=" ms"),
        Goal(f"how many of the {WAITING} waiting clients are answered, at worst", min(answered), WAITING),
    ]


def _wait(server: Server) -> list[Answer]:
    return together(server.port, [f"{PREFIX}1-wait-{next(_fresh)}/" for _ in range(WAITING)], timeout=15)


def _crowd(bench: Bench, section: Section) -> None:
    answers: list[int] = []
    fetches: list[int] = []
    threads: list[int] = []
    longest: list[float] = []
    with bench.ours() as server:
        for _ in range(bench.plan.runs):
            bench.c42.takes(CROWD_WAITS)
            path = f"{PREFIX}1-crowd-{next(_fresh)}/"
            with _most_threads(server) as most:
                told = together(server.port, [path] * CROWD, timeout=15)
            threads.append(most[0])
            answers.append(sum(answer.status == 200 for answer in told))
            calls = bench.c42.calls
            fetches.append(max(calls.values()))
            longest.append(max(answer.seconds for answer in told))
    section.tables.append(
        Table(
            [f"{CROWD:,} clients, one cold event", "at worst"],
            [
                ["answered", str(min(answers))],
                ["calls of each kind at C42", str(max(fetches))],
                ["threads of the worker", str(max(threads))],
                [f"last answer, s (C42 takes {CROWD_WAITS:.0f} s)", number(max(longest))],
            ],
        )
    )
    section.goals += [
        Goal(f"{CROWD:,} clients, one cold event: fetches", max(fetches), 1, at_least=False),
        Goal(f"{CROWD:,} clients, one cold event: answered", min(answers), CROWD),
        Goal(f"{CROWD:,} clients, one cold event: threads", max(threads), 99, at_least=False),
    ]


@contextmanager
def _most_threads(server: Server) -> Iterator[list[int]]:
    most = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], server.threads)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()
