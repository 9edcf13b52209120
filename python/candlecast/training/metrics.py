"""Metrics as ratios of sums over bars, so that one block bootstrap gives the interval of each. Knows no model.

Every function of sums takes any leading axes: [4, K] gives the metrics themselves, [R, 4, K] those of R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from candlecast import outputs
from candlecast.training.labels import LONG, NEUTRAL, SHORT, Labels
from candlecast.values import F64, I64

BLOCK_BARS: Final = 96
"""Bars that are resampled together, all symbols of a bar too: twice the longest label, one day of volatility."""
BLOCKS_MIN: Final = 8
"""Blocks of data below which no interval is given: it would be made up."""
RESAMPLES: Final = 1000
COVERAGE: Final = 0.95
SKILL_COVERAGE: Final = 1 - (1 - COVERAGE) / 4
"""Of the interval around a skill: an edge is looked for at four horizons, and chance has four tries (Bonferroni)."""
BINS: Final = 15
"""Bins of equal width of the calibration error, over the probability of the likeliest class (Guo et al. 2017)."""
RISK_QUANTILE: Final = 0.5
"""Of the realised risk, which the risk outputs stand for: the median."""

_ERRORS: Final = ("calibration_error", "calibration_error_raw")
_SHARES: Final = (
    *("accuracy", "balanced_accuracy", "balanced_accuracy_called", "side_accuracy"),
    *("covered", "precision", "recall", "f1", "auc"),
)
_LOSSES: Final = ("log_loss", "brier", "return_mae", "return_mse", "mae", "quantile_loss")
RANGES: Final[dict[str, tuple[float, float]]] = {
    **dict.fromkeys((*_SHARES, *_ERRORS), (0.0, 1.0)),
    **dict.fromkeys(_LOSSES, (0.0, np.inf)),
    "return_ic": (-1.0, 1.0),
}
"""Where a metric, and so its interval, can lie; the others anywhere."""

Sums = dict[str, F64]
"""By name: [..., 4, K], K sums for each of the 4 horizons (or risks)."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What somebody expects of N rows: a model, the base rate, persistence."""

    probabilities: F64  # [N, 4, 3]
    returns: F64  # [N, 4]
    risks: F64  # [N, 4]
    calls: I64 | None = None  # [N, 4] of classes, by thresholds; None: there are none


def sum_up(guess: Guess, labels: Labels, bar: I64, bars: int) -> Sums:
    """Return the sums [T, 4, K] over the rows of each of T = `bars` bars; row n [N] belongs to bar[n] in 0..T-1."""
    parts: dict[str, list[F64]] = {}
    nothing = np.zeros(len(bar), dtype=np.int64)

    def add(name: str, weight: F64 | None = None, key: I64 = nothing, width: int = 1) -> None:
        added = np.bincount(bar * width + key, weight, minlength=bars * width).astype(np.float64)
        parts.setdefault(name, []).append(added.reshape(bars, width))

    for h in range(len(outputs.HORIZONS)):
        p, came = guess.probabilities[:, h], labels.directions[:, h].astype(np.int64)
        of_came = np.take_along_axis(p, came[:, None], axis=1)[:, 0]
        likeliest = p.argmax(axis=1)
        confidence = p.max(axis=1)
        moved = came != NEUTRAL
        in_bin = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        add("rows")
        add("log_loss", -np.log(np.maximum(of_came, 1e-12)))
        add("brier", (p**2).sum(axis=1) - 2 * of_came + 1)
        add("confusion", None, came * 3 + likeliest, 9)
        if guess.calls is not None:
            add("called", None, came * 3 + guess.calls[:, h], 9)
        add("side", moved * ((p[:, SHORT] > p[:, LONG]) == (came == SHORT)).astype(np.float64))
        add("bin_rows", None, in_bin, BINS)
        add("bin_confidence", confidence, in_bin, BINS)
        add("bin_hits", (likeliest == came).astype(np.float64), in_bin, BINS)
        placed = np.stack([_placements(p[:, c], came == c) for c in range(3)], axis=1)  # [N, 3]
        add("placed_in", np.take_along_axis(placed, came[:, None], axis=1)[:, 0], came, 3)
        for c in range(3):
            add(f"placed_out_{c}", np.where(came == c, 0, placed[:, c]))
        truth = labels.returns[:, h].astype(np.float64)
        error = guess.returns[:, h] - truth
        add("return_absolute", np.abs(error))
        add("return_square", error**2)
        x, y = (_centred_ranks(column) for column in (guess.returns[:, h], truth))
        for name, product in (("x", x), ("y", y), ("xx", x * x), ("yy", y * y), ("xy", x * y)):
            add(f"rank_{name}", product)
        over = guess.risks[:, h] - labels.risks[:, h]
        add("risk_absolute", np.abs(over))
        add("risk_quantile", np.maximum((1 - RISK_QUANTILE) * over, -RISK_QUANTILE * over))
        add("risk_covered", (over >= 0).astype(np.float64))
    return {name: np.stack(part, axis=1) for name, part in parts.items()}


