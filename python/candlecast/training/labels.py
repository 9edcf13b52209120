"""What came after a candle, contract section 3, and what came before it: pure arrays. Knows no features, no network."""

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


UNKNOWN: Final = -1
"""Class of a past that is incomplete."""


def label(open_time_ms: I64, interval_ms: int, high: F64, low: F64, close: F64) -> Labels:
    """Label the candles [N] of one symbol, sorted by time; all five columns are [N]."""
    breaks = _breaks(open_time_ms, interval_ms)
    at = np.flatnonzero(breaks[FUTURE_BARS:] == breaks[: max(len(close) - FUTURE_BARS, 0)]).astype(np.int64)
    return _labels(at, False, high, low, close)


def past(open_time_ms: I64, interval_ms: int, high: F64, low: F64, close: F64, at: I64) -> Labels:
    """Return for the candles at index `at` [K] the newest label of each length that is known at their close.

    That is how the last 1, 4, 16, 48 bars went: what persistence expects of the next ones. Where they are incomplete
    returns and risks are NaN and directions UNKNOWN.
    """
    breaks = _breaks(open_time_ms, interval_ms)
    complete = (at >= FUTURE_BARS) & (breaks[at] == breaks[np.maximum(at - FUTURE_BARS, 0)])
    found = _labels(at[complete], True, high, low, close)
    returns, risks = (np.full((len(at), 4), np.nan, dtype=np.float32) for _ in range(2))
    directions = np.full((len(at), 4), UNKNOWN, dtype=np.int8)
    returns[complete], directions[complete], risks[complete] = found.returns, found.directions, found.risks
    return Labels(at, returns, directions, risks)


def _breaks(open_time_ms: I64, interval_ms: int) -> I64:
    """Return how many gaps lie before each candle [N]."""
    return np.cumsum(np.diff(open_time_ms, prepend=open_time_ms[:1]) != interval_ms)


def _labels(at: I64, ended: bool, high: F64, low: F64, close: F64) -> Labels:
    """Label what begins at the candles `at` [K], or what has just ended there."""

    def begin(bars: int) -> I64:
        return at - bars if ended else at

    returns = np.stack([close[begin(n) + n] / close[begin(n)] - 1 for n in outputs.HORIZON_BARS], axis=1)
    threshold = np.array(outputs.THRESHOLDS)
    directions = np.where(returns > threshold, LONG, np.where(returns < -threshold, SHORT, NEUTRAL)).astype(np.int8)
    risks = np.empty((len(at), 2 * len(outputs.RISK_BARS)))
    for k, bars in enumerate(outputs.RISK_BARS if len(at) else ()):
        now = begin(bars)
        lowest = sliding_window_view(low, bars).min(axis=1)[now + 1]
        highest = sliding_window_view(high, bars).max(axis=1)[now + 1]
        risks[:, 2 * k] = np.maximum(1 - lowest / close[now], 0)
        risks[:, 2 * k + 1] = np.maximum(highest / close[now] - 1, 0)
    return Labels(at, returns.astype(np.float32), directions, risks.astype(np.float32))


def base_rates(labels: Labels) -> F64:
    """Return the class frequencies [4, 3] of the labels; a class never seen counts as half a time."""
    counts = np.stack([(labels.directions == c).sum(axis=0) for c in range(3)], axis=1)
    counts = np.maximum(counts, 0.5)
    return counts / counts.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def starting_point(labels: Labels) -> tuple[F64, F64]:
    """Return the best constant answer [20], and what an output of 1 means [20]: its label's deviation; 1 for logits.

    A fit starts from there, whatever it fits: no return, the class frequencies, the median risks.
    """
    constant, unit = np.zeros(outputs.COUNT), np.ones(outputs.COUNT)
    unit[outputs.RETURNS] = np.maximum(labels.returns.std(axis=0), 1e-6)
    unit[outputs.RISKS] = np.maximum(labels.risks.std(axis=0), 1e-6)
    constant[outputs.LOGITS] = np.log(base_rates(labels)).reshape(-1)
    constant[outputs.RISKS] = np.median(labels.risks, axis=0)
    return constant, unit
