"""What the proxy is compared with. All give the same answer; the bare ones with the very headers of the proxy."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tools.bench.bench import Bench
from tools.bench.processes import Server, under_gunicorn

from .nginx import start_nginx

WORKER = ("--worker-class", "c42_proxy.server.worker.Worker")
GTHREAD = ("--worker-class", "gthread", "--threads", "8")

BARE_ASGI = "bare ASGI function, our worker"
NGINX = "nginx from its cache"


def bare(module: str, bench: Bench, options: Sequence[str] = WORKER) -> Server:
    """The app of a module, by default a bare ASGI function under our worker."""
    return under_gunicorn(f"{module}:app", bench.cores.server, bench.variables, options)


PEERS: Mapping[str, Callable[[Bench], Server]] = {
    BARE_ASGI: partial(bare, "bare_asgi"),
    NGINX: start_nginx,
    "empty Flask view, gthread": partial(bare, "empty_flask", options=GTHREAD),
    "c42_proxy, Flask app, gthread": lambda bench: bench.ours("--worker-class", "gthread"),
}
