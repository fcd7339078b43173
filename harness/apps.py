"""The proxy as a Flask app in this process, which leaves nothing open."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from c42_proxy.app import close_app


@contextmanager
def running(app: Flask) -> Iterator[Flask]:
    """An app of `create_app`, closed at the end."""
    try:
        yield app
    finally:
        close_app(app)
