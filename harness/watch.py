"""Notes what goes wrong outside of tests and would otherwise only be printed: warnings, and errors in threads."""

import gc
import sys
import threading
import traceback
import warnings
from typing import Any


class Watch:
    """From now on a warning in this process is an error; one that cannot be raised to a caller is noted."""

    def __init__(self) -> None:
        self._noted: list[str] = []
        warnings.simplefilter("error")
        sys.unraisablehook = self._unraisable
        threading.excepthook = self._in_thread

    def taken(self) -> list[str]:
        """What was noted since it was taken last."""
        # What nobody closed warns when it is collected.
        gc.collect()
        noted, self._noted = self._noted, []
        return noted

    def _unraisable(self, found: Any) -> None:
        error = "".join(traceback.format_exception(found.exc_value))
        self._noted.append(f"{found.err_msg or 'Exception ignored in'}: {found.object!r}\n{error}")

    def _in_thread(self, found: Any) -> None:
        error = "".join(traceback.format_exception(found.exc_value))
        self._noted.append(f"thread {found.thread.name if found.thread else '?'}:\n{error}")
