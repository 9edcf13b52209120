"""Open positions, one of a series at most, moved by its candles as the backtest moves its own: arrays, no prices asked.

A signal at a close enters at the next open. Within a bar the worse comes first: at the open a stop that the open has
passed fills there, a take at its own price; within the bar the stop, then the take; at the close a position that has
had its bars ends, at once if candles are missing. What it brought is kept by series, for the realised Sharpe ratio.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.series import longer
from candlecast.values import F64, I64, Bool

YEAR_MS: Final = 365 * 86_400_000
"""Of the Sharpe ratio: so many times a year as trades are closed."""
OPEN, HIGH, LOW, CLOSE = range(4)
TALLY: Final = np.dtype(
    [("trades", "<i8"), ("total", "<f8"), ("squares", "<f8"), ("first_ms", "<i8"), ("last_ms", "<i8")]
)


@dataclass(slots=True)
class Open:
    """P open positions."""

    series: I64  # [P]
    side: NDArray[np.int8]  # [P] 1 LONG, -1 SHORT
    quality: F64  # [P] of the signal
    signal_ms: I64  # [P] close of the signal's candle
    until_ms: I64  # [P] close at which it has had its bars
    entry: F64  # [P] price; NaN until the next candle
    mark: F64  # [P] last close
    stop_loss: F64  # [P] fraction of the entry
    take_profit: F64  # [P] fraction of the entry

    @classmethod
    def none(cls) -> Open:
        kinds = (np.int64, np.int8, np.float64, np.int64, np.int64, *[np.float64] * 4)
        return cls(*(np.zeros(0, dtype=kind) for kind in kinds))

    def take(self, kept: Bool) -> Open:
        return Open(*(getattr(self, field.name)[kept] for field in fields(self)))

    def joined(self, others: Open) -> Open:
        names = [field.name for field in fields(self)]
        return Open(*(np.concatenate([getattr(self, name), getattr(others, name)]) for name in names))

    def __len__(self) -> int:
        return len(self.series)


class Positions:
    """Open positions and what closed ones brought.

    Args:
        bars_max: for how many bars a position is held.
        cost: of entering and leaving, as a fraction of the position; taken from each trade's return.
    """

    def __init__(self, *, bars_max: int, cost: float) -> None:
        self._bars_max, self._cost = bars_max, cost
        self.open = Open.none()
        self._tally = np.zeros(0, dtype=TALLY)

    def make_room(self, count: int) -> None:
        """Have places for series up to `count`."""
        self._tally = longer(self._tally, count, np.zeros((), dtype=TALLY))

    def enter(self, series: int, side: int, quality: float, close_ms: int, interval_ms: int, price: float,
              stop_loss: float, take_profit: float) -> None:  # fmt: skip
        """Open a position by a signal at a close with that price; one of the other side ends, one of its own stays."""
        mine = self.open.series == series
        if (mine & (self.open.side == side)).any():
            return
        if mine.any():
            self._leave(mine, np.where(mine, price, np.nan), np.full(len(mine), close_ms))
        until_ms = close_ms + self._bars_max * interval_ms
        row = (series, side, quality, close_ms, until_ms, np.nan, price, stop_loss, take_profit)
        kinds = (np.int64, np.int8, np.float64, np.int64, np.int64, *[np.float64] * 4)
        columns = [np.array([value], dtype=kind) for value, kind in zip(row, kinds, strict=True)]
        self.open = self.open.joined(Open(*columns))

    def move(self, series: I64, close_ms: int, ohlc: F64) -> None:
        """Move positions by candles [B] of one close, of which a series has one; ohlc: [B, 4]."""
        if not len(self.open):
            return
        held = self.open
        order = np.argsort(series, kind="stable")
        at = order[np.minimum(np.searchsorted(series[order], held.series), len(series) - 1)] if len(series) else None
        moves = np.zeros(len(held), dtype=np.bool_) if at is None else series[at] == held.series
        moves &= held.signal_ms < close_ms
        bar = np.full((len(held), 4), np.nan)
        if at is not None:
            bar[moves] = ohlc[at[moves]]
        enters = moves & np.isnan(held.entry)
        held.entry[enters] = bar[enters, OPEN]
        exit_price = self._exits(bar, moves & ~enters)
        held.mark[moves] = bar[moves, CLOSE]
        timed_out = np.isnan(exit_price) & (close_ms >= held.until_ms)
        exit_price[timed_out] = held.mark[timed_out]
        leaves = ~np.isnan(exit_price)
        if leaves.any():
            self._leave(leaves, exit_price, np.full(len(held), close_ms))

    def _exits(self, bar: F64, was_held: Bool) -> F64:
        """Return at which price each position [P] left within its bar [P, 4]; NaN: it did not."""
        held = self.open
        side = held.side.astype(np.float64)
        stop, take = held.entry * (1 - side * held.stop_loss), held.entry * (1 + side * held.take_profit)
        with np.errstate(invalid="ignore"):
            gapped = was_held & (side * (bar[:, OPEN] - stop) <= 0)
            took = was_held & (side * (bar[:, OPEN] - take) >= 0)
            stopped = np.where(side > 0, bar[:, LOW] <= stop, bar[:, HIGH] >= stop)
            reached = np.where(side > 0, bar[:, HIGH] >= take, bar[:, LOW] <= take)
        exits: F64 = np.select([gapped, took, stopped, reached], [bar[:, OPEN], take, stop, take], np.nan)
        return exits

    def _leave(self, who: Bool, price: F64, close_ms: I64) -> None:
        """Close positions [P] and take note of what they brought; one that never entered brought nothing."""
        held, traded = self.open, who & np.isfinite(self.open.entry)
        gain = held.side * (price - held.entry) / held.entry - self._cost
        for p in np.flatnonzero(traded).tolist():  # rarely more than a few: each was a signal
            self.count(int(held.series[p]), 1, gain[p], gain[p] ** 2, int(held.signal_ms[p]), int(close_ms[p]))
        self.open = held.take(~who)

    def forget_trades(self) -> None:
        """Begin the Sharpe ratios anew."""
        self._tally = np.zeros(len(self._tally), dtype=TALLY)

    def count(self, series: int, trades: int, total: float, squares: float, first_ms: int, last_ms: int) -> None:
        """Add closed trades of a series: sum and sum of squares of their returns, first entry and last exit."""
        tally = self._tally[series]
        tally["first_ms"] = min(tally["first_ms"], first_ms) if tally["trades"] else first_ms
        tally["last_ms"] = max(tally["last_ms"], last_ms)
        tally["trades"] += trades
        tally["total"] += total
        tally["squares"] += squares

    def trades(self, series: I64) -> I64:
        """Return how many trades of each series [B] were closed."""
        trades: I64 = self._tally["trades"][series]
        return trades

    def sharpe(self, series: I64) -> F64:
        """Return the realised Sharpe ratio of each series [B], a year; of equal gains it is infinite, of no trade 0."""
        tally = self._tally[series]
        n = tally["trades"].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = tally["total"] / n
            variance = np.maximum(tally["squares"] - n * mean**2, 0) / (n - 1)
            variance[variance < 1e-18] = 0  # rounding of equal gains
            years = (tally["last_ms"] - tally["first_ms"]) / YEAR_MS
            ratio = mean / np.sqrt(variance) * np.sqrt(n / years)
        return np.where((mean == 0) | (n < 2), 0.0, ratio)
