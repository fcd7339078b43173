"""Anchors that stay the same when something else is added."""

import re


class Anchors:
    """Each anchor is made of a name and of where that belongs, and is given once.

    Only of two equal names in one place does the second get a number. The page's own ids have an underscore,
    which no anchor has.
    """

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, name: str, within: str = "") -> str:
        words = re.findall(r"[^\W_]+", name.lower())
        first = within + "/" * bool(within) + ("-".join(words) or "unnamed")
        anchor, number = first, 1
        while anchor in self._given:
            number += 1
            anchor = f"{first}-{number}"
        self._given.add(anchor)
        return anchor
