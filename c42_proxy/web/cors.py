"""CORS: the sites to whose pages a browser shows an answer (Fetch standard, section 3.2).

These few lines are our own: each library for it serves one of our two entry points alone (flask-cors, Starlette).
"""

from collections.abc import Iterable

Header = tuple[str, str]

ANY = "*"
EXPOSED = ("Access-Control-Expose-Headers", "Cache-Status, ETag, Retry-After, X-Request-ID")
VARY = ("Vary", "Origin")
PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET, HEAD"),
    ("Access-Control-Allow-Headers", "If-None-Match, X-Request-ID, traceparent"),
    ("Access-Control-Max-Age", "600"),
)


class Cors:
    """`origins` are the sites whose pages may read answers. If there are none, no answer has a header of CORS."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)
        self.is_on = bool(self._origins)

    def headers(self, origin: str | None) -> tuple[Header, ...]:
        """For every answer to a request with this `Origin`, whatever its status."""
        if ANY in self._origins:
            # Also without an Origin: a browser may keep that answer, and give it to a page later.
            return (("Access-Control-Allow-Origin", ANY), EXPOSED)
        if origin is not None and origin in self._origins:
            return (("Access-Control-Allow-Origin", origin), EXPOSED, VARY)
        return (VARY,) if self.is_on else ()

    def preflight(self, origin: str) -> tuple[Header, ...]:
        """More headers, for the answer to a browser that asks beforehand whether a page may send its request."""
        return PREFLIGHT if self._origins & {ANY, origin} else ()
