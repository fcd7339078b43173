"""What we use of other libraries although they do not promise to keep it: checked at the start, dispensable.

Each library's private names stand in one module: `server/uvicorn_protocol.py`, `upstream/deadline_connection.py`,
`stores/redis_connection.py` and `observability/multiprocess.py`. Such a module has a `check` that uses the names as the
proxy will, and raises where the library has changed.
"""

import logging
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


def private_or_public(package: str, private: Callable[[], T], public: T, *, lost: str) -> T:
    """What `private` checks and returns; where it raises, `public`, and a warning of what is `lost` by that.

    Callers keep what they get: one check and one warning a process.
    """
    try:
        return private()
    except Exception as exc:  # noqa: BLE001  # whatever a name that is gone, moved or changed leads to
        log.warning(
            "%s %s under Python %s has changed inside (%s: %s), and is used in its public way: %s",
            *(package, version(package), platform.python_version(), type(exc).__name__, exc, lost),
        )
        return public
