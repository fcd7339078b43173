"""The production stack of `scripts/stack`, and what can be done to its parts."""

import os
import random
import re
import signal
import sys
from pathlib import Path

from harness.processes import Process, until
from harness.redis_server import RedisServer
from harness.stack import STACK, Stack, environ_of

from .machine import WITH_OWN_SHARED_MEMORY, Machine, can_mount

HOSTS = ("host-1", "host-2")
WORKERS = 2


class FragileStack(Stack):
    """nginx, two hosts of two workers each, and a Redis that can be stopped and started."""

    def __init__(self, c42_port: int, settings: dict[str, str]) -> None:
        # Not by way of `Stack`, whose tests have a TTL of their own.
        self.machine = Machine(HOSTS)
        environ = environ_of(c42_port) | settings
        environ |= {
            **self.machine.environ,
            "PYTHONPATH": f"{self.machine.environ['PYTHONPATH']}:{environ['PYTHONPATH']}",
        }
        words = [*(WITH_OWN_SHARED_MEMORY if can_mount() else []), sys.executable, STACK]
        Process.__init__(self, words, environ)
        self.redis = RedisServer()
        self._servers = [self.redis]

    def wait_until_ready(self) -> None:
        """Until everything answers. The Redis of the stack would stay dead, so another one takes its place."""
        super().wait_until_ready()
        for pid, _began in self.descendants():
            if b"redis-server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        self.wait_until_says("redis ended with signal 9")
        self.redis.port = self.redis_port
        self.redis.start()

    @property
    def ports(self) -> dict[str, int]:
        """The ports of nginx and of the hosts, by name."""
        return {"nginx": self.port, **dict(zip(HOSTS, self.host_ports, strict=True))}

    def close(self) -> None:
        """End it with its parts, its Redis and what its machine lacks."""
        for server in self._servers:
            server.close()
        super().close()
        self.machine.close()

    @property
    def logs(self) -> list[Path]:
        """Those of all parts; the hosts' are with the reader of their pipes."""
        written = [log for log in self.folder.glob("*.log") if log.stem not in HOSTS]
        return [*written, *self.machine.logs]

    def reload_nginx(self) -> None:
        os.kill(self.nginx, signal.SIGHUP)

    def reload_host(self, name: str) -> None:
        os.kill(self.hosts[HOSTS.index(name)], signal.SIGHUP)

    def kill_worker(self, name: str, chance: random.Random) -> None:
        """Kill one of a host's workers, as kill -9 does. Its master starts another."""
        os.kill(self.any_worker(name, chance), signal.SIGKILL)

    def any_worker(self, name: str, chance: random.Random) -> int:
        """The id of one of a host's workers."""
        master = self.hosts[HOSTS.index(name)]

        def workers() -> list[int]:
            return [int(word) for word in Path(f"/proc/{master}/task/{master}/children").read_text().split()]

        return chance.choice(until(workers, f"workers of {name}"))

    def move_redis(self) -> RedisServer:
        """Make another server the primary, as Redis Sentinel does: its name leads there, the old one is its replica.

        Gives the old one.
        """
        old, new = self.redis, RedisServer()
        self._servers.append(new)
        new.start()
        old.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        new.command("REPLICAOF", "127.0.0.1", f"{old.port}")
        until(lambda: b"master_link_status:up" in new.command("INFO", "replication"), "a copy of the old Redis")
        new.command("REPLICAOF", "NO", "ONE")
        self.machine.lead(self.redis_port, f"127.0.0.1:{new.port}")
        old.command("REPLICAOF", "127.0.0.1", f"{new.port}")
        self.redis = new
        return old


def commands_of_hosts(replica: RedisServer) -> str:
    """The commands that a replica got from the hosts: they use these, and a primary never passes them to a replica."""
    said = replica.command("INFO", "commandstats").decode()
    return ", ".join(re.findall(r"cmdstat_((?:get|eval):calls=\d+)", said))
