"""`python -m tools.mutants`: breaks the core in each small way, in a copy, and sees whether a test notices."""

import compileall
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

import click

from harness.processes import ROOT

from .plan import COPIED, CORE, DECIDING, FEATURES_GOAL, GOAL, Core
from .survivors import Mutant, complaints, listed, score, unwritten

FOLDER = ROOT / "build" / "mutants"
"""For each module of the core the copy in which it is broken, and the session: what became of each mutant."""

Fates = dict[Mutant, bool]
"""Whether each mutant was killed."""


@click.command()
@click.option("--features", is_flag=True, help="Ask the features alone, about the modules that decide.")
@click.option("--only", multiple=True, help="The modules whose path has this in it alone; may be repeated.")
@click.option("--again", is_flag=True, help="Do not try what was killed the last time, or is explained in the list.")
@click.option("--on", "on", is_flag=True, help="Go on with a run that was ended, on the code that it began with.")
@click.option("--every", default=1, help="Of each module, try the first of so many mutants, for an estimate.")
@click.option("--after-features", is_flag=True, help="Do not try what --features has just seen killed.")
@click.option("--at-once", default=2, help="How many modules are tried at the same time.")
def main(
    *, features: bool, only: tuple[str, ...], again: bool, on: bool, after_features: bool, every: int, at_once: int
) -> None:
    """Break the core in each small way that means something. Fails if too many of these mutants survive all tests,
    or others than those that survivors.toml explains (with --features: and those that it calls a matter of engineers).
    """
    start = time.monotonic()
    fates: Fates = {}
    wrong: list[str] = []
    folder, plan, goal = (FOLDER / "features", DECIDING, FEATURES_GOAL) if features else (FOLDER, CORE, GOAL)
    # The shortest first: so there are results soon.
    core = [one for one in plan if not only or any(part in str(one.path) for part in only)]
    core.sort(key=lambda one: one.path.stat().st_size)
    if not on:
        _copy_project(folder / "original")
    with ThreadPoolExecutor(at_once) as pool:
        for tried in as_completed(
            [pool.submit(_fates, one, folder, every, partial(_spared, one, again, on, after_features)) for one in core]
        ):
            try:
                tell(tried.result())
                fates |= tried.result()
            except RuntimeError as exc:
                wrong.append(str(exc))
    if features:
        wrong += unwritten(fates)
    else:
        explained = listed()
        wrong += complaints(fates, explained)
        click.echo(f"{sum(mutant in explained for mutant in fates)} survivors are explained; all together:")
    tell(fates, f"all in {(time.monotonic() - start) / 60:.0f} min")
    if not only and every == 1 and score(fates) < goal:
        wrong.append(f"fewer than {goal:.0%} of the mutants were killed")
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


def _spared(core: Core, again: bool, on: bool, after_features: bool, session: Path) -> list[dict[str, Any]]:
    """What earlier runs have found, and this one does not try."""
    earlier = _read(session) if again or on else []
    if again:
        earlier = [one for one in earlier if one["by"] or (str(core.path), one["mutant"]) in listed()]
    if after_features:
        known = {one["mutant"] for one in earlier}
        by_features = _read(FOLDER / "features" / session.name)
        earlier += [one for one in by_features if one["by"] and one["mutant"] not in known]
    return earlier


def _read(session: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in session.read_text().splitlines()] if session.exists() else []


def _fates(core: Core, folder: Path, every: int, spared: Callable[[Path], list[dict[str, Any]]]) -> Fates:
    """Try the mutants of a module. Raises RuntimeError where a test fails without any."""
    copy = folder / "-".join(core.path.with_suffix("").parts[1:])
    session = copy.with_name(f"{copy.name}.jsonl")
    session.write_text("".join(f"{json.dumps(one)}\n" for one in spared(session)))
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "original", copy)
    # Nothing of the project may be imported from anywhere else.
    settings = {"C42_REQUIRE_ALL": "1", "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tools.mutants.judge", str(session), str(every), str(core.path), *core.questions]
    ended = subprocess.run(command, cwd=copy, env=os.environ | settings, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603  # the plan is our own
    if ended.returncode:
        raise RuntimeError(f"{core.path}: {ended.stderr}")
    return {(str(core.path), one["mutant"]): bool(one["by"]) for one in _read(session)}


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
