"""gunicorn's log lines."""

import logging
from typing import Any

from gunicorn.glogging import Logger

from ..observability.queued_lines import QueuedLines


class GunicornLines(Logger):  # type: ignore[misc]  # gunicorn ships no types
    def setup(self, cfg: Any) -> None:
        """Use the root logger's handlers, unless the operator has asked gunicorn for log files.

        An access log on standard output keeps its format.
        """
        for handler in self.access_log.handlers[:]:
            # At a SIGHUP, gunicorn removes only the handlers that it has made.
            if isinstance(handler, QueuedLines):
                self.access_log.removeHandler(handler)
                handler.close()
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
