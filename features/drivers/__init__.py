"""What runs the proxy for the features: a driver for each `-D driver=…`."""

from collections.abc import Callable

from features.drivers.driver import Driver

STORES = {"flask": ("memory",), "asgi": ("memory",), "live": ("memory", "sqlite", "redis")}
"""The drivers, and the stores that each knows: `-D store=…`."""


def started(name: str, store: str) -> Driver:
    """The driver of that name, ready. Raises LookupError for an unknown one, with the names that there are."""
    if name not in STORES:
        raise LookupError(f"There is no driver {name}: -D driver= is one of {', '.join(STORES)}.")
    if store not in STORES[name]:
        raise LookupError(f"The driver {name} has no store {store}: -D store= is one of {', '.join(STORES[name])}.")
    return STARTS[name](store)


# Each is imported when it is needed: the live one starts gunicorn, the others stop the clock.
def _flask(_store: str) -> Driver:
    from features.drivers.flask import flask  # noqa: PLC0415  # see above

    return flask()


def _asgi(_store: str) -> Driver:
    from features.drivers.asgi import asgi  # noqa: PLC0415  # see above

    return asgi()


def _live(store: str) -> Driver:
    from features.drivers.live import Live  # noqa: PLC0415  # see above

    return Live(store)


STARTS: dict[str, Callable[[str], Driver]] = {"flask": _flask, "asgi": _asgi, "live": _live}
"""How each is started, given a store. `tools/planted_faults` puts a driver with faults here."""
