"""How far features have moved from how they were: the population stability index. Knows numbers and no store."""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast.values import F32

BINS: Final = 10
"""Of equally many reference rows, and one more for what has no value."""


def stability(reference: F32, newest: F32) -> list[float]:
    """Return for each of F features the index of newest [n, F] against reference [m, F], n and m at least 1.

    It is the sum over bins of (p - q) ln(p / q), with half a row added to each bin so that an empty one does not weigh
    without bound. By custom below 0.1 nothing has moved, from 0.25 on much has.
    """
    return [_index(reference[:, f], newest[:, f]) for f in range(reference.shape[1])]


def _index(before: F32, after: F32) -> float:
    known = before[np.isfinite(before)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.zeros(0)
    p, q = (_shares(values, edges) for values in (after, before))
    return float(np.sum((p - q) * np.log(p / q)))


def _shares(values: F32, edges: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    bins = np.where(finite, np.searchsorted(edges, values, side="right"), len(edges) + 1)
    counts = np.bincount(bins, minlength=len(edges) + 2) + 0.5
    shares: np.ndarray = counts / counts.sum()
    return shares


def distance(reference: F32, newest: F32) -> list[float]:
    """Return for each of F features the largest difference of the distributions of newest [n, F] and reference [m, F].

    It is the Kolmogorov-Smirnov statistic, 0 to 1, of the values that are finite; 1 where one side has none and the
    other has.
    """
    return [_distance(reference[:, f], newest[:, f]) for f in range(reference.shape[1])]


def _distance(before: F32, after: F32) -> float:
    a, b = (np.sort(values[np.isfinite(values)]) for values in (before, after))
    if not len(a) or not len(b):
        return float(len(a) != len(b))
    every = np.concatenate([a, b])
    below = (np.searchsorted(some, every, side="right") / len(some) for some in (a, b))
    return float(np.abs(next(below) - next(below)).max())
