"""As little as a WSGI application can do: no framework under WSGI answers faster."""

from collections.abc import Callable, Iterable

from .answer import BODY, HEADERS


def app(_environ: object, start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    return [BODY]
