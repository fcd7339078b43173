"""gunicorn's log lines."""

import logging
from typing import Any

from gunicorn.glogging import Logger

from ..observability.queued_lines import QueuedLines


class GunicornLines(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's own lines, through our handler."""

    def setup(self, cfg: Any) -> None:
        """Leave the handlers to the root logger, unless the operator asked gunicorn for files of its own.

        The access log, where the operator asked for it on standard output, keeps its format.
        """
        super().setup(cfg)
        if cfg.errorlog == "-":
            self.error_log.handlers.clear()
            self.error_log.propagate = True
        for handler in self.access_log.handlers[:]:
            if type(handler) is logging.StreamHandler:
                queued = QueuedLines(handler.stream)
                queued.setFormatter(handler.formatter)
                self.access_log.removeHandler(handler)
                self.access_log.addHandler(queued)
