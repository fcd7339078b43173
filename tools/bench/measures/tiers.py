"""Hits in the shared tier: what another process, or an earlier one, has fetched."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from operator import itemgetter
from statistics import median

import redis

from harness.redis_server import RedisServer
from tools.bench.bench import EARLIER, OURS, PREFIX, Bench
from tools.bench.load import Client
from tools.bench.processes import Server
from tools.bench.results import Goal, Section, Table, interleaved, middle, number

Read = Callable[[], object]


def measure(bench: Bench) -> Section:
    """A request that the shared tier answers, one that memory answers, and a raw read of the same records."""
    section = Section(
        "The shared tier",
        "One client asks for events that are in the shared tier alone, then for the same ones again: the difference is "
        "the cost of the tier. For comparison, a plain read of the same records with the client library (`SELECT` by "
        "key, `GET`). Medians, in µs. A store may hang, so a thread reads it, not the event loop. The proxy also "
        "checks what it reads, and prepares the answer.",
    )
    rows = []
    extra: dict[str, float] = {}
    with RedisServer() as server:
        for tier, url in (("SQLite", f"sqlite:///{bench.folder}/tiers.sqlite3"), ("Redis", server.url)):
            for version, (shared, memory, raw) in _costs(bench, url).items():
                more = shared - memory - raw
                rows.append([f"{tier}, {version}", *map(number, (shared, memory, shared - memory, raw, more))])
                extra[version] = more
            what = f"extra time of a hit in {tier} over a raw read"
            section.goals.append(Goal(what, extra[OURS], 100, at_least=False, unit=" µs", earlier=extra[EARLIER]))
    header = ["tier", "shared hit", "memory hit", "difference", "raw read", "more than the raw read"]
    section.tables.append(Table(header, rows))
    return section


def _costs(bench: Bench, url: str) -> dict[str, tuple[float, float, float]]:
    """Of each version: a hit in the shared tier, one in memory, and a raw read, in µs. The versions take turns."""
    paths = [f"{PREFIX}1-tier-{number}/" for number in range(bench.plan.shared_hits)]
    bench.c42.takes(0)
    # All versions read what this one has written.
    with bench.ours(C42_CACHE_URL=url) as writer, Client(writer.port) as client:
        for path in paths:
            client.seconds(path)

    def hits(start: Callable[..., Server]) -> tuple[float, float]:
        with start(C42_CACHE_URL=url) as reader, Client(reader.port) as client:
            # The first one opens the store.
            client.seconds(paths[0])
            return median(map(client.seconds, paths[1:])), median(map(client.seconds, paths))

    runs = interleaved(bench.plan.runs, {version: partial(hits, start) for version, start in bench.versions.items()})
    if max(bench.c42.calls.values()) != len(paths):
        raise RuntimeError("what should have been in the shared tier was not")
    with _on_core(bench.cores.server), _raw_reads(url) as reads:
        raw = median(median(map(_seconds, reads)) for _ in range(bench.plan.runs))
    return {
        version: (1e6 * middle(measured, itemgetter(0)), 1e6 * middle(measured, itemgetter(1)), 1e6 * raw)
        for version, measured in runs.items()
    }


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

            yield [partial(select, key) for (key,) in db.execute("SELECT key FROM entries_1")]
    else:
        with redis.Redis.from_url(url) as client:
            yield [partial(client.get, key) for key in client.scan_iter("*event:*", count=10_000)]


def _seconds(read: Read) -> float:
    began = time.perf_counter()
    if read() is None:
        raise RuntimeError("nothing was read")
    return time.perf_counter() - began
