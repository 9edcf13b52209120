"""The filters that remember, contract section 4: rate, correlation, realised Sharpe, and the cap on open positions.

One object for serving and the backtest, fed with columns: forecasts close by close, candles between them. It knows time
only as that of the candles, so a replay is judged as the days were. Within a close the best quality comes first, and
each signal counts for those behind it. A forecast is judged once: the same close again gets the same answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.filters import BIT, Reason
from candlecast.positions import CLOSE, Positions
from candlecast.returns import NEVER, Correlated, Returns
from candlecast.series import longer
from candlecast.values import F32, F64, I64, Bool

MINUTE_MS: Final = 60_000
TRADES_MIN: Final = 30
"""Closed trades of a series from which on its Sharpe ratio is judged."""
_RATE, _CORRELATED = BIT[Reason.RATE_LIMITED], BIT[Reason.CORRELATED_POSITION]
_SHARPE, _SCORE = BIT[Reason.LOW_SHARPE], BIT[Reason.POSITION_LIMIT]
REMEMBERED: Final = np.uint32(_RATE | _CORRELATED | _SHARPE | _SCORE)
"""The reasons of the filters that remember."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of the filters that remember."""

    max_signals_per_minute: int = 10
    max_correlation: float = 0.8
    min_sharpe_ratio: float = 0.5
    max_position_score: float = 3.0
    position_bars_max: int = 16
    trade_cost: float = 0.0012  # of entering and leaving, as a fraction


