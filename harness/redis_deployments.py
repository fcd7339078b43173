"""Redis as it is deployed for tests: watched by Sentinels, or as a cluster; all of it at 127.0.0.1."""

import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.processes import Process, free_port, until
from harness.redis_server import RedisServer, command

NAME = "mymaster"
SLOTS = 16384
FEED_AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""A primary would wait five seconds for more replicas to feed."""


class Deployment:
    """Several servers at one address. As a context manager, it stops them at the end."""

    url: str

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def command(self, *words: str | bytes) -> bytes:
        """Send a command to the server that has its key."""
        raise NotImplementedError


class Watched(Deployment):
    """A primary with replicas, and Sentinels that watch it. They call it down after `down_after` seconds of silence.

    `settings` are further lines of the Sentinels' configuration, `options` further words of the primary's command
    line, and `monitored` is its port, if it is another one than that for `command`.
    """

    def __init__(
        self,
        *,
        replicas: int = 0,
        sentinels: int = 1,
        down_after: float = 60,
        settings: Sequence[str] = (),
        options: Sequence[str] = (),
        monitored: int = 0,
    ) -> None:
        super().__init__()
        self.primary = RedisServer("", *FEED_AT_ONCE, *options)
        self._monitored = monitored or self.primary.port
        self.replicas = [RedisServer("", "--replicaof", "127.0.0.1", str(self.primary.port)) for _ in range(replicas)]
        self.ports = [free_port() for _ in range(sentinels)]
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{NAME}/0"
        self._down_after = down_after
        self._settings = "\n".join(settings)
        self.sentinels: list[Process] = []

    def __enter__(self) -> Self:
        for server in (self.primary, *self.replicas):
            self._stack.enter_context(server)
        until(lambda: all(map(_is_in_step, self.replicas)), "replicas")
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        for port in self.ports:
            configuration = folder / f"{port}.conf"
            configuration.write_text(
                f"port {port}\nbind 127.0.0.1\n"
                f"sentinel monitor {NAME} 127.0.0.1 {self._monitored} {len(self.ports) // 2 + 1}\n"
                f"sentinel down-after-milliseconds {NAME} {round(1000 * self._down_after)}\n{self._settings}\n"
            )
            words = ["redis-server", str(configuration), "--sentinel"]
            self.sentinels.append(self._stack.enter_context(Process(words, dict(os.environ), folder)))
        until(lambda: all(map(self._is_ready, self.ports)), "Sentinels that know all servers and each other")
        return self

    def command(self, *words: str | bytes) -> bytes:
        return self.primary.command(*words)

    def named(self) -> int:
        """The port of the primary that the first Sentinel which runs names."""
        running = (port for port, process in zip(self.ports, self.sentinels, strict=True) if process.is_running)
        return int(command(next(running), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME).split(b"\r\n")[4])

    def hang(self, sentinel: int) -> None:
        """It is killed at the end, for it does not hear that it is to end."""
        self.sentinels[sentinel].send(signal.SIGSTOP)
        self._stack.callback(self.sentinels[sentinel].send, signal.SIGKILL)

    def _is_ready(self, port: int) -> bool:
        try:
            words = command(port, "SENTINEL", "MASTER", NAME).split(b"\r\n")
        except OSError:
            return False
        found = dict(zip(words[2::4], words[4::4], strict=False))
        expected = {b"flags": "master", b"num-slaves": len(self.replicas), b"num-other-sentinels": len(self.ports) - 1}
        return all(found.get(name) == str(value).encode() for name, value in expected.items())


class Nodes(Deployment):
    """A cluster whose nodes are each the primary of as many slots; the first one may have a replica.

    `tls` has further options for each node.
    """

    def __init__(
        self, *options: str, primaries: int = 3, replica: bool = False, tls: Sequence[Sequence[str]] = ((),) * 4
    ) -> None:
        super().__init__()
        self._primaries = primaries
        self._ports = [free_port() for _ in range(primaries + replica)]
        """On which the nodes speak with each other. By default it is 10,000 more than the other port."""
        self.nodes = [
            RedisServer(
                *("", "--cluster-enabled", "yes", "--cluster-port", str(port), "--cluster-node-timeout", "2000"),
                *(*FEED_AT_ONCE, *options, *of_node),
            )
            for port, of_node in zip(self._ports, tls, strict=False)
        ]
        self.url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def __enter__(self) -> Self:
        for node in self.nodes:
            self._stack.enter_context(node)
        for number, node in enumerate(self.nodes[: self._primaries]):
            first, last = SLOTS * number // self._primaries, SLOTS * (number + 1) // self._primaries - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(1 + number))
        for node in self.nodes[1:]:
            node.command("CLUSTER", "MEET", "127.0.0.1", str(self.nodes[0].port), str(self._ports[0]))
        until(lambda: all(map(self._is_ready, self.nodes)), "a cluster in which all nodes know all")
        for node in self.nodes[self._primaries :]:
            node.command("CLUSTER", "REPLICATE", self.nodes[0].command("CLUSTER", "MYID").split(b"\r\n")[1])
        until(lambda: all(map(_is_in_step, self.nodes[self._primaries :])), "a replica")
        return self

    def command(self, *words: str | bytes) -> bytes:
        """As above. It is sent to all nodes."""
        answers = [node.command(*words) for node in self.nodes]
        return next(answer for answer in answers if not answer.startswith(b"-MOVED"))

    def _is_ready(self, node: RedisServer) -> bool:
        told = node.command("CLUSTER", "INFO")
        return (
            b"cluster_state:ok" in told
            and b"cluster_known_nodes:%d" % len(self.nodes) in told
            and b"slots_ok:16384" in told
        )


def _is_in_step(replica: RedisServer) -> bool:
    return b"master_link_status:up" in replica.command("INFO", "replication")
