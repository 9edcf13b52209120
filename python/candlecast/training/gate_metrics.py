"""How good the gate's probabilities are, each figure beside its base rate. Knows no model.

The base of AUC is 0.5, that of log-loss and Brier score answers with the positive rate of the train part, and that of
precision, recall and F1 approves everything. The heuristic is what decides when the model is away.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from candlecast import gate
from candlecast.training.gate_data import Samples, utc
from candlecast.values import F64, Bool

SLICES: Final = 5
BLOCK_MS: Final = 60_000
RESAMPLES: Final = 200
TARGETS: Final = {
    "auc": (0.65, 1.0),
    "f1": (0.60, 1.0),
    "precision": (0.70, 1.0),
    "recall": (0.50, 1.0),
    "approval_rate": (0.10, 0.30),
}
"""What contract section 5 hopes for."""


def measure(samples: Samples, probability: F64, base_rate: float, threshold: float) -> dict[str, Any]:
    """Return the metrics of probabilities [N] of samples that the model has not seen.

    Args:
        base_rate: positive rate of the train part.
        threshold: approved is what is above.
    """
    from sklearn.metrics import brier_score_loss, log_loss

    came = samples.labels.astype(bool)
    base = np.full(len(came), np.clip(base_rate, 1e-6, 1 - 1e-6))
    approved, everything = at_threshold(came, probability > threshold), at_threshold(came, np.ones(len(came), bool))
    by_rule = at_threshold(came, gate.heuristic(samples.features.astype(np.float64), threshold))
    metrics: dict[str, Any] = {
        "rows": len(samples),
        "from": utc(int(samples.ts[0])),
        "to": utc(int(samples.ts[-1])),
        "minutes_with_samples": samples.stretches(BLOCK_MS),
        "positive_rate": round(float(came.mean()), 4),
        "threshold": threshold,
        "auc": {"model": _auc(came, probability), "base": 0.5, "interval_95": _interval(samples, probability)},
        "log_loss": _pair(log_loss(came, probability, labels=[0, 1]), log_loss(came, base, labels=[0, 1])),
        "brier": _pair(brier_score_loss(came, probability), brier_score_loss(came, base)),
    }
    for name in approved:
        metrics[name] = {"model": approved[name], "base": everything[name], "heuristic": by_rule[name]}
    metrics["targets"] = {name: _target(metrics[name]["model"], *bounds) for name, bounds in TARGETS.items()}
    metrics["over_time"] = _over_time(samples, probability)
    return metrics


def at_threshold(came: Bool, approved: Bool) -> dict[str, float | None]:
    """Return what approving those does: precision, recall and F1 are None where they would divide by 0."""
    hits, approvals, positives = int((came & approved).sum()), int(approved.sum()), int(came.sum())
    return {
        "approval_rate": round(approvals / len(came), 4),
        "precision": round(hits / approvals, 4) if approvals else None,
        "recall": round(hits / positives, 4) if positives else None,
        "f1": round(2 * hits / (approvals + positives), 4) if approvals + positives else None,
    }


def importance(samples: Samples, probability_of: Any, gain: F64, seed: int) -> dict[str, Any]:
    """Return each feature's share of the splits' gain, and what AUC loses when its column is shuffled."""
    rng = np.random.default_rng(seed)
    came = samples.labels.astype(bool)
    whole = _auc(came, probability_of(samples.features))
    told = {}
    for k, name in enumerate(gate.FEATURES):
        shuffled = samples.features.copy()
        shuffled[:, k] = rng.permutation(shuffled[:, k])
        without = _auc(came, probability_of(shuffled))
        drop = None if whole is None or without is None else round(whole - without, 4)
        told[name] = {"gain": round(float(gain[k]), 4), "auc_lost_when_shuffled": drop}
    return told


def _over_time(samples: Samples, probability: F64) -> list[dict[str, Any]]:
    """Return AUC by slices of time with as many rows each; None where a slice has one class."""
    told = []
    for part in np.array_split(np.arange(len(samples)), SLICES):
        if len(part):
            slice_ = samples.take(part)
            told.append(
                {
                    "from": utc(int(slice_.ts[0])),
                    "to": utc(int(slice_.ts[-1])),
                    "rows": len(part),
                    "positive_rate": round(slice_.positive_rate, 4),
                    "auc": _auc(slice_.labels.astype(bool), probability[part]),
                }
            )
    return told


def _interval(samples: Samples, probability: F64) -> list[float] | None:
    """Return the 95 % interval of AUC over minutes drawn again, because trades of one minute share their future.

    None with fewer than three minutes: nothing can be said.
    """
    rng = np.random.default_rng(0)
    _, minute = np.unique(samples.ts // BLOCK_MS, return_inverse=True)
    minutes = int(minute.max()) + 1
    if minutes < 3:
        return None
    found = []
    _, place = np.unique(probability, return_inverse=True)
    for _ in range(RESAMPLES):
        times_drawn = np.bincount(rng.integers(0, minutes, minutes), minlength=minutes)[minute]
        came, stayed = (np.bincount(place, times_drawn * (samples.labels == k)) for k in (1, 0))
        if came.any() and stayed.any():
            # Pairs in which what came has the larger probability, one half for equal ones.
            won = came @ (np.cumsum(stayed) - stayed / 2)
            found.append(won / (came.sum() * stayed.sum()))
    return [round(float(edge), 4) for edge in np.quantile(found, (0.025, 0.975))] if found else None


def _auc(came: Bool, probability: F64) -> float | None:
    """Return the ROC AUC; None with one class."""
    from sklearn.metrics import roc_auc_score

    if came.all() or not came.any():
        return None
    return round(float(roc_auc_score(came, probability)), 4)


def _pair(model: float, base: float) -> dict[str, float]:
    return {"model": round(float(model), 4), "base": round(float(base), 4)}


def _target(value: float | None, low: float, high: float) -> dict[str, Any]:
    return {"at_least": low, "at_most": high, "met": value is not None and low <= value <= high}
