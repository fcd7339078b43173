"""What a driver is: it runs the proxy of each scenario, in this process or for real."""

import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from features.drivers import wires

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

START = datetime(2016, 10, 21, 15, 0, 0, tzinfo=UTC)
"""When each scenario begins, or the first one."""
TIME_ZONE = "Europe/Amsterdam"
"""Where the proxy runs."""

BUDGET_SECONDS = 2.0
"""The budget in real seconds if C42 is silent: long enough for a busy machine, short enough to wait for."""
USUAL_BUDGET_SECONDS = 4.0
"""The budget if the scenario sets none. The scenario is told how long apps wait as if the budget were this one."""
SLACK_SECONDS = 1.0


class Driver(Protocol):
    """Runs the proxy for one scenario after the other. `store` is what the processes of the proxy share."""

    store: str
    slack: float
    """Seconds by which apps may wait for longer than they have to, because the machine may be busy."""

    @property
    def now(self) -> datetime: ...

    def begin(self) -> None:
        """A scenario begins, at `START`; or later, where the processes of the proxy have seen other scenarios."""
        ...

    def set_clock(self, now: datetime) -> None:
        """Let time jump, for the proxy, for C42 and for the scenario."""
        ...

    @property
    def waited(self) -> float:
        """Seconds on the clock by which apps wait. It goes on while C42 is silent; it is no time of the day."""
        ...

    def wire(self, receive: wires.Receive) -> AbstractContextManager[str]:
        """Let the proxy reach C42; gives the address of its host."""
        ...

    def proxy(self, settings: dict[str, str], *, has_bug: bool) -> "AbstractContextManager[WSGIApplication]":
        """The proxy as an app sees it, with these settings."""
        ...

    def in_one_place(self, settings: dict[str, str], folder: Path) -> dict[str, str]:
        """The settings of proxies that remember answers in one place: in a file, if the driver has no other place."""
        return {**settings, "C42_CACHE_URL": f"sqlite:///{folder}/answers.sqlite3"}

    def shown(self, proxy: "WSGIApplication", path: str) -> str:
        """What this proxy shows its operator at the operators' port."""
        raise AssertionError(f"{proxy} runs in another process: its operators' port is not asked for {path}")

    def output(self) -> str:
        """The end of what the proxy has printed since the scenario began, if it runs in other processes."""
        ...

    def close(self) -> None:
        """End all that runs."""
        ...


class RealTime(Driver):
    """C42 is at a port, and apps wait in real time. The scenario counts it as if the budget were the usual one."""

    slack = SLACK_SECONDS * USUAL_BUDGET_SECONDS / BUDGET_SECONDS

    @property
    def waited(self) -> float:
        return time.monotonic() * USUAL_BUDGET_SECONDS / BUDGET_SECONDS

    def wire(self, receive: wires.Receive) -> AbstractContextManager[str]:
        return wires.over_sockets(receive)


def broken_clock() -> float:
    """A bug of the proxy, wherever it looks at the time."""
    raise ZeroDivisionError("an inner detail")


def pass_time(driver: Driver, duration: timedelta) -> None:
    """Let time go on, or (negative) set the clock back."""
    driver.set_clock(driver.now + duration)
