"""What a process inherits from the one that forked it: connections and locks that are not its own."""

import os
from collections.abc import Callable
from weakref import WeakMethod


def after_fork(forget: Callable[[], None]) -> None:
    """Call the bound method `forget` in each child of this process, before any other thread of it can run."""
    reference = WeakMethod(forget)

    def in_child() -> None:
        method = reference()
        if method is not None:
            method()

    os.register_at_fork(after_in_child=in_child)
