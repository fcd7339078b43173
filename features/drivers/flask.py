"""`-D driver=flask`: the Flask app alone, as under a WSGI server."""

from contextlib import nullcontext

from flask import Flask

from c42_proxy.app import Proxy
from features.drivers.in_process import Mocked


def flask() -> Mocked:
    return Mocked(served)


def served(proxy: Proxy) -> nullcontext[Flask]:
    return nullcontext(proxy.flask)
