"""The fast path: what the app can answer at once needs no request of uvicorn's, no task, and no messages of ASGI.

Nearly all requests are hits, and this way they take two thirds of the time (ADR 0021).
"""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..web.asgi import AnswerAtOnce


class FastPath:
    """Parses heads with httptools, as uvicorn does, so that both agree on what a request is. Not thread-safe."""

    # Of the head that is parsed; nothing between two of them.
    _target: bytes
    _headers: list[tuple[bytes, bytes]]
    _requests: int
    _is_plain: bool

    def __init__(self, answer_at_once: AnswerAtOnce) -> None:
        self._answer_at_once = answer_at_once
        self._parser = HttpRequestParser(self)
        self._expect_head()

    def answer(self, head: bytes) -> bytes | None:
        """The whole answer to a request that is nothing but this head. None if uvicorn must take it.

        uvicorn takes a request with a body, of another version than HTTP/1.1, or that ends the connection.
        """
        parser = self._parser
        try:
            parser.feed_data(head)
            is_plain = self._is_plain
        except (HttpParserError, HttpParserUpgrade):
            is_plain = False
        target, headers = self._target, self._headers
        self._expect_head()
        if not is_plain:
            # This parser waits for a body, or takes no more requests.
            self._parser = HttpRequestParser(self)
            return None
        return self._answer_at_once(parser.get_method(), target, headers)

    def close(self) -> None:
        """The cycle of references would leave the parser to the garbage collector."""
        del self._parser

    def on_url(self, target: bytes) -> None:
        """Called by the parser, as the others below."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        # Only here: after this call, the parser has forgotten whether the connection goes on.
        self._requests += 1
        is_kept = self._parser.should_keep_alive()
        self._is_plain = is_kept and self._requests == 1 and self._parser.get_http_version() == "1.1"

    def _expect_head(self) -> None:
        self._target, self._headers, self._requests, self._is_plain = b"", [], 0, False
