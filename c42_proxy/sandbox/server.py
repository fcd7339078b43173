"""The sandbox over HTTP: one process, without a thread for each call, so that thousands of slow calls can wait."""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

import click
import uvicorn

from ..address import Address
from .api import Sandbox

BACKLOG = 4096
KEEP_ALIVE_SECONDS = 600
"""Longer than any client keeps an idle connection: the server is never the one that closes it."""


Sleep = Callable[[float], Awaitable[object]]
"""Waits for that many seconds."""


class App:
    def __init__(self, sandbox: Sandbox, sleep: Sleep = asyncio.sleep) -> None:
        self._sandbox = sandbox
        self._sleep = sleep

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request (asgi.readthedocs.io, HTTP connection scope)."""
        body = b""
        more = scope["method"] == "PUT"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        target = f"{scope['raw_path'].decode('latin-1')}?{scope['query_string'].decode('latin-1')}"
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        reply = self._sandbox.receive(
            scope["method"],
            target,
            headers.get(b"authorization"),
            body,
            origin=headers.get(b"origin"),
            host=headers.get(b"host", ""),
        )
        await self._sleep(reply.seconds)
        sent = {"Content-Type": "application/json", "Content-Length": str(len(reply.body)), **reply.headers}
        lines = [(name.encode(), value.encode()) for name, value in sent.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": lines})
        await send({"type": "http.response.body", "body": reply.body})


class _Server(uvicorn.Server):
    """A server that ends at once: it has nothing to save, and a slow call may take an hour."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # as uvicorn calls it
        os._exit(0)


def serve(sandbox: Sandbox, address: Address, sleep: Sleep = asyncio.sleep) -> None:
    """Print the address of the API (port 0 lets the system choose one), and answer until the process is ended."""
    try:
        listener = address.listener(BACKLOG)
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {address} ({exc.strerror}).") from exc
    with listener:
        config = uvicorn.Config(
            App(sandbox, sleep),
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        where = address._replace(port=listener.getsockname()[1])
        click.echo(f"sandbox C42 on http://{where}/api/v2/")
        _Server(config).run(sockets=[listener])
