"""Private names that libraries may change: without them, the proxy still answers, and logs the loss once."""

import http.client
import json
import signal
import sys
import time
import unittest
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import redis
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import ThreadWorker
from redis import cluster

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.server import master
from c42_proxy.stores import redis_connection, redis_nodes
from harness.needs import needs
from harness.processes import Process, clean_environ, free_port, run, until
from harness.redis_server import RedisServer
from harness.renamed import renamed
from harness.wire import DAWDLING, EVENT_ID, Wire, but, c42, people

TIMEOUT = 10.0
CHANGED = "no longer has the private names"


def of_connection(*, tls: bool) -> str:
    return (
        f"from c42_proxy.stores.redis_connection import connection_class\nchoice = lambda: connection_class(tls={tls})"
    )


UVICORN = """
    HttpToolsProtocol ServerState access_log capture_signals cycle disconnected flow
    keep_alive message_event more_body on_headers_complete on_response_complete response_complete response_started scope
    send_400_response should_exit shutdown transport write_paused
"""
URLLIB3 = """
    ConnectionCls HTTPConnectionPool LineTooLong QueueCls _dns_host _new_conn _tunnel _tunnel_headers _tunnel_host begin
    fp headers msg pool_classes_by_scheme pools response_class status
"""

CHOICES = (
    ("uvicorn", UVICORN, "from c42_proxy.server.worker import http_and_server as choice"),
    ("gunicorn", "manage_workers", "from c42_proxy.server.master import controls_master as choice"),
    ("a2wsgi", "executor", "from c42_proxy.web.a2wsgi_threads import takes_our_threads as choice"),
    ("http.client+urllib3", URLLIB3, "from c42_proxy.upstream.transport import adapter_class as choice"),
    ("queue", "_put mutex", "from c42_proxy.upstream.transport import adapter_class as choice"),
    (
        *("prometheus_client", "ValueClass"),
        "from c42_proxy.observability.multiprocess import can_count_together as choice",
    ),
    (
        "redis",
        "nodes_manager",
        "from c42_proxy.stores.redis_nodes import controls_asking as choice",
    ),
    ("redis", "_connect", of_connection(tls=False)),
    ("redis", "ca_certs", of_connection(tls=True)),
)
"""A library, names in it, and the function that chooses between the private and the public way."""


LOOKED_FOR: tuple[tuple[Callable[[], None], object, str], ...] = (
    (master.check, Arbiter, "START_CTX WORKERS num_workers reexec spawn_worker"),
    (master.check, ThreadWorker, "get_thread_pool"),
    (redis_nodes.check, cluster.NodesManager, "initialize"),
    (redis_nodes.check, cluster, "NodesManager"),
)
"""A check that only looks for names, and in what it looks for them."""


class CheckTest(unittest.TestCase):
    def test_each_name_that_is_looked_for(self) -> None:
        """Where one of the names is gone, the check notices."""
        for check, place, names in LOOKED_FOR:
            check()
            for name in names.split():
                with self.subTest(name), ExitStack() as stack:
                    stack.callback(setattr, place, name, vars(place)[name])
                    delattr(place, name)
                    self.assertRaises((LookupError, AttributeError), check)

    def test_connects_in_another_way(self) -> None:
        """Where redis-py connects without the name that we replace, the check notices."""

        class Changed(redis.Connection):
            def connect(self) -> None:
                pass

        self.assertRaises(LookupError, redis_connection.check, Changed)

    def test_each_name(self) -> None:
        """Where one of the names is gone, the check notices, and the public way is taken, with a warning."""
        cases = [(library, name, choice) for library, names, choice in CHOICES for name in names.split()]
        with ThreadPoolExecutor(4) as pool:
            results = pool.map(lambda case: self.choose(*case), cases)
            for (library, name, _choice), (chosen, said) in zip(cases, results, strict=True):
                with self.subTest(library=library, name=name):
                    self.assertNotIn("c42_proxy", chosen)
                    self.assertNotEqual("True", chosen)
                    self.assertEqual(said.count(CHANGED), 1, said)

    def test_nothing_is_gone(self) -> None:
        """With the libraries that are installed, nobody takes the public way."""
        for library, _names, choice in CHOICES:
            with self.subTest(choice):
                chosen, said = self.choose(library, "no_such_name", choice)
                self.assertTrue("c42_proxy" in chosen or chosen == "True", chosen)
                self.assertEqual(said, "")

    def choose(self, library: str, name: str, choice: str) -> tuple[str, str]:
        """What is chosen, the second time that it is asked for, and what was said meanwhile."""
        code = f"from harness.renamed import rename\nrename('{library}:{name}')\n{choice}\nchoice(); print(choice())"
        ended = run(sys.executable, "-c", code, environ=clean_environ(), seconds=60)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        return ended.stdout.strip(), ended.stderr


