"""`scripts/judge -- COMMAND`: the features against any program, rule by rule, and the page."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from textwrap import indent
from typing import NoReturn

import click
from behave.configuration import Configuration
from behave.model import Rule, Scenario
from behave.runner import Runner

from features import drivers
from features.drivers.command import Command
from harness.processes import ROOT
from tools.spec_page.failure import failures_of_scenario
from tools.spec_page.verdict import Outcome, Verdict, of_scenario


@dataclass(frozen=True)
class Judged:
    """A rule. It is held if each of its scenarios is that could be told of the program, and one at least."""

    name: str
    is_of_exercise: bool
    scenarios: list[Scenario]

    @property
    def outcome(self) -> Outcome:
        return Outcome([of_scenario(scenario) for scenario in self.scenarios])

    @property
    def verdict(self) -> Verdict:
        return self.outcome.of_what_ran


@click.command(options_metavar="[OPTIONS] --")
@click.argument("command", nargs=-1, required=True)
@click.option("--exercise", is_flag=True, help="By the rules of the original exercise alone.")
@click.option(
    "--monotonic", is_flag=True, help="Let its monotonic clock jump, too: its cache, or a timer, lives by it."
)
@click.option("--page", default="build/judged.html", show_default=True, help="Where the page is written.")
def main(command: tuple[str, ...], page: str, *, exercise: bool, monotonic: bool) -> None:
    """Judge the program that COMMAND starts, for example: scripts/judge --exercise -- python3 my_proxy.py

    It must serve the one address on 127.0.0.1, at the port in the variable PORT. C42 is at the address in C42_API_URL,
    which ends with /api/v2/, and wants the token in C42_API_TOKEN. A C compiler (cc) is needed once, for the clock.
    Exit status: 0 if no rule is broken, 1 if one is, 2 if the program cannot be judged, and says why in a sentence.
    """
    if lacks := drivers.lacks("command", "memory"):
        _give_up(f"{lacks} is not there.")
    written = Path(page).absolute()
    written.parent.mkdir(parents=True, exist_ok=True)
    # Whatever is under way then, the program is ended. In the background of a shell, SIGINT would be ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with closing(Command(shlex.join(command), Path.cwd(), monotonic=monotonic)) as program:
            _judge(program, shlex.join(command), written, exercise=exercise, monotonic=monotonic)
    except KeyboardInterrupt:
        _give_up("The judgement was broken off.")


def _judge(program: Command, command: str, written: Path, *, exercise: bool, monotonic: bool) -> NoReturn:
    if why_not := program.why_not():
        _give_up(why_not)
    options = ["--no-summary", "--no-color", "--format", "page", "--outfile", str(written)]
    os.chdir(ROOT)
    # What has been started is judged.
    drivers.STARTS["command"] = lambda _store, _options: program
    configuration = Configuration(options + ["--tags=exercise"] * exercise)
    # Not among the options: behave takes quotation marks away.
    configuration.userdata.update({"driver": "command", "command": command})
    run = Runner(configuration)
    with redirect_stdout(StringIO()):
        run.run()
    if run.aborted:
        raise KeyboardInterrupt
    rules = [judged for judged in _judged(run) if judged.is_of_exercise or not exercise]
    for rule in rules:
        click.echo(f"{rule.outcome.word:7} {'exercise  ' if rule.is_of_exercise else '          '}{rule.name}")
        for scenario in rule.scenarios:
            for failure in failures_of_scenario(scenario)[:1]:
                click.echo(f"  - {scenario.name.partition(' -- @')[0]}\n{indent(failure.message, '    ')}")
    click.echo(f"The exercise: {_score([rule for rule in rules if rule.is_of_exercise])}")
    if not exercise:
        click.echo(f"All: {_score(rules)}")
    broken = [rule for rule in rules if rule.is_of_exercise and rule.verdict == Verdict.BROKEN]
    if not monotonic and any("4 minutes 12 s" in rule.name for rule in broken):
        click.echo("If its cache lives by the monotonic clock, or by timers, judge it with --monotonic.")
    for note in program.notes:
        click.echo(note)
    click.echo(f"The page: {written.as_uri()}")
    sys.exit(any(rule.verdict == Verdict.BROKEN for rule in rules))


def _give_up(why: str) -> NoReturn:
    click.echo(why, err=True)
    sys.exit(2)


def _judged(run: Runner) -> Iterator[Judged]:
    for feature in run.features:
        for rule in feature.run_items:
            if isinstance(rule, Rule):
                yield Judged(rule.name, "exercise" in rule.tags, list(rule.walk_scenarios()))


def _score(rules: list[Judged]) -> str:
    told = [rule for rule in rules if rule.verdict != Verdict.NOT_RUN]
    untold = f", and {len(rules) - len(told)} cannot be told" if len(told) < len(rules) else ""
    return f"{sum(rule.verdict == Verdict.HELD for rule in told)} of {len(told)} rules held{untold}."


if __name__ == "__main__":
    main()
