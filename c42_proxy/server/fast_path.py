"""The fast path: what the app can answer at once needs no request of uvicorn's, no task, and no messages of ASGI.

Nearly all requests are hits, and they take half of the time this way (ADR 0021).
"""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..web.asgi import AnswerAtOnce


class FastPath:
    """Parses heads with httptools, as uvicorn does, so that both agree on what a request is. Not thread-safe."""

    def __init__(self, answer_at_once: AnswerAtOnce) -> None:
        self._answer_at_once = answer_at_once
        self._parser = HttpRequestParser(self)

    def answer(self, head: bytes) -> bytes | None:
        """The whole answer to a request that ends with its head; None if uvicorn must take it.

        So must a request that has a body, or after which the connection ends or is no longer one of HTTP/1.1.
        """
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._is_plain = False
        parser = self._parser
        try:
            parser.feed_data(head)
        except (HttpParserError, HttpParserUpgrade):
            self._is_plain = False
        if not self._is_plain:
            # This parser waits for a body, or takes no more requests.
            self._parser = HttpRequestParser(self)
            return None
        return self._answer_at_once(parser.get_method(), self._target, self._headers)

    def close(self) -> None:
        """The cycle of references would leave the parser to the garbage collector."""
        del self._parser

    def on_url(self, target: bytes) -> None:
        """Called by the parser, as the others below."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        # Only here: behind the end of the request, the parser no longer knows.
        self._is_plain = self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1"
