"""The core's rows of any number of candles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from candlecast import _rust
from candlecast.features import NAMES
from tests.features.markets import VALUES, Candles

INPUTS = ("quote_volume", "trades", "taker_buy_volume", "reference")
REFERENCE = "BTCUSDT"
NOW_MS = 2**62


def core_rows(
    candles: Candles, *, optional_inputs: Sequence[str] = INPUTS, symbol: str = "ETHUSDT"
) -> NDArray[np.float32]:
    """Return the row [bars, F] of every candle.

    The reference's candle, where there is one, stands in the batch right before the symbol's own of the same time.
    """
    market = _rust.Market(optional_inputs=tuple(optional_inputs), reference_symbol=REFERENCE)
    n, close = len(candles), candles.columns["reference_close"]
    values = np.full((n, 2, len(VALUES)), np.nan)
    values[:, 0, :4], values[:, 0, 4] = close[:, None], 0
    values[:, 1] = np.column_stack([candles.columns[name] for name in VALUES])
    present = np.column_stack([np.isfinite(close), np.ones(n, dtype=bool)])
    symbols = np.tile([REFERENCE, symbol], (n, 1))
    times = np.column_stack([candles.columns["open_time_ms"].astype(np.int64)] * 2)
    batch = symbols[present].tolist()
    rows = np.empty((len(batch), len(NAMES)), dtype=np.float32)
    pushed = market.push(
        batch,
        np.full(len(batch), candles.interval_ms),
        times[present],
        values[present],
        np.zeros(len(batch), dtype=bool),
        NOW_MS,
        np.empty((0, _rust.WINDOW, len(NAMES)), dtype=np.float32),
        rows,
    )
    assert (pushed.verdict == _rust.VERDICTS.index("ACCEPTED")).all()
    return rows[np.array(batch) == symbol]
