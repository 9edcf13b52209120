"""How good the answers of a tabular model are, each number beside its base rate and persistence. Knows no files.

The base knows the train part's frequencies, or its median volatility, and nothing else. Persistence also knows what had
come in the hours before: the frequencies after that, or the same volatility again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from candlecast.training import tabular
from candlecast.training.data import Samples
from candlecast.training.targets import Target
from candlecast.values import F32, F64, I64

Metrics = dict[str, dict[str, float]]


def measure(target: Target, answers: F32, samples: Samples, test: I64, train: I64) -> dict[str, Any]:
    """Return the metrics of answers [N, K] to the samples at `test` [N], in the form of `evaluate.measure`."""
    known, before = tabular.came(samples, train), tabular.had_come(samples, train)
    truth, was = tabular.came(samples, test), tabular.had_come(samples, test)
    if target.name == "volatility":
        base = np.full(len(truth), np.median(known))
        metrics = _sizes(truth, answers[:, 0].astype(np.float64), base, was)
        spread = {f"{share:.0%}": round(float(np.quantile(truth, share)), 6) for share in (0.1, 0.5, 0.9)}
        return {"rows": len(answers), "horizons": {target.horizon: metrics | {"quantiles": spread}}}
    rates = tabular.rates(target, known)
    classes = len(rates)
    after = np.stack([tabular.rates(target, known[before == c]) for c in range(classes)])  # [before, after]
    p = answers.astype(np.float64) if target.name == "direction" else np.column_stack([1 - answers, answers])
    chances = (p, np.broadcast_to(rates, p.shape), after[was.astype(np.int64)])
    metrics = _chances(truth.astype(np.int64), *chances)
    frequencies = {str(c): round(float((truth == c).mean()), 6) for c in range(classes)}
    return {"rows": len(answers), "horizons": {target.horizon: metrics | {"frequencies": frequencies}}}


def average(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the plain mean over the folds of each metric; rows are added up."""

    def mean(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            shared = [key for key in values[0] if all(key in value for value in values)]
            return {key: mean([value[key] for value in values]) for key in shared}
        return round(float(np.mean(values)), 6)

    return {"rows": sum(fold["rows"] for fold in folds), "horizons": mean([fold["horizons"] for fold in folds])}


def _sizes(truth: F64, model: F64, base: F64, persistence: F64) -> Metrics:
    measures: dict[str, Callable[[F64], float]] = {
        "mae": lambda answer: float(np.abs(answer - truth).mean()),
        "rmse": lambda answer: float(np.sqrt(((answer - truth) ** 2).mean())),
    }
    return _triples(measures, model, base, persistence)


def _chances(truth: I64, model: F64, base: F64, persistence: F64) -> Metrics:
    hit = truth[:, None] == np.arange(model.shape[1])  # [N, C]
    came = [(c, truth == c) for c in np.unique(truth)]
    measures: dict[str, Callable[[F64], float]] = {
        "log_loss": lambda p: float(-np.log(np.maximum(p[hit], 1e-12)).mean()),
        "brier": lambda p: float(((p - hit) ** 2).sum(axis=1).mean()),
        "accuracy": lambda p: float((p.argmax(axis=1) == truth).mean()),
        "balanced_accuracy": lambda p: float(np.mean([(p[rows].argmax(axis=1) == c).mean() for c, rows in came])),
    }
    seen = np.flatnonzero(hit.any(axis=0) & ~hit.all(axis=0))
    if len(seen):
        measures["auc"] = lambda p: float(np.mean([roc_auc_score(hit[:, c], p[:, c]) for c in seen]))
    return _triples(measures, model, base, persistence)


def _triples(measures: dict[str, Callable[[F64], float]], model: F64, base: F64, persistence: F64) -> Metrics:
    answers = {"model": model, "base": base, "persistence": persistence}
    return {
        name: {who: round(measure(answer), 6) for who, answer in answers.items()} for name, measure in measures.items()
    }
