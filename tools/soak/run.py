"""One run: the stack, its C42, clients and faults, for a given time; and the record of it."""

import asyncio
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from harness.processes import free_port

from .c42 import C42
from .clients import Clients
from .faults import Faults, planned
from .logs import said_by
from .record import Record, Run
from .stack import HOSTS, WORKERS, FragileStack

TTL = 3.0
STALE_IF_ERROR = 6.0
BUDGET = 1.0
THRESHOLD = 5
CORRECTED = 0.02
"""Seconds by which the wall clock may be corrected during a run: less than anything that is judged by it."""


def run(seed: int, seconds: float, logs: Path) -> list[Record]:
    """Run everything for so long, leave the logs in a folder, and give what was recorded.

    Raises RuntimeError or TimeoutError where a part does not start, and RuntimeError where the clock was set meanwhile.
    """
    port = free_port()
    settings = {
        "C42_CACHE_TTL": f"{TTL}",
        "C42_STALE_IF_ERROR": f"{STALE_IF_ERROR}",
        "C42_TIMEOUT": f"{BUDGET}",
        "C42_BREAKER_THRESHOLD": f"{THRESHOLD}",
        "C42_LOG_FORMAT": "json",
    }
    records: list[Record] = [Run(seed, TTL, STALE_IF_ERROR, BUDGET, THRESHOLD, len(HOSTS) * WORKERS)]
    with FragileStack(port, settings) as stack:
        stack.wait_until_ready()
        clock = time.time() - time.monotonic()
        asyncio.run(_run(seed, seconds, port, stack, records.append))
        for log in stack.logs:
            shutil.copy(log, logs)
    for host in HOSTS:
        records.extend(said_by(logs / f"{host}.log"))
    if abs(time.time() - time.monotonic() - clock) > CORRECTED:
        raise RuntimeError("the clock was set during the run: its record proves nothing")
    return records


async def _run(seed: int, seconds: float, port: int, stack: FragileStack, record: Callable[[Record], None]) -> None:
    chance = random.Random(seed)  # noqa: S311  # no secret
    with C42(record, chance, port=port, slow=2.5 * BUDGET) as c42:
        clients = Clients(record, chance, c42, stack.ports)
        faults = Faults(record, chance, c42, stack)
        async with asyncio.TaskGroup() as group:
            changes = group.create_task(c42.change_all_the_time())
            for row in planned(seed, seconds):
                group.create_task(faults.inject(row))
            await clients.ask_all_the_time(seconds)
            changes.cancel()
