"""Hits beside clients that wait for a slow C42, a crowd that opens the same event, and a C42 that may not be asked."""

import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count

from harness.processes import until
from tools.bench.bench import EARLIER, HOT, OURS, PREFIX, Bench
from tools.bench.load import Answer, Load, together, warm_up, wrk
from tools.bench.machine import open_files
from tools.bench.processes import Server
from tools.bench.results import Goal, Section, Table, interleaved, middle, number

WAITING = 200
SLOW = 3.0
STEADY = 20
CROWD = 2000
CROWD_WAITS = 1.0
THRONG = 10_000
OTHER_FILES = 500
STALE = 100
MORE_STALE = (1_000, 20_000)
STALE_TTL = 10

_fresh = count()


def measure(bench: Bench) -> Section:
    """200 clients that wait for events of their own; 2,000 that wait for the same one; 100 events that have expired."""
    section = Section(
        "Beside a slow C42",
        f"{WAITING} clients ask for {WAITING} events that are not cached, and C42 takes {SLOW:.0f} s for each call. "
        f"Meanwhile wrk asks for an event that is cached. Then it does so while {STEADY} clients a second, for "
        f"{bench.plan.steady:.0f} s, ask for events that are not cached. Then {CROWD:,} clients ask at once for one "
        f"event that is not cached, then {THRONG:,}. At last, C42 asks the proxy, which has its SQLite file, to back "
        f"off, and wrk asks for any of {STALE} events that have expired, or of more.",
    )
    _beside_waiting(bench, section)
    _beside_steady(bench, section)
    _crowd(bench, section)
    _throng(bench, section)
    _stale(bench, section)
    return section


def _beside_waiting(bench: Bench, section: Section) -> None:
    core = bench.cores.load
    answered: dict[int, list[int]] = defaultdict(list)

    def unloaded(server: Server) -> Load:
        return wrk(server.url(HOT), 2, core=core)

    def loaded(server: Server) -> Load:
        bench.c42.takes(SLOW)
        with ThreadPoolExecutor(1) as thread:
            clients = thread.submit(_wait, server)
            until(lambda: bench.c42.calls["subscriptions"] >= WAITING or clients.done(), "all clients wait for C42")
            load = wrk(server.url(HOT), 2, core=core)
            answered[server.pid].append(_answered(clients.result()))
        return load

    def through(server: Server) -> Load:
        """From before they come until after they are answered."""
        bench.c42.takes(SLOW)
        with ThreadPoolExecutor(1) as thread:
            load = thread.submit(wrk, server.url(HOT), 5, core=core)
            time.sleep(0.5)
            answered[server.pid].append(_answered(_wait(server)))
            return load.result()

    whiles = {
        "no client waits": unloaded,
        f"{WAITING} wait": loaded,
        f"{WAITING} come, wait, and are answered": through,
    }
    with ExitStack() as running:
        servers = {version: running.enter_context(start()) for version, start in bench.versions.items()}
        for server in servers.values():
            warm_up(server.port, HOT)
        runs = interleaved(
            bench.plan.runs,
            {
                (version, name): partial(run, server)
                for version, server in servers.items()
                for name, run in whiles.items()
            },
        )
    rows = []
    p99s = {}
    for (version, name), loads in runs.items():
        p99s[version] = middle(loads, lambda load: load.p99)
        rate, p50 = middle(loads, lambda load: load.rate), middle(loads, lambda load: load.p50)
        rows.append([f"{version}: {name}", *map(number, (rate, p50, p99s[version]))])
    section.tables.append(Table(["hits while", "requests/s", "p50 ms", "p99 ms"], rows))
    # This version was the first one.
    worst = min(next(iter(answered.values())))
    section.goals.append(Goal(f"how many of {WAITING} waiting clients are answered, at worst", worst, WAITING))
    what = f"p99 of hits while {WAITING} come, wait and are answered, of the earlier version's"
    section.goals.append(Goal(what, p99s[OURS] / p99s[EARLIER], 0.25, at_least=False))


def _beside_steady(bench: Bench, section: Section) -> None:
    """Full load of hits, and misses that come all the time."""
    seconds = bench.plan.steady
    paths = [f"{PREFIX}1-steady-{next(_fresh)}/" for _ in range(round(STEADY * seconds))]
    bench.c42.takes(CROWD_WAITS)
    with bench.ours() as server, ThreadPoolExecutor(1) as thread:
        warm_up(server.port, HOT)
        load = thread.submit(wrk, server.url(HOT), seconds, core=bench.cores.load)
        answered = _answered(together(server.port, paths, timeout=15, every=1 / STEADY))
        p99 = load.result().p99
    what = f"beside {STEADY} misses a second for {seconds:.0f} s"
    section.goals.append(Goal(f"p99 of hits {what}", p99, 5, at_least=False, unit=" ms"))
    section.goals.append(Goal(f"misses answered, {what}", answered, len(paths)))


def _wait(server: Server) -> list[Answer]:
    return together(server.port, [f"{PREFIX}1-wait-{next(_fresh)}/" for _ in range(WAITING)], timeout=15)


