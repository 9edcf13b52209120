"""What happened after forecasts, as contract section 3 labels it, and what stops and takes did: pure arrays.

An exit is that of training/simulator.py without costs, for each forecast by itself: entered at the open of the next
candle; at an open that has passed the take there, or past the last bar, at the open; then the stop before the take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast import outputs
from candlecast.values import F64, I64, Bool

I8 = NDArray[np.int8]
UNKNOWN: Final = -1
"""A class, hit or reason that is not known."""
EXITS: Final = ("STOP", "TAKE", "TIME", "NO_ENTRY")
STOP, TAKE, TIME, NO_ENTRY = range(4)
HORIZONS: Final = len(outputs.HORIZON_BARS)
BINS: Final = 20
"""Of the probability of the likeliest class."""
COUNTED: Final = ("forecasts", "hits", "longs", "shorts", "neutrals", "side_hits")
SUMMED: Final = ("confidence", "log_loss", "brier", "error", "error_size", "error_square", "return_size")
"""What is kept of a group of forecasts, in the order of ml_accuracy_counts."""
P_MIN: Final = 1e-12
"""A smaller probability counts as this in log-loss."""
TIMES: Final = 1 << 43
"""More than any time in ms: what keeps series apart in a key."""
_BARS: Final = np.array(outputs.HORIZON_BARS, dtype=np.int64)
_THRESHOLDS: Final = np.array(outputs.THRESHOLDS)


@dataclass(frozen=True, slots=True)
class Bars:
    """C candles of some series, in the order of series and time."""

    series: I64  # [C] numbers
    open_time_ms: I64  # [C] since 1970, 0 or later
    open: F64  # [C]
    high: F64  # [C]
    low: F64  # [C]
    close: F64  # [C]

    def at(self, series: I64, open_time_ms: I64) -> I64:
        """Return where the candles of those series and times are, any shape; -1 where there is none."""
        own, wanted = self.series * TIMES + self.open_time_ms, series * TIMES + open_time_ms
        found = np.searchsorted(own, wanted)
        if not len(own):
            return np.full_like(found, -1)
        return np.where(own[np.minimum(found, len(own) - 1)] == wanted, found, -1)


@dataclass(frozen=True, slots=True)
class Said:
    """N forecasts."""

    series: I64  # [N] numbers, as in Bars
    interval_ms: I64  # [N]
    close_time_ms: I64  # [N]
    close: F64  # [N]
    side: I8  # [N] 1 LONG, -1 SHORT, 0 NEUTRAL
    confidence: F64  # [N] NaN: an output was not finite, and then nothing was said
    stop_loss: F64  # [N]
    take_profit: F64  # [N]
    expected: F64  # [N, 4] returns
    probabilities: F64  # [N, 4, 3]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What is known of N forecasts, as it is stored."""

    returns: F64  # [N, 4] NaN: not known
    classes: I8  # [N, 4] that came, by their place in outputs.CLASSES
    hits: I8  # [N, 4] 1: the likeliest class came; UNKNOWN also where nothing was said
    errors: F64  # [N, 4] actual return - expected return
    exit_reason: I8  # [N] place in EXITS
    exit_return: F64  # [N] side * (exit / entry - 1); NaN without an exit
    exit_bars: I64  # [N] bars it was held, the one of its exit included; UNKNOWN without an exit

    @classmethod
    def none(cls, count: int) -> Outcomes:
        """Return that nothing is known."""
        wide = (count, HORIZONS)
        return cls(
            np.full(wide, np.nan),
            np.full(wide, UNKNOWN, np.int8),
            np.full(wide, UNKNOWN, np.int8),
            np.full(wide, np.nan),
            np.full(count, UNKNOWN, np.int8),
            np.full(count, np.nan),
            np.full(count, UNKNOWN, np.int64),
        )


@dataclass(frozen=True, slots=True)
class Fills:
    """At which prices N signals entered and left; NaN and 0 where they have not."""

    entry_price: F64  # [N]
    exit_price: F64  # [N]
    exit_open_time_ms: I64  # [N] of the bar of the exit


def returns_after(said: Said, bars: Bars) -> F64:
    """Return the actual returns [N, 4]; NaN where the candle is not among the bars."""
    times = said.close_time_ms[:, None] + (_BARS - 1) * said.interval_ms[:, None]
    at = bars.at(said.series[:, None], times)
    if not len(bars.close):
        return np.full(at.shape, np.nan)
    return np.where(at >= 0, bars.close[at] / said.close[:, None] - 1, np.nan)


def classes_of(returns: F64) -> I8:
    """Return the classes [N, 4] of returns; UNKNOWN for NaN."""
    classes = np.where(returns > _THRESHOLDS, 0, np.where(returns < -_THRESHOLDS, 1, 2))
    return np.where(np.isnan(returns), UNKNOWN, classes).astype(np.int8)


def hits_of(said: Said, classes: I8) -> I8:
    """Return whether the likeliest class, of equal ones the first, is the one that came [N, 4]."""
    is_hit = said.probabilities.argmax(axis=2) == classes
    return np.where((classes >= 0) & ~np.isnan(said.confidence)[:, None], is_hit, UNKNOWN).astype(np.int8)


def errors_of(said: Said, returns: F64) -> F64:
    """Return actual less expected returns [N, 4]; NaN where nothing was said."""
    return np.where(np.isnan(said.confidence)[:, None], np.nan, returns - said.expected)


