"""The gunicorn worker that serves the ASGI app: uvicorn's, with what a busy proxy needs on top."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from ..web.asgi import SEND_WHOLE

LAST_REQUEST_SECONDS = 0.5
HEARTBEAT_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
"""A tenth of Python's own, for which one thread may keep all others from running."""


class LastRequestProtocol(HttpToolsProtocol):
    """At a graceful stop, an idle connection is not cut at once: a request may be on its way on it.

    One that comes within `LAST_REQUEST_SECONDS` is answered, and its client told that the connection ends with it.
    """

    _ends = False
    _default_headers: list[tuple[bytes, bytes]] | None = None
    _default_lines = b""

    def shutdown(self) -> None:
        """Called once by uvicorn for each connection."""
        if self._is_idle():
            self._ends = True
            self.loop.call_later(LAST_REQUEST_SECONDS, self._end)
        else:
            super().shutdown()

    def on_headers_complete(self) -> None:
        """Called by the parser for each request."""
        super().on_headers_complete()
        self.scope["extensions"] = {SEND_WHOLE: self._send_whole}  # type: ignore[dict-item]  # ASGI has dicts there
        if self._ends:
            self.cycle.keep_alive = False

    def _send_whole(self, scope: Any, head: bytes, body: bytes) -> bool:
        """Send an answer as it is but for the server's own headers; False where it takes more than that."""
        # Not bound to the request: a cycle of references would leave all its objects to the garbage collector.
        cycle = self.cycle
        if (
            cycle.scope is not scope  # a pipelined one is waiting behind it
            or cycle.disconnected
            or cycle.response_started
            or not cycle.keep_alive
            or cycle.access_log
            or self.flow.write_paused
        ):
            return False
        if self._default_headers is not self.server_state.default_headers:
            # uvicorn makes new ones each second: the date is among them.
            self._default_headers = self.server_state.default_headers
            self._default_lines = b"".join(b"%b: %b\r\n" % header for header in self._default_headers)
        self.transport.write(b"".join((head, self._default_lines, b"\r\n", body)))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _is_idle(self) -> bool:
        # uvicorn sets the attribute to None in its constructor, without saying so to mypy.
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _end(self) -> None:
        if self._is_idle():
            self.transport.close()


class SignalledServer(Server):
    """Obeys gunicorn's signals: TERM ends it when all requests are answered, QUIT at once.

    uvicorn's own handlers pay no heed to QUIT, and let TERM kill the process in the end.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Called by uvicorn around all that it does."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGQUIT, self._quit)
        yield

    def _quit(self) -> None:
        self.should_exit = True
        self.force_exit = True


class Worker(UvicornWorker):  # type: ignore[misc]  # uvicorn-worker ships no types
    """uvicorn with its loop and parser written in C, and nothing that a client's headers could switch on."""

    CONFIG_KWARGS = {  # noqa: RUF012  # as in uvicorn's class
        "loop": "uvloop",
        "http": LastRequestProtocol,
        "ws": "none",
        "lifespan": "off",
        "proxy_headers": False,
        "server_header": False,
        "callback_notify": None,
        "interface": "asgi3",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn gives its logger gunicorn's handlers, of which there are none. Its warnings are about what strangers
        # send, one for each request.
        logger = logging.getLogger("uvicorn.error")
        logger.propagate = True
        logger.setLevel(logging.ERROR)

    def init_process(self) -> None:
        """Called by gunicorn after the fork."""
        # Hundreds of threads may begin to fetch at once; the loop that answers hits must get its turn between them.
        sys.setswitchinterval(SWITCH_SECONDS)
        super().init_process()

    async def _serve(self) -> None:
        # uvicorn's own heartbeat goes by the wall clock: set back, it would stop, and gunicorn end the worker.
        heartbeat = asyncio.create_task(self._beat())
        self.config.app = self.wsgi
        try:
            # The plain sockets: gunicorn's own objects complain when uvicorn closes them twice.
            await SignalledServer(self.config).serve(sockets=[each.sock for each in self.sockets])
        finally:
            heartbeat.cancel()

    async def _beat(self) -> None:
        while True:
            self.notify()
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if os.getppid() != self.ppid:
                # gunicorn's master was killed: nobody would ever end us.
                os.kill(os.getpid(), signal.SIGTERM)
