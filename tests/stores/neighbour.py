"""Another process at the same store, which does what the lines of its input say."""

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from c42_proxy.redis_url import RedisUrl
from c42_proxy.stores.contract import Entry, Lease, Store
from c42_proxy.stores.redis import RedisStore
from c42_proxy.stores.sqlite import SqliteStore
from harness.processes import ROOT, clean_environ

NOW = 1_700_000_000.0
NAMESPACE = "n"
LIFETIME = 3852.0
SECONDS = 60.0
"""How long a test waits for an answer. On a busy machine, Python takes seconds to start."""


def entry(event_id: str, fetched_at: float = NOW, title: str | None = "Coffee") -> Entry:
    """An answer for an event as the proxy gives it."""
    answer = {"id": event_id, "title": title, "names": ["API", "Michel"]}
    return Entry(200, json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode(), fetched_at)


def open_at(url: str) -> Store:
    """The store at the address of a Redis, or in the SQLite file of that name, with a clock that stands still."""
    if RedisUrl.is_meant(url):
        return RedisStore(url, namespace=NAMESPACE, lifetime=LIFETIME)
    return SqliteStore(Path(url), namespace=NAMESPACE, max_bytes=1 << 26, lifetime=LIFETIME, clock=lambda: NOW)


class Neighbour:
    """That process, seen from here. As a context manager it is killed at the end.

    `renamed` are names that a library has no longer there, as `harness.renamed` takes them.
    """

    def __init__(self, url: str, *, renamed: str = "") -> None:
        rename = f"from harness.renamed import rename; rename('{renamed}'); " if renamed else ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `kill`
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{rename}from tests.stores.neighbour import main; main()", url],
            env=clean_environ(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def warnings(self) -> list[str]:
        """What it has logged, and any other complaint of it, up to now."""
        descriptor = self._errors.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode().splitlines()

    def ask(self, *words: object) -> Any:
        """Let it do something, and wait for the result."""
        self.tell(*words)
        return self.answer()

    def tell(self, *words: object) -> None:
        """Let it do something, and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """The result of the command that it got before. Raises TimeoutError if none comes."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], SECONDS)[0]:
            raise TimeoutError("the other process does not answer")
        return json.loads(self._process.stdout.readline())


def main() -> None:
    store = open_at(sys.argv[1])
    leases: dict[str, Lease] = {}
    for line in sys.stdin:
        what, name, *rest = json.loads(line)
        try:
            result = _do(store, leases, what, name, *rest)
        except Exception as exc:  # noqa: BLE001  # the test is to see it
            result = repr(exc)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


def _do(store: Store, leases: dict[str, Lease], what: str, name: str, times: int = 1) -> object:
    match what:
        case "put":
            return store.put(name, entry(name), NOW)
        case "get":
            return store.get(name) == entry(name)
        case "count":
            for _ in range(times):
                text = store.change_state(name, lambda held: str(int(held or 0) + 1), 3600)
            return text
        case "lease":
            lease = store.lease(name)
            if lease is not None:
                lease.__enter__()
                leases[name] = lease
            return lease is not None
        case "release":
            leases.pop(name).__exit__(None, None, None)
            return True
    raise ValueError(what)
