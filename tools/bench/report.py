"""The sections as text for a terminal and as Markdown."""

from collections.abc import Sequence

from .results import Section, Table

GOALS = ["goal", "bound", "measured", ""]


def plain(section: Section) -> str:
    """For the terminal: columns, one under the other."""
    tables = [*section.tables, *_goals([section])]
    return "\n\n".join([f"== {section.title}", *map(_columns, tables)]) + "\n"


def markdown(sections: Sequence[Section], machine: Sequence[tuple[str, str]], command: str) -> str:
    """The page for docs/."""
    parts = [
        "# Performance",
        f"Written by `{command}`; do not edit. The ratios say more than the figures: they hold on other machines, too.",
        _table(Table(["", ""], machine)),
        "## Goals",
        *map(_table, _goals(sections)),
    ]
    for section in sections:
        parts += [f"## {section.title}", section.why, *map(_table, section.tables)]
        parts += [f"![{picture.title}](performance/{picture.name}.svg)" for picture in section.pictures]
    return "\n\n".join(parts) + "\n"


def _goals(sections: Sequence[Section]) -> list[Table]:
    rows = [goal.row for section in sections for goal in section.goals]
    return [Table(GOALS, rows)] if rows else []


def _table(table: Table) -> str:
    lines = [table.header, ["---"] + ["--:"] * (len(table.header) - 1), *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _columns(table: Table) -> str:
    lines = [list(table.header), *map(list, table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
