"""What a model looks at, as a table: each feature's share beside its correlation with the returns. Knows no model."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from candlecast import outputs
from candlecast.features import NAMES
from candlecast.training.data import Samples
from candlecast.values import F64, I64

HORIZON: Final = 2
"""Whose returns the features are correlated with, of outputs.HORIZONS: 4h."""


def table(samples: Samples, index: I64, score: F64, method: str, gain: F64 | None = None) -> dict[str, Any]:
    """Return the importance as a manifest keeps it, under metrics["importance"]; its features the largest share first.

    Args:
        index: [B] the samples that the correlations are taken over: newest row against return.
        score: [F] shares, >= 0, that sum to 1.
        method: how they were found: integrated_gradients, shap, …
        gain: [F] shares in the gain of the splits; None without trees.
    """
    correlation = correlations(samples.newest(index), samples.labels.returns[index, HORIZON].astype(np.float64))
    order = np.argsort(-score, kind="stable").tolist()
    rows = [
        {
            "feature": NAMES[k],
            "index": k,
            "rank": rank,
            "score": round(float(score[k]), 8),
            "correlation": None if np.isnan(correlation[k]) else round(float(correlation[k]), 6),
            "gain": None if gain is None else round(float(gain[k]), 8),
        }
        for rank, k in enumerate(order, 1)
    ]
    return {"method": method, "correlation_bars": outputs.HORIZON_BARS[HORIZON], "features": rows}


def correlations(rows: Any, returns: F64) -> F64:
    """Return Pearson's correlation [F] of columns [B, F] with returns [B]; NaN for a column that does not move."""
    x = rows - rows.mean(axis=0, dtype=np.float64)
    y = returns - returns.mean()
    spread = np.sqrt((x * x).sum(axis=0) * (y @ y))
    # What is left of a constant column is rounding.
    moves = (rows.max(axis=0) > rows.min(axis=0)) & (spread > 0)
    return np.divide(y @ x, spread, out=np.full(rows.shape[1], np.nan), where=moves)  # type: ignore[no-any-return]
