"""Locks between all threads and processes of one machine, freed by the kernel when their holder dies."""

import fcntl
import os
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Lock

from .forks import after_fork


class FileLocks:
    """Locks with numbers from 0 to 2**62, all in one lock file (fcntl(2), byte ranges).

    Such a lock belongs to the process: it does not exclude other threads of the process, and the process loses it as
    soon as it closes *any* descriptor of the file. So a process opens the file once, never closes it, and keeps its own
    list of the locks that it holds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, number: int) -> AbstractContextManager[object] | None:
        """The lock, or None while another thread or process has it. Never waits. Raises OSError."""
        with _open_files.mutex:
            file = _open_files.of(self._path)
            if number in file.locked:
                return None
            try:
                fcntl.lockf(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):
                # Another process has it: POSIX allows both errors.
                return None
            file.locked.add(number)
            return _FileLock(file, number)


class _OpenFile:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.locked: set[int] = set()


class _OpenFiles:
    """The lock files that this process has open, by device and inode: a file may have several names."""

    def __init__(self) -> None:
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        # A child keeps the inherited descriptors open: closing one would drop the child's own locks.
        self.mutex = Lock()
        self._files: dict[tuple[int, int], _OpenFile] = {}

    def of(self, path: Path) -> _OpenFile:
        """The file that has this name now.

        If it was removed, a new one is made, and every other process finds that one, too.
        """
        try:
            return self._files[_identity(os.stat(path))]
        except (FileNotFoundError, KeyError):
            make_folder(path.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            # If this file is already open here (it just got this name), do not close the new descriptor: that would
            # drop the locks.
            return self._files.setdefault(_identity(os.fstat(descriptor)), _OpenFile(descriptor))


_open_files = _OpenFiles()


class _FileLock:
    """A lock of this process, which ends with its `with` block."""

    def __init__(self, file: _OpenFile, number: int) -> None:
        self._file = file
        self._number = number

    def __enter__(self) -> None:
        """`FileLocks.take` has locked it."""

    def __exit__(self, *_error: object) -> None:
        with _open_files.mutex:
            self._file.locked.discard(self._number)
            fcntl.lockf(self._file.descriptor, fcntl.LOCK_UN, 1, self._number)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each for this user alone. Folders that exist are left as they are."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(0o700, exist_ok=True)


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
