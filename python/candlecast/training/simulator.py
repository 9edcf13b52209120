"""Signals and bars → trades and equity, bar by bar, all symbols at once: pure arrays. Knows no model and no files.

A signal of bar t acts at the open of bar t + 1, if that bar exists. One position per symbol: a signal of its own side
is ignored, one of the other side closes it and opens the other. Within a bar the worse comes first:

at the open     funding for who held before; a stop that the open has passed fills there, a take at its own price;
                then what an opposite signal closes, then entries
within the bar  the stop, and only if it was not touched the take, at its price and never better
at the close    a position that has had its bars; at the end of the data all others, at their last close

`candlecast/outcomes.py` follows these rules for each forecast by itself; a test holds them together.

Orders at market (all but the take) pay slippage, every fill pays fees. Stakes are an equal share of the equity at the
last close for each symbol, times the size multiplier, so gains and losses compound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast import outputs
from candlecast.values import F64, I64, Bool

I8 = NDArray[np.int8]
FUNDING_EVERY_MS: Final = 8 * 3_600_000
FLAT: Final = 2
"""A direction: whatever is held is closed, and nothing opened."""


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of S symbols on one grid of T times; NaN where a symbol has none."""

    symbols: tuple[str, ...]
    interval_ms: int
    open_time_ms: I64  # [T] evenly spaced
    open: F64  # [T, S]
    high: F64
    low: F64
    close: F64


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known at the close of each bar."""

    direction: I8  # [T, S] 1 LONG, -1 SHORT, 0 none, FLAT
    multiplier: F64  # [T, S] of the stake
    stop_loss: F64  # [T, S] fraction of the entry price
    take_profit: F64  # [T, S] fraction of the entry price


@dataclass(frozen=True, slots=True)
class Rules:
    """What trading costs, as fractions, and how long a position is held."""

    fees: float = 0.0004  # of the value of each fill
    slippage: float = 0.0002  # of the price, against us, of each order at market
    funding: float = 0.0  # of a position's value at its last close, each 8 h UTC; longs pay it, shorts receive it
    hold_bars: int = outputs.HOLD_BARS


class Exit(IntEnum):
    """Why a position was closed."""

    STOP, TAKE, OPPOSITE, TIME, END = range(5)


@dataclass(frozen=True, slots=True)
class Trades:
    """K closed positions in the order of their exits. pnl = side · (exit − entry) · size − fees − funding."""

    symbol: I64  # [K] index into Bars.symbols
    side: I64  # [K] 1 LONG, -1 SHORT
    entry_bar: I64  # [K]
    exit_bar: I64  # [K]
    entry: F64  # [K] price, slippage included
    exit: F64  # [K]
    size: F64  # [K] units of the symbol; the equity at the start is 1
    fees: F64  # [K] of both fills
    funding: F64  # [K] paid
    pnl: F64  # [K]
    why: I64  # [K] Exit

    def __len__(self) -> int:
        return len(self.symbol)

    def take(self, chosen: I64 | Bool) -> Trades:
        """Return the trades at an index or where a mask is true."""
        return Trades(*(getattr(self, name)[chosen] for name in Trades.__slots__))


_WHOLE: Final = ("symbol", "side", "entry_bar", "exit_bar", "why")


@dataclass(frozen=True, slots=True)
class Outcome:
    trades: Trades
    equity: F64  # [T] at each close, positions marked to it; 1 before the first bar
    gains: F64  # [T, S] what each symbol has brought of it by then: equity = 1 + their sum


@dataclass(slots=True)
class _Book:
    """The open positions of S symbols, columns [S], and what has been closed."""

    rules: Rules
    cash: float
    side: F64  # 1, -1, or 0 without a position
    size: F64
    entry: F64
    entry_bar: I64
    entry_fee: F64
    stop: F64  # price
    take: F64  # price
    funding: F64  # paid so far
    earned: F64  # by closed fills, fees and funding so far, of all its positions
    mark: F64  # last close; NaN before the first
    last_bar: I64  # of the mark
    closed: list[tuple[F64 | I64, ...]] = field(default_factory=list)

    @classmethod
    def empty(cls, count: int, rules: Rules) -> _Book:
        zeros = [np.zeros(count) for _ in range(9)]
        bars = [np.zeros(count, dtype=np.int64) for _ in range(2)]
        side, size, entry, fee, stop, take, funding, earned, mark = zeros
        return cls(rules, 1.0, side, size, entry, bars[0], fee, stop, take, funding, earned, mark * np.nan, bars[1])

    def equity(self) -> float:
        held = np.flatnonzero(self.side)
        return self.cash + float((self.side[held] * self.size[held] * (self.mark[held] - self.entry[held])).sum())

    def gains(self) -> F64:
        """Return what each symbol [S] has brought so far, its position marked to its last close."""
        found = self.earned.copy()
        held = np.flatnonzero(self.side)
        found[held] += self.side[held] * self.size[held] * (self.mark[held] - self.entry[held])
        return found

    def enter(self, who: Bool, bar: int, price: F64, signals: Signals, stake: float) -> None:
        """Open at `price` [S] what the bar before asked for, with `stake` times the multiplier each."""
        at = np.flatnonzero(who)
        if not len(at):
            return
        side = signals.direction[bar - 1, at].astype(np.float64)
        entry = price[at] * (1 + side * self.rules.slippage)
        self.side[at], self.entry[at], self.entry_bar[at] = side, entry, bar
        self.size[at] = stake * signals.multiplier[bar - 1, at] / entry
        self.stop[at] = entry * (1 - side * signals.stop_loss[bar - 1, at])
        self.take[at] = entry * (1 + side * signals.take_profit[bar - 1, at])
        self.entry_fee[at] = self.rules.fees * self.size[at] * entry
        self.funding[at] = 0
        self.cash -= float(self.entry_fee[at].sum())
        self.earned[at] -= self.entry_fee[at]

    def leave(self, who: Bool, bars: int | I64, price: F64, why: Exit) -> None:
        """Close at `price` [S] in bar `bars`, or [S] of them."""
        at = np.flatnonzero(who)
        if not len(at):
            return
        side, size, entry = self.side[at], self.size[at], self.entry[at]
        slippage = 0.0 if why is Exit.TAKE else self.rules.slippage
        left = price[at] * (1 - side * slippage)
        fee = self.rules.fees * size * left
        gain = side * (left - entry) * size
        fees, funding = self.entry_fee[at] + fee, self.funding[at]
        self.cash += float((gain - fee).sum())
        self.earned[at] += gain - fee
        exit_bar = np.broadcast_to(bars, self.side.shape)[at]
        pnl = gain - fees - funding
        row = (at, side, self.entry_bar[at], exit_bar, entry, left, size, fees, funding, pnl, np.full(len(at), why))
        self.closed.append(tuple(column.copy() for column in row))
        self.side[at] = 0

    def fund(self) -> None:
        """Charge every open position its funding."""
        due = self.rules.funding * self.side * self.size * np.nan_to_num(self.mark)
        self.funding += due
        self.cash -= float(due.sum())
        self.earned -= due

    def trades(self) -> Trades:
        columns: Any = zip(*self.closed, strict=True) if self.closed else [[np.empty(0)]] * len(Trades.__slots__)
        joined = dict(zip(Trades.__slots__, map(np.concatenate, columns), strict=True))
        trades = Trades(**joined | {name: joined[name].astype(np.int64) for name in _WHOLE})
        return trades.take(np.argsort(trades.exit_bar, kind="stable"))


class Simulation:
    """Goes from bar to bar, so that who gives the signals of a bar may know what is held at its close.

    The signals of bar t are read when bar t + 1 is stepped to, and may be written until then.
    """

    def __init__(self, bars: Bars, signals: Signals, rules: Rules) -> None:
        count, self._symbols = bars.open.shape
        self._bars, self._signals = bars, signals
        self._book, self.equity = _Book.empty(self._symbols, rules), np.ones(count)
        self._gains = np.zeros(bars.open.shape)
        self._has_bar = np.isfinite(bars.open)
        self._is_funded = (bars.open_time_ms % FUNDING_EVERY_MS == 0) & (rules.funding != 0)

    def step(self, t: int) -> float:
        """Trade bar t, the one after that of the last step; return the equity at its close."""
        book, here = self._book, self._has_bar[t]
        stake = max(self.equity[t - 1], 0.0) / self._symbols if t else 0.0
        if self._is_funded[t]:
            book.fund()
        if t and here.any():
            _at_open(book, t, here, self._bars.open[t], self._signals, stake)
        if here.any():
            _within(book, t, here, self._bars)
        self.equity[t], self._gains[t] = book.equity(), book.gains()
        return float(self.equity[t])

    @property
    def side(self) -> F64:
        """Return what is held [S] now: 1, -1 or 0."""
        return self._book.side

    def bars_held(self, t: int) -> F64:
        """Return for how many bars [S] a position is held at the close of bar t, 1 in the bar of its entry."""
        return np.where(self._book.side != 0, t + 1.0 - self._book.entry_bar, 0.0)

    def gain(self) -> F64:
        """Return what positions [S] have gained at their last close, as a fraction of the entry; 0 without one."""
        book = self._book
        entry = np.where(book.side != 0, book.entry, 1.0)
        return np.where(book.side != 0, book.side * (np.nan_to_num(book.mark) / entry - 1), 0.0)

    def end(self) -> Outcome:
        """Close what is open at its last close."""
        book = self._book
        book.leave(book.side != 0, book.last_bar, book.mark, Exit.END)
        if len(self.equity):
            self.equity[-1], self._gains[-1] = book.equity(), book.gains()
        return Outcome(book.trades(), self.equity, self._gains)


def simulate(bars: Bars, signals: Signals, rules: Rules) -> Outcome:
    """Trade the signals; see the head of this file for the order of things within a bar."""
    simulation = Simulation(bars, signals, rules)
    for t in range(len(bars.open)):
        simulation.step(t)
    return simulation.end()


def _at_open(book: _Book, t: int, here: Bool, price: F64, signals: Signals, stake: float) -> None:
    wanted, before = signals.direction[t - 1], book.side.copy()
    held = here & (before != 0)
    if held.any():
        book.leave(held & (before * (price - book.stop) <= 0), t, price, Exit.STOP)
        book.leave(held & (book.side != 0) & (before * (price - book.take) >= 0), t, book.take, Exit.TAKE)
        # The bar in which its time ended is missing.
        book.leave(here & (book.side != 0) & (t - book.entry_bar >= book.rules.hold_bars), t, price, Exit.TIME)
        is_left = (wanted == -before) | (wanted == FLAT)
        book.leave(here & (book.side != 0) & is_left, t, price, Exit.OPPOSITE)
    if stake > 0:
        book.enter(here & (np.abs(wanted) == 1) & (wanted != before) & (book.side == 0), t, price, signals, stake)


def _within(book: _Book, t: int, here: Bool, bars: Bars) -> None:
    low, high, close = bars.low[t], bars.high[t], bars.close[t]
    held = here & (book.side != 0)
    if held.any():
        is_long = book.side > 0
        book.leave(held & np.where(is_long, low <= book.stop, high >= book.stop), t, book.stop, Exit.STOP)
        held &= book.side != 0
        book.leave(held & np.where(is_long, high >= book.take, low <= book.take), t, book.take, Exit.TAKE)
        held &= book.side != 0
        book.leave(held & (t + 1 - book.entry_bar >= book.rules.hold_bars), t, close, Exit.TIME)
    book.mark[here], book.last_bar[here] = close[here], t


def buy_and_hold(bars: Bars, rules: Rules) -> F64:
    """Return the equity [T] of an equal share of each symbol, bought at its first open and sold at its last close."""
    has_bar = np.isfinite(bars.open)
    traded = np.flatnonzero(has_bar.any(axis=0))
    first, last = has_bar.argmax(axis=0), len(has_bar) - 1 - has_bar[::-1].argmax(axis=0)
    known = np.maximum.accumulate(np.where(has_bar, np.arange(len(has_bar))[:, None], -1), axis=0)  # [T, S]
    equity = np.ones(len(has_bar))
    for s in traded.tolist():
        start, end = int(first[s]), int(last[s])
        entry = bars.open[start, s] * (1 + rules.slippage)
        size = 1 / len(traded) / entry
        value = size * (bars.close[known[start:, s], s] - entry) - rules.fees * size * entry
        left = bars.close[end, s] * (1 - rules.slippage)
        value[end - start :] = size * (left - entry) - rules.fees * size * (entry + left)
        equity[start:] += value
    return equity
