"""`-D driver=flask`: the Flask app alone, as under a WSGI server."""

from contextlib import nullcontext

from flask import Flask

from c42_proxy.app import Proxy
from features.drivers.in_process import InProcess


def flask() -> InProcess:
    return InProcess(served)


def served(proxy: Proxy) -> nullcontext[Flask]:
    return nullcontext(proxy.flask)
