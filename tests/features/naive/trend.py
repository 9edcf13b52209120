"""Group trend: direction, state machines, regression lines."""

from __future__ import annotations

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.functions import (
    AGE_OF_MAX,
    CLIP,
    CORR,
    DIRECTIONAL,
    DIV,
    LRE,
    MAX,
    MIN,
    RMA,
    RUN,
    SGNT,
    SLOPE,
    SSE,
    SUM,
    Array,
    lag,
)


def psar(b: Bars) -> Array:
    h, low = b.h, b.low
    out = np.full(len(b), np.nan)
    long, af, ep, sar = True, 0.02, 0.0, 0.0
    for t in range(1, len(b)):
        nl, nh = low[t], h[t]
        pl, ph = (nl, nh) if t == 1 else (low[t - 1], h[t - 1])
        if t == 1:
            fall, rise = low[0] - low[1], h[1] - h[0]
            long = not (fall > 0 and fall > rise)
            ep, sar = (h[1], low[0]) if long else (low[1], h[0])
        if long and nl <= sar:
            sar = max(ep, ph, nh)
            out[t] = sar
            long, af, ep = False, 0.02, nl
            sar = max(sar + af * (ep - sar), ph, nh)
        elif long:
            out[t] = sar
            if nh > ep:
                ep, af = nh, min(af + 0.02, 0.2)
            sar = min(sar + af * (ep - sar), pl, nl)
        elif nh >= sar:
            sar = min(ep, pl, nl)
            out[t] = sar
            long, af, ep = True, 0.02, nh
            sar = min(sar + af * (ep - sar), pl, nl)
        else:
            out[t] = sar
            if nl < ep:
                ep, af = nl, min(af + 0.02, 0.2)
            sar = max(sar + af * (ep - sar), ph, nh)
    return out


def supertrend(b: Bars) -> tuple[Array, Array]:
    """Return the line and the direction of SuperTrend(10, 3)."""
    c, a = b.c, RMA(b.TR, 10)
    upper, lower = b.hl2 + 3 * a, b.hl2 - 3 * a
    line, direction = np.full(len(b), np.nan), np.full(len(b), np.nan)
    fu = fl = d = 0.0
    for t in range(10, len(b)):
        if t == 10:
            fu, fl = upper[t], lower[t]
        else:
            fu = upper[t] if upper[t] < fu or c[t - 1] > fu else fu
            fl = lower[t] if lower[t] > fl or c[t - 1] < fl else fl
            if d <= 0 and c[t] > fu:
                d = 1.0
            elif d >= 0 and c[t] < fl:
                d = -1.0
        direction[t] = d
        line[t] = fl if d > 0 else fu if d < 0 else c[t]
    return line, direction


def middle(b: Bars, n: int) -> Array:
    return (MAX(b.h, n) + MIN(b.low, n)) / 2


def cloud_dist(b: Bars, sa: Array, sb: Array) -> Array:
    above = np.maximum(b.c - np.maximum(sa, sb), 0)
    below = np.maximum(np.minimum(sa, sb) - b.c, 0)
    return CLIP((above - below) / (5 * b.A), 5)


def efficiency(b: Bars, n: int) -> Array:
    return DIV(np.abs(b.c - lag(b.c, n)), SUM(np.abs(b.dc), n), b.ec, 0)


def vortex_14(b: Bars) -> Array:
    up, down = np.abs(b.h - lag(b.low, 1)), np.abs(b.low - lag(b.h, 1))
    return 3 * DIV(SUM(up, 14) - SUM(down, 14), SUM(b.TR, 14), b.ec, 0)


def choppiness(b: Bars, n: int) -> Array:
    x = DIV(SUM(b.TR, n), MAX(b.h, n) - MIN(b.low, n), b.ec, np.sqrt(n))
    return CLIP((np.log10(x) / np.log10(n) - 0.5) / 0.1, 5)


def columns(b: Bars) -> dict[str, Array]:
    c, ec, A, S = b.c, b.ec, b.A, b.S
    pdi, mdi, adx = DIRECTIONAL(b.h, b.low, c, 14)
    sar, (st, direction) = psar(b), supertrend(b)
    kijun = middle(b, 26)
    sa, sb = (middle(b, 9) + kijun) / 2, middle(b, 52)
    index = np.arange(len(b), dtype=float)
    return {
        "adx_14": (adx - 25) / 15,
        "adx_slope_14_5": CLIP((adx - lag(adx, 5)) / 5, 5),
        "di_diff_14": (pdi - mdi) / 15,
        "di_sum_14": CLIP((pdi + mdi - 45) / 10, 5),
        "psar_dist": CLIP((c - sar) / (2 * A), 5),
        "psar_age": RUN(SGNT(c - sar, ec), 48) / 12,
        "supertrend_dist_10_3": CLIP((c - st) / (3 * A), 5),
        "supertrend_age_10_3": RUN(direction, 96) / 48,
        "ichimoku_tk_9_26": CLIP((middle(b, 9) - kijun) / (2 * A), 5),
        "ichimoku_kijun_dist_26": CLIP((c - kijun) / (3 * A), 5),
        "ichimoku_cloud_dist": cloud_dist(b, lag(sa, 26), lag(sb, 26)),
        "ichimoku_cloud_thick": CLIP((lag(sa, 26) - lag(sb, 26)) / (3 * A), 5),
        "ichimoku_lead_thick": CLIP((sa - sb) / (3 * A), 5),
        "aroon_up_25": 1 - 2 * AGE_OF_MAX(b.h, 26) / 25,
        "aroon_down_25": 1 - 2 * AGE_OF_MAX(-b.low, 26) / 25,
        "linreg_slope_20": CLIP(SLOPE(c, 20) * 20 / (c * S * np.sqrt(20)), 5),
        "linreg_slope_96": CLIP(SLOPE(c, 96) * np.sqrt(96) / A, 5),
        "linreg_corr_20": CORR(c, index, 20, ec, 0),
        "linreg_corr_96": CORR(c, index, 96, ec, 0),
        "linreg_resid_z_48": CLIP(DIV(c - LRE(c, 48), np.sqrt(SSE(c, 48) / 46), ec, 0), 5),
        "er_10": 4 * (efficiency(b, 10) - 0.3),
        "er_48": 8 * (efficiency(b, 48) - 0.15),
        "vortex_14": vortex_14(b),
        "choppiness_14": choppiness(b, 14),
        "choppiness_56": choppiness(b, 56),
        "vhf_28": 5 * (DIV(MAX(c, 29) - MIN(c, 29), SUM(np.abs(b.dc), 28), ec, 0.35) - 0.35),
    }
