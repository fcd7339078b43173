"""After a fork, a child must not use its parent's connections and locks."""

import os
from collections.abc import Callable
from weakref import WeakMethod


def after_fork(forget: Callable[[], None]) -> None:
    """Call the bound method `forget` in each forked child of this process, before the child starts a thread."""
    reference = WeakMethod(forget)

    def in_child() -> None:
        method = reference()
        if method is not None:
            method()

    os.register_at_fork(after_in_child=in_child)
