"""gunicorn's log lines."""

import logging
import os
import stat
from typing import Any, TextIO

from gunicorn.glogging import Logger

from ..observability.queued_lines import QueuedLines


class GunicornLines(Logger):  # type: ignore[misc]  # gunicorn ships no types
    def setup(self, cfg: Any) -> None:
        """Use the root logger's handlers, unless the operator has asked gunicorn for log files.

        An access log on standard output keeps its format. Only a regular file is written by the thread that logs: a
        pipe or a terminal, which `/dev/stdout` may be, can be one that nobody reads.
        """
        for logger in (self.error_log, self.access_log):
            for handler in logger.handlers[:]:
                # At a SIGHUP, gunicorn removes only the handlers that it has made.
                if isinstance(handler, QueuedLines):
                    logger.removeHandler(handler)
                    handler.close()
        super().setup(cfg)
        if cfg.errorlog == "-":
            self.error_log.handlers.clear()
            self.error_log.propagate = True
        for logger in (self.error_log, self.access_log):
            for handler in logger.handlers[:]:
                if isinstance(handler, logging.StreamHandler) and not _is_regular_file(handler.stream):
                    queued = QueuedLines(handler.stream, owns_stream=isinstance(handler, logging.FileHandler))
                    queued.setLevel(handler.level)
                    queued.setFormatter(handler.formatter)
                    queued.filters = handler.filters
                    logger.removeHandler(handler)
                    logger.addHandler(queued)


def _is_regular_file(stream: TextIO | None) -> bool:
    try:
        # None: the operator's own configuration lets it open its file later.
        return stream is None or stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # an object that is no real file
        return False
