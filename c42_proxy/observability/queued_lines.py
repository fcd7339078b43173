"""Log lines that no request waits for: a thread writes them; what does not fit into its queue is dropped and counted.

A pipe that nobody reads is full after 64 KiB. A thread that writes to it then blocks, and so do the requests behind it.
"""

import logging
import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread, current_thread
from typing import ClassVar, TextIO

log = logging.getLogger(__name__)

MAX_QUEUED = 4096
FLUSH_SECONDS = 1.0
"""Before it ends, a process waits at most so long for its last lines to be read."""


class QueuedLines(logging.Handler):
    """Writes to `stream`. Thread-safe. In a forked process it starts again, with an empty queue and a new thread."""

    count_dropped: ClassVar[Callable[[], None]] = staticmethod(lambda: None)
    """Called for each line that is dropped, by all handlers of a process."""

    def __init__(self, stream: TextIO, *, max_queued: int = MAX_QUEUED, owns_stream: bool = False) -> None:
        super().__init__()
        self._stream = stream
        self._owns_stream = owns_stream
        self._max_queued = max_queued
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._queue: deque[str] = deque()
        self._dropped = 0
        self._writer: Thread | None = None
        self._changed = Condition()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`, one thread at a time."""
        if self._pid != os.getpid():
            # The queue and its thread, which may have held the lock, are the parent's.
            self._begin()
        try:
            # Not in the other thread: only this one knows the request that it works for.
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001  # a bad log line must not fail the request
            line = f"a line of {record.name} cannot be written: {record.pathname}:{record.lineno}\n"
        with self._changed:
            if len(self._queue) >= self._max_queued and current_thread() is not self._writer:
                self._dropped += 1
                QueuedLines.count_dropped()
                return
            self._queue.append(line)
            self._changed.notify_all()
        if self._writer is None:
            self._writer = Thread(target=self._write, name="c42-log", daemon=True)
            try:
                self._writer.start()
            except RuntimeError:
                # If the system gives no thread, the lines wait, and the next line tries again.
                self._writer = None

    def flush(self) -> None:
        """Wait until all lines are written, FLUSH_SECONDS at most. `logging` calls this when the process exits."""
        if self._pid == os.getpid():
            with self._changed:
                self._changed.wait_for(lambda: not self._queue or self._writer is None, FLUSH_SECONDS)

    def close(self) -> None:
        """End the thread when all lines are written, and close a stream of its own. Else it ends with the process."""
        self.flush()
        if self._pid == os.getpid():
            with self._changed:
                if not self._queue:
                    self._writer = None
                    self._changed.notify_all()
                    if self._owns_stream:
                        self._stream.close()
        super().close()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._queue) > 0 or self._writer is not current_thread())
                if self._writer is not current_thread():
                    return
                line = self._queue[0]
            self._write_line(line)
            with self._changed:
                dropped, self._dropped = (0, self._dropped) if len(self._queue) > 1 else (self._dropped, 0)
            if dropped:
                # Before this line leaves the queue: `flush` waits for an empty queue, so it waits for the warning, too.
                log.warning("log lines were dropped, because nobody read them", extra={"lines": dropped})
            with self._changed:
                self._queue.popleft()
                self._changed.notify_all()

    def _write_line(self, line: str) -> None:
        """Write one line at a time, so that lines of several processes do not mix."""
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError):
            # An object that is no real file.
            with suppress(ValueError):
                self._stream.write(line)
                self._stream.flush()
            return
        # Not through the stream: it holds a lock while it writes, and the exit of the process would wait for that lock.
        unwritten = line.encode(errors="backslashreplace")
        while unwritten:
            try:
                unwritten = unwritten[os.write(descriptor, unwritten) :]
            except BlockingIOError:
                select.select([], [descriptor], [])
            except OSError:
                return
