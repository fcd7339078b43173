"""`-D driver=asgi`: the ASGI app, which is in front of Flask in production."""

from contextlib import closing

from features.drivers.in_process import InProcess
from harness.as_wsgi import AsWsgi


def asgi() -> InProcess:
    return InProcess(lambda proxy: closing(AsWsgi(proxy.asgi)))
