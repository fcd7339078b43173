"""A requests session fit for an upstream that may do anything."""

import errno
import socket
from functools import cache
from http.cookiejar import DefaultCookiePolicy

import requests
from requests.adapters import HTTPAdapter

from ..private_names import private_or_public
from ..threads import IDLE_SECONDS

OUR_OWN_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Too many open files, in this process or on this machine, and no memory for another socket."""


def new_session(connections: int) -> requests.Session:
    """A session that keeps up to `connections` alive, and takes neither the environment's nor the upstream's advice.

    No proxy, `.netrc` or certificate of the environment, no cookie kept, no redirect looked at. What is read from it
    within `deadline.ends_at` ends there.
    """
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = adapter_class()(pool_connections=1, pool_maxsize=connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def close_idle(session: requests.Session) -> None:
    """Close the connections that were idle for as long as an idle thread stays."""
    for adapter in set(session.adapters.values()):
        # requests' own adapter cannot do that.
        if hasattr(adapter, "close_idle"):
            # A connection is idle a moment before the thread that has used it.
            adapter.close_idle(0.9 * IDLE_SECONDS)


@cache
def adapter_class() -> type[HTTPAdapter]:
    """What carries the calls: with one deadline for all that it reads, or, as requests does, with one for each read."""

    def private() -> type[HTTPAdapter]:
        # Only here: the import itself fails where the libraries have moved what we use.
        from .deadline_connection import DeadlineAdapter, check  # noqa: PLC0415  # it may fail

        check()
        return DeadlineAdapter

    return private_or_public(
        "urllib3",
        private,
        HTTPAdapter,
        lost="""\
clients are answered in time, but a call to an upstream that dawdles may begin, or go on, in its thread long after \
that; a dead address may use up all of the time; an answer that is cut off in its headers may pass for a whole \
one, and one whose headers are malformed may be waited for until the time is over; a kept-alive connection that the \
upstream closes as it is used is not tried again; early hints are not understood; and connections that are no \
longer needed stay open.""",
    )


def is_our_own_limit(error: BaseException) -> bool:
    """Whether a call has failed because this machine could give nothing more: that is no failure of C42."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            # Its numbers are of another kind, and a resolver that can open no socket says only that there is no answer.
            return _is_out_of_descriptors()
        if isinstance(cause, OSError) and cause.errno in OUR_OWN_LIMITS:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _is_out_of_descriptors() -> bool:
    try:
        socket.socket().close()
    except OSError as exc:
        return exc.errno in OUR_OWN_LIMITS
    return False


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Always None: requests would read a redirect's whole body, however long, even when it is not to follow it."""
