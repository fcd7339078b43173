"""Private names of other libraries: each is checked at the start, and the proxy also works without it.

Each private or undocumented name is used in one module: `server/uvicorn_protocol.py`, `server/master.py` (gunicorn),
`web/a2wsgi_threads.py`, `upstream/deadline_connection.py` (urllib3 and http.client), `stores/redis_connection.py`,
`stores/redis_nodes.py` or `observability/multiprocess.py` (prometheus_client). Its `check` (of the first one, that in
`server/uvicorn_check.py`) uses the names as the proxy does, or looks for them, and raises if the library has changed.
"""

import logging
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


def private_or_public(package: str, private: Callable[[], T], public: T, *, lost: str) -> T:
    """Return `private()`. If it raises, return `public` and log what is lost.

    Callers keep the result, so that a process checks and warns once.
    """
    try:
        return private()
    except Exception as exc:  # noqa: BLE001  # a name that is gone, moved or changed may raise anything
        log.warning(
            "%s %s (Python %s) no longer has the private names that we use (%s: %s); "
            "using its public API instead. The effect: %s",
            *(package, version(package), platform.python_version(), type(exc).__name__, exc, lost),
        )
        return public
