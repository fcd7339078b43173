"""The words that the steps know, and what they mean. `python -m features.support.parameters` lists them."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from behave import register_type
from parse import with_pattern

from c42_proxy.sandbox.shapes import Person
from features.support.answers import PROBLEMS, Problem
from features.support.fake_c42 import MISBEHAVIOURS, Behaviour, asks_to_wait, asks_to_wait_until
from features.support.network import WAYS, Way

UNITS = {"day": "days", "hour": "hours", "minute": "minutes", "s": "seconds"}
AMOUNT = r"[0-9]+(?:\.[0-9]+)? (?:days?|hours?|minutes?|s)"
NAME = r"(?!nobody\b|and\b)[^\s,\"]+"

SUBSCRIBERS: dict[str, Person | None] = {
    "whose subscription was removed": None,
    "without a first name": Person(None),
    "whose first name is empty": Person(""),
    "whose first name is all spaces": Person(" \u2003\t"),
}
CHARACTERS = {
    "a comma": ",",
    "a closing bracket": "]",
    "a slash": "%2f",
    "a space": "%20",
    "a line break": "%0d%0a",
    "an unprintable character": "%00",
    "the letter é": "%C3%A9",
}
ATTEMPTS = {
    "change the event": ("PUT", "/events-with-subscriptions/{}/"),
    "delete the event": ("DELETE", "/events-with-subscriptions/{}/"),
    "ask what the address can do": ("OPTIONS", "/events-with-subscriptions/{}/"),
    "read the list of all events": ("GET", "/events-with-subscriptions/"),
    "read the event at an address almost like it": ("GET", "//events-with-subscriptions/{}/"),
}
RSVPS = {
    "has not answered": None,
    "comes": "attending",
    "may come": "maybe",
    "does not come": "not_attending",
}
"""What may be the answer to an invitation. C42 does not say which words it has for them."""
HEADERS = {
    "nothing to show": {},
    "a token of its own": {"Authorization": "Token of-the-app"},
    "a cookie": {"Cookie": "session=of-the-app"},
    "an id for its request, and a trace": {"X-Request-ID": "of-the-app", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
}
TIMES = {"once": 1, "twice": 2}
STATES = {
    "nothing is wrong": [],
    "C42 asks to wait": ["told-to-wait"],
    "C42 is down": ["c42-down"],
    "C42 refuses the token": ["token-refused"],
}
TEMPORARY = ("C42 asks to wait", "C42 is down")
LEVELS = {"note": "INFO", "warning": "WARNING", "error": "ERROR"}
QUESTIONS = ("the event", "the subscribers", "the second page")


def _one_of(*words: str) -> str:
    return "|".join(map(re.escape, words))


@with_pattern(rf"{AMOUNT}(?: {AMOUNT})*")
def duration(text: str) -> timedelta:
    """A time: `4 minutes 11.9 s`, `1 hour`, `2 days`"""
    parts = re.findall(r"([0-9.]+) ([a-z]+)", text)
    return timedelta(**{UNITS[unit if unit == "s" else unit.rstrip("s")]: float(amount) for amount, unit in parts})


@with_pattern(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
def moment(text: str) -> datetime:
    """A moment: `2016-10-30 00:59:00`, in UTC"""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@with_pattern(_one_of(*TIMES) + r"|[0-9]+ times")
def times(text: str) -> int:
    """How often: `once`, `twice`, `60 times`"""
    return TIMES[text] if text in TIMES else int(text.removesuffix(" times"))


@with_pattern(r"[^\"]+")
def title(text: str) -> str:
    """The title of an event: anything in which no quotation mark is"""
    return text


@with_pattern(NAME)
def name(text: str) -> str:
    """A first name of one word"""
    return text


@with_pattern(rf"{NAME}(?:, {NAME})*(?:,? and {NAME})?")
def names(text: str) -> list[str]:
    """First names of one word each: `Arthur`, `Arthur and Ford`, `Arthur, Ford and Zaphod`"""
    return re.split(r",? and |, ", text)


@with_pattern(r"no number|the number [0-9]+")
def count(text: str) -> int | None:
    """What C42 says is the number of subscribers: `no number`, `the number 250`"""
    return None if text == "no number" else int(text.removeprefix("the number "))


@with_pattern(r"[0-9]+ pages?")
def pages(text: str) -> int:
    """`1 page`, `3 pages`"""
    return int(text.split(maxsplit=1)[0])


@with_pattern(rf"asks to wait {AMOUNT}|asks to wait until {AMOUNT} from now|" + _one_of(*MISBEHAVIOURS))
def behaviour(text: str) -> Behaviour:
    """What C42 does instead of answering: `asks to wait 7 s`, `asks to wait until 90 s from now`, or"""
    if text in MISBEHAVIOURS:
        return MISBEHAVIOURS[text]
    wait = text.removeprefix("asks to wait ")
    if wait.startswith("until "):
        return asks_to_wait_until(duration(wait.removeprefix("until ").removesuffix(" from now")))
    return asks_to_wait(str(round(duration(wait).total_seconds())))


@with_pattern(_one_of(*sorted(WAYS, reverse=True)))
def way(text: str) -> Way:
    """What may be said of C42 and the way to it:"""
    return WAYS[text]


@with_pattern(_one_of(*STATES))
def state(text: str) -> list[str]:
    """What the operator may be shown:"""
    return STATES[text]


@with_pattern(_one_of(*TEMPORARY))
def temporary_state(text: str) -> list[str]:
    """What the operator may be shown that has an end:"""
    return STATES[text]


@with_pattern(_one_of(*LEVELS))
def level(text: str) -> str:
    """How urgent it is for the operator:"""
    return LEVELS[text]


@with_pattern(_one_of(*QUESTIONS))
def question(text: str) -> str:
    """What C42 may be asked for:"""
    return text


@with_pattern(_one_of(*PROBLEMS))
def problem(text: str) -> Problem:
    """What an app may be told instead of an event:"""
    return PROBLEMS[text]


@with_pattern(_one_of(*SUBSCRIBERS))
def subscriber(text: str) -> Person | None:
    """A subscriber who is not named:"""
    return SUBSCRIBERS[text]


@with_pattern(_one_of(*RSVPS))
def rsvp(text: str) -> str | None:
    """What somebody may have answered to the invitation:"""
    return RSVPS[text]


@with_pattern(_one_of(*HEADERS))
def header(text: str) -> dict[str, str]:
    """What an app may say of itself:"""
    return HEADERS[text]


@with_pattern(_one_of(*CHARACTERS))
def character(text: str) -> str:
    """A character, as it stands in an address:"""
    return CHARACTERS[text]


@with_pattern(_one_of(*ATTEMPTS))
def attempt(text: str) -> tuple[str, str]:
    """What an app may try in vain; a method and an address:"""
    return ATTEMPTS[text]


TYPES: dict[str, Callable[[str], Any]] = {
    "Duration": duration,
    "Times": times,
    "Title": title,
    "Name": name,
    "Names": names,
    "Count": count,
    "Pages": pages,
    "Behaviour": behaviour,
    "Way": way,
    "State": state,
    "TemporaryState": temporary_state,
    "Level": level,
    "Question": question,
    "Problem": problem,
    "Subscriber": subscriber,
    "Moment": moment,
    "Rsvp": rsvp,
    "Headers": header,
    "Character": character,
    "Attempt": attempt,
}
KNOWN: dict[str, Iterable[str]] = {
    "Behaviour": MISBEHAVIOURS,
    "Way": WAYS,
    "State": STATES,
    "TemporaryState": TEMPORARY,
    "Level": LEVELS,
    "Question": QUESTIONS,
    "Problem": PROBLEMS,
    "Subscriber": SUBSCRIBERS,
    "Rsvp": RSVPS,
    "Headers": HEADERS,
    "Character": CHARACTERS,
    "Attempt": ATTEMPTS,
}


def register() -> None:
    """Make the words known to behave."""
    register_type(**TYPES)


def main() -> None:
    """List the words, type by type."""
    for name, convert in TYPES.items():
        print(f"{{{name}}}  {convert.__doc__}")
        for words in KNOWN.get(name, ()):
            print(f"    {words}")


if __name__ == "__main__":
    main()
