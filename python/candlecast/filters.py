"""Which forecasts may become signals, contract section 4: pure and vectorised. Each failed filter leaves its reason.

The filters here need nothing but the forecast; those that remember (rate, correlation, realised Sharpe ratio, open
positions) are in portfolio.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.gate import ABSENT, REFUSE, UNDECIDED
from candlecast.interpret import NONE
from candlecast.values import F64, Interpretation

NORMAL_CONFIDENCE = 0.6
"""At or above: NORMAL strength, whatever the filter asks for."""
STRONG: Final = 2
"""Code of the strength."""
SIZE_WHEN_STRONG: Final = 1.5
"""The largest size multiplier there is."""


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
    GATE_REFUSED = "GATE_REFUSED"
    GATE_ABSENT = "GATE_ABSENT"
    RATE_LIMITED = "RATE_LIMITED"
    CORRELATED_POSITION = "CORRELATED_POSITION"
    LOW_SHARPE = "LOW_SHARPE"
    POSITION_LIMIT = "POSITION_LIMIT"


REASONS: Final = tuple(reason.value for reason in Reason)
"""Bit i of a forecast's reasons stands for REASONS[i]."""


@cache
def reasons_of(bits: int) -> tuple[str, ...]:
    """Return the names of a forecast's reasons, in the order of REASONS."""
    return tuple(name for i, name in enumerate(REASONS) if bits >> i & 1)


def bits_of(reasons: Iterable[str]) -> int:
    """Return the bits of reasons by their names; names of another version count for nothing."""
    return sum(1 << REASONS.index(name) for name in reasons if name in REASONS)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Settings of the filters, fractions all."""

    min_confidence: float = 0.6
    strong_confidence: float = 0.8
    min_agreement: float = 0.5
    min_expected_return: float = 0.0015
    gate_absent_passes: bool = True  # also one that could not decide


@dataclass(frozen=True, slots=True)
class Verdicts:
    direction: NDArray[np.int8]  # [B] 1 LONG, -1 SHORT, 0 NEUTRAL
    strength: NDArray[np.uint8]  # [B] 0 WEAK, 1 NORMAL, 2 STRONG
    reasons: NDArray[np.uint32]  # [B] why NEUTRAL, a bit for each of REASONS


BIT: Final = {reason: 1 << i for i, reason in enumerate(Reason)}
_STATE_REASON: Final = {"READY": 0, "STALE": BIT[Reason.STALE], "QUARANTINED": BIT[Reason.QUARANTINED]}


def held_back(verdicts: Verdicts, bits: NDArray[np.uint32]) -> Verdicts:
    """Return verdicts with further reasons [B]; what has one is NEUTRAL."""
    reasons = verdicts.reasons | bits
    return replace(verdicts, direction=np.where(reasons == 0, verdicts.direction, 0).astype(np.int8), reasons=reasons)


def again(reasons: NDArray[np.uint32], state: NDArray[np.uint8], *, states: tuple[str, ...]) -> NDArray[np.uint32]:
    """Return the reasons [B] of forecasts made earlier, with what the symbols' states say now."""
    return reasons | _bits_of_states(states)[state]


def size_multiplier(strength: NDArray[np.uint8], when_strong: float = SIZE_WHEN_STRONG) -> F64:
    """Return the suggested size [B] in units of the caller's stake: 1, or when_strong (at most 1.5) when STRONG."""
    multiplier: F64 = np.where(strength == STRONG, min(when_strong, SIZE_WHEN_STRONG), 1.0)
    return multiplier


@cache
def _bits_of_states(states: tuple[str, ...]) -> NDArray[np.uint32]:
    return np.array([_STATE_REASON.get(name, BIT[Reason.NOT_READY]) for name in states], dtype=np.uint32)


def judge(
    meaning: Interpretation,
    state: NDArray[np.uint8],
    gap_filled: NDArray[np.bool_],
    thresholds: Thresholds,
    *,
    states: tuple[str, ...],
    gate: NDArray[np.uint8] | None = None,
) -> Verdicts:
    """Keep the side of each forecast that passes every filter and make the rest NEUTRAL, with all reasons.

    Args:
        state: [B] the symbol's state, an index into states.
        gap_filled: [B] the window holds a candle that was filled in.
        states: their names.
        gate: [B] what the gate said, an index into its VERDICTS; None: it was not asked.
    """
    said = np.full(len(state), ABSENT) if gate is None else gate
    with np.errstate(invalid="ignore"):
        expected = np.abs(meaning.returns).max(axis=1)
        failed = {
            Reason.OUTPUT_NOT_FINITE: ~meaning.finite,
            Reason.NO_EDGE: meaning.finite & (meaning.side == NONE),
            Reason.GAP_FILLED: gap_filled,
            Reason.LOW_CONFIDENCE: meaning.confidence < thresholds.min_confidence,
            Reason.LOW_AGREEMENT: meaning.agreement < thresholds.min_agreement,
            Reason.LOW_EXPECTED_RETURN: expected < thresholds.min_expected_return,
            Reason.GATE_REFUSED: said == REFUSE,
            Reason.GATE_ABSENT: (said <= UNDECIDED) & (not thresholds.gate_absent_passes),
        }
    bits = np.array([BIT[reason] for reason in failed], dtype=np.uint32)
    reasons = _bits_of_states(states)[state] | bits @ np.array(list(failed.values()), dtype=np.uint32)
    strength = (meaning.confidence >= NORMAL_CONFIDENCE).astype(np.uint8) + (
        meaning.confidence >= thresholds.strong_confidence
    )
    return Verdicts(
        direction=np.where(reasons == 0, meaning.side, 0).astype(np.int8),
        strength=strength.astype(np.uint8),
        reasons=reasons,
    )
