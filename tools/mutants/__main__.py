"""`python -m tools.mutants`: cosmic-ray makes each mutant in a copy of the project, and sees whether a test notices."""

import compileall
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import IO, cast

import click
from cosmic_ray.commands import execute
from cosmic_ray.config import ConfigDict
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

from harness.processes import ROOT

from .mutations import work_items
from .plan import COPIED, CORE, GOAL, Core
from .survivors import Mutant, complaints, listed, score

FOLDER = ROOT / "build" / "mutants"
"""For each module of the core the copy in which it is broken, and cosmic-ray's session."""

SECONDS = 600
"""cosmic-ray's time-out: longer than all questions about a module take on a busy machine."""

SURVIVED = WorkResult(WorkerOutcome.SKIPPED, test_outcome=TestOutcome.SURVIVED)

Fates = dict[Mutant, bool]
"""Whether each mutant was killed."""


@click.command()
@click.option("--only", multiple=True, help="The modules whose path has this in it alone; may be repeated.")
@click.option("--again", is_flag=True, help="Do not try what was killed the last time, or is explained in the list.")
@click.option("--at-once", default=2, help="How many modules are tried at the same time.")
def main(only: tuple[str, ...], again: bool, at_once: int) -> None:
    """Break the core in each small way that means something. Fails if too many of these mutants survive all tests,
    or others than those that survivors.toml explains.
    """
    os.nice(19)
    start = time.monotonic()
    fates: Fates = {}
    wrong: list[str] = []
    with ProcessPoolExecutor(at_once) as pool:
        core = [one for one in CORE if not only or any(part in str(one.path) for part in only)]
        for tried in as_completed([pool.submit(_fates, one, again) for one in core]):
            try:
                tell(tried.result())
                fates |= tried.result()
            except RuntimeError as exc:
                wrong.append(str(exc))
    explained = listed()
    wrong += complaints(fates, explained)
    click.echo(f"{sum(mutant in explained for mutant in fates)} survivors are explained; all together:")
    tell(fates, f"all in {(time.monotonic() - start) / 60:.0f} min")
    if not only and score(fates) < GOAL:
        wrong.append(f"fewer than {GOAL:.1%} of the mutants were killed")
    for line in wrong:
        click.echo(line)
    sys.exit(1 if wrong else 0)


def tell(fates: Fates, name: str | None = None) -> None:
    """The score, and the survivors of a module."""
    modules = {module for module, _ in fates}
    for mutant, killed in fates.items():
        if not killed and name is None:
            click.echo(f"survived: {' '.join(mutant)}")
    click.echo(f"{name or modules.pop():40} {sum(fates.values()):5} of {len(fates):4} killed {score(fates):7.1%}")


def _fates(core: Core, again: bool) -> Fates:
    """Try the mutants of a module. Raises RuntimeError where a test fails without any."""
    name = "-".join(core.path.with_suffix("").parts[1:])
    copy = FOLDER / name
    _copy_project(copy)
    os.chdir(copy)
    os.environ |= {"C42_REQUIRE_ALL": "1", "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = shlex.join([sys.executable, "-I", "-S", "tools/mutants/client.py"])
    config = ConfigDict({"test-command": command, "timeout": SECONDS, "distributor": {"name": "local"}})
    with use_db(FOLDER / f"{name}.sqlite") as session, _judge(core.questions):
        known = {mutant: result for mutant, result in session.results if _is_killed(result)}
        known |= {mutant: SURVIVED for module, mutant in listed() if module == str(core.path)}
        items = work_items(core.path)
        session.clear()
        session.add_work_items(items)
        for item in items:
            if again and item.job_id in known:
                session.set_result(item.job_id, known[item.job_id])
        if session.pending_work_items:
            if mutate_and_test((), command, SECONDS).test_outcome is not TestOutcome.SURVIVED:
                raise RuntimeError(f"{core.path}: a test fails without a mutant, see {copy}/output")
            execute(session, config)
        return {(str(core.path), mutant): _is_killed(result) for mutant, result in session.results}


@contextmanager
def _judge(questions: Iterable[str]) -> Iterator[None]:
    command = (sys.executable, "-m", "tools.mutants.judge", *questions)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as judge:  # noqa: S603  # the plan is our own
        try:
            # It says when it is ready.
            cast("IO[bytes]", judge.stdout).readline()
            yield
        finally:
            judge.kill()


def _is_killed(result: object) -> bool:
    """cosmic-ray calls a mutant killed that it could not try (INCOMPETENT); here it is a survivor to be explained."""
    return getattr(result, "test_outcome", None) is TestOutcome.KILLED


def _copy_project(copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for path in (ROOT / name for name in COPIED):
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy)
    # By their hash: by its time, Python takes two mutants of the same length and second for the same.
    compileall.compile_dir(copy, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


if __name__ == "__main__":
    main(prog_name="python -m tools.mutants")
