"""`host:port`, the form of settings and options."""

import re
import socket
from typing import NamedTuple


class Address(NamedTuple):
    """A host, an IPv6 address without its brackets, and a port."""

    host: str
    port: int

    @classmethod
    def parsed(cls, text: str) -> "Address":
        """The address in `host:port` or `[ipv6]:port`, with a port up to 65535. Raises ValueError."""
        match = re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", text)
        if match is None or int(match[2]) > 65535:
            raise ValueError
        return cls(match[1].strip("[]"), int(match[2]))

    def listener(self, backlog: int | None = None) -> socket.socket:
        """A socket that listens on this address. Raises OSError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.create_server(self, family=family, backlog=backlog)
