"""What a strategy decides from, as columns, and when a position is left whatever it thinks. Pure: knows no client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.outputs import HOLD_BARS

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
NAMES: Final = ("ensemble_ml", "lstm_ml", "sentiment_ml", "rl_ml")


@dataclass(frozen=True, slots=True)
class Seen:
    """N forecasts, and what else is known at their closes; fractions."""

    side: F64  # [N] 1 LONG, -1 SHORT, 0 NEUTRAL: after the server's filters
    size: F64  # [N] 1..1.5, suggested
    confidence: F64  # [N]
    edge: F64  # [N] -1..1; NaN, here and above: the model's output was not finite
    agreement: F64  # [N] 0..1, weight of the horizons on the side of the edge
    expected: F64  # [N] return at 4h
    stop_loss: F64  # [N]
    take_profit: F64  # [N]
    degraded: Bool  # [N] a part was missing when it was made
    sentiment: F64  # [N] -1..1 as of the close; NaN: none
    sentiment_age_ms: F64  # [N] since its publication; NaN: none


@dataclass(frozen=True, slots=True)
class Held:
    """The position of each of N, at the close."""

    side: F64  # [N] 1, -1, 0 without one
    bars: F64  # [N] since its entry
    gain: F64  # [N] return since its entry
    stop_loss: F64  # [N] of the forecast that it was entered on; NaN without one
    take_profit: F64  # [N]


Decide = Callable[[Seen, Held], F64]
"""The position wanted [N]: its sign is the side, its size 1 to 1.5 times the stake, 0 none, the one held: it stays."""


def is_over(held: Held, hold_bars: int = HOLD_BARS) -> Bool:
    """Return which positions [N] are left: at their stop or take by the close, or after their time."""
    with np.errstate(invalid="ignore"):
        over: Bool = (held.gain <= -held.stop_loss) | (held.gain >= held.take_profit) | (held.bars >= hold_bars)
        over &= held.side != 0
    return over


def followed(wanted: F64, size: F64, held: Held) -> F64:
    """Return positions [N]: the side wanted, 1 or -1; where it is 0 what is held stays until it is over.

    What is over is left for a bar at least, even when the same side is wanted again.
    """
    kept: F64 = np.where(wanted == 0, held.side, wanted)
    return np.where(is_over(held), 0.0, kept * np.where(kept == held.side, 1.0, size))