def of_directions(sums: Sums) -> dict[str, F64]:
    """Return the metrics of the probabilities, each [..., 4], from sums [..., 4, K]."""
    rows = sums["rows"][..., 0]
    hits, came, _ = _counts(sums)
    classes = np.maximum((came > 0).sum(axis=-1), 1)
    told = {
        "log_loss": sums["log_loss"][..., 0] / rows,
        "brier": sums["brier"][..., 0] / rows,
        "accuracy": hits.sum(axis=-1) / rows,
        "balanced_accuracy": _ratio(hits, came).sum(axis=-1) / classes,
        "side_accuracy": _ratio(sums["side"][..., 0], came[..., LONG] + came[..., SHORT]),
        "calibration_error": np.abs(sums["bin_hits"] - sums["bin_confidence"]).sum(axis=-1) / rows,
    }
    if "called" in sums:
        told["balanced_accuracy_called"] = _ratio(_counts(sums, "called")[0], came).sum(axis=-1) / classes
    return told


def of_classes(sums: Sums) -> dict[str, F64]:
    """Return the metrics of each class against the others, each [..., 4, 3]; 0 where there is nothing to divide by.

    The AUC of a resample is its linear part (DeLong's placements): what the rows are ranked against stays.
    """
    hits, came, said = _counts(sums)
    others = sums["rows"] - came
    below = np.stack([sums[f"placed_out_{c}"][..., 0] for c in range(3)], axis=-1)
    both = (came > 0) & (others > 0)
    auc = np.where(both, _ratio(sums["placed_in"], came) + _ratio(below, others), 0.5)
    return {
        "precision": _ratio(hits, said),
        "recall": _ratio(hits, came),
        "f1": _ratio(2 * hits, said + came),
        "auc": auc,
    }


def of_returns(sums: Sums) -> dict[str, F64]:
    """Return the metrics of the expected returns, each [..., 4]; the IC is Spearman's, 0 for a constant."""
    rows = sums["rows"][..., 0]
    x, y, xx, yy, xy = (sums[f"rank_{name}"][..., 0] / rows for name in ("x", "y", "xx", "yy", "xy"))
    spread = (xx - x * x) * (yy - y * y)
    return {
        "return_mae": sums["return_absolute"][..., 0] / rows,
        "return_mse": sums["return_square"][..., 0] / rows,
        "return_ic": np.where(spread > 1e-12, (xy - x * y) / np.sqrt(np.maximum(spread, 1e-12)), 0.0),
    }


def of_risks(sums: Sums) -> dict[str, F64]:
    """Return the metrics of the risks, each [..., 4]; `covered` is the share of rows that stayed within."""
    rows = sums["rows"][..., 0]
    names = {"mae": "risk_absolute", "quantile_loss": "risk_quantile", "covered": "risk_covered"}
    return {name: sums[key][..., 0] / rows for name, key in names.items()}


