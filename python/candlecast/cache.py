"""The newest forecast of each series, answered from memory for a while. Knows neither who asks nor the model.

Whole batches are kept, as they were made; arrays say which row of which batch is a series' newest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.series import longer
from candlecast.values import I64, Forecasts, Model, StageTimes

NEVER: Final = -(2**62)
NOWHERE: Final = -1


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is known of R forecasts that are wanted."""

    fresh: I64  # [R - K] which are not known
    known: I64  # [K] which are
    forecasts: Forecasts | None  # those K

    def joined(self, fresh: Forecasts | None) -> Forecasts | None:
        """Return all R in their order, given those that were not known; None while these are missing."""
        if self.forecasts is None or (fresh is None and len(self.fresh)):
            return fresh
        if fresh is None:
            return self.forecasts
        order = np.argsort(np.concatenate([self.fresh, self.known]))
        return Forecasts.joined([fresh, self.forecasts]).take(order)


class ForecastCache:
    """Remembers forecasts for ttl_s, of as many candles as rows_max at most; 0 s: none."""

    def __init__(self, *, ttl_s: float, rows_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s, self._rows_max, self._clock = ttl_s, rows_max, clock
        self._batches: dict[int, tuple[Forecasts, float]] = {}  # by number, oldest first, and when it was made
        self._newest: dict[int, int] = {}  # of how many series each of them has the newest forecast
        self._rows = 0
        self._next = 0
        self._batch: I64 = np.zeros(0, dtype=np.int64)  # of each series' newest forecast: its batch, or NOWHERE
        self._row: I64 = np.zeros(0, dtype=np.int64)
        self._close_ms: I64 = np.zeros(0, dtype=np.int64)

    @property
    def is_on(self) -> bool:
        """Say whether anything is ever kept."""
        return self._ttl_s > 0

    def __len__(self) -> int:
        """Return how many forecasts are kept."""
        return self._rows

    def keep(self, series: I64, forecasts: Forecasts) -> None:
        """Remember forecasts [B] of candles that are closed."""
        rows = np.flatnonzero(~forecasts.forming)
        if not self.is_on or not len(rows):
            return
        count = int(series.max()) + 1
        self._batch, self._row = longer(self._batch, count, NOWHERE), longer(self._row, count, 0)
        self._close_ms = longer(self._close_ms, count, NEVER)
        rows = rows[forecasts.close_time_ms[rows] >= self._close_ms[series[rows]]]
        if not len(rows):
            return
        at, now = series[rows], self._clock()
        self._outdate(at)
        self._batch[at], self._row[at], self._close_ms[at] = self._next, rows, forecasts.close_time_ms[rows]
        self._batches[self._next] = forecasts, now
        self._next, self._rows = self._next + 1, self._rows + len(forecasts)
        self._forget(now)

    def recall(
        self,
        series: I64,
        close_time_ms: I64,
        features_hash: NDArray[np.uint64],
        models: Sequence[Model],
        of_model: I64,
    ) -> Recalled:
        """Return what is known of forecasts [R] of the same candles with the same features.

        Args:
            of_model: [R] which of the models answers; what another said is not known.
        """
        self._forget(self._clock())
        every = np.arange(len(series))
        batch = longer(self._batch, int(series.max(initial=-1)) + 1, NOWHERE)[series]
        parts, places = list[Forecasts](), list[I64]()
        for number in np.unique(batch).tolist():
            made, _ = self._batches.get(number, (None, 0.0))
            if made is None:
                continue
            at = np.flatnonzero(batch == number)
            row = self._row[series[at]]
            same = (made.close_time_ms[row] == close_time_ms[at]) & (made.features_hash[row] == features_hash[at])
            for of, part in made.take(row[same]).by_model():
                place = at[same][of]
                fits = np.isin(of_model[place], [k for k, model in enumerate(models) if model == part.model])
                if fits.any():
                    parts.append(part.take(fits))
                    places.append(place[fits])
        if not parts:
            return Recalled(every, every[:0], None)
        known = np.concatenate(places)
        order = np.argsort(known)
        found = replace(Forecasts.joined(parts).take(order), times=StageTimes(0, 0, 0, 0, 0))
        return Recalled(np.setdiff1d(every, known), known[order], found)

    def _outdate(self, series: I64) -> None:
        """Make ready for newer forecasts of series: a batch that has the newest of none is dropped."""
        distinct = set(series.tolist())
        before = self._batch[series if len(distinct) == len(series) else list(distinct)]
        for number, count in Counter(before.tolist()).items():
            if number in self._newest:
                self._newest[number] -= count
                if self._newest[number] <= 0:
                    self._drop(number)
        self._newest[self._next] = len(distinct)

    def _drop(self, number: int) -> None:
        made, _ = self._batches.pop(number)
        del self._newest[number]
        self._rows -= len(made)

    def _forget(self, now: float) -> None:
        """Drop batches that are too old or too many."""
        while self._batches:
            number, (_, made_at) = next(iter(self._batches.items()))
            if now - made_at <= self._ttl_s and self._rows <= self._rows_max:
                return
            self._drop(number)
