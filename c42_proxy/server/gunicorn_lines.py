"""gunicorn's log lines."""

from typing import Any

from gunicorn.glogging import Logger


class GunicornLines(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's own lines, through our handler."""

    def setup(self, cfg: Any) -> None:
        """Leave the handlers to the root logger, unless the operator asked gunicorn for files of its own."""
        super().setup(cfg)
        if cfg.errorlog == "-":
            self.error_log.handlers.clear()
            self.error_log.propagate = True
