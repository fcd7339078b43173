"""`-D driver=live`: the proxy for real: gunicorn's workers with a store, asked over HTTP, on a clock that a file holds.

`python -m features.drivers.live FOLDER` is that proxy. All scenarios have the same workers; each has an app of its own
in them, made when the first request for it comes.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

from c42_proxy.app import Proxy, build
from c42_proxy.observability.logs import configure_logs
from c42_proxy.server.gunicorn import Server
from c42_proxy.settings import Settings
from c42_proxy.web.asgi import Receive, Scope, Send
from features.drivers.asking import asked_at
from features.drivers.driver import BUDGET_SECONDS, START, TIME_ZONE, RealTime, broken_clock
from harness.processes import Process, clean_environ, free_port
from harness.redis_server import RedisServer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

WORKERS = 2


class _Folder:
    """Where the driver and the proxy meet: a file with the time, one with the scenario."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def now(self) -> float:
        return float((self._path / "now").read_text())

    @now.setter
    def now(self, now: float) -> None:
        self._write("now", repr(now))

    @property
    def scenario(self) -> str:
        return (self._path / "scenario").read_text()

    @scenario.setter
    def scenario(self, scenario: str) -> None:
        self._write("scenario", scenario)

    def _write(self, name: str, text: str) -> None:
        """All at once: it is read at the same time."""
        new = self._path / f"{name}.new"
        new.write_text(text)
        os.replace(new, self._path / name)


class Live(RealTime):
    """Starts the proxy, and ends it in `close`. With `memory`, which shares nothing, it has one worker."""

    def __init__(self, store: str) -> None:
        self.store = store
        with ExitStack() as running:
            folder = Path(running.enter_context(TemporaryDirectory()))
            self._folder = _Folder(folder)
            self._url = _opened(store, folder, running)
            self.set_clock(START)
            self._scenarios = 0
            self._port = free_port()
            workers = 1 if store == "memory" else WORKERS
            environ = clean_environ(FEATURES_PORT=str(self._port), WEB_CONCURRENCY=str(workers), TZ=TIME_ZONE)
            command = [sys.executable, "-m", "features.drivers.live", str(folder)]
            self._process = running.enter_context(Process(command, environ))
            self._process.wait_until_says("Booting worker")
            self._running = running.pop_all()

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._folder.now, UTC)

    def begin(self) -> None:
        self.set_clock(START)
        self._said_before = self._process.said

    def set_clock(self, now: datetime) -> None:
        self._folder.now = now.timestamp()

    @contextmanager
    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "Iterator[WSGIApplication]":
        self._scenarios += 1
        defaults = {"C42_TIMEOUT": str(BUDGET_SECONDS), "C42_LOG_LEVEL": "warning", "C42_CACHE_URL": self._url}
        settings = {**defaults, **settings}
        self._folder.scenario = json.dumps({"number": self._scenarios, "settings": settings, "has_bug": has_bug})
        yield asked_at(self._port)

    def output(self) -> str:
        return self._process.output(self._said_before)

    def close(self) -> None:
        self._running.close()


def _opened(store: str, folder: Path, running: ExitStack) -> str:
    """The address of a new and empty store, as `C42_CACHE_URL` has it."""
    match store:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{folder}/store.sqlite3"
        case "redis":
            return running.enter_context(RedisServer()).url
    raise AssertionError(f"no store {store}")


class _ByScenario:
    """The ASGI app of a worker: it passes each request to the app of the scenario that runs now."""

    def __init__(self, folder: _Folder) -> None:
        self._folder = folder
        self._scenario = ""
        self._proxy: Proxy | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scenario = self._folder.scenario
        if self._proxy is None or scenario != self._scenario:
            told = json.loads(scenario)
            clock: Callable[[], float] = broken_clock if told["has_bug"] else lambda: self._folder.now
            if self._proxy is not None:
                # In a thread: what is under way may take its time, and the loop has other requests.
                Thread(target=self._proxy.close, name="closing").start()
            self._proxy = build(Settings.from_env(told["settings"]), clock=clock)
            self._proxy.start()
            self._scenario = scenario
        return self._proxy.asgi(scope, receive, send)


class _LiveServer(Server):
    """The proxy's own gunicorn in all but the app."""

    def __init__(self, settings: Settings, folder: _Folder) -> None:
        self._live_folder = folder
        super().__init__(settings, ops=False)

    def load(self) -> Callable[..., Any]:
        return _ByScenario(self._live_folder)


def _serve(folder: str) -> None:
    bind = f"127.0.0.1:{os.environ['FEATURES_PORT']}"
    settings = Settings.from_env({"C42_BIND": bind, "C42_OPS_BIND": "", "C42_API_TOKEN": "of-no-scenario"})
    configure_logs(settings)
    _LiveServer(settings, _Folder(Path(folder))).run()


if __name__ == "__main__":
    # Nothing is left of it for gunicorn, which has options of its own.
    _serve(sys.argv.pop())
