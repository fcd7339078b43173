"""The specification of another commit, and what of it held there: its features are run with its own code."""

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from behave import model
from behave.exception import ConfigError
from behave.parser import parse_feature

from harness.processes import clean_environ

from .specification import Part, Specification, specification
from .tried import Commit, commit
from .verdict import Outcome, Verdict

RUN_SECONDS = 900
HELD = {"passed"}
NOT_RUN = {"skipped", "untested", "untested_pending", "untested_undefined", ""}


@dataclass(frozen=True)
class Earlier:
    """The other commit. `verdicts` are those of its scenarios by their place; None if its features could not be run."""

    commit: Commit
    specification: Specification
    verdicts: Mapping[str, Verdict] | None

    def outcome(self, rule: Part) -> Outcome | None:
        """What came of a rule of its specification."""
        if self.verdicts is None:
            return None
        scenarios = [one for part in rule.parts for one in _rows(part.source)]
        return Outcome([self.verdicts.get(str(scenario.location), Verdict.NOT_RUN) for scenario in scenarios])


def earlier(name: str) -> Earlier:
    """The commit of that name. Raises ConfigError, which behave tells in one line, if it is not in this clone."""
    found = commit(name)
    if found is None:
        raise ConfigError(
            f"There is no commit {name} in this clone. A shallow clone lacks commits: git fetch --unshallow."
        )
    with tempfile.TemporaryDirectory() as folder:
        files = subprocess.run(["git", "archive", found.id], capture_output=True, check=True, timeout=60).stdout  # noqa: S603, S607  # our own arguments, and the Git of whoever runs this
        with tarfile.open(fileobj=BytesIO(files)) as archive:
            archive.extractall(folder, filter="data")
        features = [
            parse_feature(path.read_text("utf-8"), filename=str(path.relative_to(folder)))
            for path in sorted(Path(folder, "features").rglob("*.feature"))
        ]
        return Earlier(found, specification(features), _verdicts(Path(folder)))


def _verdicts(folder: Path) -> dict[str, Verdict] | None:
    """What came of each scenario of the commit in that folder, with the libraries that are installed here."""
    results = folder / "results.json"
    command = [sys.executable, "-m", "behave", "--no-summary", "--format", "json", "--outfile", str(results)]
    try:
        subprocess.run(command, cwd=folder, env=clean_environ(), capture_output=True, timeout=RUN_SECONDS, check=False)  # noqa: S603  # our own command line
        features = json.loads(results.read_text("utf-8"))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    found = [one for feature in features for one in feature.get("elements", []) if one["type"] == "scenario"]
    return {one["location"]: _verdict(one) for one in found} or None


def _verdict(scenario: dict[str, Any]) -> Verdict:
    """By its steps: behave loses the status of the last scenario of a rule."""
    results = {step.get("result", {}).get("status", "") for step in scenario["steps"]}
    if results == HELD:
        return Verdict.HELD
    return Verdict.NOT_RUN if results <= HELD | NOT_RUN else Verdict.BROKEN


def _rows(source: model.Feature | model.Rule | model.Scenario | None) -> list[model.Scenario]:
    return list(source.scenarios) if isinstance(source, model.ScenarioOutline) else [source]
