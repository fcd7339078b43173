"""One C42, one proxy, and caches in front of it: each is asked again and again until it gives a new answer."""

import json
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from c42_proxy.sandbox import shapes
from c42_proxy.sandbox.command import SANDBOX_TOKEN
from harness import wire
from harness.processes import C42_PROXY, Process, clean_environ, free_port
from harness.stack import ask, path_of

from .caches import Ask, Cache

LEFT = (None, 2.3, 1.6, 1.1, 0.6, 0.2)
"""How many seconds of an answer's life are left when a cache is first asked for it. None: all of them."""
FRACTIONS = (0.1, 0.35, 0.6, 0.85)
"""When in a second a round begins: instants lie in the middle of seconds, and headers name whole ones."""
WATCHED_SECONDS = 1.5
"""So long before its instant, an answer is asked for again and again; and so long after it at most."""
PAUSE = 0.02


@dataclass(frozen=True)
class Life:
    """One answer, as one cache gave it.

    `left` is as in `LEFT`. `over` is how many seconds after the instant the cache was asked when it gave the answer for
    the last time: less than 0 if that was before the instant. `reused` is how often it gave the answer without asking
    the proxy, and `reused_over` is as `over`, for these times alone. `unchanged` is how often the proxy said to the
    cache that its answer is still right (304).
    """

    cache: str
    left: float | None
    over: float
    reused: int
    reused_over: float
    unchanged: int = 0

    @property
    def is_late(self) -> bool:
        return self.over >= 0


@dataclass
class _Watched:
    """An answer under way. `instant` is when it expires, `expires` how it is recognised."""

    path: str
    left: float | None
    instant: float
    expires: str
    over: float = float("-inf")
    reused: int = 0
    reused_over: float = float("-inf")
    is_over: bool = False

    def is_due(self, now: float, *, was_asked: bool) -> bool:
        left = self.instant - now
        return left < min(WATCHED_SECONDS, self.left or WATCHED_SECONDS) or (
            not was_asked and left < (self.left or float("inf"))
        )


class _C42:
    """Knows every event but those whose id begins with `gone`, and when it was last asked for each."""

    def __init__(self) -> None:
        self.asked: dict[str, float] = {}

    def __call__(self, path: str, connection: wire.Connection) -> None:
        event_id, offset = wire.asked(path)
        if offset is not None:
            answer = shapes.page([shapes.subscription(event_id, 0, shapes.Person("Ann"))], count=1)
        else:
            self.asked[event_id] = time.time()
            answer = shapes.page([] if event_id.startswith("gone") else [shapes.event(event_id, "Tea")])
        connection.send(wire.answer(json.dumps(answer).encode()))


def measured(caches: Sequence[Cache], ttl: float, fractions: Iterable[float] = FRACTIONS) -> list[Life]:
    """Put the caches in front of a proxy whose answers live for `ttl` seconds, and watch answers die in each."""
    c42 = _C42()
    with (
        tempfile.TemporaryDirectory(prefix="c42-interop-") as folder,
        wire.Wire(c42) as upstream,
        _proxy(upstream.url, ttl) as (port, proxy),
        ThreadPoolExecutor(len(caches)) as pool,
    ):
        rounds = _Rounds(c42, port, ttl, list(fractions), threading.Barrier(len(caches)))
        found = [pool.submit(rounds.in_front, cache, Path(folder)) for cache in caches]
        watched = [each for pairs in found for each in pairs.result()]
        unchanged = Counter(re.findall(r"path=(\S+) .*status=304", proxy.output()))
    return [
        Life(cache, each.left, each.over, each.reused, each.reused_over, unchanged[each.path])
        for cache, each in watched
    ]


@contextmanager
def _proxy(url: str, ttl: float) -> Iterator[tuple[int, Process]]:
    """Its port, and its process, which logs every answer."""
    port = free_port()
    environ = clean_environ(
        C42_API_URL=url,
        C42_API_TOKEN=SANDBOX_TOKEN,
        C42_BIND=f"127.0.0.1:{port}",
        C42_OPS_BIND="",
        C42_CACHE_URL="memory://",
        C42_CACHE_TTL=f"{ttl}",
        C42_LOG_LEVEL="debug",
    )
    with Process([*C42_PROXY, "serve"], environ) as proxy:
        proxy.wait_until_answers(f"http://127.0.0.1:{port}/")
        yield port, proxy


@dataclass
class _Rounds:
    """All rounds of all caches: each cache in a thread of its own, and no round before all are ready for it."""

    c42: _C42
    port: int
    ttl: float
    fractions: Sequence[float]
    ready: threading.Barrier

    def in_front(self, cache: Cache, folder: Path) -> list[tuple[str, _Watched]]:
        """Each answer that was watched, with the name of the cache."""
        own = folder / cache.needs
        own.mkdir()
        watched = []
        try:
            with cache.open(self.port, own) as ask_for:
                for number, fraction in enumerate(self.fractions):
                    self.ready.wait(60)
                    time.sleep((fraction - time.time()) % 1)
                    # "There is no such event" is an answer that lives as long.
                    kind = "gone" if number % 2 else "tea"
                    answers = [self._fetched(f"{kind}-{number}-{cache.needs}-{i}", left) for i, left in enumerate(LEFT)]
                    _watch(ask_for, answers)
                    watched += [(cache.name, each) for each in answers]
        except BaseException:
            self.ready.abort()
            raise
        return watched

    def _fetched(self, event_id: str, left: float | None) -> _Watched:
        """A new answer in the proxy. Its instant is counted from when C42 was asked, which is no earlier than the proxy
        counts from."""
        answer = ask(self.port, path_of(event_id))
        return _Watched(path_of(event_id), left, self.c42.asked[event_id] + self.ttl, answer.header("Expires") or "")


def _watch(ask_for: Ask, answers: Sequence[_Watched], clock: Callable[[], float] = time.time) -> None:
    asked: dict[str, int] = {}
    while any(not answer.is_over for answer in answers):
        for answer in answers:
            sent = clock()
            if answer.is_over or not answer.is_due(sent, was_asked=answer.path in asked):
                continue
            asked[answer.path] = asked.get(answer.path, 0) + 1
            request_id = f"{answer.path.rpartition('-')[2].strip('/')}-{asked[answer.path]}"
            headers = ask_for(answer.path, request_id)
            if headers.get("expires") == answer.expires:
                answer.over = sent - answer.instant
                if headers.get("x-request-id") != request_id:
                    answer.reused, answer.reused_over = answer.reused + 1, answer.over
            answer.is_over = headers.get("expires") != answer.expires or answer.over > WATCHED_SECONDS
        time.sleep(PAUSE)
