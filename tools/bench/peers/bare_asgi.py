"""As little as an ASGI application can do: nothing that speaks ASGI answers faster under the same worker."""

from collections.abc import Awaitable, Callable
from typing import Any

from .answer import BODY, HEADERS

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(name.encode(), value.encode()) for name, value in HEADERS],
}
END = {"type": "http.response.body", "body": BODY}


async def app(_scope: object, _receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    await send(START)
    await send(END)