@needs("redis-server")
class PublicWayTest(unittest.TestCase):
    """The proxy with two workers, with a name gone in each library whose private names it knows."""

    def setUp(self) -> None:
        self.wire = self.enterContext(Wire(c42("Coffee", people(150))))
        redis = self.enterContext(RedisServer())
        self.port, self.ops = free_port(), free_port()
        command = renamed(
            *("uvicorn:cycle", "gunicorn:manage_workers", "a2wsgi:executor", "http.client+urllib3:fp"),
            *("prometheus_client:ValueClass", "redis:_connect"),
        )
        environ = clean_environ(
            C42_API_URL=self.wire.url,
            C42_API_TOKEN=SANDBOX_TOKEN,
            C42_BIND=f"127.0.0.1:{self.port}",
            C42_OPS_BIND=f"127.0.0.1:{self.ops}",
            C42_CACHE_URL=redis.url,
            C42_TIMEOUT="1",
            WEB_CONCURRENCY="2",
        )
        self.proxy = self.enterContext(Process([*command, "serve"], environ))
        until(lambda: self.proxy.output().count("Booting worker") == 2, "two workers")
        self.proxy.wait_until_answers(f"http://127.0.0.1:{self.port}/")

    def ask(self, event_id: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            connection.request(method, f"/events-with-subscriptions/{event_id}/")
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def test_answers(self) -> None:
        """Answers are right, failures come in time, metrics are there, a stop is clean. Each loss is logged once."""
        expected = {"id": EVENT_ID, "title": "Coffee", "names": [str(number) for number in range(150)]}
        for outcome in ("fwd=uri-miss; stored", "hit", "hit"):
            status, headers, body = self.ask(EVENT_ID)
            self.assertEqual((status, json.loads(body)), (200, expected))
            self.assertIn(outcome, headers["cache-status"])
            self.assertEqual(len(body), int(headers["content-length"]))
            self.assertIn("date", headers)
        status, headers, body = self.ask(EVENT_ID, "HEAD")
        self.assertEqual((status, body), (200, b""))
        self.assertEqual(self.ask("a.b")[0], 404)

        self.wire.behaviour = but(c42(), {"event": DAWDLING["a body that drips"]})
        began = time.monotonic()
        self.assertEqual(self.ask("slow")[0], 504)
        self.assertLess(time.monotonic() - began, 2)

        with urllib.request.urlopen(f"http://127.0.0.1:{self.ops}/metrics", timeout=TIMEOUT) as response:
            self.assertIn(b"c42_proxy_build_info", response.read())

        self.proxy.send(signal.SIGTERM)
        self.assertEqual(self.proxy.wait(), 0, self.proxy.output())
        said = self.proxy.output()
        for library in ("uvicorn", "gunicorn", "a2wsgi", "urllib3", "prometheus-client", "redis"):
            self.assertRegex(said, rf"{library} [0-9.]+ \(Python [0-9.]+\) {CHANGED}")
        self.assertEqual(said.count(CHANGED), 6, said)
        self.assertNotIn("Traceback", said)
