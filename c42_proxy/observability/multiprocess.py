"""The only module that uses an undocumented name of prometheus_client: `values.ValueClass`.

An object of this class holds the value of a metric, in the process or in a file that other processes read. We want no
files (ADR 0013): their folder can be full, read-only, removed by the system, or belong to somebody else. Our workers
count in memory that the master shares with them.

The name is checked at the start (`can_count_together`). Without it, each worker counts for itself.
"""

import json
import logging
import math
import mmap
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from threading import Lock
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.registry import Collector

from ..private_names import private_or_public

log = logging.getLogger(__name__)

SEGMENTS = 128
"""How many processes can share the memory."""
MASTERS_SEGMENT = 0
SEGMENT_BYTES = 262_144
"""Four times the size of all our metrics. Unused memory costs nothing."""

_WORD = 8
_MOST_RECENT = "mostrecent"
_COMBINED: Mapping[str, Callable[[Iterable[float]], float]] = {
    "": sum,
    "livesum": sum,
    "livemin": min,
    "max": max,
}
"""How the values of all workers are combined: for counters and histograms, and for each mode of our gauges."""


@cache
def can_count_together() -> bool:
    """Whether workers can count in memory that they share."""

    def private() -> bool:
        check()
        return True

    return private_or_public(
        "prometheus-client", private, public=False, lost="/metrics shows only the worker that happens to answer."
    )


def check() -> None:
    """Make a metric with a value of our own. Raises if the library has changed."""
    values = prometheus_client.values
    usual = values.ValueClass
    segment = _Segment(memoryview(bytearray(SEGMENT_BYTES)))
    values.ValueClass = _value_class(segment)
    try:
        Counter("c42_proxy_check", "Counted once.", registry=CollectorRegistry()).inc()
    finally:
        values.ValueClass = usual
    if [segment.words[place] for key, place in segment if json.loads(key)[1] == "c42_proxy_check_total"] != [1]:
        raise LookupError("metrics have other values")


