"""What came after a candle, contract section 3: pure arrays. Knows no features and no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from candlecast import outputs
from candlecast.values import F32, F64, I64

I8 = NDArray[np.int8]
FUTURE_BARS: Final = max(outputs.HORIZON_BARS)
"""Bars after a candle that its label looks at."""
LONG, SHORT, NEUTRAL = range(3)
"""Classes, as `outputs.CLASSES` orders them."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of K candles; a candle whose future is incomplete or has a gap is not among them."""

    at: I64  # [K] index of the candle
    returns: F32  # [K, 4] close to close, one per horizon
    directions: I8  # [K, 4] LONG, SHORT, NEUTRAL
    risks: F32  # [K, 4] as outputs.RISK_NAMES, >= 0

    def take(self, index: I64) -> Labels:
        """Return the labels at index [J]."""
        return Labels(self.at[index], self.returns[index], self.directions[index], self.risks[index])


def label(open_time_ms: I64, interval_ms: int, high: F64, low: F64, close: F64) -> Labels:
    """Label the candles [N] of one symbol, sorted by time; all five columns are [N]."""
    breaks = np.cumsum(np.diff(open_time_ms, prepend=open_time_ms[:1]) != interval_ms)
    at = np.flatnonzero(breaks[FUTURE_BARS:] == breaks[: max(len(close) - FUTURE_BARS, 0)]).astype(np.int64)
    now = close[at]
    returns = np.stack([close[at + bars] / now - 1 for bars in outputs.HORIZON_BARS], axis=1)
    threshold = np.array(outputs.THRESHOLDS)
    directions = np.where(returns > threshold, LONG, np.where(returns < -threshold, SHORT, NEUTRAL)).astype(np.int8)
    risks = np.empty((len(at), 2 * len(outputs.RISK_BARS)))
    for k, bars in enumerate(outputs.RISK_BARS if len(at) else ()):
        lowest = sliding_window_view(low, bars).min(axis=1)[at + 1]
        highest = sliding_window_view(high, bars).max(axis=1)[at + 1]
        risks[:, 2 * k] = np.maximum(1 - lowest / now, 0)
        risks[:, 2 * k + 1] = np.maximum(highest / now - 1, 0)
    return Labels(at, returns.astype(np.float32), directions, risks.astype(np.float32))


def base_rates(labels: Labels) -> F64:
    """Return the class frequencies [4, 3] of the labels; a class never seen counts as half a time."""
    counts = np.stack([(labels.directions == c).sum(axis=0) for c in range(3)], axis=1)
    counts = np.maximum(counts, 0.5)
    return counts / counts.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]
