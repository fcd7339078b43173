"""What a scenario acts on: the proxy, C42, the time, and what happened so far."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import count
from threading import Barrier, Event
from typing import TYPE_CHECKING, Any, Protocol

from werkzeug.test import Client, TestResponse

from c42_proxy.sandbox.shapes import Person
from features.drivers.driver import START, Driver, pass_time
from features.support.fake_c42 import TOKEN, Answer, Call, FakeC42, id_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

PATH = "/events-with-subscriptions/"
PATIENCE_SECONDS = 20


class World:
    """One scenario's. It begins at `START`; nothing of it is left for the next one."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._running = ExitStack()
        self._proxy: WSGIApplication | None = None
        self._answer: TestResponse | None = None
        self._others = count(1)
        driver.set_clock(START)
        self._said_before = len(driver.output())
        self.c42 = FakeC42(lambda: driver.now)
        host = self._running.enter_context(driver.wire(self.c42.receive))
        self.settings = {"C42_API_URL": f"{host}{self.c42.path}", "C42_API_TOKEN": TOKEN}
        self.has_bug = False
        self.event_id = ""
        self._answers: list[TestResponse] = []
        self.people: list[Person] = []
        """The subscribers of an event that a scenario gives by their number."""

    def close(self) -> None:
        self._running.close()

    def output(self) -> str:
        """What the proxy has said meanwhile (see `Driver.output`)."""
        return self._driver.output()[self._said_before :]

    def request(self, event_id: str | None = None, *, address: str = PATH + "{}/", **options: Any) -> None:
        """An app asks for an event; the one that is meant by "it", where none is given."""
        self.send(address.format(event_id or self.event_id), **options)

    def send(self, address: str, method: str = "GET", **options: Any) -> None:
        """An app sends any request. The proxy starts at the first one: until then its settings may change."""
        self._answer = self.start().open(address, method=method, **options)

    def start(self) -> Client:
        """An app's view of the proxy, which is started if it was not."""
        if self._proxy is None:
            self._proxy = self._running.enter_context(self._driver.proxy(self.settings, has_bug=self.has_bug))
        return Client(self._proxy)

    def request_every(self, pause: timedelta, duration: timedelta) -> None:
        """An app asks for "it" again and again."""
        self._answers = []
        for _ in range(duration // pause):
            self.pass_time(pause)
            self.request()
            self._answers.append(self.answer)

    def request_by(self, number: int) -> None:
        """Many apps ask for "it" at the same time: C42 does not answer before all of them have asked."""
        self.start()
        asked = Barrier(number, timeout=PATIENCE_SECONDS)
        all_asked = Event()
        behaviour = self.c42.behaviours.get("event")

        def patiently(call: Call, truth: Callable[[], Answer]) -> Answer:
            all_asked.wait(PATIENCE_SECONDS)
            return behaviour(call, truth) if behaviour else truth()

        def ask(_: int) -> TestResponse:
            asked.wait()
            all_asked.set()
            return self.start().get(PATH + self.event_id + "/")

        self.c42.misbehave(patiently, "event")
        with ThreadPoolExecutor(number) as apps:
            self._answers = list(apps.map(ask, range(number)))
        self._answer = self._answers[0]

    @property
    def answer(self) -> TestResponse:
        """What the app was told last."""
        assert self._answer is not None, "nothing has been requested yet"
        return self._answer

    @property
    def answers(self) -> list[TestResponse]:
        """What the apps were told in a step with many requests."""
        assert self._answers, "nothing has been requested many times yet"
        return self._answers

    @property
    def now(self) -> datetime:
        return self._driver.now

    def pass_time(self, duration: timedelta) -> None:
        """Let time go on, or (negative) set the clock back."""
        pass_time(self._driver, duration)

    def choose(self, title: str) -> str:
        """From now on the event of that title, with somebody in it, is the one that is meant by "it"."""
        self.event_id = id_of(title) if self.c42.knows(title) else self.c42.add(title, [Person("Arthur")])
        return self.event_id

    def choose_another(self) -> str:
        """The same with an event that nobody has asked for so far."""
        return self.choose(f"Event {next(self._others)}")


class Context(Protocol):
    """What behave hands to each step, as far as our steps use it. behave itself has no types."""

    world: World
