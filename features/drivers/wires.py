"""How the proxy reaches C42: by a mocked session in this process, or by sockets."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import count
from urllib.parse import urlsplit

import requests
import responses
from requests import PreparedRequest

from features.support.fake_c42 import Answer, Failure
from harness.wire import Behaviour, Connection, Wire
from harness.wire import answer as whole_answer

Receive = Callable[[str, Mapping[str, str]], Answer]
"""C42's answer to a GET: its path with the query, and its headers."""

RECEIVED = ("Authorization", "X-Request-ID", "traceparent")
MOCKED = "https://c42.example"
ERRORS: dict[Failure, Callable[[], Exception]] = {
    Failure.UNREACHABLE: lambda: requests.ConnectionError("refused"),
    Failure.CUT_SHORT: lambda: requests.exceptions.ChunkedEncodingError("incomplete"),
    Failure.SILENT: lambda: requests.ReadTimeout("silent"),
}


@contextmanager
def mocked(receive: Receive, now: Callable[[], datetime], pass_until: Callable[[datetime], None]) -> Iterator[str]:
    """C42 on what `responses` intercepts; gives the address of its host.

    Time goes on with every second question to which C42 is silent: if it has answered the other of two, that counts.
    """
    silent = count(1)

    def intercepted(request: PreparedRequest) -> tuple[int, dict[str, str], str]:
        timeout = timedelta(seconds=request.req_kwargs["timeout"])  # type: ignore[attr-defined]  # `responses` adds it
        began = now()
        answer = receive(str(request.url).removeprefix(MOCKED), request.headers)
        if answer is Failure.SILENT and next(silent) % 2 == 0:
            pass_until(began + timeout)
        if isinstance(answer, Failure):
            raise ERRORS[answer]()
        return answer

    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        wire.add_callback("GET", re.compile(re.escape(MOCKED)), intercepted)
        yield MOCKED


@contextmanager
def over_sockets(receive: Receive) -> Iterator[str]:
    """C42 on a port of this machine; gives the address of its host."""
    with Wire(behaviour(receive)) as wire:
        address = urlsplit(wire.url)
        yield f"{address.scheme}://{address.netloc}"


def behaviour(receive: Receive) -> Behaviour:
    """What C42 does on a connection."""

    def received(path: str, connection: Connection) -> None:
        headers = {name: value for name in RECEIVED if (value := connection.header(name)) is not None}
        _send(connection, receive(path, headers))

    return received


def _send(connection: Connection, answer: Answer) -> None:
    match answer:
        case Failure.UNREACHABLE:
            connection.reset()
        case Failure.CUT_SHORT:
            connection.send(whole_answer({"data": []})[:-1])
            connection.close()
        case Failure.SILENT:
            connection.be_silent()
        case (status, headers, body):
            lines = [f"{name}: {value}" for name, value in headers.items()]
            connection.send(whole_answer(body.encode(), f"{status} {HTTPStatus(status).phrase}", *lines))
