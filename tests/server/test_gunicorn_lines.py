"""gunicorn's lines in the log: as ours, and at a level of their own."""

import logging
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from c42_proxy.observability.logs import MASK
from c42_proxy.observability.queued_lines import QueuedLines
from c42_proxy.server.gunicorn_lines import GunicornLines
from tests.observability.test_logs import TOKEN, LogsTest


class GunicornTest(LogsTest):
    def gunicorn(self, **options: str) -> GunicornLines:
        from gunicorn.config import Config  # noqa: PLC0415  # as in the command line: it takes a while

        config = Config()
        for name, value in options.items():
            config.set(name, value)
        loggers = [logging.getLogger(name) for name in ("gunicorn.error", "gunicorn.access")]
        states = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]

        def restore() -> None:
            for logger, handlers, level, propagate in states:
                logger.handlers[:] = handlers
                logger.setLevel(level)
                logger.propagate = propagate

        self.addCleanup(restore)
        with redirect_stderr(self.stderr):
            return GunicornLines(config)

    def test_same_format(self) -> None:
        """gunicorn's lines look like ours, and come once."""
        self.configure("json")
        self.gunicorn().info("Listening at: %s", TOKEN)
        (line,) = self.objects
        self.assertEqual((line["event"], line["logger"]), (f"Listening at: {MASK}", "gunicorn.error"))

    def test_traceback(self) -> None:
        """An exception in gunicorn is one object, too."""
        self.configure("json")
        lines = self.gunicorn()
        try:
            raise LookupError(TOKEN)
        except LookupError:
            lines.exception("Error handling request")
        (line,) = self.objects
        self.assertIn(f"LookupError: {MASK}", line["exception"])

    def test_set_up_again(self) -> None:
        """After a reload, an access log on standard output has each line once, too."""
        self.configure("text")
        # One that is no regular file, wherever this runs.
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.enterContext(redirect_stdout(self.enterContext(open(writing, "w"))))
        lines = self.gunicorn(accesslog="-")
        self.addCleanup(lambda: [handler.close() for handler in lines.access_log.handlers])
        with redirect_stderr(self.stderr):
            lines.setup(lines.cfg)
        self.assertEqual(["QueuedLines"], [type(handler).__name__ for handler in lines.access_log.handlers])

    def test_log_files(self) -> None:
        """Only regular files are written by the thread that logs: a pipe, named in any way, may be one nobody reads."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        os.mkfifo(folder / "pipe")
        self.addCleanup(os.close, os.open(folder / "pipe", os.O_RDWR))
        self.configure("text")
        for name, kind in (("file", logging.FileHandler), ("pipe", QueuedLines)):
            file = f"{folder}/{name}"
            lines = self.gunicorn(errorlog=file, accesslog=file)
            handlers = [*lines.error_log.handlers, *lines.access_log.handlers]
            self.assertEqual([kind, kind], [type(handler) for handler in handlers])
            for handler in handlers:
                handler.close()

    def test_its_own_level(self) -> None:
        """gunicorn's own level, which its command line may set, holds for its lines alone."""
        self.configure("json")
        lines = self.gunicorn(loglevel="error")
        lines.warning("not this")
        lines.error("but this")
        logging.getLogger("c42_proxy").info("and ours")
        self.assertEqual([line["event"] for line in self.objects], ["but this", "and ours"])
