"""The sample events that the sandbox has when it starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .shapes import Person, event, removed, subscription

# Ids look like C42's own: 32 hexadecimal digits, an underscore and 14 digits.
COFFEE = "c0ffee42c0ffee42c0ffee42c0ffee42_14770730026240"
DINNER = "feedbeeffeedbeeffeedbeeffeedbeef_14770730026240"
BASEBALL = "ba5eba11ba5eba11ba5eba11ba5eba11_14770730026240"
BABEL = "babe1f15babe1f15babe1f15babe1f15_14770730026240"
DELETED = "deadbeefdeadbeefdeadbeefdeadbeef_14770730026240"
UNTITLED = "00000042000000420000004200000042_14770730026240"


@dataclass(frozen=True)
class Sample:
    """An event and its subscriptions, each as C42 would put it into `data`, in C42's order."""

    event: Mapping[str, object]
    subscriptions: tuple[Mapping[str, object], ...] = ()


def sample(event_id: str, title: str | None, people: Iterable[Person | None]) -> Sample:
    """A living event with a subscription for each of the people; None is one that was removed."""
    subscriptions = tuple(subscription(event_id, number, person) for number, person in enumerate(people))
    return Sample(event(event_id, title), subscriptions)


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
