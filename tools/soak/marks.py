"""C42's texts carry marks of their origin, so each answer of a run can be traced to the calls it is made of."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache

_TITLE = re.compile(r"(.+) v([0-9]+) c([0-9]+)")
_NAME = re.compile(r"v([0-9]+) c([0-9]+) #([0-9]+)")


@dataclass(frozen=True, slots=True)
class Mark:
    """A version of an event, and the number of the call that told it."""

    version: int
    call: int


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks in an answer: in its title, and for each subscriber in order."""

    title: Mark
    names: list[Mark]

    @property
    def calls(self) -> set[int]:
        """The calls that the answer is made of."""
        return {mark.call for mark in (self.title, *self.names)}


def title(event: str, mark: Mark) -> str:
    """What C42 calls an event."""
    return f"{event} v{mark.version} c{mark.call}"


def name(index: int, mark: Mark) -> str:
    """What C42 calls the subscriber at `index`."""
    return f"v{mark.version} c{mark.call} #{index}"


@lru_cache(100_000)  # most bodies come many times
def marks_of(event: str, body: str) -> Marks | None:
    """What an answer of the proxy for `event` is made of; None where it is none, or C42 cannot have said it."""
    try:
        answer = json.loads(body)
        if list(answer) != ["id", "title", "names"] or answer["id"] != event:
            return None
        titled = _TITLE.fullmatch(answer["title"])
        named = [_NAME.fullmatch(text) for text in answer["names"]]
    except (ValueError, TypeError):
        return None
    if titled is None or titled[1] != event:
        return None
    names = [
        Mark(int(found[1]), int(found[2])) for index, found in enumerate(named) if found and found[3] == f"{index}"
    ]
    return Marks(Mark(int(titled[2]), int(titled[3])), names) if len(names) == len(named) else None
