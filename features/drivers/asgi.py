"""`-D driver=asgi`: the ASGI app, which is in front of Flask in production."""

from contextlib import closing

from c42_proxy.web.asgi import Front
from features.drivers.in_process import InProcess
from harness.as_wsgi import AsWsgi


def asgi() -> InProcess:
    return InProcess(lambda app: closing(AsWsgi(Front(app))))