class SharedValues(Collector):
    """The values of all workers and their master, which makes this object before it forks.

    Raises OSError if there is no memory.
    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, SEGMENTS * SEGMENT_BYTES))
        starts = range(0, SEGMENTS * SEGMENT_BYTES, SEGMENT_BYTES)
        self._segments = [_Segment(memory[start : start + SEGMENT_BYTES]) for start in starts]
        self._pids = memoryview(mmap.mmap(-1, SEGMENTS * _WORD)).cast("q")
        self._own = CollectorRegistry()

    def pids(self) -> dict[str, int]:
        """The processes that count, by the number of their segment."""
        names = {MASTERS_SEGMENT: "master"}
        return {names.get(segment, str(segment)): pid for segment, pid in enumerate(self._pids) if pid}

    def count_in(self, segment: int) -> CollectorRegistry:
        """From now on, this process counts in a segment. Register its metrics in the registry that is returned."""
        if segment < SEGMENTS:
            memory = self._segments[segment]
            self._pids[segment] = os.getpid()
        else:
            log.warning("more than %s workers: /metrics is without the others", SEGMENTS - 1)
            memory = _Segment(memoryview(bytearray(SEGMENT_BYTES)))
        prometheus_client.values.ValueClass = _value_class(memory)
        self._own = CollectorRegistry()
        return self._own

    def worker_has_ended(self, segment: int) -> None:
        """Forget its process, and clear its gauges. Its counters stay."""
        if segment < SEGMENTS:
            self._pids[segment] = 0
            self._segments[segment].clear_live_gauges()

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client: each metric of this worker, with the values of all workers."""
        found: dict[str, dict[_Sample, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
        for segment in self._segments:
            for key, place in segment:
                metric, name, labels, mode = json.loads(key)
                value, timestamp = segment.words[place], segment.words[place + 1]
                if not math.isnan(value):
                    found[metric][name, tuple(sorted(labels.items())), mode].append((timestamp, value))
        for family in self._own.collect():
            samples = {
                (name, labels): max(each)[1] if mode == _MOST_RECENT else _COMBINED[mode](value for _, value in each)
                for (name, labels, mode), each in found[family.name].items()
            }
            combined = Metric(family.name, family.documentation, family.type)
            for name, labels, value in _cumulated(samples) if family.type == "histogram" else _plain(samples):
                combined.add_sample(name, labels, value)
            yield combined


_Labels = tuple[tuple[str, str], ...]
_Sample = tuple[str, _Labels, str]
_Samples = Iterator[tuple[str, dict[str, str], float]]


def _plain(samples: Mapping[tuple[str, _Labels], float]) -> _Samples:
    for (name, labels), value in samples.items():
        yield name, dict(labels), value


def _cumulated(samples: Mapping[tuple[str, _Labels], float]) -> _Samples:
    """A histogram for Prometheus: each bucket includes the smaller ones, and a sample has their total."""
    buckets: dict[tuple[str, _Labels], list[tuple[float, str, float]]] = defaultdict(list)
    for name, labels, value in _plain(samples):
        bound = labels.pop("le", None)
        if bound is None:
            yield name, labels, value
        else:
            buckets[name, tuple(labels.items())].append((float(bound), bound, value))
    for (name, rest), values in buckets.items():
        total = 0.0
        for _, bound, value in sorted(values):
            total += value
            yield name, {**dict(rest), "le": bound}, total
        yield name.removesuffix("_bucket") + "_count", dict(rest), total


class _Segment:
    """One worker's values, which others read: the number of words in use, then the entries, one after another.

    An entry is the length of its key, the key, the value, and its timestamp. One worker at a time writes.
    """

    def __init__(self, memory: memoryview) -> None:
        self.words = memory.cast("d")
        self._text = memory

    def __iter__(self) -> Iterator[tuple[str, int]]:
        at, end = 1, int(self.words[0])
        while at < end:
            length = int(self.words[at])
            start = (at + 1) * _WORD
            place = at + 1 + -(-length // _WORD)
            yield bytes(self._text[start : start + length]).decode(), place
            at = place + 2

    def place(self, key: str) -> int | None:
        """Add an entry. Returns the place of its value; None if there is no room."""
        encoded = key.encode()
        at = max(1, int(self.words[0]))
        start = (at + 1) * _WORD
        place = at + 1 + -(-len(encoded) // _WORD)
        if place + 2 > len(self.words):
            return None
        self.words[at] = len(encoded)
        self._text[start : start + len(encoded)] = encoded
        self.words[place] = self.words[place + 1] = 0.0
        # Last, so that a process that reads meanwhile does not see half an entry.
        self.words[0] = place + 2
        return place

    def clear_live_gauges(self) -> None:
        for key, place in self:
            if json.loads(key)[3].startswith("live"):
                self.words[place] = math.nan


def _value_class(segment: _Segment) -> Any:
    """A value class for prometheus_client whose values are all in this segment."""
    places = dict(segment)
    lock = Lock()

    class SharedValue:
        def __init__(
            self,
            _type: str,
            metric: str,
            name: str,
            labelnames: Sequence[str],
            labelvalues: Sequence[str],
            _help: str,
            multiprocess_mode: str = "",
            **_more: object,
        ) -> None:
            labels = dict(zip(labelnames, labelvalues, strict=True))
            key = json.dumps([metric, name, labels, multiprocess_mode], sort_keys=True)
            self._words = segment.words
            with lock:
                place = places.get(key) or segment.place(key)
            if place is None:
                log.warning("there is no room for %s: it is not in /metrics", key)
                self._words, place = memoryview(bytearray(2 * _WORD)).cast("d"), 0
            else:
                places[key] = place
            self._place = place
            if math.isnan(self._words[place]):
                self._words[place] = 0.0

        def inc(self, amount: float) -> None:
            with lock:
                self._words[self._place] += amount

        def set(self, value: float, timestamp: float | None = None) -> None:
            with lock:
                self._words[self._place] = value
                self._words[self._place + 1] = timestamp or 0.0

        def get(self) -> float:
            return self._words[self._place]

        def set_exemplar(self, _exemplar: object) -> None:
            """We have none."""

        def get_exemplar(self) -> None:
            return None

    return SharedValue
