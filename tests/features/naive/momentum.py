"""Group momentum: oscillators."""

from __future__ import annotations

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.candle import body_ratio
from tests.features.naive.functions import (
    CLIP,
    DIV,
    EMA,
    EMAS,
    MAX,
    MIN,
    RSI,
    SMA,
    SUM,
    Array,
    lag,
    windows,
)


def stoch_rsi(b: Bars) -> Array:
    q = RSI(b.c, 14, b.ec)
    return SMA(2 * DIV(q - MIN(q, 14), MAX(q, 14) - MIN(q, 14), 1e-6, 0.5) - 1, 3)


def slow_k(b: Bars) -> Array:
    low, high = MIN(b.low, 14), MAX(b.h, 14)
    return SMA(100 * DIV(b.c - low, high - low, b.ec, 0.5), 3)


def williams_r(b: Bars) -> Array:
    low, high = MIN(b.low, 28), MAX(b.h, 28)
    return 2 * DIV(b.c - low, high - low, b.ec, 0.5) - 1


def macd_hist(b: Bars, fast: int, slow: int, signal: int) -> Array:
    m = EMAS(b.c, fast, slow - fast) - EMA(b.c, slow)
    return m - EMA(m, signal)


def cci(b: Bars, n: int) -> Array:
    m = SMA(b.tp, n)
    mean_deviation = np.abs(windows(b.tp, n) - m[:, None]).mean(axis=1)
    return CLIP(DIV(b.tp - m, 0.015 * mean_deviation, b.ec, 0) / 100, 5)


def cmo(b: Bars) -> Array:
    up, down = SUM(np.maximum(b.dc, 0), 20), SUM(np.maximum(-b.dc, 0), 20)
    return 2 * DIV(up - down, up + down, b.ec, 0)


def trix(b: Bars) -> Array:
    e = EMA(EMA(EMA(b.c, 15), 15), 15)
    return CLIP(1000 * (e / lag(e, 1) - 1), 5)


def ultosc(b: Bars) -> Array:
    bp = b.c - np.minimum(b.low, lag(b.c, 1))
    a7, a14, a28 = (DIV(SUM(bp, n), SUM(b.TR, n), b.ec, 0.5) for n in (7, 14, 28))
    return (100 * (4 * a7 + 2 * a14 + a28) / 7 - 50) / 25


def tsi(b: Bars) -> Array:
    return 3 * DIV(EMA(EMA(b.dc, 25), 13), EMA(EMA(np.abs(b.dc), 25), 13), b.ec, 0)


def fisher(b: Bars) -> Array:
    low, high = MIN(b.hl2, 10), MAX(b.hl2, 10)
    q = DIV(b.hl2 - low, high - low, b.ec, 0.5)
    out, a, f = np.full(len(b), np.nan), 0.0, 0.0
    for t in range(9, len(b)):
        a = min(max(0.66 * (q[t] - 0.5) + 0.67 * a, -0.999), 0.999)
        f = 0.5 * np.log((1 + a) / (1 - a)) + 0.5 * f
        out[t] = f / 2
    return out


def connors_rsi(b: Bars) -> Array:
    streak = np.zeros(len(b))
    for t in range(1, len(b)):
        if b.c[t] > b.c[t - 1]:
            streak[t] = max(streak[t - 1], 0) + 1
        elif b.c[t] < b.c[t - 1]:
            streak[t] = min(streak[t - 1], 0) - 1
    streak[:1] = np.nan
    before, now = windows(lag(b.r, 1), 100), b.r[:, None]
    rank = (before < now - 1e-12).sum(axis=1) + 0.5 * (np.abs(before - now) <= 1e-12).sum(axis=1)
    return ((RSI(b.c, 3, b.ec) + RSI(streak, 2, 1e-9) + rank) / 3 - 50) / 25


def rvgi(b: Bars) -> Array:
    def sym(x: Array) -> Array:
        return (x + 2 * lag(x, 1) + 2 * lag(x, 2) + lag(x, 3)) / 6

    return 3 * DIV(SMA(sym(b.c - b.o), 10), SMA(sym(b.h - b.low), 10), b.ec, 0)


def smi(b: Bars) -> Array:
    high, low = MAX(b.h, 13), MIN(b.low, 13)
    middle = (high + low) / 2
    return 3 * DIV(EMA(EMA(b.c - middle, 25), 2), EMA(EMA(high - low, 25), 2) / 2, b.ec, 0)


def columns(b: Bars) -> dict[str, Array]:
    c, A = b.c, b.A
    ao = SMA(b.hl2, 5) - SMA(b.hl2, 34)

    def rsi(n: int) -> Array:
        return RSI(c, n, b.ec)

    return {
        "rsi_5": (rsi(5) - 50) / 25,
        "rsi_14": (rsi(14) - 50) / 25,
        "rsi_42": (rsi(42) - 50) / 12.5,
        "rsi_slope_14_5": (rsi(14) - lag(rsi(14), 5)) / 25,
        "stoch_rsi_14_14_3": stoch_rsi(b),
        "stoch_k_14_3": (slow_k(b) - 50) / 50,
        "stoch_kd_14_3_3": (slow_k(b) - SMA(slow_k(b), 3)) / 12.5,
        "williams_r_28": williams_r(b),
        "ppo_12_26": CLIP(100 * (EMA(c, 12) - EMA(c, 26)) / EMA(c, 26), 5),
        "macd_hist_12_26_9": CLIP(3 * macd_hist(b, 12, 26, 9) / A, 5),
        "macd_hist_48_104_36": CLIP(2 * macd_hist(b, 48, 104, 36) / (c * b.S), 5),
        "cci_20": cci(b, 20),
        "cci_60": cci(b, 60),
        "cmo_20": cmo(b),
        "trix_15": trix(b),
        "ultosc_7_14_28": ultosc(b),
        "ao_5_34": CLIP(ao / (2 * A), 5),
        "ac_5_34_5": CLIP(1.5 * (ao - SMA(ao, 5)) / A, 5),
        "tsi_25_13": tsi(b),
        "fisher_10": fisher(b),
        "connors_rsi_3_2_100": connors_rsi(b),
        "mom_accel_16": CLIP((b.p - 2 * lag(b.p, 16) + lag(b.p, 32)) / (b.S * np.sqrt(32)), 8),
        "rvgi_10": rvgi(b),
        "bull_power_13": CLIP((b.h - EMA(c, 13)) / (2 * A), 5),
        "bear_power_13": CLIP((b.low - EMA(c, 13)) / (2 * A), 5),
        "dpo_20": CLIP(2 * (lag(c, 11) - SMA(c, 20)) / (A * np.sqrt(20)), 5),
        "bop_14": 3 * SMA(body_ratio(b), 14),
        "smi_13_25_2": smi(b),
    }
