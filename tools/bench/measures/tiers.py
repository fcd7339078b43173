"""Hits in the shared tier: what another process, or an earlier one, has fetched."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from statistics import median

import redis

from harness.redis_server import RedisServer
from tools.bench.bench import EARLIER, OURS, PREFIX, Bench
from tools.bench.load import Client, wrk
from tools.bench.processes import Server
from tools.bench.results import Goal, Section, Table, interleaved, number

Read = Callable[[], object]

EVENTS = 40_000
"""In each tier. More than are asked for in a second."""

LOAD_SECONDS = 1
READS = 500
"""Of the records, for comparison."""


def measure(bench: Bench) -> Section:
    """A request that the shared tier answers, one that memory answers, and a raw read of the same records."""
    section = Section(
        "The shared tier",
        f"wrk asks for {EVENTS:,} events that are in the shared tier alone, each once, for {LOAD_SECONDS} s, and for "
        "events that are in memory: the difference of the times per request is what the tier costs. For comparison, a "
        "plain read of the same records with the client library (`SELECT` by key, `GET`). Then one client does so that "
        "asks for one event after the other: between two of its requests, the threads of the proxy fall asleep (ADR "
        "0019). Medians, in µs; a raw read under load is its CPU time. A store may hang, so a thread reads it, not the "
        "event loop. The proxy also checks what it reads, and prepares the answer.",
    )
    rows: dict[str, list[list[str]]] = {"under full load": [], "one client": []}
    extra: dict[str, float] = {}
    with RedisServer() as server:
        for tier, url in (("SQLite", f"sqlite:///{bench.folder}/tiers.sqlite3"), ("Redis", server.url)):
            bench.c42.takes(0)
            bench.fill(url, EVENTS)
            raw, raw_cpu = _raw(bench, url)
            for version, (loaded, loaded_memory, shared, memory) in _costs(bench, url).items():
                extra[version] = loaded - loaded_memory - raw_cpu
                rows["under full load"].append(_row(tier, version, loaded, loaded_memory, raw_cpu))
                rows["one client"].append(_row(tier, version, shared, memory, raw))
            if any(bench.c42.calls.values()):
                raise RuntimeError("what should have been in the shared tier was not")
            what = f"extra time of a hit in {tier} over a raw read"
            section.goals.append(Goal(what, extra[OURS], 100, at_least=False, unit=" µs", earlier=extra[EARLIER]))
    header = ["shared hit", "memory hit", "difference", "raw read", "more than the raw read"]
    section.tables.extend(Table([how, *header], rows[how]) for how in rows)
    return section


def _row(tier: str, version: str, shared: float, memory: float, raw: float) -> list[str]:
    return [f"{tier}, {version}", *map(number, (shared, memory, shared - memory, raw, shared - memory - raw))]


def _costs(bench: Bench, url: str) -> dict[str, list[float]]:
    """Of each version: a hit in the shared tier and one in memory, under load, and for one client; in µs.

    The versions take turns.
    """
    few = bench.plan.shared_hits
    paths = [f"{PREFIX}1-{number_of}/" for number_of in range(few)]

    def hits(start: Callable[..., Server]) -> tuple[float, ...]:
        with start(C42_CACHE_URL=url) as reader, Client(reader.port) as client:
            # The first one opens the store.
            client.seconds(paths[0])
            shared, memory = median(map(client.seconds, paths[1:])), median(map(client.seconds, paths))
            load = partial(wrk, reader.url("/"), LOAD_SECONDS, core=bench.cores.load)
            return 1 / load(once_from=few).rate, 1 / load(any_of=few).rate, shared, memory

    runs = interleaved(bench.plan.runs, {version: partial(hits, start) for version, start in bench.versions.items()})
    return {version: [1e6 * median(each) for each in zip(*measured, strict=True)] for version, measured in runs.items()}


def _raw(bench: Bench, url: str) -> tuple[float, float]:
    """How long a raw read takes, and its CPU time; in µs."""
    with _on_core(bench.cores.server), _raw_reads(url) as reads:
        began = time.process_time()
        seconds = median(median(map(_seconds, reads)) for _ in range(bench.plan.runs))
        return 1e6 * seconds, 1e6 * (time.process_time() - began) / (bench.plan.runs * len(reads))


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """Where the proxy runs: a read is dearer from another core than the one that Redis is on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _raw_reads(url: str) -> Iterator[list[Read]]:
    """A read for each record in the store, by the client library and nothing else."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:

            def select(key: str) -> object:
                return db.execute("SELECT record FROM entries_1 WHERE key = ?", (key,)).fetchone()

            yield [partial(select, key) for (key,) in db.execute("SELECT key FROM entries_1 LIMIT ?", (READS,))]
    else:
        with redis.Redis.from_url(url) as client:
            keys = islice(client.scan_iter("*event:*", count=10_000), READS)
            yield [partial(client.get, key) for key in keys]


def _seconds(read: Read) -> float:
    began = time.perf_counter()
    if read() is None:
        raise RuntimeError("nothing was read")
    return time.perf_counter() - began
