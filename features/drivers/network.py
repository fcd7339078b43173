"""The specification is about our rules, not about a network: every attempt to use one fails."""

import socket
from typing import NoReturn


def forbid_connections() -> None:
    """Let every attempt to connect to anything fail, for the rest of this process."""
    socket.socket.connect = _forbidden  # type: ignore[method-assign,assignment]  # the one place all connections come through
    socket.socket.connect_ex = _forbidden  # type: ignore[method-assign,assignment]  # the same


def _forbidden(_socket: socket.socket, address: object) -> NoReturn:
    raise AssertionError(f"a scenario reached for the network: {address}")
