"""CPU, memory and descriptors of each worker and their master, as prometheus_client reads them from `/proc`."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import Metric, ProcessCollector
from prometheus_client.registry import Collector


class Processes(Collector):
    """The usual `process_*`, for each process with a label `worker`. A process that has ended is not shown.

    The label is no process id: each id would be a time series of its own.
    """

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client for each scrape, in any worker."""
        shown: dict[str, Metric] = {}
        for worker, pid in self._pids().items():
            for family in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                metric = shown.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    metric.add_sample(sample.name, {"worker": worker}, sample.value)
        return shown.values()
