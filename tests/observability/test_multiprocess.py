"""What several workers count together: each in a slot of memory that they share."""

import logging
import os
import unittest
from collections.abc import Callable
from multiprocessing import get_context

import prometheus_client
from prometheus_client.parser import text_string_to_metric_families

from c42_proxy.observability.metrics import Metrics
from c42_proxy.observability.multiprocess import MASTERS_SEGMENT, SEGMENT_BYTES, SEGMENTS, SharedValues

CALLS = "c42_proxy_upstream_call_duration_seconds"


class SharedValuesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.addCleanup(setattr, prometheus_client.values, "ValueClass", prometheus_client.values.ValueClass)
        self.shared = SharedValues()

    def in_worker(self, slot: int, work: Callable[[Metrics], object]) -> None:
        """Do it in a worker of its own, to its end."""
        worker = get_context("fork").Process(target=lambda: work(Metrics(self.shared, slot)))
        worker.start()
        worker.join(10)
        self.assertEqual(worker.exitcode, 0)

    def samples(self, metrics: Metrics) -> dict[str, float]:
        return {
            " ".join([sample.name, *(sample.labels[name] for name in sorted(sample.labels))]): sample.value
            for family in text_string_to_metric_families(metrics.exposition().decode())
            for sample in family.samples
        }

    def test_all_count(self) -> None:
        """Counters and histograms are added up, of workers that have ended, too; one that is replaced counts on."""

        def count(metrics: Metrics) -> None:
            metrics.request("hit", 200).inc(2)
            with metrics.call("events"):
                pass

        for slot in (1, 2, 1):
            self.in_worker(slot, count)
        metrics = Metrics(self.shared, 0)
        count(metrics)
        found = self.samples(metrics)
        self.assertEqual(found["c42_proxy_requests_total hit 200"], 8)
        self.assertEqual(found[f"{CALLS}_count events ok"], 4)
        prefix = f"{CALLS}_bucket events "
        buckets = [value for name, value in found.items() if name.startswith(prefix) and name.endswith(" ok")]
        # How long each took is not known. Each bucket counts what is in those before it.
        self.assertEqual((len(buckets), buckets[-1], buckets), (17, 4, sorted(buckets)))
        self.assertGreater(found[f"{CALLS}_sum events ok"], 0)

    def test_gauges(self) -> None:
        """What goes on is added up or the least of all, of workers that run; of instants, what was told last holds."""

        def work(metrics: Metrics) -> None:
            metrics.fetches_in_flight.inc(3)
            metrics.store_up.set(0)
            metrics.back_off_until.set(50)

        metrics = Metrics(self.shared, 0)
        metrics.back_off_until.set(100)
        metrics.fetches_in_flight.inc()
        self.in_worker(1, work)
        found = self.samples(metrics)
        gauges = [f"c42_proxy_{name}" for name in ("fetches_in_flight", "store_up")]
        self.assertEqual([found[name] for name in gauges], [4, 0])
        self.assertEqual(found["c42_proxy_upstream_wait_until_timestamp_seconds"], 50)
        self.shared.worker_has_ended(1)
        found = self.samples(metrics)
        self.assertEqual([found[name] for name in gauges], [1, 1])
        self.in_worker(1, lambda metrics: metrics.fetches_in_flight.inc())
        self.assertEqual(self.samples(metrics)["c42_proxy_fetches_in_flight"], 2)

    def test_processes(self) -> None:
        """Each worker shows the processes of all, and their master's; one that has ended is gone."""

        def shown(metrics: Metrics) -> set[str]:
            found = self.samples(metrics)
            return {name.split()[1] for name in found if name.startswith("process_resident_memory_bytes ")}

        def work(metrics: Metrics) -> None:
            self.assertEqual({"master", "1"}, shown(metrics))

        metrics = Metrics(self.shared, MASTERS_SEGMENT)
        self.in_worker(1, work)
        self.assertEqual({"master"}, shown(metrics))
        self.shared.worker_has_ended(1)
        self.assertEqual({"master": os.getpid()}, self.shared.pids())

    def test_no_room(self) -> None:
        """More workers than slots, and more metrics than a slot has room for, cost a warning and no answer."""
        with self.assertLogs("c42_proxy.observability.multiprocess", logging.WARNING) as logs:
            self.in_worker(SEGMENTS - 1, lambda metrics: metrics.request("hit", 200).inc())
            metrics = Metrics(self.shared, 0)
            # As in a worker, which inherits where its master counts.
            Metrics(self.shared, SEGMENTS).request("hit", 200).inc()
        self.assertIn(f"more than {SEGMENTS - 1} workers", logs.output[0])
        self.assertEqual(self.samples(metrics)["c42_proxy_requests_total hit 200"], 1)
        metrics = Metrics(self.shared, 0)
        with self.assertLogs("c42_proxy.observability.multiprocess", logging.WARNING) as logs:
            for number in range(SEGMENT_BYTES // 50):
                metrics.request("hit", number).inc()
        self.assertIn("there is no room", logs.output[0])
        self.assertEqual(self.samples(metrics)["c42_proxy_requests_total hit 200"], 2)
