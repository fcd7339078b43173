"""Who asks the nodes of a cluster for each other, and who waits for that."""

import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import redis

from c42_proxy.stores.redis_nodes import ask_one_at_a_time

PATIENCE = 10.0


class NodesTest(unittest.TestCase):
    """redis-py's cluster, as far as it is used here: asking its nodes is one call."""

    def setUp(self) -> None:
        self.asked = 0
        self.asking, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.addCleanup(self.go_on.set)
        self.cluster = SimpleNamespace(nodes_manager=SimpleNamespace(initialize=self.ask))
        ask_one_at_a_time(self.cluster)

    def ask(self) -> None:
        self.asked += 1
        self.asking.set()
        self.go_on.wait(PATIENCE)

    def test_one_after_the_other(self) -> None:
        """Each failure asks again."""
        for number in range(1, 4):
            self.cluster.nodes_manager.initialize()
            self.assertEqual(number, self.asked)

    def test_at_once(self) -> None:
        """A thread that wants to ask while another one does takes that one's answer."""
        self.go_on.clear()
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(self.cluster.nodes_manager.initialize)
            self.assertTrue(self.asking.wait(PATIENCE))
            second = threads.submit(self.cluster.nodes_manager.initialize)
            with self.assertRaises(TimeoutError):
                second.result(0.05)
            self.go_on.set()
            first.result(PATIENCE)
            second.result(PATIENCE)
        self.assertEqual(1, self.asked)

    def test_not_for_long(self) -> None:
        """It waits no longer than an operation of a store may take."""
        self.go_on.clear()
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(self.cluster.nodes_manager.initialize)
            self.assertTrue(self.asking.wait(PATIENCE))
            with self.assertRaises(redis.ConnectionError):
                threads.submit(self.cluster.nodes_manager.initialize).result(PATIENCE)
            self.go_on.set()
            first.result(PATIENCE)
        self.assertEqual(1, self.asked)

    def test_failure(self) -> None:
        """If asking fails, whoever asks next asks anew."""

        def fail() -> None:
            self.asked += 1
            raise redis.ConnectionError("no node answers")

        self.cluster.nodes_manager.initialize = fail
        ask_one_at_a_time(self.cluster)
        for number in (1, 2):
            with self.assertRaises(redis.ConnectionError):
                self.cluster.nodes_manager.initialize()
            self.assertEqual(number, self.asked)
