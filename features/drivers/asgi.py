"""`-D driver=asgi`: the ASGI app, which is in front of Flask in production."""

from contextlib import closing

from c42_proxy.app import Proxy
from features.drivers.in_process import Mocked
from harness.as_wsgi import AsWsgi


def asgi() -> Mocked:
    return Mocked(served)


def served(proxy: Proxy) -> "closing[AsWsgi]":
    return closing(AsWsgi(proxy.asgi))
