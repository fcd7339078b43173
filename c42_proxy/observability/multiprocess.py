"""The only module that uses a name of prometheus_client which it does not document: `values.ValueClass`.

It is what holds the value of each metric: by default one for the process, or one in a file, in a folder that another
process can read. We want neither file nor folder (ADR 0013): they can be full, read-only, removed by the system, or
belong to somebody else. The workers count in memory that they share from their master on.

The name is checked at the start (`can_count_together`). Without it, each worker counts for itself.
"""

import json
import logging
import math
import mmap
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

SLOTS = 128
"""So many processes at a time may count together."""
MASTERS_SLOT = 0
SLOT_BYTES = 262_144
"""Four times what all our metrics take. Memory that is not used takes none of the machine's."""

_WORD = 8
_MOST_RECENT = "mostrecent"
_COMBINED: Mapping[str, Callable[[Iterable[float]], float]] = {
    "": sum,
    "livesum": sum,
    "livemin": min,
    "max": max,
}
"""How the values of all workers become one: for counters and histograms, and for each mode of a gauge that we use."""


@cache
def can_count_together() -> bool:
    """Whether workers can count in memory that they share."""

    def private() -> bool:
        check()
        return True

    return private_or_public(
        "prometheus-client", private, public=False, lost="/metrics tells what one worker has counted, any of them."
    )


def check() -> None:
    """Make a metric with a value of our own. Raises where the library has changed."""
    values = prometheus_client.values
    usual = values.ValueClass
    slot = _Slot(memoryview(bytearray(SLOT_BYTES)))
    values.ValueClass = _value_class(slot)
    try:
        Counter("c42_proxy_check", "Counted once.", registry=CollectorRegistry()).inc()
    finally:
        values.ValueClass = usual
    if [slot.words[place] for key, place in slot if json.loads(key)[1] == "c42_proxy_check_total"] != [1]:
        raise LookupError("metrics have values of their own")


class SharedValues(Collector):
    """The values of all workers and their master, which makes it before it forks.

    Raises OSError where there is no memory.
    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, SLOTS * SLOT_BYTES))
        starts = range(0, SLOTS * SLOT_BYTES, SLOT_BYTES)
        self._slots = [_Slot(memory[start : start + SLOT_BYTES]) for start in starts]
        self._own = CollectorRegistry()

    def count_in(self, slot: int) -> CollectorRegistry:
        """From here on, metrics of this process are counted in this slot. They belong into the registry returned."""
        if slot < SLOTS:
            prometheus_client.values.ValueClass = _value_class(self._slots[slot])
        else:
            log.warning("more than %s workers: what the others count is not in /metrics", SLOTS - 1)
        self._own = CollectorRegistry()
        return self._own

    def forget_what_goes_on(self, slot: int) -> None:
        """A worker has ended: what it was doing, it no longer does. What it has counted stays."""
        if slot < SLOTS:
            self._slots[slot].forget_what_goes_on()

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client: each metric that this worker knows, with the values of all workers."""
        found: dict[str, dict[_Sample, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
        for slot in self._slots:
            for key, place in slot:
                metric, name, labels, mode = json.loads(key)
                value, told_at = slot.words[place], slot.words[place + 1]
                if not math.isnan(value):
                    found[metric][name, tuple(sorted(labels.items())), mode].append((told_at, value))
        for family in self._own.collect():
            samples = {
                (name, labels): max(told)[1] if mode == _MOST_RECENT else _COMBINED[mode](value for _, value in told)
                for (name, labels, mode), told in found[family.name].items()
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
    """A histogram as Prometheus wants it: each bucket with all that is in the smaller ones, and their number."""
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


class _Slot:
    """One worker's values, of which others read: how many words are in use, then the entries, one behind the other.

    An entry is the length of its key, the key, the value, and when it was told. One worker at a time writes.
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
        """Where a new entry's value is; None where there is no room."""
        encoded = key.encode()
        at = max(1, int(self.words[0]))
        start = (at + 1) * _WORD
        place = at + 1 + -(-len(encoded) // _WORD)
        if place + 2 > len(self.words):
            return None
        self.words[at] = len(encoded)
        self._text[start : start + len(encoded)] = encoded
        self.words[place] = self.words[place + 1] = 0.0
        # Last: whoever reads meanwhile sees nothing of it.
        self.words[0] = place + 2
        return place

    def forget_what_goes_on(self) -> None:
        for key, place in self:
            if json.loads(key)[3].startswith("live"):
                self.words[place] = math.nan


def _value_class(slot: _Slot) -> Any:
    """A class as prometheus_client makes its values of, all in one slot."""
    places = dict(slot)
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
            self._words = slot.words
            with lock:
                place = places.get(key) or slot.place(key)
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
