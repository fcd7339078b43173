"""A real redis-server for tests: started, hung, killed and started again at the same port."""

import os
import signal
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.processes import Process, free_port, until


class RedisServer:
    """A redis-server of its own at 127.0.0.1 that keeps nothing on disk. As a context manager it is stopped at the end.

    With `password`, it wants that one. `options` are further ones of its command line; `program` may be Valkey's.
    """

    def __init__(self, password: str = "", *options: str, program: str = "redis-server") -> None:
        self.port = free_port()
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        self._password = password
        self._program = program
        self._options = options
        self._folder = tempfile.TemporaryDirectory()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is not None and self._process is not None:
            error.add_note(f"Output of redis-server:\n{self._process.output()}")
        self.close()

    def close(self) -> None:
        """Stop it, and remove what it has left."""
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [self._program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        words += [*(["--requirepass", self._password] if self._password else []), *self._options]
        self._process = process = Process(words, dict(os.environ), Path(self._folder.name))
        until(lambda: self._answers() or not process.is_running, "an answer of redis-server")
        if not process.is_running:
            raise RuntimeError(f"redis-server ended with {process.wait()}:\n{process.output()}")

    def stop(self) -> None:
        """End it, hung or not. Does nothing where it does not run."""
        if self._process is not None:
            self._process.send(signal.SIGKILL)
            self._process.close()
            self._process = None

    def hang(self) -> None:
        """Let it take connections and bytes, and answer nothing."""
        assert self._process is not None
        self._process.send(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a `hang`."""
        assert self._process is not None
        self._process.send(signal.SIGCONT)
        until(self._answers, "an answer of redis-server")

    def command(self, *words: str | bytes) -> bytes:
        """Send it a command of its protocol (redis.io/docs/reference/protocol-spec); what it says, up to 64 KiB."""
        return command(self.port, *words, password=self._password)

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False


def command(port: int, *words: str | bytes, password: str = "") -> bytes:
    """Send a command to whatever speaks Redis's protocol at this port."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        if password:
            connection.sendall(_request("AUTH", password))
            connection.recv(65536)
        connection.sendall(_request(*words))
        return connection.recv(65536)


def _request(*words: str | bytes) -> bytes:
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
