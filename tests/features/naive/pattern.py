"""Group pattern: candle patterns in units of A."""

from __future__ import annotations

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.candle import body_ratio, lower_wick_ratio, upper_wick_ratio
from tests.features.naive.functions import CLIP, LR, Array, Bool, lag


def pin_bar(b: Bars) -> Array:
    wicks, slim = lower_wick_ratio(b) - upper_wick_ratio(b), 1 - np.abs(body_ratio(b))
    return CLIP(2 * wicks * slim * (b.h - b.low) / b.A, 5)


def signed(where: Bool, b: Bars, size: Array) -> Array:
    """Return the size of the pattern, 0 to 5, with the sign of the body; 0 elsewhere."""
    return np.where(where, np.sign(b.c - b.o) * np.clip(size, 0, 5), 0.0)


def engulfing(b: Bars) -> Array:
    body = b.c - b.o
    return signed(body * lag(body, 1) < 0, b, 2 * (np.abs(body) - np.abs(lag(body, 1))) / b.A)


def star(b: Bars) -> Array:
    body = b.c - b.o
    b0, b1, b2 = np.abs(body), np.abs(lag(body, 1)), np.abs(lag(body, 2))
    return signed(body * lag(body, 2) < 0, b, 3 * (np.minimum(b0, b2) - b1) / b.A)


def three_bar(b: Bars) -> Array:
    bodies = np.array([lag(b.c - b.o, k) for k in range(3)])
    where = (bodies > 0).all(axis=0) | (bodies < 0).all(axis=0)
    return signed(where, b, 3 * np.abs(bodies).min(axis=0) / b.A)


def inside_outside(b: Bars) -> Array:
    h, low, c, h1, low1 = b.h, b.low, b.c, lag(b.h, 1), lag(b.low, 1)
    where = ((h <= h1) & (low >= low1)) | ((h >= h1) & (low <= low1))
    return np.where(where, CLIP(LR((h - low) / c, (h1 - low1) / c), 3), 0.0)


def columns(b: Bars) -> dict[str, Array]:
    return {
        "pat_pin_bar": pin_bar(b),
        "pat_doji": np.minimum((1 - np.abs(body_ratio(b))) * (b.h - b.low) / b.A, 5),
        "pat_engulfing": engulfing(b),
        "pat_star": star(b),
        "pat_three_bar": three_bar(b),
        "pat_inside_outside": inside_outside(b),
    }
