"""What is counted, and what is read when somebody scrapes, as Prometheus has it. Knows no forecast and no door.

Whoever counts does so by columns, once for a batch: numpy sorts a whole column into buckets. The series of a metric are
bounded: by a closed list of label values, or by SERIES_MAX. Everything happens in one thread, that of the loop.

    telemetry = Telemetry()
    drawn = telemetry.codes("candlecast_cards_total", "Cards drawn.", "colour", ("RED", "BLACK"))
    drawn.add(np.array([0, 1, 1]))
    telemetry.gauge("candlecast_deck_cards", "Cards left.", lambda: len(deck))
    body, content_type = telemetry.rendered()
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

log = logging.getLogger(__name__)

SERIES_MAX: Final = 100
"""Sets of label values of one counter or reading; what comes after them is told together, as OTHER."""
OTHER: Final = "other"
SECONDS: Final = tuple(
    round(step * 10.0**power, 9) for power in range(-5, 2) for step in (1.0, 2.5, 5.0) if step * 10.0**power <= 30
)
"""Bounds of durations, 10 µs to 25 s, three a decade."""

Reading = float | Mapping[Any, float] | None
"""One number, or one for each label value (of several labels: for each tuple of values); None: not known now."""


class _Metric(Protocol):
    def family(self) -> Metric:
        """Return its samples as of now."""


M = TypeVar("M", bound=_Metric)


class Counter:
    """Grows. Made by `Telemetry.counter`."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._of: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def add(self, amount: float = 1.0, *values: str) -> None:
        """Add to the series of these label values, in the order of the labels."""
        key = values if values in self._of or len(self._of) < SERIES_MAX else (OTHER,) * len(self._labels)
        self._of[key] = self._of.get(key, 0.0) + amount

    def family(self) -> Metric:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, total in self._of.items():
            family.add_metric(values, total)
        return family


class Codes:
    """Grows, by a column of codes that stand for the values of one label. Made by `Telemetry.codes`."""

    def __init__(self, name: str, text: str, label: str, values: Sequence[str]) -> None:
        self._name, self._text, self._label, self._values = name, text, label, tuple(values)
        self._counts = np.zeros(len(values), dtype=np.int64)
        self._bits = np.arange(len(values), dtype=np.uint32)

    def add(self, codes: NDArray[Any]) -> None:
        """Count codes [B], each an index into the label's values."""
        self._counts += np.bincount(codes, minlength=len(self._counts))

    def add_bits(self, bits: NDArray[np.uint32]) -> None:
        """Count bits [B]: bit i stands for the label's value i."""
        self._counts += (bits[:, None] >> self._bits & 1).sum(axis=0, dtype=np.int64)

    def family(self) -> Metric:
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in zip(self._values, self._counts.tolist(), strict=True):
            if value:
                family.add_metric([value], count)
        return family


class Histogram:
    """Sorts numbers into buckets; of one series, or of one for each value of a label. Made by `Telemetry.histogram`."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], label: str, values: Sequence[str]) -> None:
        self._name, self._text, self._label, self._values = name, text, label, tuple(values)
        self._bounds = [float(bound) for bound in bounds]
        self._column = np.asarray(self._bounds)
        self._counts = np.zeros((len(values), len(bounds) + 1), dtype=np.int64)
        self._sums = np.zeros(len(values))

    def observe(self, numbers: NDArray[np.float64], codes: NDArray[Any] | int = 0) -> None:
        """Take finite numbers [B], of the series that one code, or codes [B], stand for."""
        at = np.searchsorted(self._column, numbers)
        series, buckets = self._counts.shape
        if isinstance(codes, int):
            self._counts[codes] += np.bincount(at, minlength=buckets)
            self._sums[codes] += numbers.sum()
        else:
            cells = codes.astype(np.intp) * buckets + at
            self._counts += np.bincount(cells, minlength=series * buckets).reshape(series, buckets)
            self._sums += np.bincount(codes, weights=numbers, minlength=series)

    def observe_alike(self, number: float, count: int = 1, code: int = 0) -> None:
        """Take one finite number so many times."""
        self._counts[code, bisect_left(self._bounds, number)] += count
        self._sums[code] += number * count

    def family(self) -> Metric:
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label] if self._label else [])
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for value, counts, total in zip(
            self._values, self._counts.cumsum(axis=1).tolist(), self._sums.tolist(), strict=True
        ):
            family.add_metric([value] if self._label else [], list(zip(bounds, counts, strict=True)), total)
        return family


class _Read:
    """A number that somebody else keeps."""

    def __init__(
        self, kind: Callable[..., Any], name: str, text: str, labels: Sequence[str], read: Callable[[], Reading]
    ) -> None:
        self._kind, self._name, self._text, self._labels, self._read = kind, name, text, tuple(labels), read

    def family(self) -> Metric:
        found = self._read()
        family: Any = self._kind(self._name, self._text, labels=self._labels)
        if found is None:
            return family  # type: ignore[no-any-return]
        if not isinstance(found, Mapping):
            family.add_metric((), found)
            return family  # type: ignore[no-any-return]
        numbers: Iterable[tuple[Any, float]] = found.items()
        for values, number in list(numbers)[:SERIES_MAX]:
            family.add_metric((values,) if isinstance(values, str) else values, number)
        return family  # type: ignore[no-any-return]


class Telemetry(Collector):
    """All metrics of a process, its own (`process_…`, `python_…`) among them. A name is declared once."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}
        self._failed = self.counter(
            "candlecast_readings_failed_total", "Metrics left out of a scrape because reading them failed.", ["metric"]
        )
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Declare a counter, whose name ends in _total; its labels may take at most SERIES_MAX sets of values."""
        return self._declared(name, Counter(name, text, labels))

    def codes(self, name: str, text: str, label: str, values: Sequence[str]) -> Codes:
        """Declare a counter by one label with these values, of which an empty one is not told."""
        return self._declared(name, Codes(name, text, label, values))

    def histogram(
        self, name: str, text: str, bounds: Sequence[float] = SECONDS, *, label: str = "", values: Sequence[str] = ("",)
    ) -> Histogram:
        """Declare a histogram with these upper bounds, for each value of a label, if it has one."""
        return self._declared(name, Histogram(name, text, bounds, label, values))

    def gauge(self, name: str, text: str, read: Callable[[], Reading], labels: Sequence[str] = ()) -> None:
        """Declare what is read at each scrape and may go up and down."""
        self._declared(name, _Read(GaugeMetricFamily, name, text, labels, read))

    def total(self, name: str, text: str, read: Callable[[], Reading], labels: Sequence[str] = ()) -> None:
        """Declare what is read at each scrape and only grows, by a name that ends in _total."""
        self._declared(name, _Read(CounterMetricFamily, name, text, labels, read))

    def collect(self) -> Iterable[Metric]:
        """Yield everything as of now. What cannot be read is left out, counted and said."""
        for name, metric in list(self._metrics.items()):
            try:
                family = metric.family()
            except Exception as error:
                log.warning("metric not read name=%s error=%r", name, error)
                self._failed.add(1, name)
                continue
            yield family

    def rendered(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _declared(self, name: str, metric: M) -> M:
        if name in self._metrics:
            raise ValueError(f"metric {name} is declared twice")
        self._metrics[name] = metric
        return metric
