"""What a scenario acts on: the proxy, C42, the time, and what happened so far."""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier, Event, Semaphore
from typing import TYPE_CHECKING, Any, Protocol, cast

from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from werkzeug.test import Client, TestResponse

from c42_proxy.sandbox.shapes import Person
from c42_proxy.settings import Settings
from c42_proxy.stores.opening import open_shared
from features.drivers.driver import Driver, pass_time
from features.drivers.wires import behaviour
from features.support.expectations import expect, expect_same, lasting
from features.support.fake_c42 import TOKEN, Behaviour, Call, FakeC42, answers
from features.support.network import Way

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

PATH = "/events-with-subscriptions/"
PATIENCE_SECONDS = 20
POLL_SECONDS = 0.05
WAITING_SECONDS = 1.0
"""Long enough for a busy machine to pass a request on."""


class World:
    """The world of one scenario. Nothing of it is left for the next scenario."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._running = ExitStack()
        self._ways = self._running.enter_context(ExitStack())
        """Each ends after the proxies that go it: what they leave hanging there shows."""
        self._proxies_running = self._running.enter_context(ExitStack())
        self.proxies = 0
        """How many have been started."""
        self._first_proxy: WSGIApplication | None = None
        self._proxy: WSGIApplication | None = None
        self._answer: TestResponse | None = None
        self._others: deque[str] = deque()
        self._places = count(1)
        driver.begin()
        self.c42 = FakeC42(lambda: driver.now)
        host = self._running.enter_context(driver.wire(self.c42.receive))
        self._settings = {"C42_API_URL": f"{host}{self.c42.path}", "C42_API_TOKEN": TOKEN}
        self._has_bug = False
        self._event_id: str | None = None
        self._announced = ""
        self._answers: list[TestResponse] = []
        self._is_answered = Event()
        self._waited = 0.0
        self._folder: Path | None = None
        self._held: list[tuple[Future[Behaviour], list[Future[TestResponse]]]] = []
        """What C42 will do for requests that it holds, and what they are answered."""

    def close(self) -> None:
        self._running.close()

    def output(self) -> str:
        """What the proxy has said meanwhile (see `Driver.output`)."""
        return self._driver.output()

    def degraded(self) -> list[str]:
        """What the proxy shows its operator: a word for each thing that is wrong at the moment."""
        return list(json.loads(self._shown("/readyz"))["degraded"])

    def figure(self, name: str, **labels: str) -> float:
        """What the proxy counts, or shows as a number."""
        samples = [
            each for family in text_string_to_metric_families(self._shown("/metrics")) for each in family.samples
        ]
        values = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
        assert values, f"the proxy shows no {name}"
        return sum(values)

    def _shown(self, path: str) -> str:
        assert self._proxy is not None, "no proxy has been started"
        return self._driver.shown(self._proxy, path)

    def request(self, **options: Any) -> None:
        """An app asks for the event that is meant by "it"."""
        self.send(PATH + self.event_id + "/", **options)

    def set_up(self, *, bug: bool = False, **settings: str) -> None:
        """Change a setting of the proxy, which must not run yet."""
        assert self._proxy is None, "the proxy runs already: its settings no longer change anything"
        self._settings.update(settings)
        self._has_bug |= bug

    def go(self, way: Way) -> None:
        """The proxy, which must not run yet, comes to C42 by this way."""
        self.set_up()
        self._settings |= self._ways.enter_context(way(behaviour(self.c42.receive), self.c42.path))

    def expect_budget(self, budget: timedelta) -> None:
        """Set how much time the proxy gives C42 for an answer."""
        expect_same(
            f"{budget.total_seconds()} s for C42", f"{self._settings.get('C42_TIMEOUT', 'the usual')} s for C42"
        )

    def send(self, address: str, method: str = "GET", **options: Any) -> None:
        """An app sends any request. The proxy starts at the first one."""
        client, began = self.start(), self._driver.waited
        self._is_answered.clear()
        self._answer = client.open(address, method=method, **options)
        self._waited = self._driver.waited - began
        self._is_answered.set()

    def start(self) -> Client:
        """An app's view of the proxy, which is started if it was not."""
        if self._proxy is None:
            self.start_another()
        assert self._proxy is not None
        return Client(self._proxy)

    def start_another(self) -> None:
        """From now on another proxy answers, which is set up in the same way."""
        self._proxy = self._proxies_running.enter_context(self._driver.proxy(self._settings, has_bug=self._has_bug))
        self._first_proxy = self._first_proxy or self._proxy
        self.proxies += 1

    def go_back_to_first(self) -> None:
        """From now on the proxy answers again that was started first. It must still run."""
        self._proxy = self._first_proxy

    def restart(self) -> None:
        """The proxy ends, and another one answers."""
        self._proxies_running.close()
        self._first_proxy = None
        self.start_another()

    def let_another_proxy_hang(self) -> None:
        """Another proxy with the same settings has the lease of "it", and never gives it back."""
        store = open_shared(Settings.from_env(self._settings), time.time)
        assert store is not None, "the proxies share nothing"
        self._running.enter_context(closing(store))
        lease = store.lease(self.event_id)
        assert lease is not None, "somebody else has the lease"
        self._running.enter_context(lease)

    def remember_in_one_place(self) -> None:
        """The proxies of this scenario share what they remember."""
        self._folder = Path(self._running.enter_context(TemporaryDirectory()))
        self._settings = self._driver.in_one_place(self._settings, self._folder)

    def can_be_read_there(self, name: str) -> bool:
        """Whether the name stands anywhere in what the proxies have put in that place."""
        assert self._folder is not None, "the proxies remember answers in no such place"
        held = [file.read_bytes() for file in self._folder.iterdir()]
        if (url := self._settings["C42_CACHE_URL"]).startswith("redis:"):
            with closing(Redis.from_url(url)) as redis:
                held = [cast("bytes", redis.dump(key)) or b"" for key in redis.scan_iter()]  # redis-py's types differ
        return any(name.encode() in bytes_held for bytes_held in held)

    def is_soon_there(self, name: str, *, wanted: bool = True) -> bool:
        """Whether the name stands there (or no longer does), now or soon: an answer may come before it is written."""
        return soon(lambda: self.can_be_read_there(name) == wanted)

    def wait_for_answer(self) -> None:
        """Wait until an app has been answered."""
        _wait(self._is_answered)

    def expect_waited(self, duration: timedelta) -> None:
        """The app waited for its last answer for this time, and not for longer."""
        seconds = duration.total_seconds()
        expect(
            seconds <= self._waited <= seconds + self._driver.slack,
            f"the app has waited {lasting(duration)}",
            f"the app has waited {lasting(timedelta(seconds=self._waited))}",
        )

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

        def ask(_: int) -> TestResponse:
            asked.wait()
            all_asked.set()
            return self.start().get(PATH + self.event_id + "/")

        self.c42.when_asked("event", lambda _call: _wait(all_asked))
        with ThreadPoolExecutor(number) as apps:
            self._answers = list(apps.map(ask, range(number)))
        self._answer = self._answers[0]

    def request_from_two(self) -> None:
        """Two proxies are asked for "it", the second one while C42 has not answered the first one yet."""
        may_answer, asked = Event(), Event()

        def hold(_call: Call) -> None:
            asked.set()
            _wait(may_answer)

        self.c42.when_asked("event", hold)
        first = self.start()
        self.start_another()
        with ThreadPoolExecutor(2) as apps:
            answers = [apps.submit(first.get, PATH + self.event_id + "/")]
            _wait(asked)
            answers.append(apps.submit(self.start().get, PATH + self.event_id + "/"))
            # That the second one waits cannot be seen: it must have come within this time.
            may_answer.wait(WAITING_SECONDS)
            may_answer.set()
            self._answers = [each.result() for each in answers]

    def request_others(self, number: int, more: int, title: str) -> None:
        """`number` apps ask for an event each, then `more` apps, then one app for the event with this title.

        C42 answers when all that has happened, and `more` apps have been told something.
        """
        client = self.start()
        addresses = [PATH + self._others.popleft() + "/" for _ in range(number + more)]
        may_answer, told = Event(), Semaphore(0)
        self.c42.when_asked("event", lambda _call: _wait(may_answer))
        with ThreadPoolExecutor(len(addresses)) as apps:
            asked = [apps.submit(client.get, address) for address in addresses]
            for each in asked:
                each.add_done_callback(lambda _each: told.release())
            for _ in range(more):
                # If nobody is told anything, the answers say so.
                told.acquire(timeout=PATIENCE_SECONDS / more)
            self.choose(title)
            self.request()
            may_answer.set()
            self._answers = [each.result() for each in asked]

    def request_and_hold(self, number: int) -> None:
        """`number` apps ask for another event each. C42 has been asked, and does not answer yet."""
        client = self.start()
        held = [self._others.popleft() for _ in range(number)]
        does: Future[Behaviour] = Future()
        asked = self.c42.hold(held, does)
        apps = self._running.enter_context(ThreadPoolExecutor(number))
        self._running.callback(self.answer_held, answers(500))
        self._held.append((does, [apps.submit(client.get, f"{PATH}{event_id}/") for event_id in held]))
        for _ in held:
            assert asked.acquire(timeout=PATIENCE_SECONDS), "C42 has not been asked"

    def answer_held(self, does: Behaviour) -> None:
        """C42 does this for the requests that it holds."""
        held, self._held = self._held, []
        for awaited, _asked in held:
            awaited.set_result(does)
        self._answers = [each.result() for _awaited, asked in held for each in asked]

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

    @property
    def event_id(self) -> str:
        """Of the event that is meant by "it": the last one that was named."""
        assert self._event_id is not None, 'nothing says which event is meant by "it"'
        return self._event_id

    @event_id.setter
    def event_id(self, event_id: str) -> None:
        self._event_id = event_id

    def give(self, title: str | None, people: Sequence[Person | None]) -> None:
        """C42 has one more event, which is meant by "it" if it is the only one."""
        self._event_id = self.c42.add(title, people)
        if len(self.c42.titles) > 1:
            self._event_id = None

    def announce(self, title: str) -> None:
        """An event that C42 does not have yet is meant by "it"."""
        self._announced, self.event_id = title, self.c42.id_of(title)

    def create(self, people: Sequence[Person]) -> None:
        """From now on C42 has the event that was announced."""
        self.give(self._announced, people)
        self.choose(self._announced)

    def give_others(self, number: int, people: Sequence[Person]) -> None:
        """C42 has `number` more events, for steps that request another event."""
        self._others.extend(self.c42.add(f"Other event {next(self._places)}", people) for _ in range(number))

    def choose(self, title: str) -> None:
        """From now on the event of that title is meant by "it"."""
        self.event_id = self.c42.id_of(title)
        assert self.event_id in self.c42.titles, f'the scenario does not give the event "{title}"'

    def choose_another(self) -> None:
        """The same with an event that nobody has asked for so far."""
        assert self._others, "the scenario gives no other event that nobody has requested yet"
        self.event_id = self._others.popleft()


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something holds, now or soon: the proxy may do it beside the requests."""
    for _ in range(round(PATIENCE_SECONDS / POLL_SECONDS)):
        if holds():
            return True
        pause(POLL_SECONDS)
    return False


def pause(seconds: float) -> None:
    """In real time, even if the time of the scenario stands still."""
    Event().wait(seconds)


def _wait(event: Event) -> None:
    assert event.wait(PATIENCE_SECONDS), f"what C42 waited for did not come within {PATIENCE_SECONDS} s"


class Context(Protocol):
    """What behave hands to each step, as far as our steps use it. behave itself has no types."""

    world: World
    text: str
    """What stands below the step's sentence."""
