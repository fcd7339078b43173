"""`-D driver=sockets`: the ASGI app in this process, C42 at a port of this machine, and real time.

What `asgi` mocks is real here: connections, time-outs and waiting. The clock that tells the proxy how old an answer is
stands still, until the scenario moves it.
"""

from datetime import datetime
from typing import ClassVar

from features.drivers.asgi import served
from features.drivers.driver import BUDGET_SECONDS, START, RealTime
from features.drivers.in_process import InProcess


class Sockets(RealTime, InProcess):
    """The proxy in this process, with a clock of its own."""

    usual: ClassVar = {**InProcess.usual, "C42_TIMEOUT": str(BUDGET_SECONDS)}
    now = START

    def __init__(self) -> None:
        super().__init__(served)

    def set_clock(self, now: datetime) -> None:
        self.now = now
