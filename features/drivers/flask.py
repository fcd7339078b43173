"""`-D driver=flask`: the Flask app alone, as under a WSGI server."""

from contextlib import nullcontext

from features.drivers.in_process import InProcess


def flask() -> InProcess:
    return InProcess(lambda proxy: nullcontext(proxy.flask))
