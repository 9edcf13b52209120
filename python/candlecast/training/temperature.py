"""Calibration temperatures, fitted on validation outputs only. Knows no network."""

from __future__ import annotations

import numpy as np

from candlecast import outputs
from candlecast.interpret import interpret
from candlecast.training.labels import I8
from candlecast.values import F32, F64


def log_loss(probabilities: F64, directions: I8) -> F64:
    """Return the mean log-loss [4] of probabilities [N, 4, 3] for the classes [N, 4] that came."""
    came = np.take_along_axis(probabilities, directions[:, :, None].astype(np.int64), axis=2)[:, :, 0]
    return -np.log(np.maximum(came, 1e-12)).mean(axis=0)  # type: ignore[no-any-return]


def fit_temperatures(answers: F32, directions: I8) -> F64:
    """Return the temperatures [4] in 0.2..20 with the least log-loss of outputs [N, 20]; each has one minimum."""
    low, high = np.full(4, np.log(0.2)), np.full(4, np.log(20.0))
    for _ in range(5):
        grid = np.linspace(low, high, 13)  # [13, 4]
        losses = np.stack([log_loss(interpret(answers, np.exp(row)).probabilities, directions) for row in grid])
        best = losses.argmin(axis=0)
        horizon = np.arange(len(outputs.HORIZONS))
        low, high = grid[np.maximum(best - 1, 0), horizon], grid[np.minimum(best + 1, 12), horizon]
    return np.exp((low + high) / 2)  # type: ignore[no-any-return]
