"""What is too good to be true: a column that holds its label, a skill that no market gives. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from candlecast import outputs
from candlecast.features import NAMES
from candlecast.training.data import Samples
from candlecast.training.labels import FUTURE_BARS, LONG, SHORT
from candlecast.training.metrics import ranks
from candlecast.values import F64, I64

SUSPICIOUS: Final = "suspicious"
"""How every sentence below begins."""
SKILL_MAX: Final = 0.25
"""Share of the base rate's log-loss; the shipped PatchTST earns 0.034 to 0.061 of it in the mean of its folds, and
0.021 to 0.064 in single ones."""
SIDE_MAX: Final = 0.70
"""Share of moves whose side was right; the shipped PatchTST gets 0.51 to 0.52 in the mean of its folds, and 0.49 to
0.56 in single ones."""
CORRELATION_MAX: Final = 0.30
"""Rank correlation of one column with a future return; on real candles (6 symbols, 7 months) at most 0.07."""
AUC_MAX: Final = 0.70
"""Of one column, LONG against SHORT; on the same candles at most 0.56."""
DEVIATIONS: Final = 5.0
"""Standard deviations of pure chance that a column must exceed as well: little data correlates by itself."""
ROWS_MAX: Final = 20_000
"""Rows that columns are judged by, evenly taken."""


def columns(samples: Samples, index: I64, names: Sequence[str] = NAMES) -> list[str]:
    """Say which columns foretell a label of the samples at index [B] better than a market allows, the worst first.

    Labels of the same time, and those that overlap in time, count as one when chance is judged.
    """
    taken = index[np.unique(np.linspace(0, len(index) - 1, min(len(index), ROWS_MAX)).astype(np.int64))]
    ranked = np.stack([ranks(column) for column in samples.newest(taken).T.astype(np.float64)], axis=1)  # [N, F]
    labels = samples.labels.take(taken)
    spans = len(np.unique(samples.open_time_ms[index] // (samples.interval_ms * FUTURE_BARS)))
    found: dict[str, tuple[float, str]] = {}
    for h, horizon in enumerate(outputs.HORIZONS):
        independent = min(len(taken), spans * FUTURE_BARS // outputs.HORIZON_BARS[h])
        by_chance = DEVIATIONS / np.sqrt(independent)
        shares = [max(float((labels.directions[:, h] == side).mean()), 1e-9) for side in (LONG, SHORT)]
        auc_by_chance = by_chance * np.sqrt(sum(shares) / (12 * shares[0] * shares[1]))  # few moves say little
        correlation = np.abs(_correlations(ranked, ranks(labels.returns[:, h].astype(np.float64))))
        auc = np.abs(_auc(ranked, labels.directions[:, h]) - 0.5) + 0.5
        for measure, values, limit in (
            ("rank correlation with the return", correlation, max(CORRELATION_MAX, by_chance)),
            ("AUC of LONG against SHORT", auc, max(AUC_MAX, 0.5 + auc_by_chance)),
        ):
            for k in np.flatnonzero(values > limit).tolist():
                much = f"{values[k]:.2f} (limit {limit:.2f})"
                text = f"{SUSPICIOUS}: column {names[k]} alone: {measure} at {horizon} is {much}"
                found[names[k]] = max(found.get(names[k], (0.0, "")), (float(values[k]), text))
    return [text for _, text in sorted(found.values(), reverse=True)]


def skills(measured: dict[str, Any]) -> list[str]:
    """Say at which horizons of `evaluate.measure`'s answer the model is better than a market allows."""
    found = []
    for horizon, numbers in measured["horizons"].items():
        for name, metric, limit in (("skill", "skill", SKILL_MAX), ("side accuracy", "side_accuracy", SIDE_MAX)):
            if (value := numbers[metric]["model"]) > limit:
                found.append(f"{SUSPICIOUS}: the {name} at {horizon} is {value:.2f} (limit {limit:.2f})")
    return found


def found_in(metrics: Mapping[str, Any]) -> list[str]:
    """Return what was suspicious in a training, as its manifest's metrics keep it with each fold.

    Bundles that were trained before it was kept have nothing of it.
    """
    folds = metrics.get("walk_forward", {}).get("folds", [])
    return [f"{text}, in fold {k}" for k, fold in enumerate(folds, 1) for text in fold.get("suspicions", [])]


def _correlations(ranked: F64, truth: F64) -> F64:
    """Return the correlation of each column [N, F] with the truth [N]; 0 for a constant."""
    x, y = ranked - ranked.mean(axis=0), truth - truth.mean()
    spread = np.sqrt((x**2).sum(axis=0) * (y**2).sum())
    return np.divide(y @ x, spread, out=np.zeros(len(spread)), where=spread > 0)  # type: ignore[no-any-return]


def _auc(ranked: F64, directions: np.ndarray[Any, np.dtype[np.int8]]) -> F64:
    """Return the AUC of LONG against SHORT of each column [N, F]; 0.5 without both."""
    long, short = directions == LONG, directions == SHORT
    if not long.any() or not short.any():
        return np.full(ranked.shape[1], 0.5)
    moved = np.stack([ranks(column) for column in ranked[long | short].T], axis=1)
    rank_sum = moved[long[long | short]].sum(axis=0)
    return (rank_sum - long.sum() * (long.sum() + 1) / 2) / (long.sum() * short.sum())  # type: ignore[no-any-return]
