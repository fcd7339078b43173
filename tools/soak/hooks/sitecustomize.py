"""What the machine of the hosts lacks, and where names lead: Python imports this module in each process of the stack.

It stands in for the system, below the proxy, and does what files in the folder `SOAK_FOLDER` say (see
`machine.py`).
"""

import _thread
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, cast

FOLDER = Path(os.environ["SOAK_FOLDER"])


def _while_there_are_threads(start: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(start)
    def start_or_fail(*args: Any, **kwargs: Any) -> Any:
        if (FOLDER / f"no-threads-{os.getpid()}").exists():
            # The interpreter's own words, where the system gives it none.
            raise RuntimeError("can't start new thread")
        return start(*args, **kwargs)

    return start_or_fail


def _as_told(resolve: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    @wraps(resolve)
    def resolve_as_told(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        found = resolve(host, port, *args, **kwargs)
        try:
            told = (FOLDER / f"addresses-of-{port}").read_text().split()
        except FileNotFoundError:
            return found
        places = [place.split(":") for place in told]
        return [(*found[0][:4], (address, int(number))) for address, number in places]

    return resolve_as_told


def _say_into_pipe() -> None:
    """A host says everything into the pipe that has the name of its log file, where there is one."""
    with suppress(OSError):
        pipe = os.open(FOLDER / Path(os.readlink("/proc/self/fd/2")).name, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(pipe, stream)
        os.close(pipe)


for _name in ("start_new_thread", "start_joinable_thread"):
    # The second one is there since Python 3.13. `threading` takes both as it is imported.
    if hasattr(_thread, _name):
        _start = _while_there_are_threads(getattr(_thread, _name))
        setattr(_thread, _name, _start)
        if "threading" in sys.modules:
            setattr(sys.modules["threading"], f"_{_name}", _start)
socket.getaddrinfo = cast("Any", _as_told(socket.getaddrinfo))
_say_into_pipe()
