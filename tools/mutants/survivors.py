"""The mutants that survive, held against the list of those that are explained."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, order=True)
class Mutant:
    """A way to break a module that can be found again when its lines have moved.

    `change` is the text of the lines that differ, `old -> new`; `number` counts those that look the same in a function.
    """

    module: str
    function: str
    change: str
    number: int = 1

    def __str__(self) -> str:
        number = "" if self.number == 1 else f" ({self.number})"
        return f"{self.function}: {self.change}{number}"


Listed = dict[tuple[str, str], str]
"""(module, mutant as text) of a survivor, and why it is let live."""


def listed(path: Path = LIST) -> Listed:
    """The survivors that are explained. Raises ValueError where one is there twice, or without an explanation."""
    found: Listed = {}
    for group in tomllib.loads(path.read_text()).get("survivors", []):
        for mutant in group["mutants"]:
            if not group["why"].strip() or (group["module"], mutant) in found:
                raise ValueError(f"{path.name}: listed twice, or not explained: {group['module']} {mutant}")
            found[group["module"], mutant] = group["why"]
    return found


def complaints(fates: Mapping[Mutant, bool], explained: Listed) -> list[str]:
    """What the list does not say of these mutants (whether each was killed), or says although it is not so."""
    survived = {(mutant.module, str(mutant)) for mutant, killed in fates.items() if not killed}
    modules = {mutant.module for mutant in fates}
    of_these = {(module, mutant) for module, mutant in explained if module in modules}
    return [
        *(f"survives, and is not explained: {module} {mutant}" for module, mutant in sorted(survived - of_these)),
        *(f"is explained, but does not survive: {module} {mutant}" for module, mutant in sorted(of_these - survived)),
    ]


def score(fates: Mapping[Mutant, bool]) -> float:
    """The part that was killed, from 0 to 1."""
    return sum(fates.values()) / len(fates)
