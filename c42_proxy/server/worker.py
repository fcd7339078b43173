"""The gunicorn worker that serves the ASGI app: uvicorn's, with additions for a busy proxy."""

import asyncio
import gc
import logging
import os
import signal
import sys
from functools import cache
from typing import Any

import uvloop
from uvicorn import Server
from uvicorn_worker import UvicornWorker

from ..private_names import private_or_public

HEARTBEAT_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
"""How long one thread may run before others get a turn: a tenth of Python's default."""

COLLECTED_AT = (5_000, 5, 5)
"""How many more objects than before may exist until the garbage collector looks at the new ones (Python's default, 700,
is passed in the course of a few misses), and how often it does so until it looks at those that were left, too: more
often than by default, because what the start has made is not among them."""


@cache
def http_and_server() -> tuple[type[asyncio.Protocol] | str, type[Server]]:
    """uvicorn's HTTP protocol and server with our additions, or without if uvicorn has changed."""

    def private() -> tuple[type[asyncio.Protocol] | str, type[Server]]:
        # Only here: the import itself fails if uvicorn has moved the names.
        from .uvicorn_check import check  # noqa: PLC0415  # it may fail
        from .uvicorn_protocol import ClientConnection, SignalledServer  # noqa: PLC0415  # the same

        check()
        return ClientConnection, SignalledServer

    # h11: uvicorn itself limits the size of request heads there.
    public: tuple[type[asyncio.Protocol] | str, type[Server]] = ("h11", Server)
    return private_or_public(
        "uvicorn",
        private,
        public,
        lost="hits are much slower, and a stop cuts connections on which a request may be on its way.",
    )


class Worker(UvicornWorker):  # type: ignore[misc]  # uvicorn-worker ships no types
    """uvicorn with uvloop and httptools, and without anything that a client's headers could switch on."""

    CONFIG_KWARGS = {  # noqa: RUF012  # as in uvicorn's class
        "ws": "none",
        "lifespan": "off",
        "proxy_headers": False,
        "server_header": False,
        # The app adds it: uvicorn's own is up to two seconds late, and caches count from it.
        "date_header": False,
        "callback_notify": None,
        "interface": "asgi3",
        # Used only with uvicorn's own h11 protocol.
        "h11_max_incomplete_event_size": 65_536,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        http, self._server_class = http_and_server()
        self.CONFIG_KWARGS = {**self.CONFIG_KWARGS, "http": http}
        super().__init__(*args, **kwargs)
        # uvicorn gives its logger gunicorn's handlers, but there are none. Its warnings are about bad requests of
        # strangers, one for each request.
        logger = logging.getLogger("uvicorn.error")
        logger.propagate = True
        logger.setLevel(logging.ERROR)

    def init_process(self) -> None:
        """Called by gunicorn after the fork."""
        # Hundreds of threads may begin to fetch at once; the event loop that answers hits must run between them.
        sys.setswitchinterval(SWITCH_SECONDS)
        super().init_process()

    def run(self) -> None:
        """Called by gunicorn. Returns when the worker ends."""
        # The garbage collector stops all threads. What the start has made (modules, classes) stays for ever: to look
        # at it takes 30 ms each time, which many misses make the collector do.
        gc.freeze()
        gc.set_threshold(*COLLECTED_AT)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve_until_signalled())

    async def _serve_until_signalled(self) -> None:
        # uvicorn's own heartbeat uses the wall clock: if that is set back, the heartbeat stops, and gunicorn kills us.
        heartbeat = asyncio.create_task(self._beat())
        self.config.app = self.wsgi
        try:
            # The plain sockets: gunicorn's own objects complain when uvicorn closes them twice.
            await self._server_class(self.config).serve(sockets=[each.sock for each in self.sockets])
        finally:
            heartbeat.cancel()

    async def _beat(self) -> None:
        while True:
            self.notify()
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if os.getppid() != self.ppid:
                # gunicorn's master was killed, so nobody else would end this worker.
                os.kill(os.getpid(), signal.SIGTERM)
