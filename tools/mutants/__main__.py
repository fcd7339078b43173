"""`python -m mutants`: make each mutant in a copy of the project, and see whether a test notices."""

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import click

from tools.mutants import judge

from .mutations import Mutation, mutations
from .plan import COPIED, CORE, GOAL, Core
from .survivors import Mutant, complaints, listed, score

FOLDER = Path("build/mutants").absolute()
LAST_TIME = FOLDER / "survived.json"
COPIES = 2
"""As many mutants are tried at a time."""

fork = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Verdict:
    """What came of a mutant: "killed", "hung" (killed as well) or "survived"; who found out, and how long it took."""

    mutant: Mutant
    fate: str
    by: str
    seconds: float


Task = tuple[Core, Mutation]


@click.command()
@click.option("--only", multiple=True, help="The modules whose path has this in it alone; may be repeated.")
@click.option("--again", is_flag=True, help="Those that survived the last time alone.")
def main(only: tuple[str, ...], again: bool) -> None:
    """Break the core in each small way that means something. Fails where too many of these mutants survive all tests,
    or others than those that survivors.toml explains. Each verdict is written to build/mutants/verdicts.
    """
    os.nice(19)
    start = time.monotonic()
    core = [one for one in CORE if not only or any(part in str(one.path) for part in only)]
    tasks = [(one, mutation) for one in core for mutation in mutations(one.path)]
    if again:
        before = json.loads(LAST_TIME.read_text())
        tasks = [task for task in tasks if [task[1].mutant.module, str(task[1].mutant)] in before]
    for number in range(COPIES):
        copy_project(number)
    with ProcessPoolExecutor(1, fork) as process:
        try:
            times = process.submit(usual_times, core).result()
        except RuntimeError as exc:
            raise click.ClickException(str(exc)) from exc
    click.echo(f"{len(tasks)} mutants; without them, the tests pass ({time.monotonic() - start:.0f} s)")
    fates = {}
    with (FOLDER / "verdicts").open("w", buffering=1) as log:
        for verdict in verdicts(tasks, times):
            mutant, killed = verdict.mutant, verdict.fate != "survived"
            fates[mutant] = killed
            log.write(f"{verdict.fate}\t{verdict.seconds:.1f} s\t{verdict.by}\t{mutant.module}\t{mutant}\n")
            if not killed:
                click.echo(f"survived: {mutant.module} {mutant}")
    LAST_TIME.write_text(json.dumps([(mutant.module, str(mutant)) for mutant, killed in fates.items() if not killed]))
    tell(fates, time.monotonic() - start)
    wrong = complaints(fates, listed())
    if not (only or again) and score(fates) < GOAL:
        wrong.append(f"fewer than {GOAL:.0%} of the mutants were killed")
    for line in wrong:
        click.echo(line)
    sys.exit(1 if wrong else 0)


def tell(fates: dict[Mutant, bool], seconds: float) -> None:
    """The score of each module, and of all together."""
    made = Counter(mutant.module for mutant in fates)
    killed = Counter(mutant.module for mutant, was_killed in fates.items() if was_killed)
    for module, number in made.items():
        click.echo(f"{module:30} {killed[module]:5} of {number:4} killed {killed[module] / number:7.1%}")
    click.echo(
        f"{'all':30} {killed.total():5} of {made.total():4} killed {score(fates):7.1%} in {seconds / 60:.0f} min"
    )


def questions(core: Core) -> list[judge.Question]:
    """Who is asked about a module of the core, in this order."""
    return [
        *(judge.Unit(name) for name in core.tests),
        *(judge.Features(driver) for driver in core.drivers),
        *(judge.Unit(name) for name in core.others),
    ]


def copy_folder(number: int) -> Path:
    return FOLDER / f"copy-{number}"


def copy_project(number: int) -> None:
    copy = copy_folder(number)
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in COPIED:
        if Path(name).is_dir():
            # What Python compiled before would be taken for a mutant of the same length and second.
            shutil.copytree(name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(name, copy)


def usual_times(core: Iterable[Core]) -> judge.Times:
    """How long each test takes without a mutant. Raises RuntimeError where one fails."""
    copy = copy_folder(0)
    judge.prepare(copy)
    everyone = dict.fromkeys(question for one in core for question in questions(one))
    times: judge.Times = {}
    for question in everyone:
        times.update(judge.measured(question, copy.with_suffix(".output")))
    return times


def verdicts(tasks: list[Task], times: judge.Times) -> Iterator[Verdict]:
    """Try all mutants, each copy one at a time."""
    todo: SimpleQueue[int | None] = fork.SimpleQueue()
    done: SimpleQueue[Verdict] = fork.SimpleQueue()

    def work(copy: Path) -> None:
        judge.prepare(copy)
        while (number := todo.get()) is not None:
            done.put(tried(copy, *tasks[number], times))

    workers: list[ForkProcess] = [fork.Process(target=work, args=(copy_folder(number),)) for number in range(COPIES)]
    for worker in workers:
        worker.start()
    try:
        for number in [*range(len(tasks)), *(None for _ in workers)]:
            todo.put(number)
        for _ in tasks:
            yield done.get()
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def tried(copy: Path, core: Core, mutation: Mutation, times: judge.Times) -> Verdict:
    """Break the copy, ask all who may notice until one does, and mend it."""
    start = time.monotonic()
    module = copy / core.path
    original = module.read_text()
    module.write_text(mutation.code)
    try:
        for question in questions(core):
            fate = judge.ask(question, times, copy.with_suffix(".output"))
            if fate == "killed":
                # On a busy machine, a test may fail by itself: it has noticed nothing unless it fails again.
                fate = judge.ask(question, times, copy.with_suffix(".output"))
            if fate is not None:
                return Verdict(mutation.mutant, fate, str(question), time.monotonic() - start)
        return Verdict(mutation.mutant, "survived", "nobody", time.monotonic() - start)
    finally:
        module.write_text(original)


if __name__ == "__main__":
    main(prog_name="python -m mutants")
