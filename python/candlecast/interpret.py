"""What the 20 outputs mean, contract section 3: pure and vectorised. Knows the layout, not where outputs come from."""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast import outputs as layout
from candlecast.values import F32, F64, Bool, Interpretation

WEIGHTS: Final = np.array([0.25, 0.25, 0.35, 0.15])
"""Weight of each horizon."""
LONG: Final = 1
SHORT: Final = -1
NONE: Final = 0


def interpret(outputs: F32, temperatures: F64) -> Interpretation:
    """Read outputs [B, 20] with the bundle's calibration temperatures [4].

    A row with a non-finite output keeps its raw returns and risks, has NaN in everything derived, and side 0.
    """
    raw = outputs.astype(np.float64)
    finite: Bool = np.logical_and.reduce(np.isfinite(raw), axis=1)
    logits = raw[:, layout.LOGITS].reshape(-1, 4, 3) / temperatures[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        logits = np.exp(logits - logits.max(axis=2, keepdims=True))
        p = logits / logits.sum(axis=2, keepdims=True)
    p[~finite] = np.nan
    p_long, p_short = p[:, :, 0], p[:, :, 1]
    move_h = p_long + p_short
    with np.errstate(invalid="ignore", divide="ignore"):
        side_h = np.where(move_h == 0, 0.5, p_long / move_h)
    lean = p_long - p_short
    edge = lean @ WEIGHTS
    side = np.where(finite, np.sign(edge), 0).astype(np.int8)

    confidence = np.where(side[:, None] >= 0, side_h, 1 - side_h) @ WEIGHTS
    agreement = (np.sign(lean) == np.sign(edge)[:, None]) @ WEIGHTS
    agreement[side == NONE] = 0
    returns, risks = raw[:, layout.RETURNS], raw[:, layout.RISKS]
    drawdown_4h, rally_4h = np.maximum(risks[:, 2], 0), np.maximum(risks[:, 3], 0)
    adverse = np.where(side >= 0, drawdown_4h, rally_4h)
    favourable = np.where(side >= 0, rally_4h, drawdown_4h)
    both = adverse + favourable
    with np.errstate(invalid="ignore", divide="ignore"):
        risk = np.where(both == 0, 0.5, adverse / both)
        size = np.minimum(np.abs(returns) @ WEIGHTS / 0.015, 1)
        quality = 0.35 * agreement + 0.30 * confidence + 0.20 * size + 0.15 * (1 - risk)
    for derived in (confidence, agreement, edge, quality, adverse, favourable):
        derived[~finite] = np.nan
    return Interpretation(
        side=side,
        finite=finite,
        confidence=confidence,
        agreement=agreement,
        move=move_h @ WEIGHTS,
        edge=edge,
        quality=quality,
        returns=returns,
        probabilities=p,
        risks=risks,
        stop_loss=np.clip(adverse, 0.005, 0.025),
        take_profit=np.clip(favourable, 0.01, 0.05),
    )
