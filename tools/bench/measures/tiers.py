"""Hits in the shared tier: what another process, or an earlier one, has fetched."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median

import redis
import uvloop

from harness.redis_server import RedisServer
from tools.bench.bench import PREFIX, Bench
from tools.bench.load import Client
from tools.bench.results import Goal, Section, Table, number

Read = Callable[[], object]

HOPS = 2000


def measure(bench: Bench) -> Section:
    """A request that the shared tier answers, one that memory answers, and a raw read of the same records."""
    with _on_core(bench.cores.server):
        hop = number(1e6 * uvloop.run(_hop()))
    section = Section(
        "The shared tier",
        "One client asks for events that are in the shared tier alone, then for the same ones again: the difference is "
        "the cost of the tier. For comparison, a plain read of the same records with the client library (`SELECT` by "
        "key, `GET`). Medians, in µs. A store may hang, so a thread reads it, not the event loop: to a thread and back "
        f"takes {hop} µs. The proxy also checks what it reads, and prepares the answer.",
    )
    rows = []
    with RedisServer() as server:
        tiers = {"SQLite": f"sqlite:///{bench.folder}/tiers.sqlite3", "Redis": server.url}
        for name, url in tiers.items():
            shared, memory, raw = _costs(bench, url)
            rows.append([name, *map(number, (shared, memory, shared - memory, raw, shared - memory - raw))])
            section.goals.append(
                Goal(
                    f"extra time of a hit in {name} over a raw read",
                    shared - memory - raw,
                    100,
                    at_least=False,
                    unit=" µs",
                )
            )
    header = ["tier", "shared hit", "memory hit", "difference", "raw read", "more than the raw read"]
    section.tables.append(Table(header, rows))
    return section


def _costs(bench: Bench, url: str) -> tuple[float, float, float]:
    """A hit in the shared tier, one in memory, and a raw read, in µs."""
    ids = [f"1-tier-{number}" for number in range(bench.plan.shared_hits)]
    paths = [f"{PREFIX}{event_id}/" for event_id in ids]
    bench.c42.takes(0)
    with bench.ours(C42_CACHE_URL=url) as writer, Client(writer.port) as client:
        for path in paths:
            client.seconds(path)
    shared: list[float] = []
    memory: list[float] = []
    for _ in range(bench.plan.runs):
        with bench.ours(C42_CACHE_URL=url) as reader, Client(reader.port) as client:
            # The first one opens the store.
            client.seconds(paths[0])
            shared.append(median(map(client.seconds, paths[1:])))
            memory.append(median(map(client.seconds, paths)))
    if max(bench.c42.calls.values()) != len(ids):
        raise RuntimeError("what should have been in the shared tier was not")
    with _on_core(bench.cores.server), _raw_reads(url) as reads:
        raw = [_median_of(reads) for _ in range(bench.plan.runs)]
    return 1e6 * median(shared), 1e6 * median(memory), 1e6 * median(raw)


async def _hop() -> float:
    """Seconds from the event loop to a thread that has nothing to do, and back."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as threads:

        async def once() -> float:
            began = time.perf_counter()
            await loop.run_in_executor(threads, int)
            return time.perf_counter() - began

        return median([await once() for _ in range(HOPS)])


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
    with ExitStack() as opened:
        if url.startswith("sqlite"):
            db = sqlite3.connect(url.removeprefix("sqlite:///"))
            opened.callback(db.close)
            keys = [row[0] for row in db.execute("SELECT key FROM entries_1")]

            def select(key: str) -> object:
                return db.execute("SELECT record FROM entries_1 WHERE key = ?", (key,)).fetchone()

            yield [partial(select, key) for key in keys]
        else:
            client = opened.enter_context(redis.Redis.from_url(url))
            yield [partial(client.get, key) for key in client.scan_iter("*event:*", count=10_000)]


def _median_of(reads: list[Read]) -> float:
    def seconds(read: Read) -> float:
        began = time.perf_counter()
        if read() is None:
            raise RuntimeError("nothing was read")
        return time.perf_counter() - began

    return median(map(seconds, reads))
