"""`c42-proxy check --online`: whether C42_BIND, C42_OPS_BIND, the store and C42 work."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from urllib.parse import urlsplit

import click

from ..address import Address
from ..caching.circuit_breaker import CircuitBreaker
from ..deadline import Deadline
from ..errors import (
    Cause,
    InvalidAnswer,
    NotAsked,
    RateLimited,
    StoreError,
    TokenRefused,
    UpstreamError,
    UpstreamTimeout,
)
from ..observability.metrics import Metrics
from ..setting_values import MEMORY_URL, SQLITE
from ..settings import Settings
from ..stores.contract import SharedStates, SharedStore
from ..stores.memory import MemoryStore
from ..stores.opening import failing_sentinels, open_shared, shared_file, store_name
from ..threads import result_within
from ..upstream.causes import timeout_at
from ..upstream.client import C42Client
from ..upstream.transport import new_session

GRACE_SECONDS = 0.5
"""The client of C42 ends at its own deadline, and then knows more about the failure, so it gets a moment longer."""
TRACE_SECONDS = 5.0
"""If a check is killed, the text that it leaves is not read any more after this time; the next erasure removes it."""
PROXY_VARIABLES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
MADE_UP = "c42-proxy-check"
"""An event that C42 does not have."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check, for a line of output."""

    what: str
    works: bool
    text: str
    needed: bool = True
    """Whether the proxy is of no use without it."""

    @property
    def verdict(self) -> Literal["works", "FAILS", "warns"]:
        return "works" if self.works else "FAILS" if self.needed else "warns"


def check_store(settings: Settings, clock: Callable[[], float]) -> CheckResult:
    """Read and write the store, and take a lease in it. Removes the text that it wrote, and repairs nothing."""
    name = store_name(settings)
    if settings.cache_url == MEMORY_URL:
        return CheckResult("store", True, f"{name}: each worker has its own, nothing to try")
    file = shared_file(settings)
    try:
        if file is not None and not file.exists():
            _check_other_file(file.absolute(), settings, clock)
            return CheckResult("store", True, f"{name}: not there yet, and can be made")
        with closing(_shared(settings, clock)) as store:
            # `_check` would set a corrupt file aside, and this user would own the new one.
            store.try_all()
            _check(store, name)
    except StoreError as exc:
        return CheckResult("store", False, str(exc))
    except OSError as exc:
        return CheckResult("store", False, f"{name}: cannot be made ({exc.strerror})")
    return CheckResult("store", True, f"{name}: can be read and written, and gives leases")


def check_c42(settings: Settings, clock: Callable[[], float], states: SharedStates) -> CheckResult:
    """One call to C42, for the subscriptions of a made-up event; none while there is a back-off in `states`.

    A call for the event itself would prove nothing: any web server answers 404 to that. Only C42 has an empty list.
    """
    metrics = Metrics()
    with new_session(1, ca_file=settings.ca_file, proxy_url=settings.proxy_url) as session:
        c42 = C42Client(settings.api_url, settings.api_token, session=session, clock=clock, metrics=metrics)
        breaker = CircuitBreaker(states, clock=clock, threshold=0, probe_seconds=0, metrics=metrics)
        deadline = Deadline(settings.timeout)
        started = time.monotonic()
        try:
            # Threshold 0: an open breaker does not matter, because this finds out how C42 is now.
            with suppress(StoreError):
                breaker.allow_fetch(breaker.read())
            result_within(settings.timeout + GRACE_SECONDS, c42.subscriptions, MADE_UP, 0, deadline)
        except NotAsked as exc:
            return CheckResult("C42", False, f"not asked: {exc.detail}")
        except TimeoutError:
            return CheckResult("C42", False, f"{settings.api_url}: {_what(timeout_at(deadline), settings)}")
        except UpstreamError as exc:
            if isinstance(exc, RateLimited):
                with suppress(StoreError):
                    breaker.begin_back_off(exc)
            return CheckResult("C42", False, f"{settings.api_url}: {_what(exc, settings)}")
    milliseconds = round(1000 * (time.monotonic() - started))
    return CheckResult("C42", True, f"{settings.api_url}: answers within {milliseconds} ms, and accepts the token")


