"""The only module that uses two names of redis-py that its documentation does not have: `nodes_manager.initialize`.

redis-py calls it when it needs to know which node of a cluster has which keys. The names are checked at the start.
Without them, redis-py alone decides which threads ask the nodes.
"""

from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

import redis
from redis import cluster as library

from ..private_names import private_or_public
from .contract import STORE_SECONDS


@cache
def controls_asking() -> bool:
    """Whether we can say when threads ask the nodes of a cluster for each other."""

    def private() -> bool:
        check()
        return True

    return private_or_public(
        "redis",
        private,
        public=False,
        lost="if all nodes of the cluster in C42_CACHE_URL hang, some answers wait for seconds.",
    )


def check() -> None:
    """Raises if redis-py has changed. A client cannot be made without a cluster, so this only looks for the names."""
    names = {*vars(library.NodesManager), *library.RedisCluster.get_nodes.__code__.co_names}
    if not names.issuperset({"initialize", "nodes_manager"}):
        raise LookupError("RedisCluster has no nodes_manager.initialize")


def ask_one_at_a_time(cluster: Any) -> None:
    """Let one thread ask the nodes of `cluster`. Others that want to ask meanwhile wait for it, but not for long.

    redis-py lets each thread ask that meets a failure, one after the other: where all nodes hang, the last of sixteen
    threads would wait for a quarter of a minute.
    """
    if controls_asking():
        cluster.nodes_manager.initialize = _one_at_a_time(cluster.nodes_manager.initialize)


def _one_at_a_time(initialize: Callable[..., None]) -> Callable[..., None]:
    lock = Lock()
    last_time = object()

    def bounded(*arguments: Any, **options: Any) -> None:
        nonlocal last_time
        before = last_time
        if not lock.acquire(timeout=STORE_SECONDS):
            raise redis.ConnectionError("another thread is still asking the nodes of the cluster")
        try:
            if last_time is before:
                initialize(*arguments, **options)
                last_time = object()
        finally:
            lock.release()

    return bounded
