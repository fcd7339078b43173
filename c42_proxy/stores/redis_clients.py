"""What the store needs of redis-py: a client of one server, which may be the one that Sentinels name as the primary.

By itself, redis-py would try again for seconds. When several threads look for the primary, it asks one Sentinel after
the other, and may lose one of its list.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import as_completed, wait
from contextlib import contextmanager
from typing import Any, Protocol

import redis
from redis.sentinel import SentinelConnectionPool

from ..errors import Overloaded
from ..redis_url import RedisUrl
from ..threads import in_thread
from .contract import STORE_SECONDS
from .redis_connection import connection_class

Command = tuple[object, ...]

SENTINEL_SECONDS = 2 * STORE_SECONDS
"""How long Sentinels may take to answer, however they dawdle."""

NO_THREAD = "this process can start no thread"

FAILURES = (redis.RedisError, OSError, ValueError)
"""What a command raises that fails. ValueError: what answers does not speak Redis' protocol."""


class Client(Protocol):
    """What the store needs of one server, or of all nodes of a cluster. Raises FAILURES."""

    def execute_command(self, *words: object) -> Any:
        """Execute a command where its key is."""
        ...

    def at_once(self, commands: Mapping[str, Command]) -> list[Any]:
        """Execute a command for each key, in one round trip for each node.

        An error that a node answers is a result. If a node of a cluster fails, that is the result of its commands.
        """
        ...

    def primaries(self) -> Iterable["Client"]:
        """Each server that has some of the keys."""
        ...

    def leave(self) -> None:
        """Close each connection as soon as it is idle."""
        ...


def new_server(url: RedisUrl) -> Client:
    """A client without connections: each connection resolves the name of its host when it is opened."""
    options: dict[str, Any] = {"db": url.db, **url.login, **url.files}
    if url.kind == "socket":
        return Server(Pool(connection_class=redis.UnixDomainSocketConnection, path=url.path, **options))
    if url.kind == "sentinel":
        return Server(
            _SentinelPool(
                *(url.name, _Sentinels(url)),
                connection_class=connection_class(tls=url.tls, managed=True),
                **options,
            )
        )
    ((host, port),) = url.hosts
    return Server(Pool(connection_class=connection_class(tls=url.tls), host=host, port=port, **options))


class _Bounded(redis.ConnectionPool):
    """redis-py's pool, which can be closed while other threads still use its connections."""

    _left = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        bounds = {
            "socket_timeout": STORE_SECONDS,
            "socket_connect_timeout": STORE_SECONDS,
            # redis-py would send extra commands when it connects; each could take a whole time-out.
            "protocol": 2,
            "driver_info": None,
        }
        # With a pool of ours, redis-py does not try again (by default ten times, with pauses). Before each command it
        # checks whether the server has closed the connection, and then opens a new one.
        super().__init__(*arguments, **{**options, **bounds})

    def leave(self) -> None:
        self._left = True
        self.disconnect(inuse_connections=False)

    def release(self, connection: Any) -> None:
        if self._left:
            connection.disconnect()
        super().release(connection)

    @contextmanager
    def sent(self, commands: Collection[Command]) -> Iterator[Callable[[], list[Any]]]:
        """Send commands in one go. The block may call, once, what reads their answers; an error is an answer, too.

        redis-py's own functions take longer: they also measure each command, and prepare to try it again.
        """
        connection: Any = self.get_connection()  # redis-py has no types here
        has_all = False

        def answers() -> list[Any]:
            nonlocal has_all
            read = [_answer(connection) for _ in commands]
            has_all = True
            return read

        try:
            connection.send_packed_command(connection.pack_commands(commands))
            yield answers
        finally:
            if not has_all:
                # What is left of the answers must not be read as that of the next command.
                connection.disconnect()
            self.release(connection)


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as exc:
        return exc


class Pool(_Bounded):
    """Of connections to one server."""


class _SentinelPool(_Bounded, SentinelConnectionPool):
    """Of connections to the primary that the Sentinels name when the connection is opened."""


class Server(redis.Redis):
    """One server, or whichever is the primary."""

    def __init__(self, pool: _Bounded) -> None:
        super().__init__(connection_pool=pool)
        self._bounded = pool

    def execute_command(self, *words: Any, **options: Any) -> Any:
        if words[0] != "GET":
            return super().execute_command(*words, **options)  # type: ignore[no-untyped-call]  # redis-py has no types here
        with self._bounded.sent([words]) as answers:
            [answer] = answers()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def at_once(self, commands: Mapping[str, Command]) -> list[Any]:
        with self._bounded.sent(commands.values()) as answers:
            return answers()

    def primaries(self) -> Iterable[Client]:
        return [self]

    def leave(self) -> None:
        self._bounded.leave()


def failing_sentinels(url: RedisUrl) -> list[str]:
    """A line for each Sentinel that does not name the primary in time."""
    return _Sentinels(url).failing(url.name) if url.kind == "sentinel" else []


class _Sentinels:
    """Asks all Sentinels at once, each on a connection of its own: one that hangs costs no time.

    Of redis-py's `Sentinel`, a pool uses `discover_master` alone.
    """

    def __init__(self, url: RedisUrl) -> None:
        self._hosts = url.hosts
        self._options = {**url.files, **url.sentinel_login}
        self._connection_class = connection_class(tls=url.tls)

    def discover_master(self, service_name: str) -> tuple[str, int]:
        failure: Exception = redis.ConnectionError("no Sentinel answers in time")
        try:
            asked = [in_thread(self._ask, *host, service_name) for host in self._hosts]
            for answer in as_completed(asked, SENTINEL_SECONDS):
                try:
                    return answer.result()
                except FAILURES as exc:
                    failure = exc
        except Overloaded as exc:
            raise redis.ConnectionError(NO_THREAD) from exc
        except TimeoutError:
            pass
        raise redis.ConnectionError(f"{failure}") from failure

    def failing(self, service_name: str) -> list[str]:
        """Ask all of them; returns a line for each that does not name the primary in time."""
        try:
            asked = {host: in_thread(self._ask, *host, service_name) for host in self._hosts}
        except Overloaded:
            return [f"Sentinels: {NO_THREAD}"]
        wait(asked.values(), SENTINEL_SECONDS)
        late = {f"Sentinel {host}:{port}: no answer in time" for (host, port), each in asked.items() if not each.done()}
        return sorted({*late, *(f"{each.exception()}" for each in asked.values() if each.done() and each.exception())})

    def _ask(self, host: str, port: int, name: str) -> tuple[str, int]:
        pool = Pool(connection_class=self._connection_class, host=host, port=port, **self._options)
        client: Any = redis.Redis(connection_pool=pool)  # redis-py 7 has no types for Sentinel's commands
        try:
            masters = client.sentinel_masters()
        except redis.RedisError as exc:
            raise redis.ConnectionError(f"Sentinel {host}:{port}: {exc}") from exc
        finally:
            pool.disconnect()
        state = masters.get(name)
        if state is None:
            raise redis.ConnectionError(f"Sentinel {host}:{port}: it watches no {name}")
        if state["is_sdown"]:
            raise redis.ConnectionError(f"Sentinel {host}:{port}: {name} is down, and no other is elected yet")
        return state["ip"], state["port"]