def _answered(answers: list[Answer]) -> int:
    return sum(answer.status == 200 for answer in answers)


def _crowd(bench: Bench, section: Section) -> None:
    def crowd(server: Server) -> tuple[int, int, float]:
        """How many were answered, after how many fetches, and when the last one was."""
        bench.c42.takes(CROWD_WAITS)
        answers = together(server.port, [f"{PREFIX}1-crowd-{next(_fresh)}/"] * CROWD, timeout=15)
        return _answered(answers), max(bench.c42.calls.values()), max(answer.seconds for answer in answers)

    with ExitStack() as running:
        servers = {version: running.enter_context(start()) for version, start in bench.versions.items()}
        # More runs than elsewhere: a moment of the machine may be as long as what is measured.
        runs = interleaved(
            2 * bench.plan.runs, {version: partial(crowd, server) for version, server in servers.items()}
        )
    rows = []
    more = {}
    for version, crowds in runs.items():
        answered, fetches = min(each[0] for each in crowds), max(each[1] for each in crowds)
        last = middle(crowds, lambda each: each[2])
        more[version] = last - CROWD_WAITS
        rows.append([version, *map(number, (answered, fetches, last))])
        if version == OURS:
            section.goals.append(Goal(f"{CROWD:,} clients, one cold event: fetches", fetches, 1, at_least=False))
            section.goals.append(Goal(f"{CROWD:,} clients, one cold event: answered", answered, CROWD))
    header = [f"{CROWD:,} clients, one cold event", "answered", "calls of each kind at C42"]
    section.tables.append(Table([*header, f"last answer, s (C42 takes {CROWD_WAITS:.0f} s)"], rows))
    what = f"{CROWD:,} clients, one cold event: last answer beyond C42's time, of the earlier version's"
    section.goals.append(Goal(what, more[OURS] / more[EARLIER], 0.5, at_least=False))


def _throng(bench: Bench, section: Section) -> None:
    """More clients than fit into the backlog. Raises RuntimeError if this process may not have so many open files."""
    clients = THRONG
    if open_files() < clients + OTHER_FILES:
        raise RuntimeError(f"{clients + OTHER_FILES} open files are needed, and {open_files()} allowed")
    bench.c42.takes(CROWD_WAITS)
    with bench.ours() as server:
        idle = server.status("VmHWM")
        answers = together(server.port, [f"{PREFIX}1-crowd-{next(_fresh)}/"] * clients, timeout=30)
        threads, memory = server.status("Threads"), (server.status("VmHWM") - idle) / 1024
        fetches = max(bench.c42.calls.values())
    last = max(answer.connecting + answer.seconds for answer in answers)
    what = f"{clients:,} clients, one cold event"
    header = [what, "answered", "calls of each kind at C42", "last answer, s", "threads", "more memory, MiB"]
    section.tables.append(Table(header, [[OURS, *map(number, (_answered(answers), fetches, last, threads, memory))]]))
    section.goals.append(Goal(f"{what}: answered", _answered(answers), clients))
    section.goals.append(Goal(f"{what}: fetches", fetches, 1, at_least=False))
    section.goals.append(Goal(f"{what}: threads", threads, 99, at_least=False))


def _stale(bench: Bench, section: Section) -> None:
    """Servers that find expired answers, of few events or many, and one that finds fresh ones; then C42 says 429."""
    bench.c42.takes(0)
    with ExitStack() as running:

        def filled(events: int, ttl: int) -> Server:
            url = f"sqlite:///{bench.folder}/stale-{next(_fresh)}.sqlite3"
            bench.fill(url, events, age=STALE_TTL)
            return running.enter_context(bench.ours(C42_CACHE_TTL=f"{ttl}", C42_CACHE_URL=url))

        hits = f"hits, {STALE:,} events"
        servers = {hits: (filled(STALE, 7200), STALE)}
        servers |= {f"stale answers, {each:,} events": (filled(each, STALE_TTL), each) for each in (STALE, *MORE_STALE)}
        running.enter_context(bench.c42.with_fault(status=429, retry_after=3600))
        for server, _events in servers.values():
            warm_up(server.port, f"{PREFIX}1-0/")
        runs = interleaved(
            bench.plan.runs,
            {
                name: partial(wrk, server.url("/"), bench.plan.seconds, core=bench.cores.load, any_of=events)
                for name, (server, events) in servers.items()
            },
        )
    rates = {name: middle(loads, lambda load: load.rate) for name, loads in runs.items()}
    p99s = {name: middle(loads, lambda load: load.p99) for name, loads in runs.items()}
    rows = [[name, number(rates[name]), number(p99s[name])] for name in servers]
    section.tables.append(Table(["any of", "requests/s", "p99 ms"], rows))
    ratio = rates[f"stale answers, {STALE:,} events"] / rates[hits]
    section.goals.append(Goal("stale answers while C42 may not be asked, of the rate of hits", ratio, 0.8))
