"""A requests session for an upstream that may misbehave."""

from functools import cache

import requests
from requests.adapters import HTTPAdapter

from ..private_names import private_or_public
from ..threads import IDLE_SECONDS


def new_session(connections: int, *, ca_file: str | None = None, proxy_url: str | None = None) -> requests.Session:
    """A session that keeps up to `connections` alive.

    It trusts the authorities in `ca_file` (by default those that requests brings), and goes through the HTTP proxy at
    `proxy_url`. It uses no proxy, `.netrc` or certificate of the environment. Reads inside `deadline.ends_at(...)` end
    at that deadline.
    """
    session = requests.Session()
    session.trust_env = False
    session.verify = ca_file or True
    if proxy_url is not None:
        session.proxies = {"http": proxy_url, "https": proxy_url}
    adapter = adapter_class()(pool_maxsize=connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def close_idle(session: requests.Session) -> None:
    """Close the connections that have been idle for as long as an idle thread stays."""
    for adapter in set(session.adapters.values()):
        # requests' own adapter cannot do that.
        if hasattr(adapter, "close_idle"):
            # A connection becomes idle a moment before the thread that used it.
            adapter.close_idle(0.9 * IDLE_SECONDS)


@cache
def adapter_class() -> type[HTTPAdapter]:
    """Our adapter, with one deadline for a whole call; or requests' own, with a time-out for each read."""

    def private() -> type[HTTPAdapter]:
        # Only here: the import itself fails if the libraries have moved the names.
        from .deadline_connection import DeadlineAdapter, check  # noqa: PLC0415  # it may fail

        check()
        return DeadlineAdapter

    return private_or_public(
        "urllib3",
        private,
        HTTPAdapter,
        lost="""\
clients are answered in time, but a call to a slow upstream may begin, or go on, in its thread long after that; a dead \
address may use up the whole time budget; an answer that is cut off in its headers may pass for a complete one; an \
answer with malformed headers may be waited for until the budget ends; a call on a kept-alive connection that the \
upstream closes at that moment is not repeated; early hints are not understood; and unneeded connections stay open.""",
    )