@dataclass(frozen=True, slots=True)
class Candidates:
    """B forecasts as these filters need them, several closes of a series in time order."""

    series: I64  # [B] SeriesNumbers
    interval_ms: I64  # [B]
    close_time_ms: I64  # [B]
    ohlc: F64  # [B, 4] of the newest candle; NaN: asked for without one
    returns: F32  # [B] one-bar return of the newest candle
    side: NDArray[np.int8]  # [B] 1 LONG, -1 SHORT, 0 none
    quality: F64  # [B]
    stop_loss: F64  # [B]
    take_profit: F64  # [B]
    passes: Bool  # [B] no other filter holds it back
    forming: Bool  # [B] judged, but opens nothing

    def take(self, index: I64) -> Candidates:
        return Candidates(*(getattr(self, field.name)[index] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, slots=True)
class Others:
    """N candles without a forecast."""

    series: I64  # [N]
    close_time_ms: I64  # [N]
    ohlc: F64  # [N, 4]


class Portfolio:
    """What has to be remembered of signals, positions and returns; bounded by the number of series."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.positions = Positions(bars_max=limits.position_bars_max, cost=limits.trade_cost)
        self.returns = Returns()
        self._signals_ms = deque[int](maxlen=max(64, 4 * limits.max_signals_per_minute))
        self._judged_ms: I64 = np.zeros(0, dtype=np.int64)  # newest close of each series that was judged
        self._judged: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)  # and how
        self._judged_passed: Bool = np.zeros(0, dtype=np.bool_)  # and whether nothing else held it back

    def make_room(self, count: int) -> None:
        """Have places for series up to `count`."""
        self.returns.make_room(count)
        self.positions.make_room(count)
        self._judged_ms, self._judged = longer(self._judged_ms, count, NEVER), longer(self._judged, count, 0)
        self._judged_passed = longer(self._judged_passed, count, False)

    def reopen(
        self, series: int, side: int, quality: float, close_ms: int, interval_ms: int, price: float, stop_loss: float,
        take_profit: float,
    ) -> None:  # fmt: skip
        """Take note of a signal that was given before; called in the order of closes, candles following between."""
        self.make_room(series + 1)
        self._signals_ms.append(close_ms)
        self.positions.enter(series, side, quality, close_ms, interval_ms, price, stop_loss, take_profit)

    def remember(self, series: I64, close_time_ms: I64, reasons: NDArray[np.uint32]) -> None:
        """Take note of forecasts [K] that were judged before, with all their reasons."""
        if len(series):
            self.make_room(int(series.max()) + 1)
            self._judged_ms[series], self._judged[series] = close_time_ms, reasons & REMEMBERED
            self._judged_passed[series] = (reasons & ~REMEMBERED) == 0

    def follow(self, others: Others) -> None:
        """Move positions by candles that have no forecast."""
        if len(self.positions.open):
            for close in np.unique(others.close_time_ms).tolist():
                self._follow(others, close)

    def _follow(self, others: Others, close: int) -> None:
        at = np.flatnonzero(others.close_time_ms == close)
        self.positions.move(others.series[at], close, others.ohlc[at])

    def judge(
        self, given: Candidates, before: Callable[[I64], F32], others: Others | None = None
    ) -> NDArray[np.uint32]:
        """Return for each forecast [B] the bits of the reasons that hold it back, and open what passes everything.

        Args:
            before: gives of rows [K] their last 96 returns [K, 96], for series whose bars before are not known.
            others: candles of the same time that have no forecast; they move positions in the order of the closes.
        """
        count = int(given.series.max(initial=-1)) + 1
        self.make_room(count if others is None else max(count, int(others.series.max(initial=-1)) + 1))
        closes = given.close_time_ms
        if others is None and len(closes) and (closes == closes[0]).all():
            return self._judge_close(given, before)
        bits = np.zeros(len(given), dtype=np.uint32)
        for close in np.unique(closes if others is None else np.concatenate([closes, others.close_time_ms])).tolist():
            if others is not None:
                self._follow(others, close)
            at = np.flatnonzero(closes == close)
            if len(at):
                bits[at] = self._judge_close(given.take(at), lambda rows, at=at: before(at[rows]))  # type: ignore[misc]
        return bits

    def _judge_close(self, given: Candidates, before: Callable[[I64], F32]) -> NDArray[np.uint32]:
        close = int(given.close_time_ms[0])
        # One that was held back anyway and passes now, said by another version of the model, is judged like a new one.
        again = (self._judged_ms[given.series] == close) & (self._judged_passed[given.series] | ~given.passes)
        bits = np.where(again, self._judged[given.series], 0).astype(np.uint32)
        closed = np.flatnonzero(~given.forming & ~again)
        if len(closed):
            mine = given.take(closed) if len(closed) < len(given) else given
            bar, rows = close // mine.interval_ms, closed
            self.returns.take(mine.series, bar, mine.interval_ms, mine.returns, lambda some: before(rows[some]))
            self.positions.move(mine.series, close, mine.ohlc)
        else:
            self.positions.move(given.series[:0], close, given.ohlc[:0])  # those whose time has come
        first = _firsts(given.series, given.forming)
        at = np.flatnonzero(~again & (given.side != 0) & (first == np.arange(len(given))))
        if len(at):
            order = at[np.argsort(-given.quality[at], kind="stable")]
            bits[order] = self._judge_sides(given.take(order), close)
            bits = np.where(again, bits, bits[first])
        if len(closed):
            newer = closed[close >= self._judged_ms[given.series[closed]]]
            at = given.series[newer]
            self._judged_ms[at], self._judged[at], self._judged_passed[at] = close, bits[newer], given.passes[newer]
        return bits

    def _judge_sides(self, given: Candidates, close: int) -> NDArray[np.uint32]:
        """Judge forecasts [B] with a side, the best first."""
        limits, final = self._limits, np.zeros(len(given), dtype=np.uint32)
        sharpe = self.positions.trades(given.series) >= TRADES_MIN
        if sharpe.any():
            sharpe &= self.positions.sharpe(given.series) < limits.min_sharpe_ratio
        correlated = self.returns.correlated(given.series)
        table = _table(correlated, given.series, self.positions.open.series)
        left = limits.max_signals_per_minute - sum(close - MINUTE_MS < ms <= close for ms in self._signals_ms)
        start, count = 0, len(given)
        while start < count:
            rest = slice(start, count)
            bits = self._bits(given, rest, table) | (sharpe[rest] * np.uint32(_SHARPE))
            fits = given.passes[rest] & (bits == 0)
            if left <= 0:
                final[rest] = bits | (fits * np.uint32(_RATE))
                break
            opens = np.flatnonzero(fits & ~given.forming[rest])
            if not len(opens):
                final[rest] = bits
                break
            first = int(opens[0])
            final[start : start + first + 1] = bits[: first + 1]
            self._open(given, start + first, close)
            left -= 1
            table = _table(correlated, given.series, self.positions.open.series, table)
            start += first + 1
        return final

    def _bits(self, given: Candidates, rest: slice, table: _Table) -> NDArray[np.uint32]:
        """Return what open positions say against forecasts."""
        limits, held = self._limits, self.positions.open
        bits = np.zeros(rest.stop - rest.start, dtype=np.uint32)
        for side in (1, -1):
            mine, same = given.side[rest] == side, held.side == side
            if not mine.any():
                continue
            score = given.quality[rest] + held.quality[same].sum()
            bits |= (mine & (score > limits.max_position_score)) * np.uint32(_SCORE)
            if same.any():
                near = (table.values[rest][:, same] > limits.max_correlation).any(axis=1)
                bits |= (mine & near) * np.uint32(_CORRELATED)
        return bits

    def _open(self, given: Candidates, i: int, close: int) -> None:
        self._signals_ms.append(close)
        self.positions.enter(
            int(given.series[i]), int(given.side[i]), float(given.quality[i]), close, int(given.interval_ms[i]),
            float(given.ohlc[i, CLOSE]), float(given.stop_loss[i]), float(given.take_profit[i]),
        )  # fmt: skip


def _firsts(series: I64, forming: Bool) -> I64:
    """Return for each forecast [B] of a close the first one of its candle: one sent twice is judged once."""
    places = np.arange(len(series))
    if len(series) == 1:
        return places
    keys, at, of = np.unique(2 * series + forming, return_index=True, return_inverse=True)
    return places if len(keys) == len(series) else at[of]


@dataclass(frozen=True, slots=True)
class _Table:
    """Correlations of forecasts with positions."""

    series: I64  # [P] of the positions
    values: F64  # [B, P]


def _table(correlated: Correlated, mine: I64, series: I64, known: _Table | None = None) -> _Table:
    """Return the correlations of series [B] with those of positions [P]; those that are known are taken over."""
    values = np.empty((len(mine), len(series)))
    place = {} if known is None else {s: p for p, s in enumerate(known.series.tolist())}
    fresh = [p for p, s in enumerate(series.tolist()) if s not in place]
    if fresh:
        values[:, fresh] = correlated.with_(series[fresh])
        values[:, fresh] = np.where(mine[:, None] == series[fresh], 1.0, values[:, fresh])  # also one that stands still
    for p, s in enumerate(series.tolist()):
        if known is not None and s in place:
            values[:, p] = known.values[:, place[s]]
    return _Table(series, values)
