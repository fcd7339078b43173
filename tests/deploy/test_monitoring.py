"""The dashboard and the alert rules ask for nothing but what the proxy really exposes."""

import json
import re
import unittest
from typing import Any, ClassVar

import yaml
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from c42_proxy.caching.circuit_breaker import OPEN_SECONDS
from c42_proxy.observability.metrics import RESULTS, STATUSES, Metrics
from c42_proxy.settings import Settings
from harness.processes import ROOT

DEPLOY = ROOT / "deploy"
NAME = re.compile(r"(?:c42_proxy|process)_[a-z0-9_]+")
LABEL = re.compile(r'(\w+)="([^"]*)"')


class MonitoringTest(unittest.TestCase):
    samples: ClassVar[dict[str, set[str]]]
    alerts: ClassVar[dict[str, Any]]
    dashboard: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        families = list(text_string_to_metric_families(Metrics().exposition().decode()))
        cls.samples = {sample.name: set(sample.labels) for family in families for sample in family.samples}
        rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
        cls.alerts = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}
        cls.dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())

    def expressions(self) -> list[str]:
        panels = self.dashboard["panels"]
        return [
            *(rule["expr"] for rule in self.alerts.values()),
            *(target["expr"] for panel in panels for target in panel["targets"]),
        ]

    def test_names(self) -> None:
        """Each metric that is asked for is exposed."""
        asked = {name for expression in self.expressions() for name in NAME.findall(expression)}
        self.assertGreater(len(asked), 8)
        self.assertEqual(asked - set(self.samples), set())

    def test_labels(self) -> None:
        """Each label that is asked for exists, and so does its value."""
        values = {"job": {"c42-proxy"}, "outcome": set(STATUSES), "result": {"ok", *RESULTS.values()}}
        for expression in self.expressions():
            for label, value in LABEL.findall(expression):
                self.assertIn(value, values[label], expression)
            for grouping in re.findall(r"by \(([^)]*)\)", expression):
                labels = set().union(*(self.samples[name] for name in NAME.findall(expression)))
                self.assertLessEqual(set(re.split(r",\s*", grouping)), labels, expression)

    def test_nginx(self) -> None:
        """A panel that counts requests, which nginx's own hits are not among, says so, and where these are counted."""
        panels = [
            panel
            for panel in self.dashboard["panels"]
            if any(
                "c42_proxy_requests_total[" in each["expr"] or 'outcome="hit"' in each["expr"]
                for each in panel["targets"]
            )
        ]
        self.assertEqual(2, len(panels))
        for panel in panels:
            self.assertIn("that reach the proxy", panel["title"])
            self.assertIn("how to count them in nginx's log", panel["description"])

    def test_down_all_the_time(self) -> None:
        """While C42 is down, the rule for that holds at every moment, between scrapes and while a trial goes on."""
        (slack,) = map(float, re.findall(r"> time\(\) - ([0-9]+)$", self.alerts["C42Down"]["expr"]))
        scrape, trial, until_somebody_asks = 15.0, Settings(api_token=SecretStr("s3kr3t")).timeout, 2.0
        paused_until = seen = OPEN_SECONDS
        for now in range(600):
            if now >= paused_until + until_somebody_asks + trial:
                paused_until = now + OPEN_SECONDS
            if now % scrape == 0:
                seen = paused_until
            self.assertGreater(seen, now - slack, now)

    def test_six_alerts(self) -> None:
        """Gone, down, token, budget, stale, store: each says what it means, and the operator's page explains it."""
        page = (DEPLOY.parent / "docs" / "operating.md").read_text()
        self.assertEqual(len(self.alerts), 6)
        for name, rule in self.alerts.items():
            self.assertTrue(rule["annotations"]["summary"] and rule["annotations"]["description"])
            self.assertIn(name, page)

    def test_explained(self) -> None:
        """Every metric that is exposed is explained to operators."""
        page = (DEPLOY.parent / "docs" / "operating.md").read_text()
        for name in self.samples:
            family = re.sub("_(bucket|count|sum|created)$", "", name)
            self.assertIn(family, page)
