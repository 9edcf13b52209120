"""Which forecasts may become signals, contract section 4: pure and vectorised. Each failed filter leaves its reason.

The filters here need nothing but the forecast. Those that need memory (rate, correlation, realised Sharpe, open
positions) and the cache are not built yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from candlecast.interpret import NONE
from candlecast.values import Interpretation

NORMAL_CONFIDENCE = 0.6
"""At or above: NORMAL strength, whatever the filter asks for."""


class Reason(StrEnum):
    """Why a forecast is NEUTRAL; a closed list, also the strings on the wire and in the table."""

    OUTPUT_NOT_FINITE = "OUTPUT_NOT_FINITE"
    NO_EDGE = "NO_EDGE"
    NOT_READY = "NOT_READY"
    STALE = "STALE"
    QUARANTINED = "QUARANTINED"
    GAP_FILLED = "GAP_FILLED"
    LOW_CONFIDENCE = "LOW_CONFIDENCE"
    LOW_AGREEMENT = "LOW_AGREEMENT"
    LOW_EXPECTED_RETURN = "LOW_EXPECTED_RETURN"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Settings of the filters, fractions all."""

    min_confidence: float = 0.6
    strong_confidence: float = 0.8
    min_agreement: float = 0.5
    min_expected_return: float = 0.0015


@dataclass(frozen=True, slots=True)
class Verdicts:
    direction: NDArray[np.int8]  # [B] 1 LONG, -1 SHORT, 0 NEUTRAL
    strength: NDArray[np.uint8]  # [B] 0 WEAK, 1 NORMAL, 2 STRONG
    reasons: list[tuple[str, ...]]  # [B] why NEUTRAL, in the order of Reason


_STATE_REASON = {"STALE": Reason.STALE, "QUARANTINED": Reason.QUARANTINED}


def judge(meaning: Interpretation, state: list[str], gap_filled: NDArray[np.bool_], thresholds: Thresholds) -> Verdicts:
    """Keep the side of each forecast that passes every filter and make the rest NEUTRAL, with all reasons.

    Args:
        state: [B] name of the symbol's state.
        gap_filled: [B] the window holds a candle that was filled in.
    """
    with np.errstate(invalid="ignore"):
        expected = np.abs(meaning.returns).max(axis=1)
        failed = {
            Reason.OUTPUT_NOT_FINITE: ~meaning.finite,
            Reason.NO_EDGE: meaning.finite & (meaning.side == NONE),
            Reason.GAP_FILLED: gap_filled,
            Reason.LOW_CONFIDENCE: meaning.confidence < thresholds.min_confidence,
            Reason.LOW_AGREEMENT: meaning.agreement < thresholds.min_agreement,
            Reason.LOW_EXPECTED_RETURN: expected < thresholds.min_expected_return,
        }
    reasons: list[list[str]] = [
        [] if name == "READY" else [_STATE_REASON.get(name, Reason.NOT_READY).value] for name in state
    ]
    for reason, rows in failed.items():
        for row in np.flatnonzero(rows).tolist():
            reasons[row].append(reason.value)
    passed = np.array([not why for why in reasons], dtype=np.bool_)
    strength = (meaning.confidence >= NORMAL_CONFIDENCE).astype(np.uint8) + (
        meaning.confidence >= thresholds.strong_confidence
    )
    return Verdicts(
        direction=np.where(passed, meaning.side, 0).astype(np.int8),
        strength=strength.astype(np.uint8),
        reasons=[tuple(why) for why in reasons],
    )
