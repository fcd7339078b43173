"""Prometheus itself accepts our files, and scrapes the stack with them."""

import json
import os
import signal
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import TestCase

from harness.needs import needs, one_platform_is_enough
from harness.processes import ROOT, Process, clean_environ, free_port, run, until
from harness.sandbox import TIMEOUT
from harness.stack import StackTest, ask, path_of

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
        """Each of the six alerts fires when it should, alone, and ends."""
        self.promtool("test", "rules", "alerts_test.yml")


@one_platform_is_enough
@needs("prometheus")
@needs("nginx")
@needs("redis-server")
class ScrapeTest(StackTest):
    QUICKER = (
        ("interval: 15s", "interval: 200ms"),
        ("for: 1m", "for: 1s"),
        ("for: 5m", "for: 1s"),
        ("[5m]", "[2s]"),
        ("[1h]", "[2s]"),
        ("> 4000", "> 20"),
        ("time() - 30", "time() - 2"),
    )
    """In our files, and here: nobody waits for five minutes. `alerts_test.yml` tries the numbers as they are."""

    def setUp(self) -> None:
        """Our configuration and our rules, with the stack's hosts as targets, and quicker."""
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in self.stack.ops_ports)
        changes = {('"127.0.0.1:4243"', targets), *self.QUICKER}
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("alerts.yml", "prometheus.yml"):
            text = (FILES / name).read_text()
            found = {(ours, here) for ours, here in changes if ours in text}
            for ours, here in found:
                text = text.replace(ours, here)
            changes -= found
            (folder / name).write_text(text)
        self.assertEqual(set(), changes)
        self.url = f"http://127.0.0.1:{free_port()}"
        address = self.url.removeprefix("http://")
        words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        prometheus = ["prometheus", *words, f"--web.listen-address={address}"]
        self.enterContext(Process(prometheus, clean_environ())).wait_until_says("Server is ready")
        self.until('up{job="c42-proxy"}', 1, 1)

    def query(self, expression: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=TIMEOUT) as response:
            found: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return found

    def until(self, expression: str, *values: float) -> None:
        def found() -> bool:
            return [float(each["value"][1]) for each in self.query(expression)] == [*values]

        until(found, f"{expression} is {values}", TIMEOUT)

    def firing(self) -> set[str]:
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}

    def until_firing(self, *names: str, ask: Callable[[], object] = lambda: None) -> None:
        """Wait until these alerts fire, and no other; `ask` goes on meanwhile."""
        until(lambda: (ask(), self.firing())[1] == {*names}, f"the alerts {names}", TIMEOUT)

    def ask_new(self) -> int:
        return self.ask(path_of(self.c42.new_event())).status

    def ask_ready(self) -> bool:
        """Let the hosts read in the store, at once so that each worker takes a request; C42 is not asked for that."""
        with ThreadPoolExecutor(8) as threads:
            answers = threads.map(lambda port: ask(port, "/readyz"), self.stack.ops_ports * 4)
            return {each.status for each in answers} == {200}

    def test_each_worker(self) -> None:
        """Both hosts are scraped, and of each host its master and both of its workers."""
        self.until("count(process_resident_memory_bytes)", 6)
        self.until("count by (worker) (process_cpu_seconds_total > 0)", 2, 2, 2)

    def test_alerts(self) -> None:
        """Each of the six alerts fires and ends, also for what happens for the first time."""
        self.addCleanup(self.c42.set, fault=None)
        # Else `increase()` would not see the step to 1.
        self.until("count(count_over_time(c42_proxy_store_up[1m]) > 1)", 2)
        self.until_firing()

        # One of both hosts is stopped, not ended: nothing would start it again.
        os.killpg(self.stack.hosts[0], signal.SIGSTOP)
        try:
            self.until_firing("C42ProxyGone")
        finally:
            os.killpg(self.stack.hosts[0], signal.SIGCONT)
        self.until_firing()

        with self.c42.with_fault(status=401, call="events"):
            self.assertEqual(502, self.ask_new())
            self.until_firing("C42TokenRefused")
        self.until_firing()

        self.assertEqual({200}, {self.ask_new() for _ in range(15)})
        self.until_firing("C42CallBudget")
        self.until_firing()

        known = path_of(self.c42.new_event())
        answers = {self.ask(known).status}
        with self.c42.with_fault(status=500):
            for _ in range(5):
                self.assertEqual(502, self.ask_new())
            self.until_firing("C42Down", "C42ProxyServesStale", ask=lambda: answers.add(self.ask(known).status))
        self.assertEqual({200}, answers)
        with closing(socket.create_connection(("127.0.0.1", self.stack.redis_port), timeout=TIMEOUT)) as redis:
            # It ends by itself: Redis hears no UNPAUSE meanwhile.
            redis.sendall(b"CLIENT PAUSE 6000 ALL\r\n")
            until(lambda: self.ask_ready() and "C42ProxyStoreLost" in self.firing(), "a lost store", TIMEOUT)
        # Not only no alert: there is none while a scrape fails either.
        used = "count(c42_proxy_store_up == 1) == 2"
        until(lambda: self.ask_ready() and self.query(used), "a store that is used again", TIMEOUT)
        self.until_firing()
        # The circuit breaker is closed again for the tests that follow.
        until(lambda: self.ask_new() == 200, "a closed breaker", TIMEOUT)
