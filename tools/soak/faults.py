"""Which faults come when, by chance and the same for the same seed; and how each is injected."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from .bounds import MOVED
from .c42 import C42, FEW
from .machine import can_mount, full_shared_memory, without_descriptors
from .record import Fault, FaultKind, Record
from .stack import HOSTS, FragileStack, commands_of_hosts

QUIET_AT_FIRST = 2.0
QUIET_AT_LAST = 1.0

OF_HOSTS = ("worker killed", "host reloaded", "no threads", "no descriptors", "shared memory full", "log not read")


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault `at` seconds after the start; if it lasts, it ends after `seconds` more. `on` is what it strikes."""

    at: float
    kind: FaultKind
    seconds: float
    on: str = ""


@dataclass(frozen=True, slots=True)
class _Choice:
    """A kind of fault that comes `often` times in each round, and lasts between two numbers of seconds.

    Those that come `early` also come once before the first round, so that a run of a minute has each of them.
    """

    kind: FaultKind
    often: int
    shortest: float = 0
    longest: float = 0
    early: bool = False


C42_FAULTS = (
    _Choice("C42 fails", 3, 0.3, 4, early=True),
    # Long enough for a breaker that opens again, and for copies that become too old to be served.
    _Choice("C42 fails", 1, 10, 13),
    _Choice("C42 fails at times", 2, 1, 5),
    _Choice("C42 cuts", 2, 0.3, 4),
    _Choice("C42 refuses", 2, 0.3, 4),
    _Choice("C42 is slow", 3, 0.3, 6, early=True),
    _Choice("C42 says 429", 3, 0.1, 2, early=True),
    _Choice("C42 says 503 and when", 2, 0.1, 2),
    _Choice("C42 says 401", 2, 0.2, 2),
    _Choice("one event fails", 2, 2, 8),
    _Choice("one address dead", 2, 2, 5, early=True),
)
STACK_FAULTS = (
    _Choice("worker killed", 5, early=True),
    _Choice("host reloaded", 2),
    _Choice("nginx reloaded", 2, early=True),
    _Choice("Redis hangs", 1, 0.1, 0.4, early=True),
    _Choice("Redis hangs", 1, 0.4, 3),
    _Choice("Redis restarted", 1, 0.1, 2),
    _Choice("Redis moved", 1, MOVED + 1, MOVED + 1, early=True),
    _Choice("no threads", 2, 1, 3, early=True),
    _Choice("no descriptors", 2, 1, 3, early=True),
    _Choice("shared memory full", 1, 3, 4, early=True),
    _Choice("log not read", 1, 2, 4, early=True),
)


def planned(seed: int, seconds: float) -> list[tuple[Planned, ...]]:
    """Two rows of faults, of C42 and of the stack: one after the other in each row, side by side in both.

    After each comes a time without any in its row, in which what it disturbed comes to rest. A longer run with the same
    seed begins with the same faults.
    """
    # The choice of faults is no secret.
    c42, stack = random.Random(f"C42 {seed}"), random.Random(f"stack {seed}")  # noqa: S311
    return [_row(c42, C42_FAULTS, seconds, (1, 4)), _row(stack, STACK_FAULTS, seconds, (2, 4))]


def _row(
    chance: random.Random, choices: tuple[_Choice, ...], seconds: float, quiet: tuple[float, float]
) -> tuple[Planned, ...]:
    row: list[Planned] = []
    at = QUIET_AT_FIRST + chance.uniform(0, quiet[0])
    early = [choice for choice in choices if choice.early]
    following = chance.sample(early, len(early))
    while True:
        for choice in following:
            lasts = chance.uniform(choice.shortest, choice.longest)
            on = {"one event fails": chance.choice(list(FEW)), **dict.fromkeys(OF_HOSTS, chance.choice(HOSTS))}
            if at + lasts > seconds - QUIET_AT_LAST:
                return tuple(row)
            row.append(Planned(at, choice.kind, lasts, on.get(choice.kind, "")))
            at += lasts + chance.uniform(*quiet)
        # In rounds, so that each kind comes in a run of some minutes.
        counts = [choice.often for choice in choices]
        following = chance.sample(choices, sum(counts), counts=counts)


def is_left_out(kind: FaultKind) -> bool:
    """Whether this user cannot make this fault on this machine."""
    return kind == "shared memory full" and not can_mount()


class Faults:
    """Injects the planned faults, and records when each one really began and ended."""

    def __init__(self, record: Callable[[Record], None], chance: random.Random, c42: C42, stack: FragileStack) -> None:
        self._record = record
        self._chance = chance
        self._c42 = c42
        self._stack = stack

    async def inject(self, row: tuple[Planned, ...]) -> None:
        """One after the other, each at its time from now."""
        began = time.monotonic()
        for fault in row:
            if is_left_out(fault.kind):
                continue
            await asyncio.sleep(began + fault.at - time.monotonic())
            since = time.time()
            left = await self._inject(fault)
            self._record(Fault(fault.kind, since, time.time(), fault.on, left))

    async def _inject(self, fault: Planned) -> str:
        """Returns what was left behind that should not be there."""
        stack = self._stack
        match fault.kind:
            case "worker killed":
                await asyncio.to_thread(stack.kill_worker, fault.on, self._chance)
            case "host reloaded":
                stack.reload_host(fault.on)
            case "nginx reloaded":
                stack.reload_nginx()
            case "Redis moved":
                old = await asyncio.to_thread(stack.move_redis)
                await asyncio.sleep(MOVED)
                old.command("CONFIG", "RESETSTAT")
                await asyncio.sleep(fault.seconds - MOVED)
                left = commands_of_hosts(old)
                old.close()
                return left
            case _:
                with ExitStack() as lasting:
                    await asyncio.to_thread(lasting.enter_context, self._lasting(fault))
                    await asyncio.sleep(fault.seconds)
                    await asyncio.to_thread(lasting.close)
        return ""

    @contextmanager
    def _lasting(self, fault: Planned) -> Iterator[None]:
        """A fault that has a beginning and an end."""
        stack = self._stack
        match fault.kind:
            case "Redis hangs":
                stack.redis.hang()
                yield
                stack.redis.go_on()
            case "Redis restarted":
                stack.redis.stop()
                yield
                stack.redis.start()
            case "C42 refuses":
                self._c42.refuse()
                yield
                self._c42.listen()
            case "one address dead":
                with self._without_kept_connections(), stack.machine.first_address_dead(self._c42.port):
                    yield
            case "no threads":
                with stack.machine.without_threads(stack.any_worker(fault.on, self._chance)):
                    yield
            case "no descriptors":
                with self._without_kept_connections(), without_descriptors(stack.any_worker(fault.on, self._chance)):
                    yield
            case "shared memory full":
                with full_shared_memory(stack.pid):
                    # New workers have to start meanwhile.
                    since = time.time()
                    stack.reload_host(fault.on)
                    self._record(Fault("host reloaded", since, time.time(), fault.on))
                    yield
            case "log not read":
                with stack.machine.unread_log(fault.on):
                    yield
            case _:
                self._c42.strike(fault.kind, fault.on)
                yield
                self._c42.strike(None)

    @contextmanager
    def _without_kept_connections(self) -> Iterator[None]:
        """Each call takes a connection of its own."""
        self._c42.keeps_connections = False
        yield
        self._c42.keeps_connections = True
