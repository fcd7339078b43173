"""What runs the proxy for the features: a driver for each `-D driver=…`."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from features.drivers.driver import Driver
from harness.processes import ROOT

STORES = {
    "flask": ("memory",),
    "asgi": ("memory",),
    "sockets": ("memory",),
    "live": ("memory", "sqlite", "redis"),
    "command": ("memory",),
    "stack": ("redis",),
}
"""The drivers, and the stores that each knows: `-D store=…`. The first one is the usual one."""


def store_of(name: str, wanted: str | None) -> str:
    """The store of the driver of that name. Raises LookupError for an unknown one, with those that there are."""
    if name not in STORES:
        raise LookupError(f"There is no driver {name}: -D driver= is one of {', '.join(STORES)}.")
    if wanted not in {None, *STORES[name]}:
        raise LookupError(f"The driver {name} has no store {wanted}: -D store= is one of {', '.join(STORES[name])}.")
    return wanted or STORES[name][0]


def lacks(name: str, store: str) -> str | None:
    """A program that the driver needs, and that is not there."""
    needs = {"sockets": ["openssl"], "command": ["cc"], "stack": ["cc", "nginx"]}.get(name, []) + ["redis-server"] * (
        store == "redis"
    )
    return next((program for program in needs if shutil.which(program) is None), None)


def started(name: str, store: str, options: Mapping[str, str]) -> Driver:
    """The driver of that name, ready; the options are all that behave was given with `-D`."""
    return STARTS[name](store, options)


# Each is imported when it is needed: some start processes, the others stop the clock.
def _flask(_store: str, _options: Mapping[str, str]) -> Driver:
    from features.drivers.flask import flask  # noqa: PLC0415  # see above

    return flask()


def _asgi(_store: str, _options: Mapping[str, str]) -> Driver:
    from features.drivers.asgi import asgi  # noqa: PLC0415  # see above

    return asgi()


def _sockets(_store: str, _options: Mapping[str, str]) -> Driver:
    from features.drivers.sockets import Sockets  # noqa: PLC0415  # see above

    return Sockets()


def _live(store: str, _options: Mapping[str, str]) -> Driver:
    from features.drivers.live import Live  # noqa: PLC0415  # see above

    return Live(store)


def _command(_store: str, options: Mapping[str, str]) -> Driver:
    from features.drivers.command import Command  # noqa: PLC0415  # see above

    if not options.get("command"):
        raise LookupError("The driver command needs a program: -D command='…'.")
    return Command(options["command"], Path(options.get("folder", ROOT)), monotonic="monotonic" in options)


def _stack(_store: str, _options: Mapping[str, str]) -> Driver:
    from features.drivers.stack import Stack  # noqa: PLC0415  # see above

    return Stack()


STARTS: dict[str, Callable[[str, Mapping[str, str]], Driver]] = {
    "flask": _flask,
    "asgi": _asgi,
    "sockets": _sockets,
    "live": _live,
    "command": _command,
    "stack": _stack,
}
"""How each is started, given a store and options. `tools/planted_faults` puts a driver with faults here."""
