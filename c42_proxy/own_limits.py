"""Whether something has failed because this process or machine lacks threads, descriptors or memory.

That says nothing of C42, nor of the store.
"""

import errno
import socket
from collections.abc import Iterator

from .errors import Overloaded

OUR_OWN_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Too many open files, in this process or on this machine, or no memory for another socket."""


def is_our_own_limit(error: BaseException) -> bool:
    """Whether an error, or one that caused it, says that threads, descriptors or memory were lacking."""
    for each in chain(error):
        if isinstance(each, Overloaded):
            return True
        if isinstance(each, socket.gaierror) or _cannot_open(each):
            # These have no errno: a resolver that can open no socket only reports that there is no answer.
            return _is_out_of_descriptors()
        if isinstance(each, OSError) and each.errno in OUR_OWN_LIMITS:
            return True
    return False


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on: urllib3 gives some causes as arguments alone."""
    each: BaseException | None = error
    while each is not None:
        yield each
        wrapped = (argument for argument in each.args if isinstance(argument, BaseException))
        each = each.__cause__ or each.__context__ or next(wrapped, None)


def _cannot_open(error: BaseException) -> bool:
    """Whether SQLite could not open a file, for whatever reason."""
    # Details may follow the name (sqlite.org/rescode.html).
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_CANTOPEN")


def _is_out_of_descriptors() -> bool:
    try:
        with socket.socket():
            return False
    except OSError as exc:
        return exc.errno in OUR_OWN_LIMITS
