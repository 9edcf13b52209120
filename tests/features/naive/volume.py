"""Group volume: traded amounts, money flow, liquidity."""

from __future__ import annotations

import math

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.functions import (
    CLIP,
    CORR,
    COV,
    DIV,
    EMA,
    PRANK,
    SD,
    SGNT,
    SMA,
    SUM,
    VAR,
    VLR,
    Array,
    Bool,
    lag,
    windows,
)


def PHI(x: Array) -> Array:
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])


def no_volume(v: Array, n: int) -> Bool:
    """Tell where none of the last n bars, or of all bars if there are fewer, has volume."""
    return np.array([not (v[max(0, t - n + 1) : t + 1] > 0).any() for t in range(len(v))])


def per_volume(x: Array, v: Array, n: int, z: float = 0) -> Array:
    """Return SUM(x) / SUM(v) over n bars, z where all v = 0."""
    return DIV(SUM(x, n), SUM(v, n), 0, z)


def tod_ratio_5(b: Bars) -> Array:
    v, m = b.v, SMA(b.v, 481)
    base = (lag(v, 96) + lag(v, 192) + lag(v, 288) + lag(v, 384) + lag(v, 480)) / 5
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(m == 0, 0.0, CLIP(np.log((v + 0.01 * m) / (base + 0.01 * m)), 5))


def pvo(b: Bars) -> Array:
    fast, slow = EMA(b.v, 12), EMA(b.v, 26)
    return CLIP(2 * DIV(fast - slow, np.where(no_volume(b.v, 96), 0.0, slow), 0, 0), 5)


def force_index(b: Bars) -> Array:
    v = np.where(np.arange(len(b)) >= 1, b.v, np.nan)
    mean = np.where(no_volume(b.v, 96), 0.0, EMA(v, 13))
    return CLIP(3 * DIV(EMA(b.dc * b.v, 13) / b.A, mean, 0, 0), 5)


def obv_price_corr_48(b: Bars) -> Array:
    n = 48
    out = np.full(len(b), np.nan)
    for t in range(n - 1, len(b)):
        c, v = b.c[t - n + 1 : t + 1], b.v[t - n + 1 : t + 1]
        obv = np.concatenate([[0.0], np.cumsum(np.sign(c[1:] - c[:-1]) * v[1:])])
        flat = c.std() <= b.ec[t] or not v.any() or obv.std() <= 1e-12 * v.sum()
        out[t] = 0 if flat else np.clip(((c - c.mean()) * (obv - obv.mean())).mean() / (c.std() * obv.std()), -1, 1)
    return out


def money_flow(b: Bars) -> Array:
    """Return MFM * v."""
    return DIV((b.c - b.low) - (b.h - b.c), b.h - b.low, b.ec, 0) * b.v


def adosc_3_10(b: Bars) -> Array:
    m = money_flow(b)
    d3, d10 = np.zeros(len(b)), np.zeros(len(b))
    for t in range(1, len(b)):
        d3[t] = 1 / 2 * (d3[t - 1] + m[t])
        d10[t] = 9 / 11 * (d10[t - 1] + m[t])
    return CLIP(DIV(d10 - d3, SMA(b.v, 20), 0, 0), 5)


def mfi_14(b: Bars) -> Array:
    move = b.tp - lag(b.tp, 1)
    p, n = SUM(b.tp * b.v * (move > b.ec), 14), SUM(b.tp * b.v * (-move > b.ec), 14)
    return (100 * DIV(p, p + n, 0, 0.5) - 50) / 25


def vwma_gap_20(b: Bars) -> Array:
    vwma = per_volume(b.c * b.v, b.v, 20, np.nan)
    gap = CLIP(2 * (vwma - SMA(b.c, 20)) / b.A, 5)
    return np.where(SUM(b.v, 20) == 0, 0.0, gap)


def vwap_z_96(b: Bars) -> Array:
    volume, m = SUM(b.v, 96), per_volume(b.turn, b.v, 96, np.nan)
    squares = (windows(b.v, 96) * (windows(b.w, 96) - m[:, None]) ** 2).sum(axis=1)
    z = CLIP(DIV(b.c - m, np.sqrt(DIV(squares, volume, 0, np.nan)), b.ec, 0), 5)
    return np.where(volume == 0, 0.0, z)


