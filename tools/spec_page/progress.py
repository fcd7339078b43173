"""behave's dots, and after them what broke, in the words of the scenario: for those who run the features."""

from textwrap import indent

from behave.configuration import Configuration
from behave.formatter.base import StreamOpener
from behave.formatter.progress import ScenarioProgressFormatter
from behave.model import Feature, Scenario

from .failure import Failure, failures_of_scenario, own_failures


class FailuresFormatter(ScenarioProgressFormatter):  # type: ignore[misc]  # behave has no types
    """`progress`, which tells which scenarios broke, and here also what was expected and what came."""

    name = "failures"
    description = "A dot for each scenario, and what broke in the words of the scenario"

    def __init__(self, stream_opener: StreamOpener, config: Configuration) -> None:
        super().__init__(stream_opener, config)
        self._scenarios: list[Scenario] = []
        self._feature: Feature | None = None

    def feature(self, feature: Feature) -> None:
        super().feature(feature)
        self._feature = feature

    def scenario(self, scenario: Scenario) -> None:
        super().scenario(scenario)
        self._scenarios.append(scenario)

    def report_current_scenario_failures(self) -> None:
        """Called when a feature has ended."""
        for scenario in self._scenarios:
            if scenario.status.has_failed():
                self._report(scenario, failures_of_scenario(scenario))
        if self._feature is not None:
            self._report(self._feature, own_failures(self._feature))
        self._scenarios.clear()

    def _report(self, element: Feature | Scenario, failures: list[Failure]) -> None:
        for failure in failures:
            self.stream.write(f"\n{element.location}  {element.keyword}: {element.name}\n")
            if failure.step:
                self.stream.write(f"  broken at: {failure.step}\n")
            self.stream.write(indent(failure.message, "  ") + "\n")
            if not failure.explained:
                self.stream.write(indent(failure.traceback, "    ") + "\n")