def exits(said: Said, bars: Bars, sure_ms: I64) -> tuple[I8, Fills]:
    """Return how N signals, each LONG or SHORT, ended as far as the bars tell, and their prices.

    Args:
        sure_ms: [N] a candle older than that, and not here, will not come.
    """
    count = len(said.series)
    reason, entry_price = np.full(count, UNKNOWN, np.int8), np.full(count, np.nan)
    exit_price, exit_time = np.full(count, np.nan), np.zeros(count, np.int64)
    first = bars.at(said.series, said.close_time_ms)
    reason[(first < 0) & (sure_ms > said.close_time_ms)] = NO_ENTRY
    entered = np.flatnonzero(first >= 0)
    if len(entered):
        entry = bars.open[first[entered]]
        which, price, at = _walk(said, bars, entered, first[entered], entry)
        reason[entered], entry_price[entered], exit_price[entered] = which, entry, price
        exit_time[entered] = np.where(which >= 0, bars.open_time_ms[at], 0)
    return reason, Fills(entry_price, exit_price, exit_time)


def _walk(said: Said, bars: Bars, entered: I64, first: I64, entry: F64) -> tuple[I8, F64, I64]:
    """Return for M signals that entered why, at which price and at which candle they left."""
    # So many bars that it is held, and the first one past them; a gap only makes that one come earlier.
    steps = first[:, None] + np.arange(outputs.HOLD_BARS + 1)
    at = np.minimum(steps, len(bars.close) - 1)
    exists = (steps == at) & (bars.series[at] == said.series[entered, None])
    side = said.side[entered, None].astype(np.float64)
    stop = entry[:, None] * (1 - side * said.stop_loss[entered, None])
    take = entry[:, None] * (1 + side * said.take_profit[entered, None])
    last_ms = (said.close_time_ms[entered] + (outputs.HOLD_BARS - 1) * said.interval_ms[entered])[:, None]
    opened, closed, time_ms = bars.open[at], bars.close[at], bars.open_time_ms[at]
    high, low = bars.high[at], bars.low[at]
    worst, best, is_late = np.where(side > 0, low, high), np.where(side > 0, high, low), time_ms > last_ms
    reason = np.select(
        [
            side * (opened - take) >= 0,
            is_late & (side * (opened - stop) > 0),
            side * (worst - stop) <= 0,
            side * (best - take) >= 0,
            time_ms == last_ms,
        ],
        [TAKE, TIME, STOP, TAKE, TIME],
        UNKNOWN,
    )
    reason[~exists] = UNKNOWN
    rows, left = np.arange(len(entered)), (reason >= 0).argmax(axis=1)
    why = reason[rows, left].astype(np.int8)
    opened, closed, is_late = opened[rows, left], closed[rows, left], is_late[rows, left]
    stop, take, side = stop[:, 0], take[:, 0], side[:, 0]
    stopped = np.where(side * (opened - stop) <= 0, opened, stop)
    price = np.select(
        [why == TAKE, why == STOP, why == TIME], [take, stopped, np.where(is_late, opened, closed)], np.nan
    )
    return why, price, at[rows, left]


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over forecasts that share a group: G groups of K numbers that tell them apart, and their sums."""

    keys: I64  # [G, K]
    sums: dict[str, F64]  # [G] each


def accuracy(said: Said, groups: I64, new: Bool, classes: I8, returns: F64) -> Counts:
    """Return how right forecasts were, by group, horizon (its place) and bin: the last two numbers of a key.

    Args:
        groups: [N, K] numbers of each, 0 or more.
        new: [N, 4] which are counted.
    """
    row, horizon = np.nonzero(new & (classes >= 0) & ~np.isnan(said.confidence)[:, None])
    p, came = said.probabilities[row, horizon], classes[row, horizon]
    top, of_came = p.max(axis=1), p[np.arange(len(row)), came]
    bins = np.minimum(np.floor(top * BINS), BINS - 1).astype(np.int64)
    keys, inverse = _distinct(np.column_stack([groups[row], horizon, bins]))
    actual = returns[row, horizon]
    error = actual - said.expected[row, horizon]
    columns: dict[str, Any] = {
        "forecasts": None,
        "hits": p.argmax(axis=1) == came,
        "longs": came == 0,
        "shorts": came == 1,
        "neutrals": came == 2,
        "side_hits": (came != 2) & ((p[:, 1] > p[:, 0]) == (came == 1)),
        "confidence": top,
        "log_loss": -np.log(np.maximum(of_came, P_MIN)),
        "brier": (p * p).sum(axis=1) + 1 - 2 * of_came,
        "error": error,
        "error_size": np.abs(error),
        "error_square": error * error,
        "return_size": np.abs(actual),
    }
    sums = {name: np.bincount(inverse, column, len(keys)).astype(np.float64) for name, column in columns.items()}
    return Counts(keys, sums)


def _distinct(keys: I64) -> tuple[I64, I64]:
    """Return the distinct rows of keys [M, K], numbers of 0 or more, and which of them each row is."""
    spans = keys.max(axis=0, initial=0) + 1
    assert float(np.prod(spans.astype(np.float64))) < 2**62, "too many groups"
    packed = np.ravel_multi_index(tuple(keys.T), tuple(spans.tolist()))
    found, inverse = np.unique(packed, return_inverse=True)
    return np.column_stack(np.unravel_index(found, tuple(spans.tolist()))).astype(np.int64), inverse
