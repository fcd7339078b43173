"""The only module that uses a name of a2wsgi that its documentation does not have: `executor`.

It is checked at the start. Without it, a2wsgi's own threads run the Flask app.
"""

from concurrent.futures import Executor
from functools import cache

from a2wsgi import WSGIMiddleware
from flask import Flask

from ..private_names import private_or_public
from ..threads import Threads


def middleware(app: Flask, threads: Threads, limit: int) -> WSGIMiddleware:
    """A WSGI app as an ASGI app that runs in `threads`, or else in at most `limit` threads of a2wsgi."""
    made = WSGIMiddleware(app, workers=limit)  # type: ignore[arg-type]  # Flask is a WSGI app
    if takes_our_threads():
        made.executor = threads  # type: ignore[assignment]  # it may be any Executor
    return made


@cache
def takes_our_threads() -> bool:
    """Whether a2wsgi can be given other threads than its own."""

    def private() -> bool:
        check()
        return True

    return private_or_public(
        "a2wsgi",
        private,
        public=False,
        lost="while the system gives no thread, a request that is refused or redirected gets a 500.",
    )


def check() -> None:
    """Raises if a2wsgi has changed."""
    if not isinstance(WSGIMiddleware(Flask("c42_proxy")).executor, Executor):  # type: ignore[arg-type]  # as above
        raise LookupError("it has another executor")
    if "executor" not in WSGIMiddleware.__call__.__code__.co_names:
        raise LookupError("it does not use its executor")
