"""`python -m tools.planted_faults`: plants each fault, and fails if the features do not notice it."""

import sys
from collections.abc import Iterator
from multiprocessing import get_context

import click

from .faults import FAULTS, GROSS
from .runs import Noticed, survey, with_fault, with_idle_step

RUN_SECONDS = 300


@click.command()
@click.option("--jobs", default=2, show_default=True, help="How many faults are tried at the same time.")
@click.option("--only", default="", help="Only the faults and steps in whose names this stands.")
def main(jobs: int, only: str) -> None:
    """Plant each fault, and say which scenario notices it first."""
    missed = 0
    for what, noticed in _tried(jobs, only):
        missed += noticed is None
        click.echo(f"{what}: {'NOBODY NOTICES' if noticed is None else noticed}")
    click.echo("Every planted fault is noticed." if not missed else f"{missed} planted faults are not noticed.")
    sys.exit(bool(missed))


def _tried(jobs: int, only: str) -> Iterator[tuple[str, str | None]]:
    """Each planted fault, and which scenario noticed it."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tools.planted_faults.runs"])
    # A process for each: behave's registry of steps is global, and the features stop the clock.
    with context.Pool(jobs, maxtasksperchild=1) as pool:
        steps = pool.apply(survey)
        faults = {fault.name: pool.apply_async(with_fault, (fault.name,)) for fault in FAULTS if only in fault.name}
        idle = {
            name: pool.apply_async(with_idle_step, (name, places))
            for name, places in steps.used.items()
            if name not in steps.checks and only in name
        }
        checks = [name for name in sorted(steps.checks) if only in name]
        gross = [
            pool.apply_async(with_fault, (fault.name, list(fault.places)), {"whole": True}) for fault in GROSS if checks
        ]
        for name, result in faults.items():
            yield f"The proxy errs: {name}", _first(result.get(RUN_SECONDS))
        for name, result in idle.items():
            yield f"The step {name} does nothing", _first(result.get(RUN_SECONDS))
        failed = set[str]().union(*(result.get(RUN_SECONDS).steps for result in gross))
        for name in checks:
            yield f"The check {name} can fail", "it did" if name in failed else None


def _first(noticed: Noticed) -> str | None:
    return next(iter(noticed.scenarios), None)


if __name__ == "__main__":
    main()
