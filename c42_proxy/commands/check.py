"""`c42-proxy healthcheck` and `c42-proxy check --online`: whether the proxy, its store and C42 do what they should."""

import http.client
import ipaddress
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TypeVar

import click

from ..caching.circuit_breaker import CircuitBreaker
from ..deadline import Deadline
from ..errors import BackingOff, InvalidAnswer, RateLimited, StoreError, TokenRefused, UpstreamError, UpstreamTimeout
from ..observability.metrics import Metrics
from ..settings import MEMORY_URL, Settings
from ..stores.contract import SharedStates, SharedStore
from ..stores.memory import MemoryStore
from ..stores.opening import SQLITE, open_shared, shared_file, store_name
from ..upstream.client import C42Client
from ..upstream.transport import new_session
from ..web.routes import PREFIX

HEALTH_SECONDS = 2.0
GRACE_SECONDS = 0.5
"""What ends by itself is waited for a little longer than it should take, and tells more when it does."""
TRACE_SECONDS = 5.0
"""What a trial could leave behind, when it is killed, is gone after this time."""
MADE_UP = "c42-proxy-check"
"""An event that C42 does not have."""
MAX_PROBLEM_BYTES = 65_536

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a trial came to, in a line that people read."""

    what: str
    works: bool
    text: str


def check_health(environ: Mapping[str, str]) -> str:
    """Ask the proxy at `C42_BIND` for an address that never reaches C42; the line that tells where it answers.

    Raises SettingsError for a wrong `C42_BIND`, the one variable that is looked at, and else ClickException.
    """
    # A token, so that none is missed, and no other address that could be in the way of this one.
    only_bind = {"C42_BIND": environ.get("C42_BIND", ""), "C42_API_TOKEN": "-", "C42_OPS_BIND": ""}
    bind = Settings.from_env(only_bind).bind
    try:
        status, content_type, body = _within(HEALTH_SECONDS, partial(_ask_for_nothing, *_reachable(bind)))
    except TimeoutError as exc:
        raise click.ClickException(f"{bind}: no answer within {HEALTH_SECONDS:g} s.") from exc
    except (OSError, ValueError) as exc:  # a ValueError is for a name that cannot be one
        raise click.ClickException(f"{bind}: no answer ({getattr(exc, 'strerror', None) or exc}).") from exc
    except http.client.HTTPException as exc:
        raise click.ClickException(f"{bind}: what answers there speaks no HTTP.") from exc
    if status != 404 or not content_type.startswith("application/problem+json") or PREFIX.encode() not in body:
        raise click.ClickException(f"{bind}: what answers there (status {status}) is no c42-proxy.")
    return f"{bind}: a worker answers."


def try_store(settings: Settings, clock: Callable[[], float]) -> Finding:
    """Read, write and lease in the store itself. What is written is removed; what is broken is not mended."""
    name = store_name(settings)
    if settings.cache_url == MEMORY_URL:
        return Finding("store", True, f"{name}: each worker has its own, nothing to try")
    file = shared_file(settings)
    try:
        if file is not None and not file.exists():
            _try_beside(file.absolute(), settings, clock)
            return Finding("store", True, f"{name}: not there yet, and can be made")
        with closing(_shared(settings, clock)) as store:
            if file is not None:
                # A corrupt file would be set aside by what follows, and the new one belong to whoever runs this.
                next(store.listed(), None)
            _try(store, name)
    except StoreError as exc:
        return Finding("store", False, str(exc))
    except OSError as exc:
        return Finding("store", False, f"{name}: cannot be made ({exc.strerror})")
    return Finding("store", True, f"{name}: can be read and written, and gives leases")


def try_c42(settings: Settings, clock: Callable[[], float], states: SharedStates) -> Finding:
    """One call, unless C42 has told all who share `states` to wait: for the subscriptions of a made-up event.

    The event itself would not do: any web server answers 404 to that, and only C42 has an empty list.
    """
    metrics = Metrics()
    with new_session(1) as session:
        c42 = C42Client(settings.api_url, settings.api_token, session=session, clock=clock, metrics=metrics)
        breaker = CircuitBreaker(states, clock=clock, threshold=0, probe_seconds=0, metrics=metrics)
        deadline = Deadline(settings.timeout)
        started = time.monotonic()
        try:
            # An open breaker does not count: it is about what was, and this is to find out what is.
            with suppress(StoreError):
                breaker.permit()
            _within(settings.timeout + GRACE_SECONDS, partial(c42.subscriptions, MADE_UP, 0, deadline))
        except BackingOff as exc:
            return Finding("C42", False, f"not asked: {exc.detail}")
        except TimeoutError:
            return Finding("C42", False, f"{settings.api_url}: {_what(UpstreamTimeout(), settings)}")
        except UpstreamError as exc:
            if isinstance(exc, RateLimited):
                with suppress(StoreError):
                    breaker.begin_back_off(exc)
            return Finding("C42", False, f"{settings.api_url}: {_what(exc, settings)}")
    milliseconds = round(1000 * (time.monotonic() - started))
    return Finding("C42", True, f"{settings.api_url}: answers within {milliseconds} ms, and accepts the token")


def try_all(settings: Settings, clock: Callable[[], float]) -> Iterator[Finding]:
    """One trial after the other, each when it is asked for."""
    store = try_store(settings, clock)
    yield store
    file = shared_file(settings)
    is_there = store.works and (file is None or file.exists())
    with closing((open_shared(settings, clock) if is_there else None) or MemoryStore(0)) as states:
        yield try_c42(settings, clock, states)


def _reachable(bind: str) -> tuple[str, int]:
    """Host and port to connect to; an address that stands for all of this machine's is its loopback one."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return host, int(port)


