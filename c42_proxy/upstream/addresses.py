"""Connects to the address of a host that answers first: Happy Eyeballs (RFC 8305), in one thread and by a deadline."""

import errno
import os
import selectors
import socket
from collections import defaultdict, deque
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any

from ..deadline import Deadline

ATTEMPT_DELAY = 0.25
"""Seconds that an address has for itself before the next one is tried beside it (RFC 8305, section 5)."""

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` gives it."""


def connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A socket that is connected to the host; its time-out is what is left of the time.

    Raises socket.gaierror where the name does not resolve, TimeoutError at the deadline, and where all addresses have
    failed, the OSError of the last one.
    """
    untried = deque(_alternating(socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)))
    # The resolution of a name knows no time-out: the time may be over now.
    delay = min(ATTEMPT_DELAY, deadline.remaining() / max(len(untried), 1))
    failure = OSError("the name has no address")
    with selectors.DefaultSelector() as under_way:
        try:
            while untried or under_way.get_map():
                if untried:
                    try:
                        sock = _begin(untried.popleft())
                    except OSError as exc:
                        failure = exc
                        continue
                    under_way.register(sock, selectors.EVENT_WRITE, sock)
                left = deadline.remaining()
                for key, _ in under_way.select(min(delay, left) if untried else left):
                    tried: socket.socket = key.data
                    error = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not error:
                        tried.settimeout(deadline.remaining())
                        under_way.unregister(tried)
                        return tried
                    failure = OSError(error, os.strerror(error))
                    under_way.unregister(tried)
                    tried.close()
            raise failure
        finally:
            for key in under_way.get_map().values():
                key.data.close()


def _alternating(addresses: Iterable[Address]) -> list[Address]:
    """The addresses in their order, but the families in turn: one of them may lead nowhere (RFC 8305, section 4)."""
    families: defaultdict[socket.AddressFamily, list[Address]] = defaultdict(list)
    for address in addresses:
        families[address[0]].append(address)
    return [address for address in chain(*zip_longest(*families.values())) if address is not None]


def _begin(address: Address) -> socket.socket:
    """A socket that is being connected, or is connected already. Raises OSError."""
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    error = sock.connect_ex(place)
    if error not in {0, errno.EINPROGRESS}:
        sock.close()
        raise OSError(error, os.strerror(error))
    return sock
