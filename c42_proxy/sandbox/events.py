"""The sample events: what the sandbox knows when it starts, in the shape of the C42 API v2."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

# Ids look like C42's own: 32 hexadecimal digits, an underscore and 14 digits.
COFFEE = "c0ffee42c0ffee42c0ffee42c0ffee42_14770730026240"
DINNER = "feedbeeffeedbeeffeedbeeffeedbeef_14770730026240"
BASEBALL = "ba5eba11ba5eba11ba5eba11ba5eba11_14770730026240"
BABEL = "babe1f15babe1f15babe1f15babe1f15_14770730026240"
DELETED = "deadbeefdeadbeefdeadbeefdeadbeef_14770730026240"
UNTITLED = "00000042000000420000004200000042_14770730026240"

_CREATED = "2016-09-30T12:09:47.671346Z"


@dataclass(frozen=True)
class Sample:
    """An event and its subscriptions, each as C42 would put it into `data`, in C42's order."""

    event: Mapping[str, object]
    subscriptions: tuple[Mapping[str, object], ...] = ()


class Person(NamedTuple):
    """A subscriber. C42 knows people without a name: it is null or empty then."""

    first_name: str | None
    last_name: str | None = None


def sample(event_id: str, title: str | None, people: Iterable[Person | None]) -> Sample:
    """A living event with a subscription for each of the people; None is one that was removed."""
    subscriptions = tuple(_subscription(event_id, number, person) for number, person in enumerate(people))
    return Sample(_event(event_id, title), subscriptions)


def removed(identifier: str) -> Mapping[str, object]:
    """All that C42 still tells about a removed event or subscription."""
    return {"id": identifier, "permission": "removed"}


def _event(event_id: str, title: str | None) -> Mapping[str, object]:
    return {
        "id": event_id,
        "title": title,
        "description": "",
        "event_type": "normal",
        "permission": "subscribed_write",
        "previous_permission": None,
        "rsvp_status": None,
        "is_invitation": False,
        "start": "2016-10-21T15:00:00Z",
        "start_timezone": "Europe/Amsterdam",
        "start_location": None,
        "end": "2016-10-21T16:00:00Z",
        "end_timezone": "Europe/Amsterdam",
        "end_location": None,
        "all_day": False,
        "due": None,
        "rrule": None,
        "recurrence_parent": None,
        "color": "#42c042",
        "tags": [],
        "calendar_ids": [],
        "creator": _user(_id_of(event_id, "creator"), Person("Michel", "de Vries")),
        "created": _CREATED,
        "last_modified": _CREATED,
    }


def _subscription(event_id: str, number: int, person: Person | None) -> Mapping[str, object]:
    user_id = _id_of(event_id, f"subscriber {number}")
    subscription_id = f"{event_id}__{user_id}"
    if person is None:
        return removed(subscription_id)
    return {
        "id": subscription_id,
        "event_id": event_id,
        "permission": "subscribed_write",
        "rsvp_status": None,
        "is_invitation": False,
        "created": _CREATED,
        "subscriber": _user(user_id, person),
        # Who invited them: a second person in the same object, whose name is not to be mixed up.
        "actor": _user(_id_of(event_id, "creator"), Person("Michel", "de Vries")),
    }


def _user(user_id: str, person: Person) -> Mapping[str, object]:
    return {
        "id": user_id,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "email": None,
        "phone_number": None,
        "tags": [],
    }


def _id_of(event_id: str, role: str) -> str:
    """32 hexadecimal digits that are the same in every run."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{event_id}/{role}").hex


_DINERS = (
    Person("Arthur", "Dent"),
    Person("Ford", "Prefect"),
    Person("Zaphod", "Beeblebrox"),
    None,
    Person("Tricia", "McMillan"),
    Person(None, "Slartibartfast"),
    Person("", "Marvin"),
    Person("Arthur", "Philip Deodat"),
)

_POLYGLOTS = (
    Person("Ελένη", "Παπαδοπούλου"),
    Person("ليلى", "حداد"),
    Person("さくら", "田中"),
    Person("👩🏽‍🚀", "Commander"),
    # The diaeresis and the accents are characters of their own: nobody may put them together.
    Person("Zoe\u0308", "van der Berg"),
    Person("Nguye\u0302\u0303n", "An"),
)

# fmt: off - a name a line would be longer than the rest of the module
_FIRST_NAMES = (
    "Aaliyah",
    "Anouk",
    "Babak",
    "Bram",
    "Carmen",
    "Chidi",
    "Dagny",
    "Daan",
    "Elif",
    "Emre",
    "Fatima",
    "Femke",
    "Gijs",
    "Giulia",
    "Hanna",
    "Hugo",
    "Imani",
    "Ivan",
    "Jasper",
    "Joris",
    "Kofi",
    "Katja",
    "Lars",
    "Lotte",
    "Mateo",
    "Mei",
    "Nadia",
    "Niels",
    "Olga",
    "Omar",
    "Pieter",
    "Priya",
    "Quirine",
    "Rashid",
    "Roos",
    "Sanne",
    "Sven",
    "Tariq",
    "Thijs",
    "Uma",
    "Ursula",
    "Vera",
    "Viktor",
    "Wanda",
    "Willem",
    "Xander",
    "Ximena",
    "Yara",
    "Yusuf",
    "Zeynep",
    "Zoltan",
)
_LAST_NAMES = (
    "Bakker",
    "Costa",
    "Diallo",
    "Eriksen",
    "Fischer",
    "Haddad",
    "Jansen",
    "Kaya",
    "Moreau",
    "Novak",
    "Okafor",
    "Sato",
    "Visser",
)
# fmt: on


def _crowd(size: int) -> Iterable[Person | None]:
    """The same people in every run; every twentieth has left."""
    for number in range(size):
        if number % 20 == 19:
            yield None
        else:
            # 7 shares no factor with the number of names: neighbours differ, and all names come up.
            first_name = _FIRST_NAMES[number * 7 % len(_FIRST_NAMES)]
            yield Person(first_name, _LAST_NAMES[number % len(_LAST_NAMES)])


SAMPLES: Mapping[str, Sample] = {
    COFFEE: sample(COFFEE, "Drink a cup of coffee with C42 Team", [Person("Michel", "de Vries")]),
    DINNER: sample(DINNER, "Dinner at the restaurant at the end of the universe", _DINERS),
    BASEBALL: sample(BASEBALL, "Baseball: Earth against the rest of the galaxy", _crowd(250)),
    BABEL: sample(BABEL, "Καφές · قهوة · コーヒー · ☕🐟", _POLYGLOTS),
    DELETED: Sample(removed(DELETED)),
    UNTITLED: sample(UNTITLED, None, [Person("Agnes", "Nutter"), Person("Deep", "Thought")]),
}
