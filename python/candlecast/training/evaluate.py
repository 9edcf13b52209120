"""Measure outputs against labels, every number beside what the train part's base rate reaches. Knows no network."""

from __future__ import annotations

from typing import Any

import numpy as np

from candlecast import outputs
from candlecast.interpret import interpret
from candlecast.training.labels import I8, LONG, NEUTRAL, SHORT, Labels
from candlecast.training.temperature import log_loss
from candlecast.values import F32, F64

Pair = dict[str, float]
"""{"model": …, "base": …} of one metric."""


def measure(answers: F32, labels: Labels, temperatures: F64, train_rates: F64, train: Labels) -> dict[str, Any]:
    """Return the metrics of outputs [N, 20] against their labels [N].

    Args:
        temperatures: calibration [4], fitted on validation.
        train_rates: class frequencies [4, 3] of the train part: the base of probabilities; its largest class is the
            base of the accuracies.
        train: labels of the train part; their median is the base of the mean absolute errors.
    """
    p = interpret(answers, temperatures).probabilities
    base = np.broadcast_to(train_rates, p.shape)
    loss, base_loss = log_loss(p, labels.directions), log_loss(base, labels.directions)
    came = labels.directions[:, :, None] == np.arange(3)  # [N, 4, 3]
    brier, base_brier = (((q - came) ** 2).sum(axis=2).mean(axis=0) for q in (p, base))
    hit, base_hit = (q.argmax(axis=2) == labels.directions for q in (p, base))
    returns = _absolute_errors(answers[:, outputs.RETURNS], labels.returns, train.returns)
    horizons = {}
    for h, name in enumerate(outputs.HORIZONS):
        horizons[name] = {
            "log_loss": _pair(loss[h], base_loss[h]),
            "brier": _pair(brier[h], base_brier[h]),
            "accuracy": _pair(hit[:, h].mean(), base_hit[:, h].mean()),
            "balanced_accuracy": _pair(*(_balanced(hits[:, h], came[:, h]) for hits in (hit, base_hit))),
            "side_accuracy": _pair(*(_side(q[:, h], labels.directions[:, h]) for q in (p, base))),
            "return_mae": returns[h],
            "frequencies": dict(zip(outputs.CLASSES, came[:, h].mean(axis=0).round(6).tolist(), strict=True)),
        }
    risks = _absolute_errors(answers[:, outputs.RISKS], labels.risks, train.risks)
    return {
        "rows": len(answers),
        "horizons": horizons,
        "risks": {name: {"mae": pair} for name, pair in zip(outputs.RISK_NAMES, risks, strict=True)},
    }


def average(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the plain mean over the folds of every metric in `measure`'s answers; rows are added up."""

    def mean(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: mean([value[key] for value in values]) for key in values[0]}
        return round(float(np.mean(values)), 6)

    metrics = {key: mean([fold[key] for fold in folds]) for key in ("horizons", "risks")}
    return {"rows": sum(fold["rows"] for fold in folds)} | metrics


def _balanced(hits: np.ndarray[Any, Any], came: np.ndarray[Any, Any]) -> float:
    """Return the mean over the classes that came [N, 3] of the share that was hit [N]."""
    return float(np.mean([hits[came[:, c]].mean() for c in range(3) if came[:, c].any()]))


def _side(p: F64, directions: I8) -> float:
    """Return, among the rows that moved, the share whose side [N] the probabilities [N, 3] prefer; 0 when none moved.

    Knowing that a move comes (volatility) lifts the other metrics; this one asks for its direction alone.
    """
    moved = directions != NEUTRAL
    return float(((p[:, SHORT] > p[:, LONG]) == (directions == SHORT))[moved].mean()) if moved.any() else 0.0


def _absolute_errors(answers: F32, truth: F32, train: F32) -> list[Pair]:
    errors = np.abs(answers - truth).mean(axis=0)
    base = np.abs(np.median(train, axis=0) - truth).mean(axis=0)
    return [_pair(error, constant) for error, constant in zip(errors, base, strict=True)]


def _pair(model: float, base: float) -> Pair:
    return {"model": round(float(model), 6), "base": round(float(base), 6)}
