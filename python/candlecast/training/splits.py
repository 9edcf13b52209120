"""Purged chronological walk-forward splits, by time across all symbols. Knows no features and no labels' values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from candlecast.errors import ConfigurationError
from candlecast.models.bundle import WINDOW
from candlecast.training.labels import FUTURE_BARS
from candlecast.values import I64, Bool

EMBARGO_BARS: Final = FUTURE_BARS + WINDOW
"""Bars left out between two parts: no label before and no window after the border share a bar."""
VALIDATION_SHARE: Final = 0.3
"""Of what comes before a test part (or of everything, in the last fit), its newest end."""


@dataclass(frozen=True, slots=True)
class Span:
    """Candles that open in [start_ms, end_ms)."""

    start_ms: int
    end_ms: int

    def of(self, open_time_ms: I64) -> I64:
        """Return the indices of the times [N] inside."""
        return np.flatnonzero(self.holds(open_time_ms)).astype(np.int64)

    def holds(self, open_time_ms: I64) -> Bool:
        """Return which of the times [N] are inside."""
        return (open_time_ms >= self.start_ms) & (open_time_ms < self.end_ms)


@dataclass(frozen=True, slots=True)
class Split:
    """Oldest first; train knows nothing of validation, validation nothing of test."""

    train: Span
    validation: Span
    test: Span | None  # None: the last fit, which ships


def walk_forward(
    first_ms: int, end_ms: int, interval_ms: int, folds: int, embargo_bars: int = EMBARGO_BARS, rolling_bars: int = 0
) -> list[Split]:
    """Return `folds` splits, then the last fit's split without a test part.

    The time [first_ms, end_ms) is cut into folds + 1 equal blocks; fold k is tested on block k + 1 and fits on all
    before it, or, with `rolling_bars`, on a train part of at most so many bars.

    Raises:
        ConfigurationError: there is too little time for so many folds.
    """
    if folds < 1:
        raise ConfigurationError(f"folds is {folds}; walk-forward needs at least 1")
    bars = (end_ms - first_ms) // interval_ms
    edges = [bars * k // (folds + 1) for k in range(folds + 2)]

    def span(start: int, end: int) -> Span:
        return Span(first_ms + start * interval_ms, first_ms + end * interval_ms)

    if (edges[1] - int(edges[1] * VALIDATION_SHARE)) <= 2 * embargo_bars or edges[1] * VALIDATION_SHARE < 1:
        raise ConfigurationError(f"{bars} candles of time are too few for {folds} folds; give more data or fewer folds")
    splits = []
    for k in range(1, folds + 2):
        newest = edges[k] - int(edges[k] * VALIDATION_SHARE)
        splits.append(
            Split(
                train=span(max(newest - embargo_bars - rolling_bars, 0) if rolling_bars else 0, newest - embargo_bars),
                validation=span(newest, edges[k]),
                test=span(edges[k] + embargo_bars, edges[k + 1]) if k <= folds else None,
            )
        )
    return splits