def resample(sums: Sums, seed: int) -> Sums | None:
    """Draw RESAMPLES times as many bars as there are, in circular moving blocks; None below BLOCKS_MIN blocks.

    Args:
        sums: [T, 4, K] over T consecutive bars; a bar without rows has zeros.
    """
    bars = len(sums["rows"])
    if bars < BLOCKS_MIN * BLOCK_BARS:
        return None
    flat = np.concatenate([part.reshape(bars, -1) for part in sums.values()], axis=1)
    wrapped = np.concatenate([np.zeros((1, flat.shape[1])), flat, flat[: BLOCK_BARS - 1]]).cumsum(axis=0)
    blocks = wrapped[BLOCK_BARS:] - wrapped[:-BLOCK_BARS]  # [T, M] of the block that begins at each bar
    starts = np.random.default_rng(seed).integers(bars, size=(RESAMPLES, -(-bars // BLOCK_BARS)))
    drawn = np.stack([blocks[row].sum(axis=0) for row in starts])
    shapes = [part.shape[1:] for part in sums.values()]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    parts = zip(sums, np.split(drawn, cuts, axis=1), shapes, strict=True)
    return {name: part.reshape(RESAMPLES, *shape) for name, part, shape in parts}


def interval(value: F64, resampled: F64, coverage: float = COVERAGE) -> tuple[F64, F64]:
    """Return the lower and upper bound around a value from its resamples [R, ...].

    The resamples' bias is taken off: a calibration error is larger in every resample than in the data.
    """
    outside = (1 - coverage) / 2
    low, high = np.quantile(resampled, [outside, 1 - outside], axis=0) + (value - resampled.mean(axis=0))
    return low, high


def calibration_by_chance(sums: Sums, resampled: Sums) -> F64:
    """Return the calibration error [4] to expect of probabilities that are right, on so few independent rows.

    Of each bin [4, K] the mean error is taken off, in its resamples [R, 4, K] too: what is left there is chance. Blocks
    hold what hangs together within a day; markets that last longer, and change, come on top.
    """
    error = _ratio(sums["bin_hits"] - sums["bin_confidence"], sums["bin_rows"])
    left = resampled["bin_hits"] - resampled["bin_confidence"] - error * resampled["bin_rows"]
    return (np.abs(left).sum(axis=-1) / resampled["rows"][..., 0]).mean(axis=0)  # type: ignore[no-any-return]


def within(bound: F64, metric: str) -> F64:
    """Return the bound of an interval, held where that metric can lie."""
    return np.clip(bound, *RANGES.get(metric, (-np.inf, np.inf)))


def ranks(values: F64) -> F64:
    """Return the ranks [N] from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _centred_ranks(values: F64) -> F64:
    """Return the ranks [N] within -0.5..0.5."""
    return ranks(values) / max(len(values), 1) - (len(values) + 1) / (2 * max(len(values), 1))


def _placements(score: F64, positive: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> F64:
    """Return for each row [N] the share of the other kind that it is on the right side of, less half the AUC.

    Ties count half. The mean over the positive rows and the mean over the others add up to the AUC.
    """
    share = np.zeros(len(score))
    if not positive.any() or positive.all():
        return share
    whole = ranks(score)
    for mine, sign in ((positive, 1.0), (~positive, -1.0)):
        below = (whole[mine] - ranks(score[mine])) / (~mine).sum()
        share[mine] = below if sign > 0 else 1 - below
    return share - share[positive].mean() / 2  # type: ignore[no-any-return]


def _counts(sums: Sums, of: str = "confusion") -> tuple[F64, F64, F64]:
    """Return how often each class [..., 4, 3] was right, came, and was said: as the likeliest, or "called"."""
    confusion = sums[of].reshape(*sums[of].shape[:-1], 3, 3)
    return np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1), confusion.sum(axis=-2)


def _ratio(above: F64, below: F64) -> F64:
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below > 0)