def _ask_for_nothing(host: str, port: int) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.status, response.headers.get("Content-Type", ""), response.read(MAX_PROBLEM_BYTES)
    finally:
        connection.close()


def _try_beside(file: Path, settings: Settings, clock: Callable[[], float]) -> None:
    """Try a file in a folder of its own, there where `file` would be made: a worker may be about to make that."""
    there = next(folder for folder in file.parents if folder.exists())
    with TemporaryDirectory(prefix=".c42-proxy-", dir=there) as folder:
        url = f"{SQLITE}{folder}/{file.name}"
        with closing(_shared(settings.model_copy(update={"cache_url": url}), clock)) as store:
            _try(store, url)


def _try(store: SharedStore, its_name: str) -> None:
    """Raises StoreError."""
    name, text = f"check-{secrets.token_hex(8)}", secrets.token_hex(8)
    store.get(name)
    store.change_state(name, lambda _before: text, TRACE_SECONDS)
    read = store.read_state(name)
    store.change_state(name, lambda _before: None, TRACE_SECONDS)
    if read != text:
        raise StoreError(f"{its_name}: what was written is not what is read")
    lease = store.lease(name)
    if lease is None:
        raise StoreError(f"{its_name}: a lease that nobody has is not given")
    with lease:
        pass


def _shared(settings: Settings, clock: Callable[[], float]) -> SharedStore:
    store = open_shared(settings, clock)
    assert store is not None  # noqa: S101  # asked for only where something is shared
    return store


def _what(error: UpstreamError, settings: Settings) -> str:
    """What went wrong, for the operator: the clients' `detail` would send them to the operator."""
    status = error.upstream_status
    if isinstance(error, TokenRefused):
        return f"refuses the token ({status})"
    if isinstance(error, RateLimited):
        return f"accepts no call for {error.retry_after} s ({status}); whether it accepts the token is not known"
    if isinstance(error, UpstreamTimeout):
        return f"no complete answer within {settings.timeout:g} s (C42_TIMEOUT)"
    if isinstance(error, InvalidAnswer):
        told = "" if status is None else f" ({status})"
        return f"what answers there does not answer as C42 does{told}: is C42_API_URL right?"
    return "cannot be reached, or breaks off" if status is None else f"is broken ({status})"


def _within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` comes to; TimeoutError where it takes longer, whatever it waits for: a name that does not resolve."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as exc:  # noqa: BLE001  # it is raised by the thread that waits
            outcome.set_exception(exc)

    Thread(target=run, name="c42-trial", daemon=True).start()
    return outcome.result(seconds)
