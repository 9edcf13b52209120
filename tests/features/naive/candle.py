"""Group candle."""

from __future__ import annotations

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.functions import CLIP, DIV, RUN, SMA, SUM, Array, lag


def vret(b: Bars, n: int) -> Array:
    return CLIP(np.log(b.c / lag(b.c, n)) / (b.S * np.sqrt(n)), 8)


def body_ratio(b: Bars) -> Array:
    return DIV(b.c - b.o, b.h - b.low, b.ec, 0)


def upper_wick_ratio(b: Bars) -> Array:
    return DIV(b.h - np.maximum(b.o, b.c), b.h - b.low, b.ec, 0)


def lower_wick_ratio(b: Bars) -> Array:
    return DIV(np.minimum(b.o, b.c) - b.low, b.h - b.low, b.ec, 0)


def bar_overlap(b: Bars) -> Array:
    h1, low1 = lag(b.h, 1), lag(b.low, 1)
    common = np.minimum(b.h, h1) - np.maximum(b.low, low1)
    return DIV(common, np.maximum(b.h, h1) - np.minimum(b.low, low1), b.ec, 0)


def wick_balance_10(b: Bars) -> Array:
    wicks = (np.minimum(b.o, b.c) - b.low) - (b.h - np.maximum(b.o, b.c))
    return 3 * DIV(SUM(wicks, 10), SUM(b.h - b.low, 10), b.ec, 0)


def columns(b: Bars) -> dict[str, Array]:
    o, h, low, c = b.ohlc
    return {
        **{f"vret_{n}": vret(b, n) for n in (1, 4, 8, 16, 48, 96, 192, 480)},
        **{f"vret_1_lag_{k}": CLIP(lag(b.r, k) / b.S, 8) for k in (1, 2, 5, 10)},
        "logret_1_pct": CLIP(100 * np.log(c / lag(c, 1)), 10),
        "logret_16_pct": CLIP(25 * np.log(c / lag(c, 16)), 10),
        "body_ratio": body_ratio(b),
        "upper_wick_ratio": upper_wick_ratio(b),
        "lower_wick_ratio": lower_wick_ratio(b),
        "high_change_atr": CLIP((h - lag(h, 1)) / b.A, 5),
        "low_change_atr": CLIP((low - lag(low, 1)) / b.A, 5),
        "bar_overlap": bar_overlap(b),
        "close_streak": RUN(np.sign(b.dc), 10) / 5,
        "up_down_balance_20": 2 * SMA(np.sign(b.dc), 20),
        "body_share_10": 4 * (DIV(SUM(np.abs(c - o), 10), SUM(h - low, 10), b.ec, 0.5) - 0.5),
        "wick_balance_10": wick_balance_10(b),
    }
