"""What several models say together: pure and vectorised. Knows the 20 outputs, neither bundles nor who was asked.

Probabilities are averaged after each member's calibration, returns and risks as they are, by weight. The result is 20
outputs again (logits whose softmax are the averaged probabilities: temperature 1), with two columns behind them.

Where members disagree the average lies between them, so that the confidence is lower than that of the more confident
ones by itself: the averaged probability of a side is their mean, weighted by how much each expects a move. It is not
scaled down any further, for it would be no probability any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from candlecast import outputs as layout
from candlecast.interpret import WEIGHTS, calibrated
from candlecast.values import F32, F64, Bool

AGREEMENT: Final = layout.COUNT
"""Column: the share of the weight whose own direction is the one of the average, 0 where that has none."""
DEGRADED: Final = layout.COUNT + 1
"""Column: 1 where a member is missing, else 0."""
WIDTH: Final = layout.COUNT + 2
_TINY: Final = np.finfo(np.float64).tiny


def skill(log_loss: float, base_log_loss: float) -> float:
    """Return how much better than the base rate: 1 is perfect, 0 as good, below 0 worse."""
    return 1 - log_loss / base_log_loss


def weights_of(skills: F64) -> F64:
    """Return weights [M] in proportion to skills [M], 0 for those not above 0; equal ones if none is."""
    above = np.maximum(skills, 0)
    total = above.sum()
    return above / total if total > 0 else np.full(len(skills), 1 / len(skills))


def combine(answers: Sequence[F32 | None], temperatures: F64, weights: F64) -> F32:
    """Return the average [B, 22] of what M members answered, [B, 20] each and None for one that is missing.

    A member whose row is not finite is missing in that row. The others share its weight in proportion to theirs; a row
    that has none is NaN.

    Args:
        temperatures: [M, 4] calibration of each member.
        weights: [M], above 0.
    """
    present = [i for i, answer in enumerate(answers) if answer is not None]
    raw = np.stack([answer for answer in answers if answer is not None]).astype(np.float64)  # [m, B, 20]
    finite: Bool = np.logical_and.reduce(np.isfinite(raw), axis=2)
    raw[~finite] = 0
    share = np.where(finite, weights[present, None], 0)
    with np.errstate(invalid="ignore"):
        share /= share.sum(axis=0)  # [m, B]
    logits = raw[:, :, layout.LOGITS].reshape(*finite.shape, 4, 3)
    p = calibrated(logits, temperatures[present, None])
    mean = np.einsum("mb,mbhc->bhc", share, p)
    sides = np.sign((p[..., 0] - p[..., 1]) @ WEIGHTS)  # [m, B]
    side = np.sign((mean[..., 0] - mean[..., 1]) @ WEIGHTS)
    result = np.empty((finite.shape[1], WIDTH), dtype=np.float32)
    for block in (layout.RETURNS, layout.RISKS):
        result[:, block] = np.einsum("mb,mbk->bk", share, raw[:, :, block])
    result[:, layout.LOGITS] = np.log(np.maximum(mean, _TINY)).reshape(-1, 12)
    result[:, AGREEMENT] = (share * ((sides == side) & (side != 0))).sum(axis=0)
    result[:, DEGRADED] = (len(present) < len(answers)) | ~finite.all(axis=0)
    return result


def parts(answers: F32) -> tuple[F32, F32, Bool]:
    """Return outputs [B, 20], agreement [B] and whether degraded [B] of what one model or an ensemble answered.

    One model's answers have no columns behind their outputs: its agreement is NaN, and nothing is degraded.
    """
    if answers.shape[1] == layout.COUNT:
        return answers, np.full(len(answers), np.nan, np.float32), np.zeros(len(answers), np.bool_)
    return answers[:, : layout.COUNT], answers[:, AGREEMENT], answers[:, DEGRADED] != 0
