"""`python -m tools.bench`: measure, print, and write docs/performance.md."""

import shutil
import signal
import sys
import time
from pathlib import Path

import click

from .bench import FULL, QUICK, Bench
from .machine import Cores, described
from .measures import MEASURES
from .results import Goal, Section, missed, page, text

DOCS = Path("docs")
TRIAL = Path("build/bench")
MINUTES = 20
PROGRAMS = ("wrk", "nginx", "redis-server", "taskset")


@click.command()
@click.option("--quick", is_flag=True, help="One short run of each, to try: under 2 minutes.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(MEASURES)), help="Measure this group alone; may be repeated."
)
@click.option(
    "--beside", default="68b5a57", show_default=True, help="The commit to compare with, if not that of version 0.1."
)
def main(quick: bool, only: tuple[str, ...], beside: str) -> None:
    """Measure the proxy beside its peers, on two cores and over loopback alone.

    A full run writes docs/performance.md; a quick or a partial one build/bench/performance.md. If a goal is missed, the
    exit status is 1.
    """
    began = time.monotonic()
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
    took = Goal("minutes that the bench takes", (time.monotonic() - began) / 60, MINUTES, at_least=False)
    sections.append(Section("The bench itself", "It must not be too long to be run before each release.", goals=[took]))
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "performance.md"
    written.write_text(page(sections, described(beside)))
    misses = missed(sections)
    for goal in misses:
        click.echo(f"missed: {' '.join(goal.row[:3])}")
    click.echo(f"{sum(len(section.goals) for section in sections)} goals, {len(misses)} missed; {written} written")
    sys.exit(1 if misses else 0)


main(prog_name="python -m tools.bench")
