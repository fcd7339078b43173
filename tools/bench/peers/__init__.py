"""What the proxy is compared with. All give the same answer; the bare ones with the very headers of the proxy."""

from collections.abc import Callable, Mapping

from tools.bench.bench import Bench
from tools.bench.processes import Gunicorn, Server

from .nginx import start_nginx

WORKER = ("--worker-class", "c42_proxy.server.worker.Worker")
ASGI = ("--worker-class", "asgi", "--asgi-loop", "uvloop", "--asgi-lifespan", "off", "--http-parser", "fast")
UVICORN = ("--worker-class", "uvicorn_worker.UvicornWorker")
GTHREAD = ("--worker-class", "gthread", "--threads", "8")
GEVENT = ("--worker-class", "gevent")

OURS = "c42_proxy"
OURS_GTHREAD = "c42_proxy, Flask app, gthread"
BARE_ASGI = "bare ASGI function, our worker"
BARE_ASGI_GUNICORN = "bare ASGI function, gunicorn's asgi worker"
BARE_WSGI = "bare WSGI function, gthread"
BARE_WSGI_GEVENT = "bare WSGI function, gevent"
EMPTY_FLASK = "empty Flask view, gthread"
EMPTY_FLASK_GEVENT = "empty Flask view, gevent"
TEXTBOOK = "textbook: Flask-Caching, requests, gthread"
FASTAPI = "FastAPI, httpx, aiocache"
NGINX = "nginx from its cache"

_MODULE = "tools.bench.peers"


def _under_gunicorn(module: str, options: tuple[str, ...]) -> Callable[[Bench], Server]:
    peer = Gunicorn(f"{_MODULE}.{module}:app", options)
    return lambda bench: peer.start(str(bench.cores.server), bench.variables)


PEERS: Mapping[str, Callable[[Bench], Server]] = {
    OURS: Bench.ours,
    BARE_ASGI: _under_gunicorn("bare_asgi", WORKER),
    BARE_ASGI_GUNICORN: _under_gunicorn("bare_asgi", ASGI),
    NGINX: start_nginx,
    BARE_WSGI: _under_gunicorn("bare_wsgi", GTHREAD),
    BARE_WSGI_GEVENT: _under_gunicorn("bare_wsgi", GEVENT),
    EMPTY_FLASK: _under_gunicorn("empty_flask", GTHREAD),
    EMPTY_FLASK_GEVENT: _under_gunicorn("empty_flask", GEVENT),
    OURS_GTHREAD: lambda bench: bench.ours("--worker-class", "gthread"),
    TEXTBOOK: _under_gunicorn("textbook", GTHREAD),
    FASTAPI: _under_gunicorn("fastapi_httpx", UVICORN),
}
