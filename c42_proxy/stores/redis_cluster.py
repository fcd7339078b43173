"""A cluster of Redis: redis-py's client, which sends each command to the node that has the key."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import AskError, RedisClusterException
from redis.retry import Retry

from ..redis_url import RedisUrl
from .contract import STORE_SECONDS
from .redis_clients import FAILURES, Client, Command, Pool, Server
from .redis_connection import connection_class
from .redis_nodes import ask_one_at_a_time, controls_asking

CONNECT_SECONDS = 4 * STORE_SECONDS
"""How long a thread waits for another one that makes the client: redis-py also asks for the long list of commands."""


class Cluster:
    """It asks the nodes of `url` for the others when it is first used, and when it knows no node that answers."""

    def __init__(self, url: RedisUrl) -> None:
        # Both now, so that a warning comes at the start.
        controls_asking()
        self._connection_class = connection_class(tls=url.tls)
        self._url = url
        self._lock = Lock()
        self._cluster: Any = None

    def execute_command(self, *words: object) -> Any:
        with self._connected() as cluster:
            return cluster.execute_command(*words)

    def at_once(self, commands: Mapping[str, Command]) -> list[Any]:
        results: dict[str, Any] = {}
        with self._connected() as cluster, ExitStack() as sent:
            nodes: dict[Any, list[str]] = {}
            for key in commands:
                try:
                    nodes.setdefault(cluster.get_node_from_key(key), []).append(key)
                except RedisClusterException as exc:  # no node has the key
                    results[key] = redis.ConnectionError(f"{exc}")
            # All nodes are asked before the first answer is read.
            reading: list[tuple[list[str], Callable[[], list[Any]]]] = []
            for node, keys in nodes.items():
                pool = cluster.get_redis_connection(node).connection_pool
                try:
                    reading.append((keys, sent.enter_context(pool.sent([commands[key] for key in keys]))))
                except FAILURES as exc:
                    results.update(dict.fromkeys(keys, exc))
            for keys, answers in reading:
                try:
                    results.update(zip(keys, answers(), strict=True))
                except FAILURES as exc:
                    results.update(dict.fromkeys(keys, exc))
        for key, result in results.items():
            if isinstance(result, AskError):  # its subclass MovedError, too: the key is at another node
                try:
                    results[key] = self.execute_command(*commands[key])
                except FAILURES as exc:
                    results[key] = exc
        return [results[key] for key in commands]

    def primaries(self) -> Iterable[Client]:
        with self._connected() as cluster:
            return [Server(cluster.get_redis_connection(node).connection_pool) for node in cluster.get_primaries()]

    def leave(self) -> None:
        cluster, self._cluster = self._cluster, None
        for node in cluster.get_nodes() if cluster else ():
            if node.redis_connection:
                node.redis_connection.connection_pool.leave()

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        cluster = None
        try:
            cluster = self._cluster or self._connect()
            yield cluster
        except RedisClusterException as exc:  # no RedisError
            # None of the nodes answers, or together they do not serve all hash slots. Ask those of the address next
            # time, by their names.
            if self._cluster is cluster:
                self.leave()
            raise redis.ConnectionError(f"{exc}") from exc

    def _connect(self) -> Any:
        if not self._lock.acquire(timeout=CONNECT_SECONDS):
            raise redis.ConnectionError("another thread is still asking the nodes of the cluster")
        try:
            if self._cluster is None:
                cluster = self._new_cluster()
                ask_one_at_a_time(cluster)
                self._cluster = cluster
            return self._cluster
        finally:
            self._lock.release()

    def _new_cluster(self) -> Any:
        (host, port), *others = self._url.hosts
        node: Any = ClusterNode
        options: dict[str, Any] = {**self._url.login, **self._url.files}
        return RedisCluster(
            # Only with an address of this form, redis-py uses the pool that it is given.
            url=f"redis://{f'[{host}]' if ':' in host else host}:{port}",
            startup_nodes=[node(*each) for each in others],
            connection_pool_class=Pool,
            connection_class=self._connection_class,
            # Each attempt may take a whole time-out. The store itself tries again, after a pause.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **options,
        )
