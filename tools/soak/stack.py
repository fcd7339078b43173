"""The production stack of `scripts/stack`, and what can be done to its parts."""

import os
import random
import signal
import sys
from pathlib import Path

from harness.processes import Process, until
from harness.redis_server import RedisServer
from harness.stack import STACK, Stack, environ_of

HOSTS = ("host-1", "host-2")
WORKERS = 2


class FragileStack(Stack):
    """nginx, two hosts of two workers each, and a Redis that can be stopped and started."""

    def __init__(self, c42_port: int, settings: dict[str, str]) -> None:
        # Not by way of `Stack`, whose tests have a TTL of their own.
        Process.__init__(self, [sys.executable, STACK], environ_of(c42_port) | settings)
        self.redis = RedisServer()

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
        """Those of nginx and of the hosts, by name."""
        return {"nginx": self.port, **dict(zip(HOSTS, self.host_ports, strict=True))}

    def close(self) -> None:
        """End it with its parts and its Redis."""
        self.redis.close()
        super().close()

    def reload_nginx(self) -> None:
        os.kill(self.nginx, signal.SIGHUP)

    def reload_host(self, name: str) -> None:
        os.kill(self.hosts[HOSTS.index(name)], signal.SIGHUP)

    def kill_worker(self, name: str, chance: random.Random) -> None:
        """Kill one of a host's workers, as kill -9 does. Its master starts another."""
        master = self.hosts[HOSTS.index(name)]

        def workers() -> list[int]:
            return [int(word) for word in Path(f"/proc/{master}/task/{master}/children").read_text().split()]

        os.kill(chance.choice(until(workers, f"workers of {name}")), signal.SIGKILL)
