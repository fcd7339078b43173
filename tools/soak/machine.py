"""The machine of the hosts, and what it can be made to lack: threads, descriptors, shared memory, a reader of logs."""

import fcntl
import os
import resource
import select
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from harness.wire import dead_address

HOOKS = Path(__file__).with_name("hooks")
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # a mount of its own
SHARED_MEMORY_SIZE = "16m"
PIPE_BYTES = 4096
"""The smallest that Linux has: a pipe that nobody reads is soon full."""
DEAD = "127.66.6.6"
"""An address of this machine at which nobody takes a connection."""
DESCRIPTORS = 8
"""A process has so many of its own accord, and keeps them: a further one is one too many for this limit."""

WITH_OWN_SHARED_MEMORY = [
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    f'mount -t tmpfs -o size={SHARED_MEMORY_SIZE},mode=1777 tmpfs {SHARED_MEMORY} && exec "$@"',
    "sh",
]


@cache
def can_mount() -> bool:
    """Whether the hosts can have a `/dev/shm` of their own: for that, one has to be root, and allowed to mount."""
    if shutil.which("unshare") is None:
        return False
    tried = [*WITH_OWN_SHARED_MEMORY, "true"]
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0  # noqa: S603  # our own


class Machine:
    """What the machine lacks; `hooks/` make the hosts feel it, by way of `environ`. `logs` are the hosts' log files."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._opened = ExitStack()
        self._folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="c42-soak-")))
        self.environ = {"SOAK_FOLDER": f"{self._folder}", "PYTHONPATH": f"{HOOKS}"}
        self.logs = [self._folder / "kept" / f"{host}.log" for host in hosts]
        (self._folder / "kept").mkdir()
        self._pipes = {log.stem: Pipe(self._folder / log.name, log) for log in self.logs}

    def close(self) -> None:
        for pipe in self._pipes.values():
            pipe.close()
        self._opened.close()

    @contextmanager
    def without_threads(self, pid: int) -> Iterator[None]:
        """A process can start no thread."""
        told = self._folder / f"no-threads-{pid}"
        told.touch()
        yield
        told.unlink()

    @contextmanager
    def unread_log(self, host: str) -> Iterator[None]:
        """Nobody reads a host's log."""
        pipe = self._pipes[host]
        pipe.block()
        try:
            yield
        finally:
            pipe.reads.set()

    @contextmanager
    def first_address_dead(self, port: int) -> Iterator[None]:
        """There are two addresses for this port, of which the first drops whoever wants to connect."""
        with dead_address(DEAD, port):
            self.lead(port, f"{DEAD}:{port}", f"127.0.0.1:{port}")
            yield
            self.lead(port, f"127.0.0.1:{port}")

    def lead(self, port: int, *places: str) -> None:
        """Whoever asks for the addresses of a name with this port is told these (`address:port`) from now on."""
        new = self._folder / "new"
        new.write_text(" ".join(places))
        new.rename(self._folder / f"addresses-of-{port}")


class Pipe:
    """What is written to the pipe goes to a file; while `reads` is not set, it waits in the pipe."""

    def __init__(self, path: Path, kept: Path) -> None:
        os.mkfifo(path)
        # Open for both, so that it has no end when its writers go.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._kept = kept.open("wb", buffering=0)
        self.reads = threading.Event()
        self.reads.set()
        self._reading = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="pipe")
        self._thread.start()

    def close(self) -> None:
        """Read what is left."""
        self._over.set()
        self.reads.set()
        self._thread.join()
        os.close(self._pipe)
        self._kept.close()

    def block(self) -> None:
        """Read no more until `reads` is set, and leave no room in it. Empty lines say nothing."""
        self.reads.clear()
        with self._reading, suppress(BlockingIOError):
            while True:
                os.write(self._pipe, b"\n")

    def _read(self) -> None:
        while True:
            self.reads.wait()
            over = self._over.is_set()
            with self._reading:
                if not self.reads.is_set():
                    continue
                if select.select([self._pipe], [], [], 0 if over else 0.1)[0]:
                    self._kept.write(os.read(self._pipe, PIPE_BYTES))
                elif over:
                    return


@contextmanager
def without_descriptors(pid: int) -> Iterator[None]:
    """A process keeps the descriptors that it has, and gets no other."""
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, usual[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


@contextmanager
def full_shared_memory(pid: int) -> Iterator[None]:
    """Each byte is taken of the `/dev/shm` of a process that was started `WITH_OWN_SHARED_MEMORY`.

    Raises RuntimeError where it has that of everybody.
    """
    folder = Path(f"/proc/{pid}/root{SHARED_MEMORY}")
    if folder.stat().st_dev == Path(SHARED_MEMORY).stat().st_dev:
        raise RuntimeError(f"process {pid} has no {SHARED_MEMORY} of its own")
    filler = folder / "filler"
    # What does not fit any more is written in part, and then nothing is.
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    yield
    filler.unlink()
