"""What a measurement comes to: tables, and goals that were met or missed; and both as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Goal:
    """A bound that we set, and what was measured. `at_least`: the measured value must not be below the bound.

    `earlier` is what was measured of the earlier version in the same run, if it was.
    """

    what: str
    measured: float
    bound: float
    at_least: bool = True
    unit: str = ""
    earlier: float | None = None

    @property
    def is_met(self) -> bool:
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    @property
    def row(self) -> list[str]:
        """As a row of a table: the goal, its bound, the measured value, the earlier version's, the verdict."""
        sign = "≥" if self.at_least else "≤"
        verdict = "met" if self.is_met else "**missed**"
        earlier = "" if self.earlier is None else f"{number(self.earlier)}{self.unit}"
        return [
            *(self.what, f"{sign} {number(self.bound)}{self.unit}", f"{number(self.measured)}{self.unit}"),
            *(earlier, verdict),
        ]


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.header, ["---"] + ["--:"] * (len(self.header) - 1), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass
class Section:
    """One group of measurements. `why` says what was measured, how, and what for.

    It has goals, or `decision` names the ADR that rests on it: else it would not be worth its time.
    """

    title: str
    why: str
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    decision: str = ""


def missed(sections: Sequence[Section]) -> list[Goal]:
    """The goals that were missed."""
    return [goal for section in sections for goal in section.goals if not goal.is_met]


def text(section: Section) -> str:
    """For the terminal."""
    return "\n\n".join([f"## {section.title}", *map(str, section.tables), str(_goals([section]))]) + "\n"


def page(sections: Sequence[Section], machine: Sequence[tuple[str, str]]) -> str:
    """The page for docs/."""
    parts = [
        "# Performance",
        "Written by `make bench`; do not edit. The ratios say more than the figures, but differ between machines, too: "
        "beside some of them is what the earlier version reached in the same run.",
        str(Table(["", ""], machine)),
        "## Goals",
        str(_goals(sections)),
    ]
    for section in sections:
        if not section.goals and not section.decision:
            raise ValueError(f"{section.title}: neither a goal nor a decision needs it")
        decision = [f"{section.decision} rests on this."] if section.decision else []
        parts += [f"## {section.title}", section.why, *decision, *map(str, section.tables)]
    return "\n\n".join(parts) + "\n"


def _goals(sections: Sequence[Section]) -> Table:
    return Table(
        ["goal", "bound", "measured", "earlier version", ""],
        [goal.row for section in sections for goal in section.goals],
    )


def interleaved(runs: int, candidates: Mapping[K, Callable[[], T]]) -> dict[K, list[T]]:
    """A B C A B C ...: what each candidate measured, run by run."""
    measured: dict[K, list[T]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, measure in candidates.items():
            measured[name].append(measure())
    return measured


def middle(measured: Sequence[T], value: Callable[[T], float]) -> float:
    """The median of one value of several runs."""
    return median(map(value, measured))


def number(value: float) -> str:
    """With as many digits as mean anything."""
    size = abs(value)
    digits = 0 if size >= 100 or value == round(value) else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:,.{digits}f}"
