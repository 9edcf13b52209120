"""What the 20 outputs mean, contract section 3: pure and by columns; the Rust core computes it, row by row.

Per horizon p = softmax(logits / temperature). With the horizons' weights: edge = Σ w (p_long - p_short), whose sign is
the side; confidence = Σ w of the side's probability given a move; agreement = the weight of horizons that lean to it;
quality = 0.35 agreement + 0.30 confidence + 0.20 size + 0.15 (1 - risk), where size = Σ w |return| / 0.015 up to 1, and
risk is the adverse excursion's share of both at 4 hours. Stop and take are those excursions within bounds.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast import _rust
from candlecast.values import F32, F64, Interpretation

WEIGHTS: Final = np.array(_rust.HORIZON_WEIGHTS)
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
    """Read outputs [B, 20] with the bundle's calibration temperatures [4], or [B, 4] of each.

    A row with a non-finite output keeps its raw returns and risks, has NaN in everything derived, and side 0.
    """
    said = _rust.interpret(np.asarray(outputs, np.float32), np.asarray(temperatures, np.float64))
    return Interpretation(
        side=said.side,
        finite=said.finite,
        confidence=said.confidence,
        agreement=said.agreement,
        move=said.move,
        edge=said.edge,
        quality=said.quality,
        returns=said.returns,
        probabilities=said.probabilities,
        risks=said.risks,
        stop_loss=said.stop_loss,
        take_profit=said.take_profit,
    )
