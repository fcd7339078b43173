"""`host:port`: what is read, and where it listens."""

import errno
import socket
import unittest

from c42_proxy.address import Address
from harness.needs import has_ipv6


class AddressTest(unittest.TestCase):
    def test_parsed(self) -> None:
        """A name, an IPv4 address, an IPv6 address in brackets, or none, and a port up to 65535."""
        for text, host, port in (
            ("localhost:1", "localhost", 1),
            ("127.0.0.1:65535", "127.0.0.1", 65535),
            ("[::1]:0", "::1", 0),
            (":1", "0.0.0.0", 1),  # as gunicorn has it
            (f"{63 * 'a'}:1", 63 * "a", 1),  # the longest label
        ):
            self.assertEqual((host, port), Address.parsed(text))
        for text in (
            "localhost",
            "localhost:",
            "localhost:65536",
            "::1:1",
            "a b:1",
            "localhost:-1",
            "localhost:1 ",
            "a..b:1",
            f"{64 * 'a'}:1",
        ):
            self.assertRaises(ValueError, Address.parsed, text)

    def test_listener(self) -> None:
        """It listens at an address of either kind, and at no other."""
        for host in ("127.0.0.1", *(["::1"] if has_ipv6() else [])):
            with Address(host, 0).listener() as listener:
                self.assertEqual(host, listener.getsockname()[0])
                socket.create_connection(listener.getsockname()[:2], timeout=5).close()

    def test_no_listener(self) -> None:
        """Where nothing can listen, the system's own words say why, without the address that the caller knows."""
        with Address("127.0.0.1", 0).listener() as taken:
            port = taken.getsockname()[1]
            with self.assertRaises(OSError) as caught:
                Address("127.0.0.1", port).listener()
        self.assertEqual((errno.EADDRINUSE, "Address already in use"), caught.exception.args)


if __name__ == "__main__":
    unittest.main()
