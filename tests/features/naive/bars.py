"""The candles of one symbol and the constants and units of the notation that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tests.features.naive.functions import RMA, SD, TRUE_RANGE, Array, lag


@dataclass(frozen=True)
class Bars:
    """Contiguous bars; NaN in the four optional series = absent on that bar."""

    o: Array
    h: Array
    low: Array
    c: Array
    v: Array
    quote_volume: Array
    trades: Array
    taker_buy_volume: Array
    cr: Array
    open_time_ms: NDArray[np.int64]
    interval_ms: int

    def __len__(self) -> int:
        return len(self.c)

    @property
    def ohlc(self) -> tuple[Array, Array, Array, Array]:
        return self.o, self.h, self.low, self.c

    @cached_property
    def ec(self) -> Array:
        return 1e-9 * self.c

    @cached_property
    def p(self) -> Array:
        return np.log(self.c)

    @cached_property
    def r(self) -> Array:
        return np.log(self.c / lag(self.c, 1))

    @cached_property
    def dc(self) -> Array:
        return self.c - lag(self.c, 1)

    @cached_property
    def TR(self) -> Array:
        return TRUE_RANGE(self.h, self.low, self.c)

    @cached_property
    def ATR14(self) -> Array:
        return RMA(self.TR, 14)

    @cached_property
    def A(self) -> Array:
        return np.maximum(self.ATR14, 1e-5 * self.c)

    @cached_property
    def S(self) -> Array:
        return np.maximum(SD(self.r, 96), 1e-5)

    @cached_property
    def hl2(self) -> Array:
        return (self.h + self.low) / 2

    @cached_property
    def tp(self) -> Array:
        return (self.h + self.low + self.c) / 3

    @cached_property
    def w(self) -> Array:
        """Return the traded price of the bar."""
        quote = self.quote_volume
        known = np.isfinite(quote) & (quote > 0) & (self.v > 0)
        price = np.where(known, quote / np.where(known, self.v, 1), self.tp)
        return np.clip(price, self.low, self.h)

    @cached_property
    def turn(self) -> Array:
        return self.w * self.v
