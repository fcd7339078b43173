"""`python -m tools.bench`: measure, print, and write docs/performance.md."""

import shutil
import signal
import sys
from pathlib import Path

import click

from .bench import FULL, QUICK, Bench
from .machine import Cores, described
from .measures import MEASURES
from .results import page, text

DOCS = Path("docs")
TRIAL = Path("build/bench")
PROGRAMS = ("wrk", "nginx", "redis-server", "taskset")


@click.command()
@click.option("--quick", is_flag=True, help="One short run of each, to try: under 2 minutes.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(MEASURES)), help="Measure this group alone; may be repeated."
)
@click.option(
    "--beside", type=click.Path(exists=True, path_type=Path), help="A folder with an earlier version, to compare with."
)
def main(quick: bool, only: tuple[str, ...], beside: Path | None) -> None:
    """Measure the proxy beside its peers, on two cores and over loopback alone.

    A full run writes docs/performance.md; a quick or a partial one build/bench/performance.md.
    """
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise click.ClickException(f"not installed: {', '.join(missing)}")
    folder = TRIAL if quick or only else DOCS
    # Told to end, it ends what it has started, as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    sections = []
    with Bench(QUICK if quick else FULL, Cores.take(), beside).started() as bench:
        for name in only or MEASURES:
            sections.append(section := MEASURES[name](bench))
            click.echo(text(section))
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "performance.md"
    written.write_text(page(sections, described()))
    goals = [goal for section in sections for goal in section.goals]
    click.echo(f"{sum(goal.is_met for goal in goals)} of {len(goals)} goals met; {written} written")


main(prog_name="python -m tools.bench")
