"""What came after a trade: did its price revert, break out, or move on? Pure; knows no features beyond the record's.

VWAP and σ are those at the trade's own time t, frozen. The path is every later trade until t + horizon. A trade whose
horizon ends after its recording does has no label, whatever came before that end; nor has one whose σ is not defined,
or, for reversion and momentum, whose distance to VWAP is not above `distance_min`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.errors import ConfigurationError
from candlecast.values import F64, I64

KINDS: Final = {
    "reversion": "the price moves by at least SIGMAS σ towards VWAP, and past it",
    "breakout": "the price moves by at least SIGMAS σ, to whichever side",
    "momentum": "the price moves on by at least SIGMAS σ, away from VWAP",
}
NONE: Final = np.int8(-1)
"""Of a trade without a label."""


@dataclass(frozen=True, slots=True)
class Label:
    """What is asked of the time after a trade."""

    kind: str = "reversion"
    horizon_ms: int = 60_000
    sigmas: float = 1.5  # what a real minute moves by at least, so of a breakout ask for more
    distance_min: float = 0.5  # |price_dist| must be above; of a breakout nothing is asked

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(f"label {self.kind!r} is none of {', '.join(KINDS)}")
        if self.horizon_ms < 1 or not self.sigmas > 0 or not self.distance_min >= 0:
            raise ConfigurationError("a label needs horizon_ms of at least 1, sigmas above 0 and distance_min from 0")

    @property
    def words(self) -> str:
        """Return in words what is asked."""
        moved = KINDS[self.kind].replace("SIGMAS", f"{self.sigmas:g}")
        return f"within {self.horizon_ms / 1000:g} s {moved}"

    def of(self, ts: I64, price: F64, vwap: F64, std_dev: F64) -> NDArray[np.int8]:
        """Return 1, 0 or NONE of each trade [N] of one recording, which is in the order of ts (ms)."""
        if not len(ts):
            return np.zeros(0, dtype=np.int8)
        until = np.searchsorted(ts, ts + self.horizon_ms, side="right").astype(np.int64)
        after = np.arange(1, len(ts) + 1)
        low, high = -extreme(-price, after, until), extreme(price, after, until)
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = (price - vwap) / std_dev
            down, up = (price - low) / std_dev, (high - price) / std_dev  # NaN where no trade came after
            above = distance > 0
            if self.kind == "reversion":
                past = np.where(above, low < vwap, high > vwap)
                came = (np.where(above, down, up) >= self.sigmas) & past
            elif self.kind == "momentum":
                came = np.where(above, up, down) >= self.sigmas
            else:
                came = np.fmax(down, up) >= self.sigmas
            asked = np.isfinite(distance) & ((self.kind == "breakout") | (np.abs(distance) > self.distance_min))
        asked &= ts + self.horizon_ms <= ts[-1]
        labels = came.astype(np.int8)
        labels[~asked] = NONE
        return labels


def extreme(values: F64, start: I64, stop: I64) -> F64:
    """Return the largest of values[start[i]:stop[i]] for each i [N], NaN where that is empty; O(N log N), O(N) memory.

    The table of the largest of 2^k neighbours is built level by level; each range takes two of its own level.
    """
    found = np.full(len(start), np.nan)
    length = np.maximum(stop - start, 0)
    level_of = np.frexp(length.astype(np.float64))[1] - 1  # floor(log2); -1 for an empty range
    table, width = values, 1
    for level in range(int(level_of.max(initial=-1)) + 1):
        at = np.flatnonzero(level_of == level)
        found[at] = np.maximum(table[start[at]], table[stop[at] - width])
        table = np.maximum(table[:-width], table[width:])
        width *= 2
    return found