def vwap_dist_x96(b: Bars) -> Array:
    out = np.zeros(len(b))
    position = (b.open_time_ms // b.interval_ms) % 96
    for t in range(len(b)):
        j = int(position[t])
        day = slice(max(0, t - j), t + 1)
        if b.v[day].sum() > 0:
            vwap = b.turn[day].sum() / b.v[day].sum()
            out[t] = np.clip((b.c[t] - vwap) / (b.A[t] * np.sqrt(j + 1)), -5, 5)
    return out


def volume_above_frac_96(b: Bars) -> Array:
    side = -SGNT(windows(b.w, 96) - b.c[:, None], b.ec[:, None])
    return DIV((windows(b.v, 96) * side).sum(axis=1), SUM(b.v, 96), 0, 0)


def amihud_ratio_16_336(b: Bars) -> Array:
    moves, turns = [SUM(np.abs(b.r), n) for n in (16, 336)], [SUM(b.turn, n) for n in (16, 336)]
    empty = (moves[0] <= 1e-9) | (moves[1] <= 1e-9) | (turns[0] == 0) | (turns[1] == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(empty, 0.0, CLIP(np.log((moves[0] / turns[0]) / (moves[1] / turns[1])), 5))


def kyle_lambda_48(b: Bars) -> Array:
    x = np.sign(b.dc) * b.v
    mean = SMA(b.v, 48)
    return CLIP(2 * DIV(COV(b.r, x, 48), VAR(x, 48), 1e-18 * mean**2, 0) * mean / b.S, 5)


def corwin_schultz_20(b: Bars) -> Array:
    h1, low1 = lag(b.h, 1), lag(b.low, 1)
    beta = np.log(b.h / b.low) ** 2 + np.log(h1 / low1) ** 2
    gamma = np.log(np.maximum(b.h, h1) / np.minimum(b.low, low1)) ** 2
    k = 3 - 2 * np.sqrt(2)
    a = (np.sqrt(2 * beta) - np.sqrt(beta)) / k - np.sqrt(gamma / k)
    s = np.maximum(2 * (np.exp(a) - 1) / (1 + np.exp(a)), 0)
    return CLIP(4 * SMA(s, 20) / np.maximum(b.ATR14 / b.c, 1e-5), 5)


def taker_imbalance(b: Bars, n: int, scale: float) -> Array:
    known = np.isfinite(b.taker_buy_volume)
    v = np.where(known, b.v, 0.0)
    bought = np.where(known, np.clip(b.taker_buy_volume, 0, b.v), 0.0)
    return scale * per_volume(2 * bought - v, v, n)


def trade_size_ratio_96(b: Bars) -> Array:
    known = (b.trades > 0) & (b.v > 0)
    v, trades = np.where(known, b.v, 0.0), np.where(known, b.trades, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, CLIP(2 * np.log((v / trades) / (SUM(v, 96) / SUM(trades, 96))), 5), 0.0)


def columns(b: Bars) -> dict[str, Array]:
    v = b.v
    signed = np.sign(b.dc) * v
    q = 2 * PHI(b.r / b.S) - 1
    return {
        "volume_ratio_1_96": VLR(v, SMA(v, 96)),
        "volume_ratio_4_48": VLR(SMA(v, 4), SMA(v, 48)),
        "volume_ratio_48_480": VLR(SMA(v, 48), SMA(v, 480)),
        "volume_rank_192": PRANK(v, 192, 0),
        "volume_tod_ratio_5": tod_ratio_5(b),
        "pvo_12_26": pvo(b),
        "volume_cv_48": DIV(SD(v, 48), SMA(v, 48), 0, 0),
        "obv_flow_20": 2 * per_volume(signed, v, 20),
        "obv_flow_96": 4 * per_volume(signed, v, 96),
        "obv_price_corr_48": obv_price_corr_48(b),
        "cmf_20": 3 * per_volume(money_flow(b), v, 20),
        "adosc_3_10": adosc_3_10(b),
        "mfi_14": mfi_14(b),
        "force_index_13": force_index(b),
        "nvi_96": CLIP(SUM(b.r * (v < lag(v, 1)), 96) / (b.S * np.sqrt(96)), 8),
        "vwma_gap_20": vwma_gap_20(b),
        "vwap_z_96": vwap_z_96(b),
        "vwap_dist_x96": vwap_dist_x96(b),
        "volume_above_frac_96": volume_above_frac_96(b),
        "amihud_ratio_16_336": amihud_ratio_16_336(b),
        "kyle_lambda_48": kyle_lambda_48(b),
        "corwin_schultz_20": corwin_schultz_20(b),
        "vpin_50": 5 * (per_volume(v * np.abs(q), v, 50, 0.5) - 0.5),
        "bvc_imbalance_10": 2 * per_volume(v * q, v, 10),
        "taker_imbalance_1": taker_imbalance(b, 1, 2),
        "taker_imbalance_20": taker_imbalance(b, 20, 5),
        "trade_size_ratio_96": trade_size_ratio_96(b),
        "corr_ret_volume_48": 2 * CORR(b.r, v, 48, 1e-9, 1e-9 * SMA(v, 48)),
    }
