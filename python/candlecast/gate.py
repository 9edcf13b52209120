"""What the gate says of order flow, contract section 5: pure, vectorised. Knows not where probabilities come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.values import F32, F64, Bool

FEATURES: Final = ("tick_ratio", "depth_ratio", "price_dist")
"""Columns of the model's input `features`, in this order; also the first three of the order-flow core's rows."""
CLASSES: Final = ("HOLD", "REVERT")
"""Columns of the model's output `probabilities`; what REVERT means is in the manifest's label."""
RECORD: Final = (*FEATURES, "price", "vwap", "std_dev", "bid_vol", "ask_vol")
"""Columns of the core's rows."""
THRESHOLD: Final = 0.65
FALLBACK_DISTANCE: Final = 2.0


class Verdict(StrEnum):
    """What the gate says; a closed list, also the strings on the wire and in the table."""

    ABSENT = "ABSENT"  # no trade of the symbol in the window: there is no live order flow
    UNDECIDED = "UNDECIDED"  # there are trades, but a feature is not defined; `reason` says why
    REFUSE = "REFUSE"
    APPROVE = "APPROVE"


VERDICTS: Final = tuple(verdict.value for verdict in Verdict)
"""A verdict's code is its index."""
ABSENT, UNDECIDED, REFUSE, APPROVE = (np.uint8(code) for code in range(len(VERDICTS)))


@dataclass(frozen=True, slots=True)
class Decisions:
    verdict: NDArray[np.uint8]  # [B] index into VERDICTS
    probability: F64  # [B] p(revert); NaN where no model spoke
    degraded: Bool  # [B] the heuristic decided, because the model did not


def decide(features: F64, probabilities: F32 | None, threshold: float = THRESHOLD) -> Decisions:
    """Decide on features [B, 3], NaN where undefined, with the model's probabilities [B, 2].

    Approved is what reverts with a probability above the threshold. Without probabilities (None, or not finite in a
    row) the heuristic decides. A row with an undefined feature is not decided, whatever the model says of it.
    """
    defined = np.isfinite(features).all(axis=1)
    p = np.full(len(features), np.nan)
    if probabilities is not None:
        p[defined] = probabilities[defined, 1]
    told = np.isfinite(p)
    with np.errstate(invalid="ignore"):
        approved = np.where(told, p > threshold, heuristic(features, threshold))
    verdict = np.where(approved, APPROVE, REFUSE)
    verdict[~defined] = UNDECIDED
    verdict[np.isnan(features[:, 0])] = ABSENT
    return Decisions(verdict, np.where(told, p, np.nan), defined & ~told)


def heuristic(features: F64, threshold: float = THRESHOLD) -> Bool:
    """Say which features [B, 3] the rule without a model approves; False where one is NaN."""
    tick, depth, distance = np.abs(features).T
    with np.errstate(invalid="ignore"):
        approved: Bool = ((tick + depth) / 2 > threshold - 0.5) & (distance < FALLBACK_DISTANCE)
    return approved


def reason(undefined: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return why a row is not decided [B], of the core's reasons [B, 2] for price_dist and depth_ratio; 0: it is."""
    first: NDArray[np.uint8] = np.where(undefined[:, 0] != 0, undefined[:, 0], undefined[:, 1])
    return first


def passes(verdict: NDArray[np.uint8], undecided_passes: bool = True) -> Bool:
    """Say which verdicts [B] let a signal pass; a setting says it of those that are ABSENT or UNDECIDED."""
    open_to: Bool = (verdict == APPROVE) | (undecided_passes & (verdict <= UNDECIDED))
    return open_to
