"""What calibrates answers and decides on them, fitted on validation outputs only. Knows no network.

A horizon's logits say two things: whether the price will move, and to which side. A fit learns the first well and much
of the second by heart, so one temperature for both leaves the answers that only lean to a side too sure and the others
not sure enough. A lean is the share of (LONG - SHORT) that stays; the temperature is for both.

A threshold is the probability of a move from which on the likelier side is called instead of NEUTRAL: of three classes
the likeliest is nearly always the most frequent one.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast import outputs
from candlecast.interpret import interpret
from candlecast.training.labels import I8, LONG, NEUTRAL, SHORT
from candlecast.values import F32, F64, I64

TRIED: Final = 50
"""Thresholds that are tried: quantiles of the rows."""


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


def called(probabilities: F64, thresholds: F64) -> I64:
    """Return the classes [N, 4] that probabilities [N, 4, 3] call: NEUTRAL below the thresholds [4] of a move."""
    sides = np.where(probabilities[..., SHORT] > probabilities[..., LONG], SHORT, LONG)
    moves = probabilities[..., LONG] + probabilities[..., SHORT] >= thresholds
    return np.where(moves, sides, NEUTRAL)


def fit_thresholds(probabilities: F64, directions: I8) -> F64:
    """Return the thresholds [4] in 0..1 whose calls of [N, 4, 3] have the best balanced accuracy for the classes that
    came [N, 4]; of those that are as good, the lowest.
    """
    moves = probabilities[..., LONG] + probabilities[..., SHORT]
    found = np.zeros(len(outputs.HORIZONS))
    for h in range(len(found)):
        grid = np.unique(np.quantile(moves[:, h], np.linspace(0, 1, TRIED + 1)))
        scores = []
        for threshold in grid:
            call = called(probabilities[:, h : h + 1], np.array([threshold]))[:, 0]
            came = directions[:, h]
            scores.append(np.mean([(call[came == c] == c).mean() for c in np.unique(came)]))
        found[h] = grid[int(np.argmax(scores))]
    return found


def leaning(answers: F32, leans: F64) -> F32:
    """Return outputs [N, 20] with this share [4] of each horizon's difference between LONG and SHORT."""
    changed = answers.copy()
    logits = changed[:, outputs.LOGITS].reshape(-1, len(outputs.HORIZONS), len(outputs.CLASSES))
    sides = logits[..., :2]
    middle = sides.mean(axis=-1, keepdims=True)
    logits[..., :2] = middle + leans[:, None] * (sides - middle)
    changed[:, outputs.LOGITS] = logits.reshape(len(answers), -1)
    return changed


def fit_leans(answers: F32, directions: I8) -> F64:
    """Return the leans [4] in 0..1 that, with temperatures of their own, give outputs [N, 20] the least log-loss."""
    grid = np.linspace(0, 1, 11)
    losses = []
    for lean in grid:
        leant = leaning(answers, np.full(len(outputs.HORIZONS), lean))
        losses.append(log_loss(interpret(leant, fit_temperatures(leant, directions)).probabilities, directions))
    return grid[np.argmin(losses, axis=0)]  # type: ignore[no-any-return]
