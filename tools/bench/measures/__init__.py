"""One module for each group of measurements; each has `measure(bench)`, which gives a section of the page."""

from collections.abc import Callable, Mapping

from tools.bench.bench import Bench
from tools.bench.measures import growth, hits, hosts, misses, tiers, waiting
from tools.bench.results import Section

MEASURES: Mapping[str, Callable[[Bench], Section]] = {
    module.__name__.rpartition(".")[2]: module.measure for module in (hits, waiting, misses, tiers, growth, hosts)
}
