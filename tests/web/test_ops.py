"""The ops port of real workers: counted over all of them, over restarts, and with nothing left behind."""

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Sequence

from harness.processes import C42_PROXY, Process, ProcessTestCase, clean_environ, free_port, is_alive, until

TIMEOUT = 10.0


class OpsTestCase(ProcessTestCase):
    """There is no C42 behind it: each event is a 502."""

    def serve(self, ops: str = "", command: Sequence[str] = (), **variables: str) -> Process:
        """A proxy that answers, started by `command` with the proxy's own command line behind it."""
        process = self.begin(ops, command, **variables)
        process.wait_until_answers(f"http://127.0.0.1:{self.port}/")
        return process

    def begin(self, ops: str = "", command: Sequence[str] = (), **variables: str) -> Process:
        """The same, without waiting for it."""
        self.port, self.ops_port = free_port(), free_port()
        environ = {
            "C42_API_URL": "http://127.0.0.1:1/",
            "C42_API_TOKEN": "token-of-this-test",
            "C42_BIND": f"127.0.0.1:{self.port}",
            "C42_OPS_BIND": ops or f"127.0.0.1:{self.ops_port}",
            "C42_CACHE_URL": "memory://",
            "C42_BREAKER_THRESHOLD": "0",
            **variables,
        }
        return self.enterContext(Process([*command, *C42_PROXY, "serve"], clean_environ(**environ)))

    def get(self, port: int, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def errors_counted(self) -> float:
        _, text = self.get(self.ops_port, "/metrics")
        found = re.search(r'c42_proxy_requests_total\{outcome="error",status="502"\} (\S+)', text)
        return float(found[1]) if found else 0

    def processes_shown(self) -> set[str]:
        _, text = self.get(self.ops_port, "/metrics")
        return set(re.findall(r'process_resident_memory_bytes\{worker="(\w+)"\}', text))

    def ask_for_events(self, number: int) -> None:
        for event in range(number):
            self.assertEqual(self.get(self.port, f"/events-with-subscriptions/{event}/")[0], 502)

    def assert_counted_over_all(self, **variables: str) -> None:
        process = self.serve(WEB_CONCURRENCY="3", **variables)
        until(lambda: len(process.descendants()) == 3, "three workers")
        self.ask_for_events(30)
        self.assertEqual(self.errors_counted(), 30)
        until(lambda: self.processes_shown() == {"1", "2", "3", "master"}, "each process in the metrics")
        (pid, _), *_others = process.descendants()
        os.kill(pid, signal.SIGKILL)
        until(lambda: len(process.descendants()) == 3 and (pid, _) not in process.descendants(), "a new worker")
        self.ask_for_events(10)
        self.assertEqual(self.errors_counted(), 40)


class OpsTest(OpsTestCase):
    def test_all_workers(self) -> None:
        """Counters are those of all workers, and go on when one is killed."""
        self.assert_counted_over_all()

    def test_gthread(self) -> None:
        """The same under gunicorn's own threads: it has the ops port, too."""
        self.assert_counted_over_all(GUNICORN_CMD_ARGS="--worker-class gthread")
        self.assertEqual(self.get(self.port, "/metrics")[0], 404)
        self.assertEqual(json.loads(self.get(self.ops_port, "/readyz")[1])["status"], "ready")

    def test_reloads(self) -> None:
        """Reloads lose no count, and what a worker was doing is not counted for the one that follows."""
        process = self.serve(WEB_CONCURRENCY="2")
        until(lambda: len(process.descendants()) == 2, "two workers")
        self.ask_for_events(6)
        for _ in range(3):
            old = process.descendants()
            process.send(signal.SIGHUP)

            def renewed(old: set[tuple[int, str]] = old) -> bool:
                workers = process.descendants()
                return len(workers) == 2 and not workers & old

            until(renewed, "new workers")
        self.assertEqual(self.errors_counted(), 6)
        _, text = self.get(self.ops_port, "/metrics")
        self.assertIn("\nc42_proxy_fetches_in_flight 0.0\n", text)
        self.assertIn("\nc42_proxy_store_up 1.0\n", text)

    def test_health(self) -> None:
        """/healthz and /readyz answer there, nothing of it on the public port, and no event on this one."""
        self.serve()
        self.assertEqual(json.loads(self.get(self.ops_port, "/healthz")[1]), {"status": "alive"})
        self.assertEqual(json.loads(self.get(self.ops_port, "/readyz")[1]), {"status": "ready", "degraded": []})
        for path in ("/metrics", "/healthz", "/readyz"):
            self.assertEqual(self.get(self.port, path)[0], 404)
        self.assertEqual(self.get(self.ops_port, "/events-with-subscriptions/a/")[0], 404)

    def test_lost_store(self) -> None:
        """A lost store degrades, and makes nothing unready."""
        self.serve(C42_CACHE_URL="redis://127.0.0.1:1/0")
        self.ask_for_events(1)
        status, text = self.get(self.ops_port, "/readyz")
        self.assertEqual((status, json.loads(text)), (200, {"status": "degraded", "degraded": ["store"]}))
        _, text = self.get(self.ops_port, "/metrics")
        self.assertIn("\nc42_proxy_store_up 0.0", text)

    def test_side_by_side(self) -> None:
        """With --reuse-port, another proxy may listen on both ports before the first one ends."""
        first = self.serve(GUNICORN_CMD_ARGS="--reuse-port")
        port, ops_port = self.port, self.ops_port
        same = {"C42_BIND": f"127.0.0.1:{port}", "C42_OPS_BIND": f"127.0.0.1:{ops_port}"}
        second = self.begin(GUNICORN_CMD_ARGS="--reuse-port", **same)
        second.wait_until_says("Booting worker")
        first.close()
        for each in (port, ops_port):
            second.wait_until_answers(f"http://127.0.0.1:{each}/healthz")
        self.assertNotIn("C42_OPS_BIND", second.output())

    def test_killed_master(self) -> None:
        """No worker outlives a killed master."""
        for worker_class in ("", "--worker-class gthread"):
            process = self.serve(GUNICORN_CMD_ARGS=worker_class, WEB_CONCURRENCY="2")
            until(lambda process=process: len(process.descendants()) == 2, "two workers")  # type: ignore[misc]  # bound
            self.workers = process.descendants()
            process.send(signal.SIGKILL)
            process.wait()
            until(lambda: not any(map(is_alive, self.workers)), "their end", 5)
