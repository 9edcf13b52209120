"""Group ma: moving averages."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.functions import CLIP, DIV, EMA, MED, PSD, RUN, SGNT, SMA, SUM, WMA, Array, lag

RIBBON = (10, 20, 50, 100, 200)


def kama_10(b: Bars) -> Array:
    c, out = b.c, np.full(len(b), np.nan)
    path = SUM(np.abs(b.dc), 10)
    fast, slow = 2 / (2 + 1), 2 / (30 + 1)
    for t in range(10, len(b)):
        before = c[9] if t == 10 else out[t - 1]
        efficiency = 1.0 if path[t] <= b.ec[t] else min(1.0, abs(c[t] - c[t - 10]) / path[t])
        out[t] = before + (efficiency * (fast - slow) + slow) ** 2 * (c[t] - before)
    return out


def t3_8(b: Bars) -> Array:
    a = 0.7
    e = [b.c]
    for _ in range(6):
        e.append(EMA(e[-1], 8))
    c1, c2 = -(a**3), 3 * a**2 + 3 * a**3
    c3, c4 = -6 * a**2 - 3 * a - 3 * a**3, 1 + 3 * a + a**3 + 3 * a**2
    return c1 * e[6] + c2 * e[5] + c3 * e[4] + c4 * e[3]


def ema_spread_z(b: Bars, fast: int, slow: int, n: int) -> Array:
    d = EMA(b.c, fast) - EMA(b.c, slow)
    return CLIP(DIV(d, np.sqrt(SMA(d**2, n)), b.ec, 0), 5)


def ribbon_align(b: Bars) -> Array:
    pairs = combinations(RIBBON, 2)
    return np.sum([SGNT(SMA(b.c, i) - SMA(b.c, j), b.ec) for i, j in pairs], axis=0) / 10


def ribbon_width(b: Bars) -> Array:
    m = [SMA(b.c, n) for n in RIBBON]
    return CLIP((np.max(m, axis=0) - np.min(m, axis=0)) / (5 * b.A), 5)


def slope_align(b: Bars) -> Array:
    m = [SMA(b.c, n) for n in RIBBON]
    return np.sum([SGNT(x - lag(x, 4), b.ec) for x in m], axis=0) / 5


def cross_count(b: Bars) -> Array:
    s = SGNT(b.c - SMA(b.c, 20), b.ec)
    product = s * lag(s, 1)
    return SUM(np.where(np.isnan(product), np.nan, product < 0), 48) / 4 - 2


def columns(b: Bars) -> dict[str, Array]:
    c, ec, A, S = b.c, b.ec, b.A, b.S
    e20, hull = EMA(c, 20), WMA(2 * WMA(c, 8) - WMA(c, 16), 4)
    return {
        "sma_dist_5": CLIP((c - SMA(c, 5)) / (A * np.sqrt(5)), 5),
        "sma_dist_20": CLIP((c - SMA(c, 20)) / (A * np.sqrt(20)), 5),
        "sma_dist_100": CLIP((c - SMA(c, 100)) / (A * np.sqrt(100)), 5),
        "ema_dist_50": CLIP((c - EMA(c, 50)) / (A * np.sqrt(50)), 5),
        "median_dist_96": CLIP((c - MED(c, 96)) / (c * S * np.sqrt(96)), 5),
        "wma_z_60": CLIP(DIV(c - WMA(c, 60), PSD(c, 60), ec, 0), 5),
        "hma_dist_16": CLIP((c - hull) / A, 5),
        "kama_dist_10": CLIP((c - kama_10(b)) / (A * np.sqrt(10)), 5),
        "kama_slope_10_5": CLIP((kama_10(b) - lag(kama_10(b), 5)) / A, 5),
        "t3_dist_8": CLIP((c - t3_8(b)) / (A * np.sqrt(8)), 5),
        "sma_spread_10_50": CLIP(2 * (SMA(c, 10) - SMA(c, 50)) / (c * S * np.sqrt(50)), 5),
        "sma_spread_50_200": CLIP(2 * (SMA(c, 50) - SMA(c, 200)) / (c * S * np.sqrt(200)), 5),
        "ema_spread_z_8_21": ema_spread_z(b, 8, 21, 96),
        "ema_spread_z_21_55": ema_spread_z(b, 21, 55, 192),
        "sma_slope_20_5": CLIP((SMA(c, 20) - lag(SMA(c, 20), 5)) / A, 5),
        "sma_slope_100_20": CLIP((SMA(c, 100) - lag(SMA(c, 100), 20)) / (2 * c * S), 5),
        "ema_accel_20_4": CLIP(2 * (e20 - 2 * lag(e20, 4) + lag(e20, 8)) / A, 5),
        "ma_ribbon_align": ribbon_align(b),
        "ma_ribbon_width": ribbon_width(b),
        "ma_slope_align": slope_align(b),
        "ema_cross_age_8_21": RUN(SGNT(EMA(c, 8) - EMA(c, 21), ec), 48) / 24,
        "sma_cross_age_20_100": RUN(SGNT(SMA(c, 20) - SMA(c, 100), ec), 96) / 48,
        "above_sma_frac_50": SMA(SGNT(c - SMA(c, 50), ec), 50),
        "sma_cross_count_20_48": cross_count(b),
    }
