"""The words of the domain that stand in the steps, and what they mean."""

import re
from datetime import timedelta

from behave import register_type
from parse import with_pattern

from features.support.answers import PROBLEMS, Problem
from features.support.fake_c42 import MISBEHAVIOURS, Behaviour, asks_to_wait, asks_to_wait_until

UNITS = {"day": "days", "hour": "hours", "minute": "minutes", "s": "seconds"}
AMOUNT = r"[0-9.]+ (?:days?|hours?|minutes?|s)"


@with_pattern(rf"{AMOUNT}(?: {AMOUNT})*")
def duration(text: str) -> timedelta:
    """`4 minutes 11.9 s`"""
    parts = re.findall(r"([0-9.]+) ([a-z]+)", text)
    return timedelta(**{UNITS[unit if unit == "s" else unit.rstrip("s")]: float(amount) for amount, unit in parts})


@with_pattern(r"once|twice")
def times(text: str) -> int:
    """`once`, `twice`"""
    return {"once": 1, "twice": 2}[text]


@with_pattern(r"[^\"]+")
def names(text: str) -> list[str]:
    """`Arthur, Ford and Zaphod`"""
    return re.split(r", | and ", text)


@with_pattern(r"no number|the number [0-9]+")
def count(text: str) -> int | None:
    """`no number`, `the number 250`"""
    return None if text == "no number" else int(text.removeprefix("the number "))


@with_pattern(r"[0-9]+ pages?")
def pages(text: str) -> int:
    """`1 page`, `3 pages`"""
    return int(text.split(maxsplit=1)[0])


@with_pattern(
    rf"asks to wait {AMOUNT}|asks to wait until {AMOUNT} from now|"
    + "|".join(re.escape(words) for words in MISBEHAVIOURS)
)
def behaviour(text: str) -> Behaviour:
    """`is broken`, `asks to wait 7 s`, `asks to wait until 90 s from now`"""
    if text in MISBEHAVIOURS:
        return MISBEHAVIOURS[text]
    wait = text.removeprefix("asks to wait ")
    if wait.startswith("until "):
        return asks_to_wait_until(duration(wait.removeprefix("until ").removesuffix(" from now")))
    return asks_to_wait(str(round(duration(wait).total_seconds())))


@with_pattern(r"the event|the subscribers|the second page")
def question(text: str) -> str:
    """What C42 may be asked for."""
    return text


@with_pattern("|".join(re.escape(words) for words in PROBLEMS))
def problem(text: str) -> Problem:
    """`there is no such event`"""
    return PROBLEMS[text]


def register() -> None:
    """Make the words known to behave."""
    register_type(
        Duration=duration,
        Times=times,
        Names=names,
        Count=count,
        Pages=pages,
        Behaviour=behaviour,
        Question=question,
        Problem=problem,
    )
