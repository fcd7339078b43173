"""Of several addresses of a host, one that answers is found soon, and a dead one costs a part of the time."""

import errno
import socket
import time
import unittest
from contextlib import ExitStack
from unittest.mock import patch

from c42_proxy.deadline import Deadline
from c42_proxy.upstream.addresses import ATTEMPT_DELAY, Addresses
from harness.wire import Address, Wire, address, dead_address

PLENTY = 5.0
SOON = 0.15


def refusing(host: str = "127.0.0.1") -> Address:
    """Nobody listens there."""
    return address(host, 1)


class ConnectTest(unittest.TestCase):
    def setUp(self) -> None:
        self.addresses = Addresses()
        self.wire = self.enterContext(Wire())
        self.dead = [self.enterContext(dead_address()) for _ in range(3)]

    def seconds(self, *addresses: Address, budget: float = PLENTY) -> float:
        """How long it takes to be connected to the wire, where the host has these addresses."""
        start = time.monotonic()
        with self.connected(*addresses, budget=budget) as sock:
            seconds = time.monotonic() - start
            self.assertEqual(self.wire.address[4], sock.getpeername())
            self.assertLessEqual(sock.gettimeout() or PLENTY, budget)
        return seconds

    def connected(self, *addresses: Address, budget: float = PLENTY) -> socket.socket:
        with patch("socket.getaddrinfo", return_value=list(addresses)):
            return self.addresses.connect("c42.example", 443, Deadline(budget))

    def test_one(self) -> None:
        """One address that answers is connected to, without delay for small packets."""
        with self.connected(self.wire.address) as sock:
            self.assertEqual(1, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            self.assertGreater(sock.gettimeout() or 0, PLENTY - 1)

    def test_names(self) -> None:
        """A name and an address in figures lead to the same."""
        for host in ("localhost", "127.0.0.1"):
            self.addresses.connect(host, self.wire.address[4][1], Deadline(PLENTY)).close()

    def test_address_in_brackets(self) -> None:
        """An IPv6 address may stand in the brackets that it has in a URL."""
        with self.assertRaises(OSError) as raised:
            self.addresses.connect("[::1]", 1, Deadline(PLENTY))
        self.assertNotIsInstance(raised.exception, socket.gaierror)

    def test_dead(self) -> None:
        """A dead address delays the next one by a quarter of a second, wherever the one that answers stands."""
        for before in range(4):
            with self.subTest(dead=before):
                self.addresses = Addresses()
                seconds = self.seconds(*self.dead[:before], self.wire.address, *self.dead[before:])
                self.assertGreaterEqual(seconds, before * ATTEMPT_DELAY)
                self.assertLess(seconds, before * ATTEMPT_DELAY + SOON)

    def test_dead_again(self) -> None:
        """The address that answered is tried first from then on, until it is gone: then the others have their turn."""
        self.seconds(*self.dead, self.wire.address)
        self.assertLess(self.seconds(*self.dead, self.wire.address), SOON)
        gone = self.wire.address
        self.wire.refuse()
        with Wire() as other, self.connected(gone, other.address) as sock:
            self.assertEqual(other.address[4], sock.getpeername())

    def test_little_time(self) -> None:
        """Where there is less time, each address has its share of it."""
        self.assertLess(self.seconds(*self.dead, self.wire.address, budget=0.4), 0.4)

    def test_refused(self) -> None:
        """An address that refuses delays nothing."""
        self.assertLess(self.seconds(refusing(), refusing(), self.wire.address), SOON)

    def test_impossible(self) -> None:
        """Nor does one for which there is no socket."""
        unknown_protocol = (socket.AF_INET, socket.SOCK_STREAM, 255, "", ("127.0.0.1", 1))
        self.assertLess(self.seconds(unknown_protocol, self.wire.address), SOON)

    def test_families(self) -> None:
        """The families take turns, in the order of the first of each."""
        tried: list[str] = []
        begin = socket.socket.connect_ex

        class Socket(socket.socket):
            def connect_ex(self, place: tuple[str, int]) -> int:  # type: ignore[override]  # of TCP alone
                tried.append(place[0])
                return errno.ENETUNREACH if place != wire else begin(self, place)

        wire = self.wire.address[4]
        six = [address(f"2001:db8::{n}", 1) for n in range(3)]
        four = [address(f"192.0.2.{n}", 1) for n in range(2)]
        with patch("socket.socket", Socket):
            self.connected(*six, *four, self.wire.address).close()
        self.assertEqual(["2001:db8::0", "192.0.2.0", "2001:db8::1", "192.0.2.1", "2001:db8::2", "127.0.0.1"], tried)

    def test_all_fail(self) -> None:
        """Where all refuse, the last failure is raised; where one is dead, the time is used up, and no more."""
        with self.assertRaises(ConnectionRefusedError):
            self.connected(refusing(), refusing())
        start = time.monotonic()
        with self.assertRaises(TimeoutError):
            self.connected(self.dead[0], refusing(), budget=0.3)
        self.assertGreaterEqual(time.monotonic() - start, 0.3)
        self.assertLess(time.monotonic() - start, 0.3 + SOON)

    def test_no_address(self) -> None:
        """A name without an address is a failure as well."""
        with self.assertRaisesRegex(OSError, "no address"):
            self.connected()

    def test_too_late(self) -> None:
        """Where the resolution of the name has taken all of the time, nothing is tried."""
        with self.assertRaises(TimeoutError):
            self.connected(self.wire.address, budget=0)
        self.assertEqual(0, self.wire.connections)

    def test_nothing_is_left(self) -> None:
        """Whatever comes of it, no other socket stays open."""
        opened: list[socket.socket] = []

        class Socket(socket.socket):
            def __init__(self, family: int, kind: int, protocol: int, fileno: int | None = None) -> None:
                super().__init__(family, kind, protocol, fileno)
                if fileno is None:
                    # The others are those that the wire accepts.
                    opened.append(self)

        with patch("socket.socket", Socket), ExitStack() as stack:
            sock = stack.enter_context(self.connected(*self.dead, refusing(), self.wire.address))
            with self.assertRaises(TimeoutError):
                self.connected(*self.dead, refusing(), budget=0.1)
            self.assertEqual([sock], [each for each in opened if each.fileno() >= 0])
        self.assertGreater(len(opened), 5)


if __name__ == "__main__":
    unittest.main()
