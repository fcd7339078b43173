"""`python -m tools.bench`: measure, print, and write docs/performance.md with its pictures."""

import shutil
import signal
import sys
import time
from pathlib import Path

import click

from .bench import Bench
from .machine import Cores, described
from .measures import MEASURES
from .pictures import draw
from .plan import FULL, QUICK
from .report import markdown, plain

DOCS = Path("docs")
TRIAL = Path("build/bench")
LONG = {"workers"}
"""What takes a minute even when it is quick."""
PROGRAMS = ("wrk", "nginx", "redis-server", "taskset")


@click.command()
@click.option("--quick", is_flag=True, help="One short run of each but the workers, to try: under 2 minutes.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(MEASURES)), help="Measure this group alone; may be repeated."
)
def main(quick: bool, only: tuple[str, ...]) -> None:
    """Measure the proxy beside its peers, on two cores and over loopback alone.

    A full run writes docs/performance.md; a quick or a partial one build/bench/performance.md.
    """
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise click.ClickException(f"not installed: {', '.join(missing)}")
    chosen = only or tuple(name for name in MEASURES if not (quick and name in LONG))
    folder = DOCS if chosen == tuple(MEASURES) and not quick else TRIAL
    # Told to end, it ends what it has started, as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    began = time.monotonic()
    sections = []
    with Bench(QUICK if quick else FULL, Cores.take()) as bench:
        for name in chosen:
            sections.append(section := MEASURES[name](bench))
            click.echo(plain(section))
            click.echo(f"({time.monotonic() - began:.0f} s so far)\n", err=True)
    for section in sections:
        for picture in section.pictures:
            draw(picture, folder / "performance")
    command = " ".join(["python -m tools.bench", *(["--quick"] if quick else []), *(f"--only {name}" for name in only)])
    page = folder / "performance.md"
    page.write_text(markdown(sections, described(), "make bench" if folder == DOCS else command))
    goals = [goal for section in sections for goal in section.goals]
    click.echo(f"{sum(goal.is_met for goal in goals)} of {len(goals)} goals met; {page} written")


main(prog_name="python -m tools.bench")
