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
        """The address in `host:port` or `[ipv6]:port`, with a port up to 65535. Raises ValueError.

        Without a host, it is every IPv4 address of this machine, as with gunicorn's `--bind`.
        """
        match = re.fullmatch(r"([A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", text)
        if match is None or int(match[2]) > 65535:
            raise ValueError
        # An empty label, or one of more than 63 characters, is a UnicodeError, and that is a ValueError.
        match[1].encode("idna")
        return cls(match[1].strip("[]") or "0.0.0.0", int(match[2]))  # noqa: S104  # the caller has asked for it

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listener(self, backlog: int | None = None, *, reuse_port: bool = False) -> socket.socket:
        """A socket that listens on this address. Raises OSError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server(self, family=family, backlog=backlog, reuse_port=reuse_port)
        except OSError as exc:
            # Python appends the address to the text.
            raise OSError(exc.errno, (exc.strerror or f"{exc}").partition(" (")[0]) from exc
