"""Prometheus itself accepts our files, and scrapes the stack with them."""

import json
import os
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path
from unittest import TestCase

from harness.needs import needs, one_platform_is_enough
from harness.processes import ROOT, Process, clean_environ, free_port, run, until
from harness.sandbox import TIMEOUT
from harness.stack import StackTest, path_of

FILES = ROOT / "deploy" / "prometheus"


@one_platform_is_enough
@needs("promtool")
class FilesTest(TestCase):
    def promtool(self, *arguments: str) -> None:
        tried = run("promtool", *arguments, environ=dict(os.environ), cwd=FILES)
        self.assertEqual(0, tried.returncode, tried.stdout + tried.stderr)

    def test_valid(self) -> None:
        """The configuration is valid, and so are the rules that it names."""
        self.promtool("check", "config", "prometheus.yml")

    def test_rules(self) -> None:
        """Each of the five alerts fires when it should, alone, and ends."""
        self.promtool("test", "rules", "alerts_test.yml")


@one_platform_is_enough
@needs("prometheus")
@needs("nginx")
@needs("redis-server")
class ScrapeTest(StackTest):
    def setUp(self) -> None:
        """Our configuration, with the stack's hosts as targets, and quicker."""
        text = (FILES / "prometheus.yml").read_text()
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in self.stack.ops_ports)
        for ours, here in (('"127.0.0.1:4243"', targets), ("interval: 15s", "interval: 200ms")):
            self.assertIn(ours, text)
            text = text.replace(ours, here)
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (folder / "alerts.yml").symlink_to(FILES / "alerts.yml")
        (folder / "prometheus.yml").write_text(text)
        self.url = f"http://127.0.0.1:{free_port()}"
        address = self.url.removeprefix("http://")
        words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        prometheus = ["prometheus", *words, f"--web.listen-address={address}"]
        self.enterContext(Process(prometheus, clean_environ())).wait_until_says("Server is ready")

    def query(self, expression: str) -> list[float]:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=TIMEOUT) as response:
            return [float(found["value"][1]) for found in json.load(response)["data"]["result"]]

    def until(self, expression: str, *values: float) -> None:
        until(lambda: self.query(expression) == [*values], f"{expression} is {values}", TIMEOUT)

    def test_scraped(self) -> None:
        """Both hosts are scraped. The first refused token is an alert, though nothing was refused before."""
        self.until('up{job="c42-proxy"}', 1, 1)
        self.until("count(count_over_time(c42_proxy_store_up[1m]) > 1)", 2)
        asked = 'sum(c42_proxy_requests_total{outcome="miss"})'
        (before,) = self.query(asked)
        firing = 'count by (alertname) (ALERTS{alertname="C42TokenRefused", alertstate="firing"})'
        self.assertEqual([], self.query(firing))
        self.ask(path_of(self.c42.new_event()))
        self.until(asked, before + 1)
        self.addCleanup(self.c42.set, fault=None)
        self.c42.set(fault={"status": 401, "call": "events"})
        self.assertEqual(502, self.ask(path_of(self.c42.new_event())).status)
        self.until(firing, 1)
