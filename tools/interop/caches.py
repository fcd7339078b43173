"""The caches, each as its users would set it up: nothing in them knows of the proxy."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.browser import chromium
from harness.processes import Process, clean_environ, free_port
from harness.stack import ask

SERVERS = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
"""Servers are often in folders that are not in the PATH of an ordinary user."""
SECONDS = 10

Ask = Callable[[str, str], Mapping[str, str]]
"""Asks for a path with a request id, and gives the headers of the answer, in small letters."""


@dataclass(frozen=True)
class Cache:
    """`needs` is a program, or a Python package. `open` starts the cache in front of a port, in a folder of its own.

    If it does not reuse an answer before its instant, it is one that asks each time and gets a 304.
    """

    name: str
    needs: str
    open: Callable[[int, Path], AbstractContextManager[Ask]]
    reuses: bool = True

    @property
    def is_there(self) -> bool:
        return bool(shutil.which(self.needs, path=SERVERS) or importlib.util.find_spec(self.needs))


@contextmanager
def _served(command: list[str], port: int, folder: Path) -> Iterator[Ask]:
    """A server of its own. The 404 for another address shows that it answers."""
    command[0] = shutil.which(command[0], path=SERVERS) or command[0]

    def ask_for(path: str, request_id: str) -> Mapping[str, str]:
        answer = ask(port, path, X_Request_ID=request_id)
        return {name.lower(): value for name, value in answer.headers}

    with Process(command, clean_environ(), folder) as server:
        server.wait_until_answers(f"http://127.0.0.1:{port}/")
        yield ask_for


def _nginx(proxy: int, folder: Path) -> AbstractContextManager[Ask]:
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"""
        daemon off; pid nginx.pid; {user}
        events {{}}
        http {{
            access_log off;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            proxy_cache_path cache keys_zone=answers:1m;
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_cache answers;
                    proxy_pass http://127.0.0.1:{proxy};
                }}
            }}
        }}""")
    return _served(["nginx", "-p", f"{folder}", "-c", "nginx.conf", "-e", "stderr"], port, folder)


def _varnish(proxy: int, folder: Path) -> AbstractContextManager[Ask]:
    port = free_port()
    words = ["-F", "-j", "none", "-n", f"{folder}/varnish", "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{proxy}"]
    return _served(["varnishd", *words, "-s", "malloc,16m"], port, folder)


def _squid(proxy: int, folder: Path) -> AbstractContextManager[Ask]:
    port = free_port()
    # Started by root, Squid becomes a user who may not write into the folder.
    folder.chmod(0o777)
    (folder / "squid.conf").write_text(f"""
http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1
cache_peer 127.0.0.1 parent {proxy} 0 no-query no-digest originserver
http_access allow all
access_log none
cache_log {folder}/cache.log
coredump_dir {folder}
pid_filename none
netdb_filename none
memory_cache_shared off
visible_hostname interop
shutdown_lifetime 0 seconds
""")
    return _served(["squid", "-N", "-f", f"{folder}/squid.conf"], port, folder)


@contextmanager
def _chromium(proxy: int, _folder: Path) -> Iterator[Ask]:
    """A page of the proxy's own site, which fetches."""
    fetch = "async ([path, id]) => Object.fromEntries((await fetch(path, {headers: {'X-Request-ID': id}})).headers)"
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(1000 * SECONDS)
        page.goto(f"http://127.0.0.1:{proxy}/")

        def ask_for(path: str, request_id: str) -> Mapping[str, str]:
            headers: dict[str, str] = page.evaluate(fetch, [path, request_id])
            return headers

        yield ask_for


@contextmanager
def _requests_cache(proxy: int, _folder: Path) -> Iterator[Ask]:
    # Only this tool needs the package.
    from requests_cache import CachedSession  # noqa: PLC0415  # see above

    with CachedSession(backend="memory", cache_control=True) as session:
        session.trust_env = False

        def ask_for(path: str, request_id: str) -> Mapping[str, str]:
            url = f"http://127.0.0.1:{proxy}{path}"
            answer = session.get(url, headers={"X-Request-ID": request_id}, timeout=SECONDS)
            return {name.lower(): value for name, value in answer.headers.items()}

        yield ask_for


CACHES = (
    Cache("nginx", "nginx", _nginx),
    Cache("Varnish", "varnishd", _varnish),
    Cache("Squid", "squid", _squid),
    Cache("Chromium", "chromium", _chromium),
    Cache("requests-cache", "requests_cache", _requests_cache, reuses=False),
)
