"""One module for each group of measurements; each has `measure(bench)`, which gives a section of the report."""

from collections.abc import Callable, Mapping

from tools.bench.bench import Bench
from tools.bench.measures import costs, growth, hits, misses, startup, tiers, two_workers, waiting, workers
from tools.bench.results import Section

MEASURES: Mapping[str, Callable[[Bench], Section]] = {
    "hits": hits.measure,
    "waiting": waiting.measure,
    "misses": misses.measure,
    "tiers": tiers.measure,
    "growth": growth.measure,
    "startup": startup.measure,
    "two-workers": two_workers.measure,
    "costs": costs.measure,
    "workers": workers.measure,
}
