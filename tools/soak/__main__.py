"""`python -m tools.soak`: run the stack with clients and faults, and prove by the record that it kept its promises."""

import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click

from .checker import Violation, check
from .faults import is_left_out, planned
from .history import History
from .record import read, write
from .report import headings, shown, table
from .run import run

FOLDER = Path("build/soak")
LONGEST = 3600
PROGRAMS = ("nginx", "redis-server")


@click.command()
@click.option("--seconds", default=180.0, type=click.FloatRange(5, LONGEST), show_default=True, help="How long to run.")
@click.option("--seed", type=int, help="That of an earlier run, for the same faults at the same times.")
@click.option(
    "--record", type=click.Path(exists=True, path_type=Path), help="Check a record that was kept; run nothing."
)
def main(seconds: float, seed: int | None, record: Path | None) -> None:
    """Prove that the production stack keeps its promises while its parts fail.

    Ends with status 1 if it does not; the record is then in build/soak/, with the logs.
    """
    if record is not None:
        sys.exit(1 if told(History(read(record))) else 0)
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise click.ClickException(f"not installed: {', '.join(missing)}")
    # Told to end, it ends what it has started, as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    seed = random.randrange(1_000_000) if seed is None else seed  # noqa: S311  # no secret
    click.echo(f"{seconds:.0f} s with --seed {seed}")
    for kind in sorted({fault.kind for row in planned(seed, seconds) for fault in row if is_left_out(fault.kind)}):
        click.echo(f"left out: {kind} (it takes root, and the right to mount)")
    with tempfile.TemporaryDirectory(prefix="c42-soak-") as logs:
        records = run(seed, seconds, Path(logs))
        violations = told(History(records))
        if not violations:
            return
        shutil.copytree(logs, FOLDER, dirs_exist_ok=True)
        write(FOLDER / "record.jsonl", records)
    click.echo(f"\nkept in {FOLDER}/: record.jsonl, and the logs")
    # Once more at the end, which is what is kept of a long log.
    for line in headings(violations):
        click.echo(line)
    sys.exit(1)


def told(history: History) -> list[Violation]:
    """Print the results of a run. Returns the violations."""
    violations = check(history)
    click.echo(table(history, violations))
    for line in shown(history, violations):
        click.echo(line)
    return violations


if __name__ == "__main__":
    main(prog_name="python -m tools.soak")
