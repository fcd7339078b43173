"""Answers as bytes, for hypothesis: in every form that HTTP allows, damaged, and what never was an answer."""

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from harness.wire import Behaviour, event, page, sends, sends_and_closes, sends_and_resets, subscription

ENCODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", lambda body: body),
    ("identity", lambda body: body),
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
    ("deflate", zlib.compress),
    ("deflate", lambda body: zlib.compress(body)[2:-4]),
    ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
]
CHUNKED = "Transfer-Encoding: chunked"
UNTIL_THE_END = "Connection: close"
INTERIM = ("", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n")

STATUS_LINES = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 404 Not Found\r\n", b"HTTP/1.1 429 Too Many\r\n"),
    *(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\n"),
    *(b"HTTP/1.1 101 Switching Protocols\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 Not Modified\r\n"),
    *(b"HTTP/1.1 302 Found\r\nLocation: /\r\n", b"HTTP/1.1 401 No\r\n", b"HTTP/1.1 503 No\r\nRetry-After: 5\r\n"),
    *(b"HTTP/1.1 500 \r\n", b"HTTP/1.1 999\r\n", b"HTTP/2 200\r\n", b"HTTP/1.1 -200 OK\r\n", b"ICY 200 OK\r\n"),
]
HEADERS = [
    *(b"Content-Length: 0\r\n", b"Content-Length: 20\r\n", b"Content-Length: +2\r\n", b"Content-Length: 2, 2\r\n"),
    *(b"Content-Length: 99999999999\r\n", b"Content-Length: x\r\n", b"Content-Length: -1\r\n", b"a: b\r\n" * 101),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: x\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Content-Encoding: deflate\r\n", b"Content-Encoding: br, zstd\r\n"),
    *(b"Retry-After: 5\r\n", b"Retry-After: x\r\n", b"Set-Cookie: a=b\r\n", b"Content-Type: x; charset=x\r\n"),
    *(b" folded\r\n", b"no colon\r\n", b": no name\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n"),
]
BODIES = [
    *(b"{}", b'{"data": []}', json.dumps(event()).encode(), json.dumps(page([subscription(1)], count=1)).encode()),
    *(gzip.compress(b'{"data": []}'), zlib.compress(b'{"data": []}')),
    *(b"2\r\n{}\r\n", b"c\r\n", b"ff\r\n", b"0\r\n\r\n"),
]
BITS = [b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b";", b",", b"0", b"-1", b"1e3", b"\x85", b"\xff"]
PARTS = [*STATUS_LINES, *HEADERS, *BODIES, *BITS]


@dataclass(frozen=True)
class Told:
    """An answer as bytes. Where fewer than `needed` of them come, it was surely cut short."""

    data: bytes
    needed: int


@st.composite
def answers(draw: st.DrawFn, content: object, status: str = "200 OK", further: Sequence[str] = ()) -> Told:
    """An answer in any form that HTTP and our `Accept-Encoding` allow, with `further` headers."""
    name, encode = draw(st.sampled_from(ENCODINGS))
    body = encode(json.dumps(content).encode())
    framing = draw(st.sampled_from([f"Content-Length: {len(body)}", CHUNKED, UNTIL_THE_END]))
    headers = draw(st.permutations([framing, *([f"Content-Encoding: {name}"] if name else []), *further]))
    status_line = f"{draw(st.sampled_from(INTERIM))}HTTP/1.1 {status}"
    data = "\r\n".join([status_line, *headers, "", ""]).encode("latin-1")
    if framing == UNTIL_THE_END:
        return Told(data + body, len(data))
    if framing != CHUNKED:
        return Told(data + body, len(data + body))
    extension = draw(st.sampled_from([b"", b";a", b'; a="b"']))
    size = draw(st.integers(1, 300))
    for start in range(0, len(body), size):
        chunk = body[start : start + size]
        data += b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk)
    trailers = draw(st.sampled_from([b"", b"X: y\r\n", b"Content-Length: 5\r\n"]))
    # That the last chunk has no size is known from its first digit on.
    return Told(data + b"0\r\n" + trailers + b"\r\n", len(data) + 1)


def no_answers(content: object, token: str) -> st.SearchStrategy[bytes]:
    """A damaged answer; something like one; its parts in any order; any bytes. The `token` may be echoed in it."""
    echoes = [token.encode(), b"Authorization: Token %b\r\n" % token.encode()]
    like_one = st.tuples(
        st.sampled_from(STATUS_LINES), _several([*HEADERS, *echoes], 4), st.just(b"\r\n"), _several(BODIES, 3)
    ).map(b"".join)
    return st.one_of(
        answers(content).flatmap(lambda told: _damaged(told.data, echoes)),
        answers(content).flatmap(lambda told: _damaged(told.data, echoes)),
        like_one,
        like_one.flatmap(lambda data: _damaged(data, echoes)),
        _several([*PARTS, *echoes], 12),
        st.binary(max_size=300),
    )


def endings() -> st.SearchStrategy[Callable[[bytes], Behaviour]]:
    """What happens after the last byte. `sends` leaves the connection open, and nothing comes on it."""
    return st.sampled_from([*[sends_and_closes] * 5, sends_and_resets, sends])


@st.composite
def _damaged(draw: st.DrawFn, data: bytes, echoes: Sequence[bytes]) -> bytes:
    """The same bytes but for a few."""
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        # Most of what can go wrong is in the head, or at the end.
        size = len(damaged)
        first, last = draw(st.sampled_from([(0, 200), (0, 200), (0, size), (size - 20, size)]))
        at = draw(st.integers(max(first, 0), min(last, size)))
        instead = draw(st.binary(max_size=3) | st.sampled_from(PARTS) | st.sampled_from(echoes))
        damaged[at : at + draw(st.integers(0, 3))] = instead
    return bytes(damaged)


def _several(parts: Sequence[bytes], most: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(parts), max_size=most).map(b"".join)