def ignored_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable in which other programs look for an HTTP proxy. The value may hold a password,
    so the sentence has only the name.
    """
    return [
        f"{name} is set, and is ignored: only C42_PROXY_URL names an HTTP proxy on the way to C42."
        for name in sorted(environ)
        if name.upper() in PROXY_VARIABLES and environ[name]
    ]


def check_bind(bind: str, health: Callable[[], str]) -> CheckResult:
    """Listen there for a moment. Where that cannot be, `health` tells whether the proxy itself runs, or raises."""
    try:
        Address.parsed(bind).listener().close()
    except OSError as exc:
        with suppress(click.ClickException):
            return CheckResult("C42_BIND", True, health().removesuffix("."))
        return CheckResult("C42_BIND", False, f"{bind}: cannot listen ({exc.strerror})")
    return CheckResult("C42_BIND", True, f"{bind}: is free")


def check_ops_bind(ops_bind: str, health: Callable[[], str]) -> CheckResult:
    """The same for the ops port, which says nothing of whose it is: `health` asks at the public port."""
    try:
        Address.parsed(ops_bind).listener().close()
    except OSError as exc:
        with suppress(click.ClickException):
            health()
            return CheckResult("C42_OPS_BIND", True, f"{ops_bind}: is taken, as it is while the proxy runs")
        return CheckResult("C42_OPS_BIND", False, f"{ops_bind}: cannot listen ({exc.strerror})")
    return CheckResult("C42_OPS_BIND", True, f"{ops_bind}: is free")


def check_online(settings: Settings, clock: Callable[[], float], health: Callable[[], str]) -> Iterator[CheckResult]:
    """Check C42_BIND, C42_OPS_BIND, the store, then C42. Each check is made when its result is asked for."""
    yield check_bind(settings.bind, health)
    if settings.ops_bind is not None:
        yield check_ops_bind(settings.ops_bind, health)
    store = check_store(settings, clock)
    yield store
    for line in failing_sentinels(settings) if store.works else ():
        yield CheckResult("store", False, line, needed=False)
    file = shared_file(settings)
    is_there = store.works and (file is None or file.exists())
    with closing((open_shared(settings, clock) if is_there else None) or MemoryStore(0)) as states:
        yield check_c42(settings, clock, states)


def _check_other_file(file: Path, settings: Settings, clock: Callable[[], float]) -> None:
    """Try another file, in a folder next to it: a worker may be about to make the real one."""
    there = next(folder for folder in file.parents if folder.exists())
    with TemporaryDirectory(prefix=".c42-proxy-", dir=there) as folder:
        url = f"{SQLITE}{folder}/{file.name}"
        with closing(_shared(settings.model_copy(update={"cache_url": url}), clock)) as store:
            _check(store, url)


def _check(store: SharedStore, its_name: str) -> None:
    name, text = f"check-{secrets.token_hex(8)}", secrets.token_hex(8)
    store.get(name)
    store.change_state(name, lambda _before: text, TRACE_SECONDS)
    read = store.read_state(name)
    store.change_state(name, lambda _before: None, TRACE_SECONDS)
    if read != text:
        raise StoreError(f"{its_name}: a text that was written is not read back")
    lease = store.lease(name)
    if lease is None:
        raise StoreError(f"{its_name}: it refuses a lease that nobody has")
    with lease:
        pass


def _shared(settings: Settings, clock: Callable[[], float]) -> SharedStore:
    store = open_shared(settings, clock)
    assert store is not None  # noqa: S101  # called only if something is shared
    return store


def _what(error: UpstreamError, settings: Settings) -> str:
    """The failure in words for the operator. (The `detail` for clients would refer them to the operator.)"""
    cause = error.cause
    if isinstance(error, TokenRefused):
        return f"refuses the token ({cause})"
    if isinstance(error, RateLimited):
        return f"accepts no call for {error.retry_after} s ({cause}); whether it accepts the token is not known"
    if isinstance(error, UpstreamTimeout):
        return f"{cause}, no complete answer within {settings.timeout:g} s (C42_TIMEOUT){_hint(cause, settings)}"
    if isinstance(error, InvalidAnswer):
        return f"the answer is not C42's ({cause}): is C42_API_URL right?"
    return f"{cause}{_hint(cause, settings)}"


def _hint(cause: str, settings: Settings) -> str:
    """What to look at, if the cause is on the way to C42."""
    if cause == Cause.NOT_TRUSTED:
        return ": is its authority in C42_CA_FILE?"
    proxys = cause.removeprefix(Cause.at_proxy(""))
    if proxys == cause or settings.proxy_url is None:
        return ""
    where = f"{urlsplit(settings.proxy_url).netloc.rpartition('@')[2]} (C42_PROXY_URL)"
    if proxys in {Cause.status(401), Cause.status(407)}:
        return f": {where} wants another user and password"
    if proxys == Cause.status(403):
        return f": {where} forbids CONNECT to the host or the port of C42"
    return f": {where} cannot reach C42" if proxys.startswith("status 5") else f": is {where} right?"
