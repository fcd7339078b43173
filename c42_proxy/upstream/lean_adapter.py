"""An adapter of requests for calls that differ only in their path: it works out once what is the same for all."""

from collections.abc import Mapping
from typing import Any

from requests import PreparedRequest
from requests.adapters import HTTPAdapter


class Get(PreparedRequest):
    """A GET, prepared for an adapter. Without what a session adds for itself: hooks and cookies."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.method = "GET"
        self.url = url
        self.headers = headers  # type: ignore[assignment]  # what sends it asks for a mapping only
        self.body = None


class Answer:
    """As much of a `requests.Response` as is used. Without the cookies, which would be made for each one.

    `raw` is urllib3's response, whose body is still to be read. At the end of a `with` block, the connection is closed
    unless the whole body was read. `request` is for what looks into calls, as the library responses does.
    """

    def __init__(self, request: PreparedRequest, raw: Any) -> None:
        self.request = request
        self.raw = raw
        self.status_code: int = raw.status
        self.headers: Mapping[str, str] = raw.headers

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_error: object) -> None:
        self.raw.close()
        self.raw.release_conn()


class LeanAdapter(HTTPAdapter):
    """All calls to a server have the same `verify`, `proxies` and `cert`: those of the first one.

    It may also be sent what a session prepares, and then answers as requests does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pools: dict[str, Any] = {}

    def get_connection_with_tls_context(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """The connections to the server. requests would compare all settings for each call."""
        origin = _origin(request)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = super().get_connection_with_tls_context(request, *args, **kwargs)
        return pool

    def request_url(self, request: PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """What follows the method in the request."""
        if proxies:
            return super().request_url(request, proxies)
        return str(request.url)[len(_origin(request)) :]

    def build_response(self, request: PreparedRequest, raw: Any) -> Any:
        """The response. To a `Get` it is an `Answer`, of which nothing but the head is read yet."""
        return Answer(request, raw) if isinstance(request, Get) else super().build_response(request, raw)

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self._pools.clear()


def _origin(request: PreparedRequest) -> str:
    """The scheme and the server. A prepared URL always has a path."""
    url = str(request.url)
    return url[: url.index("/", len("https://"))]
