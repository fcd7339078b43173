"""The only module that uses a name of prometheus_client which it does not document: `values.ValueClass`.

It is what holds the value of each metric: by default one for the process, or, where the library finds the folder in its
variable as it is imported, one in a file for each process id. We want a file for each *slot* of a worker, so that one
that is replaced is continued: else the folder would grow with each worker that ever ran.

The name is checked at the start (`can_count_together`). Without it, each worker counts for itself.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter

from ..private_names import private_or_public
from .metrics import FOLDER_VARIABLE


@cache
def can_count_together() -> bool:
    """Whether workers can count in files of one folder."""

    def private() -> bool:
        check()
        return True

    return private_or_public(
        "prometheus-client", private, public=False, lost="/metrics tells what one worker has counted, any of them."
    )


def check() -> None:
    """Make a metric with a value of our own. Raises where the library has changed. No file is made."""
    seen = []
    values = prometheus_client.values
    usual = values.ValueClass

    def value(*args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        return usual(*args, **kwargs)

    values.ValueClass = value
    try:
        Counter("c42_proxy_check", "Counted once.", registry=CollectorRegistry()).inc()
    finally:
        values.ValueClass = usual
    if not seen:
        raise LookupError("metrics have values of their own")
    _value_class(0)


def count_in(folder: Path, slot: int) -> None:
    """From here on, new metrics of this process are counted in files of this number."""
    os.environ[FOLDER_VARIABLE] = str(folder)
    prometheus_client.values.ValueClass = _value_class(slot)


def _value_class(slot: int) -> Any:
    return prometheus_client.values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]  # the library lacks it
