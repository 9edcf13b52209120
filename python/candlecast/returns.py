"""The last one-bar returns of every series, and how they go together: a ring by absolute bar number. Pure arrays.

A series' newest return comes with each of its rows; where bars are missing before it, its window says all 96.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from candlecast.series import longer
from candlecast.values import F32, F64, I64

BARS: Final = 96
"""Returns that are correlated."""
RING: Final = 128
"""Kept of a series: two of them may be up to RING - BARS bars apart. A power of 2."""
NEVER: Final = -(2**62)


class Returns:
    def __init__(self) -> None:
        self._ring: F32 = np.zeros((0, RING), dtype=np.float32)
        self._newest: I64 = np.zeros(0, dtype=np.int64)  # bar number
        self._interval_ms: I64 = np.zeros(0, dtype=np.int64)

    def make_room(self, count: int) -> None:
        """Have places for series up to `count`."""
        self._ring = longer(self._ring, count, 0)
        self._newest, self._interval_ms = longer(self._newest, count, NEVER), longer(self._interval_ms, count, 0)

    def take(self, series: I64, bar: I64, interval_ms: I64, newest: F32, before: Callable[[I64], F32]) -> None:
        """Take the newest returns [B] of series that have room; a bar not newer than its series' last changes nothing.

        Args:
            bar: [B] number of the bar: its close divided by its interval.
            before: gives of rows [K] their last BARS returns [K, 96], oldest first, the newest included.
        """
        last = self._newest[series]
        follows = last == bar - 1
        self._ring[series[follows], bar[follows] % RING] = newest[follows]
        jumped = np.flatnonzero((bar > last) & ~follows)
        if len(jumped):
            slots = (bar[jumped, None] + np.arange(1 - BARS, 1)) % RING
            self._ring[series[jumped, None], slots] = before(jumped)
        moved = bar > last
        self._newest[series[moved]], self._interval_ms[series] = bar[moved], interval_ms

    def known(self, series: I64) -> I64:
        """Return which of series [K] have returns, as places in it."""
        return np.flatnonzero(self._newest[series] != NEVER)

    def correlated(self, series: I64) -> Correlated:
        """Return what tells how series [B] go together with others."""
        return Correlated(self, series)

    def unit(self, series: I64, end: int) -> F32:
        """Return the BARS returns of series [B] up to bar `end`, less their mean, with length 1 or 0: [B, 96]."""
        slots = (end + np.arange(1 - BARS, 1)) % RING
        found = np.take(self._ring[series], slots, axis=1)
        found -= found.mean(axis=1, keepdims=True)
        length = np.sqrt(np.einsum("ij,ij->i", found, found))
        with np.errstate(divide="ignore", invalid="ignore"):
            unit: F32 = found * np.where(length > 1e-6, 1 / length, 0)[:, None].astype(np.float32)
        return unit


class Correlated:
    """Series [B] of one close; remembers what it has computed of them."""

    def __init__(self, returns: Returns, series: I64) -> None:
        self._returns, self._series = returns, series
        self._units: dict[int, F32] = {}

    def with_(self, others: I64) -> F64:
        """Return correlations [B, P] over the last BARS bars that both have; NaN where there are none to compare.

        Those of another interval are not compared, nor those more than RING - BARS bars apart.
        """
        r = self._returns
        found = np.full((len(self._series), len(others)), np.nan)
        known, rows = r.known(others), r.known(self._series)
        if not (len(known) and len(rows)):
            return found
        mine, theirs = self._series[rows], others[known]
        a, b = r._newest[mine][:, None], r._newest[theirs][None, :]
        alike = (r._interval_ms[mine][:, None] == r._interval_ms[theirs][None, :]) & (np.abs(a - b) <= RING - BARS)
        ends = np.minimum(a, b)
        part = np.full(alike.shape, np.nan)
        for end in np.unique(ends[alike]).tolist():
            here = alike & (ends == end)
            columns = np.flatnonzero(here.any(axis=0))
            # Not @: BLAS would take this to several threads, which wait for each other while Triton computes.
            product = np.einsum("ik,jk->ij", self._unit(end)[rows], r.unit(theirs[columns], end))
            part[:, columns] = np.where(here[:, columns], product, part[:, columns])
        found[np.ix_(rows, known)] = part
        return found

    def _unit(self, end: int) -> F32:
        if end not in self._units:
            self._units[end] = self._returns.unit(self._series, end)
        return self._units[end]
