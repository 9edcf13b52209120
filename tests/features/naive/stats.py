"""Group stats: moments, autocorrelations, scaling, entropies, quantiles."""

from __future__ import annotations

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.functions import CLIP, CORR, DIV, G1, G2, MAX, MIN, PRANK, SD, SMA, Array, Q, lag, windows


def variance_ratio_192(b: Bars, q: int) -> Array:
    n = 192
    p = windows(b.p, n + 1)
    mu = ((p[:, -1] - p[:, 0]) / n)[:, None]
    va = ((np.diff(p, axis=1) - mu) ** 2).sum(axis=1) / (n - 1)
    m = q * (n - q + 1) * (1 - q / n)
    vc = ((p[:, q:] - p[:, :-q] - q * mu) ** 2).sum(axis=1) / m
    z = (vc / np.where(va <= 1e-18, np.nan, va) - 1) / np.sqrt(2 * (2 * q - 1) * (q - 1) / (3 * q * n))
    return np.where(va <= 1e-18, 0.0, CLIP(z, 8))


def hurst_192(b: Bars) -> Array:
    p, lags = windows(b.p, 193), np.array([1, 2, 4, 8, 16, 32])
    d = np.array([((p[:, k:] - p[:, :-k]) ** 2).mean(axis=1) for k in lags])
    y, x = 0.5 * np.log(np.maximum(d, 1e-18)), np.log(lags) - np.log(lags).mean()
    h = (x[:, None] * y).sum(axis=0) / (x**2).sum()
    return np.where(d[0] <= 1e-18, 0.0, CLIP(5 * (h - 0.5), 5))


def fractal_dim_48(b: Bars) -> Array:
    n2 = MAX(b.h, 24) - MIN(b.low, 24)
    n1, n3 = lag(n2, 24), MAX(b.h, 48) - MIN(b.low, 48)
    flat = (n1 + n2 <= b.ec) | (n3 <= b.ec)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flat, 0.0, 5 * (np.clip(np.log(2 * (n1 + n2) / n3) / np.log(2), 1, 2) - 1.5))


def entropy(labels: Array) -> float:
    """Return -sum q ln q over the shares q of the labels."""
    _, counts = np.unique(labels, return_counts=True, axis=0)
    q = counts / len(labels)
    return float(-(q * np.log(q)).sum())


def perm_entropy_3_96(b: Bars) -> Array:
    out = np.full(len(b), np.nan)
    patterns = np.argsort(windows(b.c, 3), axis=1, kind="stable").astype(float)
    for t in range(97, len(b)):
        out[t] = entropy(patterns[t - 95 : t + 1])
    return CLIP(20 * (0.96 - out / np.log(6)), 5)


def ret_entropy_96(b: Bars) -> Array:
    out = np.full(len(b), np.nan)
    sd, edges = SD(b.r, 96), np.array([-1.5, -0.75, -0.25, 0.25, 0.75, 1.5])
    for t in range(96, len(b)):
        bins = (edges * sd[t] < b.r[t - 95 : t + 1, None]).sum(axis=1)
        out[t] = 0 if sd[t] <= 1e-9 else CLIP(15 * (entropy(bins) / np.log(7) - 0.93), 5)
    return out


def max_drawdown_96(p: Array) -> Array:
    w = windows(p, 96)
    return (np.maximum.accumulate(w, axis=1) - w).max(axis=1)


def df_tstat_96(b: Bars) -> Array:
    x, y = windows(lag(b.p, 1), 96), windows(b.p, 96) - windows(lag(b.p, 1), 96)
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    sxx, syy, sxy = (dx**2).sum(axis=1), (dy**2).sum(axis=1), (dx * dy).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = sxy / sxx
        sse = ((dy - slope[:, None] * dx) ** 2).sum(axis=1)
        t = slope / np.sqrt(sse / 94 / sxx)
    return np.where((sxx <= 96e-18) | (syy <= 96e-18) | (sse <= 96e-18), 0.0, CLIP(t + 1.5, 5))


def columns(b: Bars) -> dict[str, Array]:
    r, p, S = b.r, b.p, b.S
    size = np.abs(r)
    q05, q95 = Q(r, 0.05, 192), Q(r, 0.95, 192)
    return {
        "skew_48": np.arcsinh(G1(r, 48)),
        "skew_192": np.arcsinh(G1(r, 192)),
        "kurt_48": np.arcsinh(G2(r, 48)),
        "kurt_192": np.arcsinh(G2(r, 192)),
        "autocorr_1_96": np.sqrt(96) * CORR(r, lag(r, 1), 96, 1e-9, 1e-9),
        "autocorr_2_96": np.sqrt(96) * CORR(r, lag(r, 2), 96, 1e-9, 1e-9),
        "autocorr_4_96": np.sqrt(96) * CORR(r, lag(r, 4), 96, 1e-9, 1e-9),
        "absret_autocorr_1_96": 5 * CORR(size, lag(size, 1), 96, 1e-9, 1e-9),
        "leverage_corr_96": np.sqrt(96) * CORR(lag(r, 1), size, 96, 1e-9, 1e-9),
        "variance_ratio_4_192": variance_ratio_192(b, 4),
        "variance_ratio_16_192": variance_ratio_192(b, 16),
        "hurst_192": hurst_192(b),
        "fractal_dim_48": fractal_dim_48(b),
        "perm_entropy_3_96": perm_entropy_3_96(b),
        "ret_entropy_96": ret_entropy_96(b),
        "var_5_192": CLIP(-q05 / S, 5),
        "cvar_5_96": CLIP(-np.sort(windows(r, 96), axis=1)[:, :5].mean(axis=1) / S, 5),
        "tail_asym_192": CLIP(4 * DIV(q95 + q05, q95 - q05, 1e-9, 0), 5),
        "max_drawdown_96": CLIP(max_drawdown_96(p) / (S * np.sqrt(96)), 8),
        "max_runup_96": CLIP(max_drawdown_96(-p) / (S * np.sqrt(96)), 8),
        "close_zscore_480": CLIP(DIV(p - SMA(p, 480), SD(p, 480), 1e-9, 0), 5),
        "ret_rank_192": PRANK(r, 192, 1e-12),
        "close_rank_192": PRANK(b.c, 192, 0),
        "df_tstat_96": df_tstat_96(b),
    }
