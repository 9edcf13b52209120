"""Which forecasts of a model were recorded last, by columns, and when each is on disk. Knows no journal.

A series, a symbol and its interval, has a number; arrays hold the newest closes of each.
"""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.series import SeriesNumbers
from candlecast.values import I64, Bool, Symbols

OnDisk = asyncio.Future[int]
"""The end of a record in the journal, once it is on disk."""
RECENT_MAX: Final = 16
"""Forecasts of a series that are known again. Older ones are not asked for again; PostgreSQL would keep the first."""
NEVER: Final = np.iinfo(np.int64).min
"""Where a series has no close yet."""


class Recent:
    """The newest RECENT_MAX closes of each series."""

    def __init__(self) -> None:
        self._numbers = SeriesNumbers()
        self._closes = np.full((64, RECENT_MAX), NEVER, dtype=np.int64)
        self._done: NDArray[np.object_] = np.full((64, RECENT_MAX), None, dtype=np.object_)

    def numbers(self, symbol: Symbols, interval_ms: I64) -> I64:
        """Return the numbers of series [N]; a new one gets the next."""
        found = self._numbers.of(symbol, interval_ms)
        while len(self._numbers) > len(self._closes):
            self._closes = np.concatenate([self._closes, np.full_like(self._closes, NEVER)])
            self._done = np.concatenate([self._done, np.full_like(self._done, None)])
        return found

    def find(self, series: I64, close_time_ms: I64) -> tuple[Bool, dict[int, OnDisk]]:
        """Return [N] which closes are new, of equal ones the first; and by place when those known are on disk."""
        same = self._closes[series] == close_time_ms[:, None]
        known = same.any(axis=1)
        new = ~known
        if len(series) > 1 and not _distinct(series):
            order = np.lexsort((close_time_ms, series))
            again = (np.diff(series[order]) == 0) & (np.diff(close_time_ms[order]) == 0)
            new[order[1:][again]] = False
        places = np.flatnonzero(known)
        return new, dict(zip(places.tolist(), self._done[series[places]][same[places]].tolist(), strict=True))

    def keep(self, series: I64, close_time_ms: I64, done: OnDisk) -> None:
        """Take note of closes [N] that were not known."""
        if len(series) < 2 or _distinct(series):
            self._keep(series, close_time_ms, done)
            return
        order = np.lexsort((close_time_ms, series))
        lasts = np.flatnonzero(np.append(np.diff(series[order]) != 0, True))
        age = np.repeat(lasts, np.diff(lasts, prepend=-1)) - np.arange(len(order))  # 0: the newest of its series
        for i in range(min(RECENT_MAX, int(age.max()) + 1)):
            some = order[age == i]
            self._keep(series[some], close_time_ms[some], done)

    def _keep(self, series: I64, close_time_ms: I64, done: OnDisk) -> None:
        """Put closes of distinct series in the place of their oldest, unless that is newer."""
        oldest = self._closes[series].argmin(axis=1)
        newer = close_time_ms > self._closes[series, oldest]
        if not newer.all():
            series, oldest, close_time_ms = series[newer], oldest[newer], close_time_ms[newer]
        self._closes[series, oldest] = close_time_ms
        self._done[series, oldest] = done


def _distinct(series: I64) -> bool:
    return len(set(series.tolist())) == len(series)
