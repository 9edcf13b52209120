"""A strategy's decisions → trades, by the backtester's rules: bar by bar, for what is held counts, too. Knows no files.

What a strategy decides at the close of a bar is done at the open of the next one. Its own rules are the only exits, as
live, where it sees closes: no stop is filled within a bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Final

import numpy as np

from candlecast.errors import ConfigurationError
from candlecast.filters import size_multiplier
from candlecast.strategies.columns import Decide, Held, Seen
from candlecast.training.replay import Said
from candlecast.training.simulator import FLAT, Bars, Outcome, Rules, Signals, Simulation
from candlecast.values import F64, I64

NEVER_BARS: Final = 1 << 40
"""After which the simulator closes a position by itself."""
FAR: Final = 1e9
"""From the entry, as a fraction of it, are the simulator's own stop and take."""


def named(name: str) -> Decide:
    """Return the decision of a strategy."""
    decide: Decide = import_module(f"candlecast.strategies.{name}").decide
    return decide


class Traded:
    """One strategy over the bars: `step` by `step`, or `whole`.

    Args:
        sentiment: scores and their ages in ms, both [T, S], as of each close; None: there are none.
    """

    def __init__(self, bars: Bars, said: Said, rules: Rules, sentiment: tuple[F64, F64] | None = None) -> None:
        shape = bars.open.shape
        none: F64 = np.full(shape, np.nan)
        self.bars, self._said = bars, said
        self._score: F64 = sentiment[0] if sentiment else none
        self._age_ms: F64 = sentiment[1] if sentiment else none
        self._size = size_multiplier(said.strength.astype(np.uint8))
        never = np.full(shape, FAR)
        self._signals = Signals(np.zeros(shape, np.int8), np.ones(shape), never, never)
        self._entry_limits = np.full((2, shape[1]), np.nan)  # stop and take of the forecast that was entered on
        self.simulation = Simulation(bars, self._signals, replace(rules, hold_bars=NEVER_BARS))

    def seen(self, t: int) -> Seen:
        """Return the forecasts [S] at the close of bar t."""
        said = self._said
        names = ("confidence", "edge", "agreement", "expected", "stop_loss", "take_profit")
        columns = {name: getattr(said, name)[t].astype(np.float64) for name in names}
        return Seen(
            side=said.direction[t].astype(np.float64),
            size=self._size[t],
            degraded=np.zeros(len(self.bars.symbols), dtype=np.bool_),
            sentiment=self._score[t],
            sentiment_age_ms=self._age_ms[t],
            **columns,
        )

    def held(self, t: int) -> Held:
        """Return the positions [S] at the close of bar t."""
        simulation = self.simulation
        side = simulation.side.copy()
        limits = np.where(side != 0, self._entry_limits, np.nan)
        return Held(side, simulation.bars_held(t), simulation.gain(), *limits)

    def want(self, t: int, wanted: F64) -> None:
        """Have the positions [S] wanted at the close of bar t made at the next open; without a forecast all stays."""
        side, held = np.sign(wanted).astype(np.int8), self.simulation.side
        can = self._said.is_forecast[t]
        self._signals.direction[t] = np.where(can, np.where(side == 0, FLAT, side), 0)
        self._signals.multiplier[t] = np.abs(wanted)
        enters = can & (side != 0) & (side != held)
        limits = np.stack([self._said.stop_loss[t], self._said.take_profit[t]])
        self._entry_limits = np.where(enters, limits, self._entry_limits)

    def whole(self, decide: Decide) -> Outcome:
        """Trade all bars."""
        for t in range(len(self.bars.open)):
            self.simulation.step(t)
            self.want(t, decide(self.seen(t), self.held(t)))
        return self.simulation.end()


def read_scores(path: Path) -> tuple[list[str], I64, F64]:
    """Return symbol, time of publication in ms and score, [K] of each, of a CSV file: symbol, ts_ms, score, source.

    Raises:
        ConfigurationError: the file is not there, or a line is none of these.
    """
    from candlecast.strategies.scores import read

    try:
        rows = read(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--sentiment: {error}") from error
    times = np.array([row.ts_ms for row in rows], dtype=np.int64)
    return [row.symbol for row in rows], times, np.array([row.score for row in rows], dtype=np.float64)


def as_of(bars: Bars, symbol: Sequence[str], ts_ms: I64, score: F64) -> tuple[F64, F64]:
    """Return the scores [T, S] that were published by each close, and their ages in ms; NaN where there was none.

    Args:
        symbol, ts_ms, score: [K] of each, in any order.
    """
    closes_ms = bars.open_time_ms + bars.interval_ms
    scores, ages = (np.full(bars.open.shape, np.nan) for _ in range(2))
    names = np.asarray(symbol)
    for s, name in enumerate(bars.symbols):
        mine = np.flatnonzero(names == name)
        mine = mine[np.argsort(ts_ms[mine], kind="stable")]
        newest = np.searchsorted(ts_ms[mine], closes_ms, side="right") - 1
        known = np.flatnonzero(newest >= 0)
        scores[known, s] = score[mine[newest[known]]]
        ages[known, s] = closes_ms[known] - ts_ms[mine[newest[known]]]
    return scores, ages
