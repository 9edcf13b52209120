"""Group structure: channels, swings, divergences, pivots of the previous day."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.functions import AGE_OF_MAX, CLIP, DIV, EMA, EMAS, MAX, MIN, RSI, SMA, Array, lag
from tests.features.naive.timeframes import buckets

Pivots = list[int]  # bars, oldest first


def range_pos(b: Bars, n: int) -> Array:
    low, high = MIN(b.low, n), MAX(b.h, n)
    return 2 * DIV(b.c - low, high - low, b.ec, 0.5) - 1


def breakout_20(b: Bars) -> Array:
    above = np.maximum(b.c - lag(MAX(b.h, 20), 1), 0)
    below = np.maximum(lag(MIN(b.low, 20), 1) - b.c, 0)
    return CLIP((above - below) / b.A, 5)


def swing_highs(h: Array) -> Pivots:
    """Return the bars that are swing highs; one is known 3 bars later."""
    return [i for i in range(3, len(h) - 3) if h[i] > h[i - 3 : i].max() and h[i] >= h[i + 1 : i + 4].max()]


def at_every_bar(b: Bars, value: Callable[[int, Pivots, Pivots], float]) -> Array:
    """Return value(t, swing highs, swing lows) of the pivots that count at bar t."""
    highs, lows = swing_highs(b.h), swing_highs(-b.low)

    def counting(pivots: Pivots, t: int) -> Pivots:
        return [i for i in pivots if t - 95 <= i <= t - 3]

    return np.array([value(t, counting(highs, t), counting(lows, t)) for t in range(len(b))])


def swing_structure(b: Bars) -> Array:
    def value(_: int, highs: Pivots, lows: Pivots) -> float:
        high = np.sign(b.h[highs[-1]] - b.h[highs[-2]]) if len(highs) > 1 else 0
        low = np.sign(b.low[lows[-1]] - b.low[lows[-2]]) if len(lows) > 1 else 0
        return float(high + low) / 2

    return at_every_bar(b, value)


def swing_high_dist(b: Bars) -> Array:
    return at_every_bar(b, lambda t, highs, _: float((b.h[highs[-1]] - b.c[t]) / (3 * b.A[t])) if highs else 0.0)


def swing_low_dist(b: Bars) -> Array:
    return at_every_bar(b, lambda t, _, lows: float((b.c[t] - b.low[lows[-1]]) / (3 * b.A[t])) if lows else 0.0)


def swing_balance(b: Bars) -> Array:
    def value(_: int, highs: Pivots, lows: Pivots) -> float:
        signs = np.concatenate([np.sign(np.diff(b.h[highs])), np.sign(np.diff(b.low[lows]))])
        return float(2 * signs.sum() / len(signs)) if len(signs) else 0.0

    return at_every_bar(b, value)


def divergence(b: Bars, x: Array) -> Array:
    def value(_: int, highs: Pivots, lows: Pivots) -> float:
        bullish = bearish = 0.0
        if len(lows) > 1 and b.low[lows[-1]] < b.low[lows[-2]]:
            bullish = max(0.0, x[lows[-1]] - x[lows[-2]])
        if len(highs) > 1 and b.h[highs[-1]] > b.h[highs[-2]]:
            bearish = max(0.0, x[highs[-2]] - x[highs[-1]])
        return bullish - bearish

    return at_every_bar(b, value)


def previous_day(b: Bars) -> dict[str, Array]:
    day, c = buckets(b, 96), b.c
    H, L, C = day.at_bars(day.H), day.at_bars(day.L), day.at_bars(day.C)
    P = (H + L + C) / 3
    levels = np.array([P - (H - L), 2 * P - H, P, 2 * P - L, P + (H - L)])
    return {
        "pivot_dist_x96": CLIP((c - P) / np.maximum(H - L, 1e-5 * c), 5),
        "pivot_nearest_x96": np.minimum((np.abs(c - levels) / (2 * b.A)).min(axis=0), 5),
        "prev_high_dist_x96": CLIP((H - c) / (b.A * np.sqrt(96)), 5),
        "prev_low_dist_x96": CLIP((c - L) / (b.A * np.sqrt(96)), 5),
    }


def columns(b: Bars) -> dict[str, Array]:
    h, low, c, A = b.h, b.low, b.c, b.A
    macd = (EMAS(c, 12, 14) - EMA(c, 26)) / A
    return {
        "range_pos_96": range_pos(b, 96),
        "range_pos_480": range_pos(b, 480),
        "high_dist_96": CLIP((MAX(h, 96) - c) / (A * np.sqrt(96)), 5),
        "low_dist_96": CLIP((c - MIN(low, 96)) / (A * np.sqrt(96)), 5),
        "bars_since_high_96": 2 * AGE_OF_MAX(h, 96) / 95 - 1,
        "bars_since_low_96": 2 * AGE_OF_MAX(-low, 96) / 95 - 1,
        "breakout_20": breakout_20(b),
        "hh_ll_balance_20": 2 * SMA((h > lag(h, 1)) * 1.0 - (low < lag(low, 1)) * 1.0, 20),
        "swing_structure_3": swing_structure(b),
        "swing_high_dist_3": CLIP(swing_high_dist(b), 5),
        "swing_low_dist_3": CLIP(swing_low_dist(b), 5),
        "swing_balance_96": swing_balance(b),
        "rsi_divergence_3": CLIP(divergence(b, RSI(c, 14, b.ec)) / 10, 5),
        "macd_divergence_3": CLIP(3 * divergence(b, macd), 5),
        **previous_day(b),
    }
