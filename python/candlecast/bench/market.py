"""Candles for a bench: many symbols made from a few histories, each symbol's next bar on demand. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from candlecast.errors import CandlecastError
from candlecast.features import now_ms
from candlecast.values import DEFAULT_INTERVAL_MS, F64, I64, Candles, symbols

PREFIX = "BENCH."
"""What the names of a bench's symbols begin with, and nobody else's."""
START_MS = 1_577_836_800_000
"""Open time of bar 0: 2020-01-01. A symbol that a server knows from an earlier run goes on where that ended."""
HISTORIES, BARS = 24, 4_096
CHUNK_CANDLES = 10_000
_PHASE_BARS = 7
_PRICES = [0, 1, 2, 3, 5]  # with the quote volume


def names(count: int, *, reference: str | None = None) -> list[str]:
    """Return the names of a bench's symbols; with `reference` the first is that one."""
    own = [f"{PREFIX}{i:05}" for i in range(count)]
    return [reference, *own[1:]] if reference else own


def simulated(histories: int = HISTORIES, bars: int = BARS) -> F64:
    """Return random walks [histories, bars, 8] that end where they began, so that they can be walked in a circle."""
    rng = np.random.default_rng(5)
    steps = rng.normal(0, 0.003, (histories, bars))
    close = 100 * np.exp(np.cumsum(steps - steps.mean(axis=1, keepdims=True), axis=1))
    open_ = np.roll(close, 1, axis=1)
    beyond = np.abs(rng.normal(0, 0.0015, (2, histories, bars)))
    high, low = np.maximum(open_, close) * (1 + beyond[0]), np.minimum(open_, close) * (1 - beyond[1])
    volume = rng.lognormal(5, 0.8, (histories, bars))
    return np.stack([open_, high, low, close, volume, volume * close, np.ceil(volume), volume / 2], axis=2)


class Market:
    """S symbols, each somewhere on one of H histories: at a price and a phase of its own, at its own next bar.

    Args:
        names: of the symbols.
        histories: values [H, L, 8] as in Candles; walked in a circle.
    """

    def __init__(self, names: Sequence[str], histories: F64) -> None:
        self.names = list(names)
        self._symbols = symbols(self.names)
        self.bar = np.zeros(len(self.names), dtype=np.int64)  # [S] the next one
        self._histories = histories
        symbol = np.arange(len(self.names))
        self._history = symbol % len(histories)
        self._copy = symbol // len(histories)
        self._scale = np.ones((len(self.names), histories.shape[2]))  # [S, 8]
        self._scale[:, _PRICES] = (1.001 ** (self._copy % 1_000))[:, None]
        self._bars_max = (now_ms() - START_MS) // DEFAULT_INTERVAL_MS - 1

    def __len__(self) -> int:
        return len(self.names)

    def next(self, index: I64) -> Candles:
        """Return the next candle of each symbol of index [K], no symbol twice, and move them on.

        Raises:
            CandlecastError: their candles would be in the future.
        """
        bars = self.bar[index]
        if len(bars) and bars.max() >= self._bars_max:
            raise CandlecastError(f"the candles of {self.names[index[bars.argmax()]]} have reached the present")
        candles = self._at(index, bars)
        self.bar[index] += 1
        return candles

    def history(self, index: I64, bars: int) -> Iterator[Candles]:
        """Yield the next `bars` candles of each symbol of index [K], in time order, in chunks; moves them on."""
        step = max(1, CHUNK_CANDLES // bars)
        for start in range(0, len(index), step):
            some = index[start : start + step]
            each = self.bar[some] + np.arange(bars)[:, None]  # [bars, K]
            yield self._at(np.tile(some, bars), each.ravel())
            self.bar[some] += bars

    def bar_of(self, open_time_ms: int) -> int:
        """Return the bar that opened at a time."""
        return (open_time_ms - START_MS) // DEFAULT_INTERVAL_MS

    def _at(self, index: I64, bars: I64) -> Candles:
        place = (bars + _PHASE_BARS * self._copy[index]) % self._histories.shape[1]
        values = self._histories[self._history[index], place] * self._scale[index]
        return Candles(
            symbol=self._symbols[index],
            interval_ms=np.full(len(index), DEFAULT_INTERVAL_MS, dtype=np.int64),
            open_time_ms=START_MS + bars * DEFAULT_INTERVAL_MS,
            values=values,
            forming=np.zeros(len(index), dtype=np.bool_),
        )
