"""Hosts that share one Redis: what C42 and Redis see of them, as they become more."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count

from harness.redis_server import RedisServer
from tools.bench.bench import PREFIX, Bench
from tools.bench.load import together
from tools.bench.processes import Server
from tools.bench.results import Goal, Section, Table, number

HOSTS = (1, 2, 4, 8)
EVENTS = 20
SUBSCRIBERS = 250
PAGES = 3
"""C42 gives a hundred subscriptions for each call."""
C42_SECONDS = 0.3
MISS_COMMANDS = 25
"""14, with 3 for each renewal of the lease, and 1 for each page after the first; `tests/test_hosts.py` counts them."""
WAIT_COMMANDS = 20
"""What a host that waits for another one's fetch may add: it asks for the lease every 20 to 100 ms."""

OTHER_COMMANDS = {b"info", b"ping", b"hello", b"client|setinfo", b"select", b"config|get"}
"""What this measurement asks itself, and what is said once on each connection."""

_fresh = count()


def measure(bench: Bench) -> Section:
    """From one host to eight, all ask at the same time for the same events, which none has."""
    rows = []
    goals = []
    with ExitStack() as running:
        redis = running.enter_context(RedisServer())
        hosts = [running.enter_context(bench.ours(C42_CACHE_URL=redis.url)) for _ in range(max(HOSTS))]
        for host in hosts:
            _ask([host], _paths())
        bench.c42.takes(C42_SECONDS)
        for many in HOSTS:
            paths = _paths()
            bench.c42.takes(C42_SECONDS)
            before = _executed(redis)
            _ask(hosts[:many], paths)
            commands, microseconds = _since(redis, before)
            calls = sum(bench.c42.calls.values()) / EVENTS
            rows.append([f"{many}", *map(number, (calls, commands, microseconds))])
            goals += [
                Goal(f"{many} hosts on one Redis: calls at C42 for an event", calls, 1 + PAGES, at_least=False),
                Goal(
                    f"{many} hosts on one Redis: commands for an event that none has",
                    commands,
                    MISS_COMMANDS + (many - 1) * WAIT_COMMANDS,
                    at_least=False,
                ),
            ]
        shared_hit, memory_hit = _hits(redis, hosts)
        _ask(hosts[:1], [f"{PREFIX}1-hosts-{next(_fresh)}/"])
        bytes_each = [_bytes_each(redis, subscribers) for subscribers in (SUBSCRIBERS, 1)]
        bench.c42.takes(0)
    goals += [
        Goal("commands for a hit in Redis", shared_hit[0], 1, at_least=False),
        Goal("commands for a hit in memory", memory_hit[0], 0, at_least=False),
    ]
    rows += [
        ["a hit in Redis", "0", *map(number, shared_hit)],
        ["a hit in memory", "0", *map(number, memory_hit)],
    ]
    header = ["hosts", "calls at C42 for each event", "commands for each event", "CPU time of Redis, µs"]
    return Section(
        "Hosts on one Redis",
        f"So many hosts, here processes, are asked at the same time for {EVENTS} events with {SUBSCRIBERS} "
        f"subscribers that none of them has. C42 takes {C42_SECONDS} s for each call. One host fetches, the others "
        "wait for its lease. Then one more host is asked for the same events, twice. The commands are those that Redis "
        f"executes, in scripts too. An event takes {bytes_each[0]:,} bytes of Redis; one with one subscriber takes "
        f"{bytes_each[1]:,}.",
        [Table(header, rows)],
        goals,
    )


def _paths() -> list[str]:
    return [f"{PREFIX}{SUBSCRIBERS}-hosts-{next(_fresh)}/" for _ in range(EVENTS)]


def _ask(hosts: list[Server], paths: list[str]) -> None:
    """Each host is asked for all of them, at once."""
    with ThreadPoolExecutor(len(hosts)) as threads:
        answers = threads.map(lambda host: together(host.port, paths, timeout=15), hosts)
        if any(answer.status != 200 for of_host in answers for answer in of_host):
            raise RuntimeError("a host gave another answer than a 200")


def _hits(redis: RedisServer, hosts: list[Server]) -> list[tuple[float, float]]:
    """What a hit in Redis costs it, and a hit in memory."""
    paths = _paths()
    _ask(hosts[:1], paths)
    costs = []
    for _ in range(2):
        before = _executed(redis)
        _ask(hosts[1:2], paths)
        costs.append(_since(redis, before))
    return costs


def _executed(redis: RedisServer) -> tuple[int, float]:
    """How many commands Redis has executed for us, and the µs of CPU time that it took."""
    found = re.findall(rb"cmdstat_([a-z|-]+):calls=([0-9]+)", redis.command("INFO", "commandstats"))
    return sum(int(calls) for name, calls in found if name not in OTHER_COMMANDS), _cpu(redis)


def _cpu(redis: RedisServer) -> float:
    found = re.findall(rb"used_cpu_(?:sys|user):([0-9.]+)", redis.command("INFO", "cpu"))
    return 1e6 * sum(map(float, found))


def _since(redis: RedisServer, before: tuple[int, float]) -> tuple[float, float]:
    """The same since then, for each event."""
    commands, microseconds = (now - then for now, then in zip(_executed(redis), before, strict=True))
    return commands / EVENTS, microseconds / EVENTS


def _bytes_each(redis: RedisServer, subscribers: int) -> int:
    key = re.search(rb"c42-proxy:[0-9a-f]+:event:[^\r]+", redis.command("KEYS", f"*event:{subscribers}-hosts*"))
    if key is None:
        raise RuntimeError("no event is in Redis")
    return int(redis.command("MEMORY", "USAGE", key[0])[1:-2])
