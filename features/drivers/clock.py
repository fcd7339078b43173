"""The clock of programs as they are: `clock.c`, preloaded into all their processes, and the file that it reads."""

import mmap
import os
import struct
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile

from harness.processes import ROOT

SOURCE = Path(__file__).with_name("clock.c")
LIBRARY = ROOT / "build" / "clock.so"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WALL, SHIFT, STOPPED = 0, 8, 16
"""Where in the file each number is: `struct shown` of `clock.c`."""


class Clock:
    """Time for all programs that are started with `variables`. It begins when it is first set.

    With `monotonic`, their monotonic clock jumps as well, for programs that measure ages with it; it stands still
    between `stop` and `go_on`, so that a millisecond can be told. It is never set back.
    """

    def __init__(self, *, monotonic: bool = False) -> None:
        self._monotonic = monotonic
        self._file = NamedTemporaryFile()  # noqa: SIM115  # closed by `close`
        self._file.truncate(mmap.PAGESIZE)
        self._shown = mmap.mmap(self._file.fileno(), mmap.PAGESIZE)
        self._now = EPOCH

    @property
    def variables(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(library()), "CLOCK_FILE": self._file.name}

    @property
    def now(self) -> datetime:
        return self._now

    def set(self, now: datetime) -> None:
        """Let time jump. Where the wall clock is set back, the monotonic one stays."""
        jump = now - self._now if self._now > EPOCH else timedelta()
        self._now = now
        if self._monotonic and jump > timedelta():
            place = STOPPED if self._read(STOPPED) else SHIFT
            self._write(place, self._read(place) + _nanoseconds(jump))
        self._write(WALL, _nanoseconds(now - EPOCH))

    def stop(self) -> None:
        """Let the monotonic clock stand still, if it jumps at all."""
        if self._monotonic and not self._read(STOPPED):
            self._write(STOPPED, time.monotonic_ns() + self._read(SHIFT))

    def go_on(self) -> None:
        """Let the monotonic clock go on: whoever waits for something that does not come would wait for ever."""
        stopped = self._read(STOPPED)
        if stopped:
            self._write(SHIFT, stopped - time.monotonic_ns())
            self._write(STOPPED, 0)

    def close(self) -> None:
        self._shown.close()
        self._file.close()

    def _read(self, place: int) -> int:
        return int(struct.unpack_from("q", self._shown, place)[0])

    def _write(self, place: int, number: int) -> None:
        struct.pack_into("q", self._shown, place, number)


def _nanoseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1) * 1000


def library() -> Path:
    """The library, compiled if it is not there or is older than its source."""
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime:
        LIBRARY.parent.mkdir(exist_ok=True)
        # Others may compile it at the same time, or have it in use.
        new = LIBRARY.with_suffix(f".{os.getpid()}")
        command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(new), str(SOURCE)]
        subprocess.run(command, check=True, timeout=60)
        os.replace(new, LIBRARY)
    return LIBRARY
