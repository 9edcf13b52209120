"""What else may be asked of the hours after a candle: pure arrays. Knows no features and no model.

direction    BUY, SELL or HOLD: the return, close to close, is above +threshold, below -threshold, or neither
volatility   the root of the sum of squared log returns, bar by bar: a fraction of the price, for these hours
profitable   1 where buying at this close and selling at the last one leaves more than the costs, else 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from candlecast.errors import ConfigurationError
from candlecast.values import F64, I64

Name = Literal["direction", "volatility", "profitable"]
BUY, SELL, HOLD = range(3)
"""Classes of a direction, in the order of the probabilities."""
WIDTH: Final[dict[str, int]] = {"direction": 3, "volatility": 1, "profitable": 1}
"""Outputs of a model of each target: probabilities, a volatility, a probability."""
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Target:
    """One question about the hours after a candle."""

    name: Name
    hours: float = 24.0
    threshold: float = 0.02  # of a direction: a fraction
    costs: float = 0.0015  # of buying and selling together: a fraction

    def __post_init__(self) -> None:
        if self.name not in WIDTH:
            raise ConfigurationError(f"{self.name!r} is no target: there are {', '.join(WIDTH)}")
        if not (self.threshold > 0 and self.costs >= 0):
            raise ConfigurationError("threshold must be above 0, and costs not below")

    @property
    def outputs(self) -> int:
        """How many numbers a model answers."""
        return WIDTH[self.name]

    @property
    def horizon(self) -> str:
        """The hours, as a name."""
        return f"{self.hours:g}h"

    def bars(self, interval_ms: int) -> int:
        """Return the bars that the hours take.

        Raises:
            ConfigurationError: they are no whole number of bars.
        """
        bars, rest = divmod(self.hours * HOUR_MS, interval_ms)
        if bars < 1 or rest:
            raise ConfigurationError(
                f"--hours {self.hours:g} is no whole number of candles of {interval_ms} ms; choose another"
            )
        return int(bars)

    def of(self, open_time_ms: I64, interval_ms: int, close: F64) -> F64:
        """Return for N candles of one symbol, sorted by time, what came after each and what had come before it [N, 2].

        NaN where a candle is missing on the way. What had come is the same question asked so many bars ago: what one
        would answer who takes the world to go on as it was.
        """
        bars = self.bars(interval_ms)
        known = np.empty((len(close), 2))
        known.fill(np.nan)
        if len(close) > bars:
            after = self._after(close, bars)
            breaks = np.cumsum(np.diff(open_time_ms, prepend=open_time_ms[:1]) != interval_ms)
            after[breaks[bars:] != breaks[:-bars]] = np.nan
            known[:-bars, 0] = known[bars:, 1] = after
        return known

    def _after(self, close: F64, bars: int) -> F64:
        """Return the answer [N - bars] of the candles that have so many bars after them."""
        change = close[bars:] / close[:-bars] - 1
        match self.name:
            case "direction":
                return np.where(change > self.threshold, BUY, np.where(change < -self.threshold, SELL, HOLD)).astype(
                    float
                )
            case "volatility":
                squares = np.diff(np.log(close)) ** 2
                return np.sqrt(sliding_window_view(squares, bars).sum(axis=1))  # type: ignore[no-any-return]
            case "profitable":
                return (change > self.costs).astype(float)
