"""The functions of the notation as plain definitions, under its names: O(n·window), no running sums. Knows no feature.

A series has one value per bar, NaN where it is not defined yet. `x[k]` of the notation is `lag(x, k)`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]
Scalar = float | Array


def lag(x: Array, k: int) -> Array:
    """Return x, k bars earlier."""
    return np.concatenate([np.full(k, np.nan), x])[: len(x)]


def windows(x: Array, n: int) -> Array:
    """Return [bars, n]: the last n values at every bar, oldest first; NaN where there were fewer bars."""
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([np.full(n - 1, np.nan), x]), n)


def SUM(x: Array, n: int) -> Array:
    return windows(x, n).sum(axis=1)


def SMA(x: Array, n: int) -> Array:
    return windows(x, n).mean(axis=1)


def MAX(x: Array, n: int) -> Array:
    return windows(x, n).max(axis=1)


def MIN(x: Array, n: int) -> Array:
    return windows(x, n).min(axis=1)


def MED(x: Array, n: int) -> Array:
    return np.median(windows(x, n), axis=1)


def deviations(x: Array, n: int) -> Array:
    """Return [bars, n]: each value of the window less the mean of that window."""
    w = windows(x, n)
    return w - w.mean(axis=1, keepdims=True)


def VAR(x: Array, n: int) -> Array:
    return (deviations(x, n) ** 2).mean(axis=1)


def COV(x: Array, y: Array, n: int) -> Array:
    return (deviations(x, n) * deviations(y, n)).mean(axis=1)


def PSD(x: Array, n: int) -> Array:
    return np.sqrt(VAR(x, n))


def SD(x: Array, n: int) -> Array:
    return np.sqrt((deviations(x, n) ** 2).sum(axis=1) / (n - 1))


def CORR(x: Array, y: Array, n: int, tiny_x: Scalar, tiny_y: Scalar) -> Array:
    sx, sy = PSD(x, n), PSD(y, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((sx <= tiny_x) | (sy <= tiny_y), 0.0, np.clip(COV(x, y, n) / (sx * sy), -1, 1))


def WMA(x: Array, n: int) -> Array:
    weights = np.arange(1.0, n + 1)
    return (windows(x, n) * weights).sum(axis=1) / weights.sum()


def SLOPE(y: Array, n: int) -> Array:
    """Return the slope of the least-squares line through the last n values."""
    x = np.arange(n) - (n - 1) / 2
    return (deviations(y, n) * x).sum(axis=1) / (x**2).sum()


def LRE(y: Array, n: int) -> Array:
    return SMA(y, n) + SLOPE(y, n) * (n - 1) / 2


def SSE(y: Array, n: int) -> Array:
    x = np.arange(n) - (n - 1) / 2
    return ((deviations(y, n) - SLOPE(y, n)[:, None] * x) ** 2).sum(axis=1)


def smoothed(x: Array, n: int, alpha: float) -> Array:
    """Return the exponential average: the mean of the first n defined x, then e += alpha * (x - e)."""
    out = np.full(len(x), np.nan)
    defined = np.flatnonzero(~np.isnan(x))
    if len(defined) < n:
        return out
    seed = defined[n - 1]
    out[seed] = x[defined[0] : seed + 1].mean()
    for t in range(seed + 1, len(x)):
        out[t] = out[t - 1] + alpha * (x[t] - out[t - 1])
    return out


def EMA(x: Array, n: int) -> Array:
    return smoothed(x, n, 2 / (n + 1))


def EMAS(x: Array, n: int, s: int) -> Array:
    return EMA(np.where(np.arange(len(x)) >= s, x, np.nan), n)


def RMA(x: Array, n: int) -> Array:
    return smoothed(x, n, 1 / n)


def WSUM(x: Array, n: int) -> Array:
    out = np.full(len(x), np.nan)
    first = int(np.isnan(x).sum())
    s = x[first : first + n - 1].sum()
    for t in range(first + n - 1, len(x)):
        s = s - s / n + x[t]
        out[t] = s
    return out


def RSI(x: Array, n: int, tiny: Scalar) -> Array:
    dx = x - lag(x, 1)
    gains, losses = RMA(np.maximum(dx, 0), n), RMA(np.maximum(-dx, 0), n)
    return 100 * DIV(gains, gains + losses, tiny, 0.5)


def TRUE_RANGE(h: Array, low: Array, c: Array) -> Array:
    before = lag(c, 1)
    return np.maximum(h - low, np.maximum(np.abs(h - before), np.abs(low - before)))


def DIRECTIONAL(h: Array, low: Array, c: Array, n: int) -> tuple[Array, Array, Array]:
    """Return PDI, MDI and ADX."""
    ec = 1e-9 * c
    up, dn = h - lag(h, 1), lag(low, 1) - low
    plus = np.where((up > 0) & (up - dn > ec), up, 0.0)
    minus = np.where((dn > 0) & (dn - up > ec), dn, 0.0)
    plus[:1] = minus[:1] = np.nan
    ranges = WSUM(TRUE_RANGE(h, low, c), n)
    pdi = 100 * DIV(WSUM(plus, n), ranges, ec, 0)
    mdi = 100 * DIV(WSUM(minus, n), ranges, ec, 0)
    return pdi, mdi, RMA(100 * DIV(np.abs(pdi - mdi), pdi + mdi, 1e-9, 0), n)


def DIV(a: Array, b: Array, tiny: Scalar, z: Scalar) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(b <= tiny, z, a / b))


def CLIP(x: Array, a: float) -> Array:
    return np.clip(x, -a, a)


def SGNT(x: Array, tiny: Scalar) -> Array:
    return np.where(np.abs(x) <= tiny, 0.0, np.sign(x))


def RUN(s: Array, cap: int) -> Array:
    length = np.zeros(len(s))
    for t in range(len(s)):
        length[t] = length[t - 1] + 1 if t > 0 and s[t] == s[t - 1] else 1
    return s * np.minimum(length, cap)


def AGE_OF_MAX(x: Array, n: int) -> Array:
    """Return the bars since the highest of the last n values; the latest one wins ties."""
    return np.argmax(windows(x, n)[:, ::-1], axis=1).astype(float)


def PRANK(x: Array, n: int, tol: float) -> Array:
    w, now = windows(x, n), x[:, None]
    below = (w < now - tol).sum(axis=1)
    equal = (np.abs(w - now) <= tol).sum(axis=1)
    return np.where(np.isnan(w).any(axis=1), np.nan, 2 * (below + 0.5 * (equal - 1)) / (n - 1) - 1)


def LV(x: Array) -> Array:
    return CLIP(np.log(np.maximum(x, 1e-5) / 0.004), 6)


def LR(a: Array, b: Array) -> Array:
    return np.log(np.maximum(a, 1e-5) / np.maximum(b, 1e-5))


def VLR(a: Array, m: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(m == 0, 0.0, np.log((a + 0.01 * m) / (1.01 * m)))


def Q(x: Array, a: float, n: int) -> Array:
    return np.quantile(windows(x, n), a, axis=1)


def moments(x: Array, n: int) -> tuple[Array, Array, Array]:
    """Return the second, third and fourth central moment, as means over the window."""
    d = deviations(x, n)
    return (d**2).mean(axis=1), (d**3).mean(axis=1), (d**4).mean(axis=1)


def G1(x: Array, n: int) -> Array:
    m2, m3, _ = moments(x, n)
    return np.sqrt(n * (n - 1)) / (n - 2) * DIV(m3, np.where(m2 <= 1e-18, 0.0, m2**1.5), 0, 0)


def G2(x: Array, n: int) -> Array:
    m2, _, m4 = moments(x, n)
    kurtosis = DIV(m4, np.where(m2 <= 1e-18, 0.0, m2**2), 0, np.nan)
    return np.where(m2 <= 1e-18, 0.0, (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (kurtosis - 3) + 6))
