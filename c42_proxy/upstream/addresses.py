"""Connects to the first address of a host that answers: Happy Eyeballs (RFC 8305), in one thread and by a deadline."""

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
"""Seconds until the next address is tried in parallel (RFC 8305, section 5)."""

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""An item of `socket.getaddrinfo`."""


class Addresses:
    """Connects to hosts, and first tries the address that answered last (RFC 8305, section 4).

    So a dead address delays only the first call. Thread-safe.
    """

    def __init__(self) -> None:
        self._answered: dict[tuple[str, int], Address] = {}

    def connect(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        """A socket connected to the host; its time-out is the time until the deadline.

        Raises socket.gaierror if the name does not resolve, TimeoutError at the deadline, and if all addresses have
        failed, the OSError of the last one.
        """
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        answered = self._answered.get((host, port))
        # Sorting is stable: the other addresses keep their order.
        addresses = sorted(_alternating(found), key=lambda address: address != answered)
        address, sock = _first_to_answer(addresses, deadline)
        self._answered[host, port] = address
        return sock


def _first_to_answer(addresses: list[Address], deadline: Deadline) -> tuple[Address, socket.socket]:
    untried = deque(addresses)
    # Resolving a name has no time-out: the deadline may have passed.
    delay = min(ATTEMPT_DELAY, deadline.remaining() / max(len(untried), 1))
    failure = OSError("the name has no address")
    with selectors.DefaultSelector() as under_way:
        try:
            while untried or under_way.get_map():
                if untried:
                    address = untried.popleft()
                    try:
                        sock = _begin(address)
                    except OSError as exc:
                        failure = exc
                        continue
                    under_way.register(sock, selectors.EVENT_WRITE, (address, sock))
                left = deadline.remaining()
                for key, _ in under_way.select(min(delay, left) if untried else left):
                    address, tried = key.data
                    error = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not error:
                        tried.settimeout(deadline.remaining())
                        under_way.unregister(tried)
                        return address, tried
                    failure = OSError(error, os.strerror(error))
                    under_way.unregister(tried)
                    tried.close()
            raise failure
        finally:
            for key in under_way.get_map().values():
                key.data[1].close()


def _alternating(addresses: Iterable[Address]) -> list[Address]:
    """The addresses in their order, but with alternating families: one family may be dead (RFC 8305, section 4)."""
    families: defaultdict[socket.AddressFamily, list[Address]] = defaultdict(list)
    for address in addresses:
        families[address[0]].append(address)
    return [address for address in chain(*zip_longest(*families.values())) if address is not None]


def _begin(address: Address) -> socket.socket:
    """A socket that is connecting, or is connected. Raises OSError."""
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    error = sock.connect_ex(place)
    if error not in {0, errno.EINPROGRESS}:
        sock.close()
        raise OSError(error, os.strerror(error))
    return sock
