"""What the soak does to the machine of the hosts is what a process sees there, and nothing is left of it."""

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from contextlib import AbstractContextManager
from pathlib import Path

from harness.needs import needs
from harness.processes import Process, clean_environ, free_port, until
from harness.redis_server import RedisServer
from tools.soak.machine import (
    DEAD,
    DESCRIPTORS,
    SHARED_MEMORY,
    WITH_OWN_SHARED_MEMORY,
    Machine,
    can_mount,
    full_shared_memory,
    without_descriptors,
)
from tools.soak.stack import commands_of_hosts

HOST = "host-1"
TRIES = """
import os, signal, socket, threading
files = [open(os.devnull) for _ in range({files})]
def tried(number, frame):
    try:
        {attempt}
    except Exception as exc:
        print(type(exc).__name__, exc, flush=True)
    else:
        print("fine", flush=True)
signal.signal(signal.SIGUSR1, tried)
print("ready", flush=True)
while True:
    signal.pause()
"""


class MachineTest(unittest.TestCase):
    def setUp(self) -> None:
        self.machine = Machine([HOST])
        self.addCleanup(self.machine.close)

    def process(self, attempt: str, *before: str, files: int = 0) -> Process:
        """A Python that does this for each SIGUSR1, and says what came of it. It has so many `files` open."""
        code = TRIES.format(attempt=attempt, files=files)
        environ = clean_environ() | self.machine.environ
        process = self.enterContext(Process([*before, sys.executable, "-c", code], environ))
        process.wait_until_says("ready")
        return process

    def said(self, process: Process) -> str:
        """What it says when it tries once more."""
        before = process.output()
        process.send(signal.SIGUSR1)
        until(lambda: process.output().removeprefix(before).endswith("\n"), "the attempt")
        return process.output().removeprefix(before).strip()

    def assert_meanwhile(self, process: Process, lack: AbstractContextManager[None], expected: str) -> None:
        self.assertEqual(self.said(process), "fine")
        with lack:
            self.assertEqual(self.said(process), expected)
        self.assertEqual(self.said(process), "fine")

    def test_threads(self) -> None:
        """A process can start no thread, in the interpreter's own words, and another one can."""
        process, other = (self.process("threading.Thread(target=int).start()") for _ in range(2))
        self.assert_meanwhile(process, self.machine.without_threads(process.pid), "RuntimeError can't start new thread")
        self.assert_meanwhile(other, self.machine.without_threads(process.pid), "fine")

    def test_descriptors(self) -> None:
        """A process gets no further descriptor."""
        process = self.process("socket.socket().close()", files=DESCRIPTORS)
        said = f"OSError [Errno {errno.EMFILE}] {os.strerror(errno.EMFILE)}"
        self.assert_meanwhile(process, without_descriptors(process.pid), said)

    def test_shared_memory(self) -> None:
        """No byte is left for a process with a `/dev/shm` of its own; that of everybody is never filled."""
        if not can_mount():
            self.skipTest("needs root, and the right to mount")
        process = self.process(
            f"with open('{SHARED_MEMORY}/c42-soak-test', 'ab', buffering=0) as file: file.write(b'x')",
            *WITH_OWN_SHARED_MEMORY,
        )
        said = f"OSError [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}"
        with full_shared_memory(process.pid):
            self.assertEqual(self.said(process), said)
        self.assertEqual(self.said(process), "fine")
        other = self.process("pass")
        with self.assertRaisesRegex(RuntimeError, "no /dev/shm of its own"), full_shared_memory(other.pid):
            pass
        self.assertEqual([], [name for name in os.listdir(SHARED_MEMORY) if name.startswith(("c42-soak", "filler"))])

    def test_dead_address(self) -> None:
        """A port has two addresses, of which the first takes no connection."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            both = f"print([place[4] for place in socket.getaddrinfo('127.0.0.1', {port}, type=socket.SOCK_STREAM)])"
            first = f"socket.create_connection(('127.0.0.1', {port}), timeout=0.1).close()"
            resolves, connects = self.process(both), self.process(first)
            with self.machine.first_address_dead(port):
                self.assertIn(f"[('{DEAD}', {port}), ('127.0.0.1', {port})]", self.said(resolves))
                with socket.socket() as client, self.assertRaises(TimeoutError):
                    client.settimeout(0.1)
                    client.connect((DEAD, port))
                # It tries one after the other, each for so long.
                self.assertEqual(self.said(connects), "fine")
            self.assertIn(f"[('127.0.0.1', {port})]", self.said(resolves))

    def test_name_that_moves(self) -> None:
        """A port leads to another one."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            old = free_port()
            process = self.process(f"socket.create_connection(('127.0.0.1', {old})).close()")
            self.assertIn("ConnectionRefusedError", self.said(process))
            self.machine.lead(old, f"127.0.0.1:{server.getsockname()[1]}")
            self.assertEqual(self.said(process), "fine")

    def test_log(self) -> None:
        """What a host says, whose standard error is the file of its log, comes into a pipe, which can be full."""
        [log] = self.machine.logs
        with tempfile.TemporaryDirectory() as folder, Path(folder, log.name).open("wb") as file:
            code = "import sys\nfor line in sys.stdin: sys.stderr.write(line)"
            with subprocess.Popen(
                [sys.executable, "-c", code],
                env=clean_environ() | self.machine.environ,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                text=True,
                bufsize=1,
            ) as host:
                assert host.stdin is not None
                host.stdin.write("one\n")
                until(lambda: log.read_text() == "one\n", "what it says")
                with self.machine.unread_log(HOST):
                    host.stdin.write("two\n")
                    pipe = os.open(log.parent.parent / log.name, os.O_WRONLY | os.O_NONBLOCK)
                    self.addCleanup(os.close, pipe)
                    with self.assertRaises(BlockingIOError):
                        os.write(pipe, b"three\n")
                    self.assertEqual(log.read_text(), "one\n")
                until(lambda: log.read_text().split() == ["one", "two"], "what it had to say")
            self.assertEqual(file.tell(), 0)


@needs("redis-server")
class MovedTest(unittest.TestCase):
    def test_commands_of_hosts(self) -> None:
        """The commands that hosts still send to a replica are distinguished from those of its primary."""
        with RedisServer() as primary, RedisServer() as replica:
            primary.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
            replica.command("REPLICAOF", "127.0.0.1", f"{primary.port}")
            until(lambda: b"master_link_status:up" in replica.command("INFO", "replication"), "a copy")
            primary.command("EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "key")
            until(lambda: replica.command("STRLEN", "key") == b":1\r\n", "what was written")
            self.assertEqual(commands_of_hosts(replica), "")
            replica.command("GET", "key")
            self.assertEqual(commands_of_hosts(replica), "get:calls=1")
