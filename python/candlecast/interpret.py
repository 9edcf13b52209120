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


def calibrated(logits: F64, temperatures: F64) -> F64:
    """Return the probabilities [..., 4, 3] of logits [..., 4, 3] with calibration temperatures [..., 4]."""
    scaled = logits / temperatures[..., None]
    p: F64 = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return p


def interpret(outputs: F32, temperatures: F64) -> Interpretation:
    """Read outputs [B, 20] with the bundle's calibration temperatures [4].

    A row with a non-finite output keeps its raw returns and risks, has NaN in everything derived, and side 0.
    """
    raw = outputs.astype(np.float64)
    finite: Bool = np.logical_and.reduce(np.isfinite(raw), axis=1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        p = calibrated(raw[:, layout.LOGITS].reshape(-1, 4, 3), temperatures)
        p[~finite] = np.nan
        p_long, p_short = p[:, :, 0], p[:, :, 1]
        move_h, lean = p_long + p_short, p_long - p_short
        side_h = p_long / move_h
        side_h[move_h == 0] = 0.5
        edge = lean @ WEIGHTS
        sign = np.sign(edge)[:, None]
        # s on the LONG side, 1 - s on the SHORT side; the same for the risks: drawdown is adverse to LONG.
        confidence = (0.5 + sign * (side_h - 0.5)) @ WEIGHTS
        agreement = ((np.sign(lean) == sign) & (sign != 0)) @ WEIGHTS
        returns, risks = raw[:, layout.RETURNS], raw[:, layout.RISKS]
        drawdown, rally = np.maximum(risks[:, 2:], 0).T
        adverse, favourable = np.where(edge < 0, (rally, drawdown), (drawdown, rally))
        both = adverse + favourable
        risk = adverse / both
        risk[both == 0] = 0.5
        size = np.minimum(np.abs(returns) @ WEIGHTS / 0.015, 1)
        quality = 0.35 * agreement + 0.30 * confidence + 0.20 * size + 0.15 * (1 - risk)
        side = np.where(finite, sign[:, 0], NONE).astype(np.int8)
    if not finite.all():
        for derived in (agreement, quality, adverse, favourable):
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
