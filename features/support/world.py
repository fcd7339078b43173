"""What a scenario acts on: the proxy, driven in this process, with C42 on a mocked wire and a clock that jumps."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Barrier, Event
from typing import TYPE_CHECKING, Any

from flask import Flask
from freezegun.api import FrozenDateTimeFactory
from werkzeug.test import Client, TestResponse

from c42_proxy import create_app
from c42_proxy.front import Front
from c42_proxy.sandbox.events import Person
from c42_proxy.settings import Settings

from .asgi import AsWsgi
from .fake_c42 import TOKEN, Answer, Call, FakeC42, id_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

START = datetime(2016, 10, 21, 15, 0, 0, tzinfo=UTC)
PATH = "/events-with-subscriptions/"
PATIENCE_SECONDS = 5


DRIVERS: "dict[str, Callable[[Flask], WSGIApplication]]" = {
    "flask": lambda app: app,
    "front": lambda app: AsWsgi(Front(app)),
}
"""How a request reaches the app: as under a WSGI server, or through the ASGI front."""


class World:
    """The proxy, C42, the time, and what happened so far in one scenario."""

    def __init__(self, clock: FrozenDateTimeFactory, driver: str) -> None:
        self.c42 = FakeC42()
        self.settings: dict[str, str] = {
            "C42_API_URL": self.c42.url,
            "C42_API_TOKEN": TOKEN,
            "C42_CACHE_URL": "memory://",
        }
        self.collaborators: dict[str, Any] = {}
        self.event_id = ""
        self._answer: TestResponse | None = None
        self._clock = clock
        self._serve = DRIVERS[driver]
        self._proxy: WSGIApplication | None = None
        self._others = count(1)

    def close(self) -> None:
        self.c42.close()
        if isinstance(self._proxy, AsWsgi):
            self._proxy.close()

    def request(self, event_id: str | None = None, *, address: str = PATH + "{}/", **options: Any) -> None:
        """An app asks for an event; the one that is meant by "it", where none is given."""
        self.send(address.format(event_id or self.event_id), **options)

    def send(self, address: str, method: str = "GET", **options: Any) -> None:
        """An app sends any request. The proxy starts at the first one: until then its settings may change."""
        self._answer = self.start().open(address, method=method, **options)

    def start(self) -> Client:
        """An app's view of the proxy, which is started if it was not."""
        if self._proxy is None:
            self._proxy = self._serve(create_app(Settings.from_env(self.settings), **self.collaborators))
        return Client(self._proxy)

    def request_by(self, number: int) -> list[TestResponse]:
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
            answers = list(apps.map(ask, range(number)))
        self._answer = answers[0]
        return answers

    @property
    def answer(self) -> TestResponse:
        """What the app was told last."""
        assert self._answer is not None, "nothing has been requested yet"
        return self._answer

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def pass_time(self, duration: timedelta) -> None:
        """Let time go on, or (negative) set the clock back."""
        self._clock.tick(duration)

    def choose(self, title: str) -> str:
        """From now on the event of that title, with somebody in it, is the one that is meant by "it"."""
        self.event_id = id_of(title) if self.c42.knows(title) else self.c42.add(title, [Person("Arthur")])
        return self.event_id

    def choose_another(self) -> str:
        """The same with an event that nobody has asked for so far."""
        return self.choose(f"Event {next(self._others)}")
