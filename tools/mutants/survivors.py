"""The mutants that survive, compared with the list of those that are explained."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

LIST = Path(__file__).with_name("survivors.toml")

Mutant = tuple[str, str]
"""A module, and a way to break it that can be found again when its lines have moved: `function: old -> new` is the text
of the lines that differ, and `(2)` behind it the second that looks the same in a function."""


def listed(path: Path = LIST) -> dict[Mutant, str]:
    """Why each survivor is let live. Raises ValueError where one is there twice, or without an explanation."""
    found: dict[Mutant, str] = {}
    for group in tomllib.loads(path.read_text()).get("survivors", []):
        for mutant in group["mutants"]:
            if not group["why"].strip() or (group["module"], mutant) in found:
                raise ValueError(f"{path.name}: listed twice, or not explained: {group['module']} {mutant}")
            found[group["module"], mutant] = group["why"]
    return found


def unwritten(fates: Mapping[Mutant, bool], path: Path = LIST) -> list[str]:
    """The mutants that the features let live, and that are no matter of engineers: a rule may have to be written."""
    groups = tomllib.loads(path.read_text()).get("engineers", [])
    known = {(group["module"], start) for group in groups for start in group["starts"]}
    equivalent = listed(path)
    return [
        f"the features let it live, and no engineer says why: {module} {mutant}"
        for (module, mutant), killed in sorted(fates.items())
        if not killed
        and (module, mutant) not in equivalent
        and not any(module == each and mutant.startswith(start) for each, start in known)
    ]


def complaints(fates: Mapping[Mutant, bool], explained: Mapping[Mutant, str]) -> list[str]:
    """The differences between the list and what happened to these mutants (whether each was killed)."""
    survived = {mutant for mutant, killed in fates.items() if not killed}
    modules = {module for module, _ in fates}
    of_these = {mutant for mutant in explained if mutant[0] in modules}
    return [
        *(f"survives, and is not explained: {' '.join(mutant)}" for mutant in sorted(survived - of_these)),
        *(f"is explained, but does not survive: {' '.join(mutant)}" for mutant in sorted(of_these - survived)),
    ]


def score(fates: Mapping[Mutant, bool]) -> float:
    """The part that was killed, from 0 to 1; 0 if none could be tried."""
    return sum(fates.values()) / max(1, len(fates))
