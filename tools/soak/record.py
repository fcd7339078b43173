"""What is recorded of a run, as lines of JSON. Instants are seconds since the epoch, by the one clock of a machine."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Run:
    """What the stack was told, and how many processes of it fetch. `budget` is C42_TIMEOUT."""

    seed: int
    ttl: float
    stale_if_error: float
    budget: float
    threshold: int
    processes: int


@dataclass(frozen=True, slots=True)
class Version:
    """What an event is at C42 from `since` on, up to its next version. `size` is the number of its subscribers."""

    event: str
    number: int
    since: float
    size: int
    gone: bool


Outcome = Literal["answered", "gone", "told to wait", "token refused", "failed", "cut", "left"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call at C42: of an event, or (with an `offset`) of a page of its subscriptions.

    `received` is when its head had come, `ended` the instant before C42 answered, or noticed that the proxy had closed
    (`left`). What it answered was read from the version that there was at `received`. `request` is the id of the
    request for which the proxy asks. On a connection that was `used` before, a call that is `cut` before its head
    may be sent once more (RFC 9112, section 9.3.1).
    """

    number: int
    request: str
    event: str
    offset: int | None
    received: float
    ended: float
    outcome: Outcome
    status: int | None
    version: int | None = None
    wait: float = 0
    used: bool = False


Loss = Literal["closed", "broken off", "half an answer", "timed out"]


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request and what came of it: an answer, or its `loss`.

    `sent` is the instant before its first byte left, `ended` that after the last byte of the answer came. `at` is who
    was asked: nginx, or a host. `closed` means that a connection which was `used` before ended without a byte, `half an
    answer` that it ended within the body.
    """

    id: str
    event: str
    at: str
    sent: float
    ended: float
    status: int | None
    loss: Loss | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    if_none_match: str | None = None
    used: bool = False

    @property
    def waited(self) -> float:
        """Seconds for which its client waited."""
        return self.ended - self.sent


FaultKind = Literal[
    "C42 fails",
    "C42 fails at times",
    "C42 cuts",
    "C42 refuses",
    "C42 is slow",
    "C42 says 429",
    "C42 says 503 and when",
    "C42 says 401",
    "one event fails",
    "worker killed",
    "host reloaded",
    "nginx reloaded",
    "Redis hangs",
    "Redis restarted",
    "Redis moved",
    "no threads",
    "no descriptors",
    "shared memory full",
    "log not read",
    "one address dead",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, from the instant before it began to the one after it was over.

    `at` is what it struck, `left` what it left behind that should not be there.
    """

    kind: FaultKind
    since: float
    until: float
    at: str = ""
    left: str = ""


@dataclass(frozen=True, slots=True)
class StoreState:
    """What a process of a host says of the store: that it goes on without it, or (`works`) has taken it back."""

    at: str
    since: float
    works: bool


@dataclass(frozen=True, slots=True)
class Traceback:
    """That a host's log has one: something happened that nobody had thought of. `said` is the first line with it."""

    at: str
    since: float
    said: str


Record = Run | Version | Call | Request | Fault | StoreState | Traceback
_TYPES: dict[str, type[Record]] = {
    one.__name__: one for one in (Run, Version, Call, Request, Fault, StoreState, Traceback)
}


def write(path: Path, records: Iterable[Record]) -> None:
    """One object a line, its type under `record`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for record in records:
            file.write(json.dumps({"record": type(record).__name__, **asdict(record)}) + "\n")


def read(path: Path) -> Iterator[Record]:
    """What `write` has written. Raises ValueError, KeyError or TypeError where it is something else."""
    with path.open() as file:
        for line in file:
            fields = json.loads(line)
            yield _TYPES[fields.pop("record")](**fields)
