"""Opens the shared store that the settings ask for."""

import os
from collections.abc import Callable
from pathlib import Path

from ..redis_url import RedisUrl
from ..setting_values import MEMORY_URL, SQLITE, masked
from ..settings import Settings
from .contract import SharedStore
from .records import fingerprint
from .sqlite import SqliteStore


def open_shared(settings: Settings, clock: Callable[[], float]) -> SharedStore | None:
    """The store of `C42_CACHE_URL` itself, without the fallback: it may raise StoreError. None for memory://."""
    url = settings.cache_url
    if url == MEMORY_URL:
        return None
    namespace = fingerprint(settings.api_url, settings.api_token.get_secret_value())
    file = shared_file(settings)
    if file is not None:
        return SqliteStore(
            file,
            namespace=namespace,
            max_bytes=settings.cache_max_bytes,
            lifetime=lifetime(settings),
            clock=clock,
        )
    from .redis import RedisStore  # noqa: PLC0415  # it takes as long to import as Flask

    return RedisStore(str(url), namespace=namespace, lifetime=lifetime(settings))


def failing_sentinels(settings: Settings) -> list[str]:
    """A line for each Sentinel that is of no use. The store may work without it, but has one less to lose."""
    url = settings.cache_url
    if url is None or not RedisUrl.is_meant(url):
        return []
    from . import redis_clients  # noqa: PLC0415  # as above

    return redis_clients.failing_sentinels(RedisUrl.parsed(url))


def lifetime(settings: Settings) -> float:
    """Seconds for which an entry is kept, counted from its fetch.

    It is fresh at first, and may be served stale then. A 404 is never served stale, but must be kept as long as an
    older answer, which it replaces, could be served stale.
    """
    return settings.cache_ttl + settings.stale_if_error


def shared_file(settings: Settings) -> Path | None:
    """The SQLite file, if the store is one."""
    if settings.cache_url is None:
        return default_file()
    return Path(settings.cache_url.removeprefix(SQLITE)) if settings.cache_url.startswith(SQLITE) else None


def store_name(settings: Settings) -> str:
    """The URL of the store in use, without secrets."""
    return f"{SQLITE}{default_file()}" if settings.cache_url is None else masked(settings.cache_url)


def default_file() -> Path:
    """This user's own file, by the XDG Base Directory Specification. Without a home folder, it is below `/`."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache_home.is_absolute():
        # If no home is known, `~` stays as it is.
        home = Path(os.path.expanduser("~"))
        cache_home = (home if home.is_absolute() else Path("/")) / ".cache"
    return cache_home / "c42_proxy" / "cache.sqlite3"
