"""The 240 columns by their definitions, in float64 and without any state: the oracle of the feature core.

Each line can be read against the specification, whose names and notation it keeps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.features.naive import (
    averages,
    candle,
    clock,
    cross,
    momentum,
    pattern,
    stats,
    structure,
    timeframes,
    trend,
    volatility,
    volume,
)
from tests.features.naive.bars import Bars
from tests.features.naive.functions import Array
from tests.features.naive.warmup import WARMUP_BARS

NAMES = tuple(WARMUP_BARS)
GROUPS = (
    candle,
    averages,
    momentum,
    volatility,
    trend,
    volume,
    stats,
    structure,
    timeframes,
    cross,
    clock,
    pattern,
)


def rows(candles: Mapping[str, Array], interval_ms: int) -> dict[str, Array]:
    """Return every column of contiguous candles, NaN before its warm-up.

    Args:
        candles: open, high, low, close, volume, quote_volume, trades, taker_buy_volume, reference_close,
            open_time_ms; each [bars], NaN = absent in the four optional ones.
        interval_ms: length of a bar.
    """
    bars = Bars(
        o=candles["open"],
        h=candles["high"],
        low=candles["low"],
        c=candles["close"],
        v=candles["volume"],
        quote_volume=candles["quote_volume"],
        trades=candles["trades"],
        taker_buy_volume=candles["taker_buy_volume"],
        cr=candles["reference_close"],
        open_time_ms=candles["open_time_ms"].astype(np.int64),
        interval_ms=interval_ms,
    )
    columns: dict[str, Array] = {}
    for group in GROUPS:
        columns.update(group.columns(bars))
    assert tuple(columns) == NAMES
    warming = np.arange(1, len(bars) + 1)
    return {name: np.where(warming < WARMUP_BARS[name], np.nan, column) for name, column in columns.items()}
