"""An adapter of requests for calls that differ only in their path: it works out once what is the same for all."""

from collections.abc import Mapping
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter


class LeanAdapter(HTTPAdapter):
    """All calls to a server have the same `verify`, `proxies` and `cert`: those of the first one."""

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

    def build_response(self, request: PreparedRequest, raw: Any) -> Response:
        """The status, the headers and the stream. Without what we do not use: cookies, the reason, the encoding."""
        response = Response()
        response.request = request
        response.status_code = raw.status
        response.headers = raw.headers
        response.raw = raw
        return response

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self._pools.clear()


def _origin(request: PreparedRequest) -> str:
    """The scheme and the server. A prepared URL always has a path."""
    url = str(request.url)
    return url[: url.index("/", len("https://"))]
