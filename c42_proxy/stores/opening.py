"""From the settings to the store that they ask for."""

import os
from collections.abc import Callable
from pathlib import Path

from ..settings import MEMORY_URL, Settings
from . import Store
from .memory import MemoryStore
from .records import fingerprint
from .sqlite import SqliteStore
from .steady import SteadyStore

SQLITE = "sqlite:///"


def open_store(settings: Settings, memory: MemoryStore, clock: Callable[[], float]) -> Store:
    """The store of `C42_CACHE_URL`, with `memory` for the time that it fails; opened at its first use, not here."""
    url = settings.cache_url
    if url == MEMORY_URL:
        return memory
    namespace = fingerprint(settings.api_url, settings.api_token.get_secret_value())
    lifetime = settings.cache_ttl + settings.stale_if_error
    shared: Store
    if url is None or url.startswith(SQLITE):
        shared = SqliteStore(
            default_file() if url is None else Path(url.removeprefix(SQLITE)),
            namespace=namespace,
            max_bytes=settings.cache_max_bytes,
            lifetime=lifetime,
            clock=clock,
        )
    else:
        from .redis import RedisStore  # noqa: PLC0415  # it takes as long to import as Flask: for those who use it

        shared = RedisStore(url, namespace=namespace, lifetime=lifetime)
    return SteadyStore(shared, memory)


def default_file() -> Path:
    """This user's own file, by the XDG Base Directory Specification. A user without a home has `/` for one."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache_home.is_absolute():
        # Where nothing is known, `~` stays as it is.
        home = Path(os.path.expanduser("~"))
        cache_home = (home if home.is_absolute() else Path("/")) / ".cache"
    return cache_home / "c42_proxy" / "cache.sqlite3"
