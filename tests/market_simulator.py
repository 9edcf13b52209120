"""A deterministic market for tests: candles of a seeded random walk on a tick grid. Nothing to trade on."""

from __future__ import annotations

import numpy as np

from candlecast.values import Candles

INTERVAL_MS = 900_000
START_MS = 1_700_000_100_000 // INTERVAL_MS * INTERVAL_MS


def candles(symbol: str, count: int, *, seed: int = 0, start_ms: int = START_MS, price: float = 100.0) -> Candles:
    """Return `count` contiguous candles of one symbol; the same arguments give the same candles."""
    rng = np.random.default_rng([seed, *symbol.encode()])
    tick = price / 10_000
    volatility = 0.003 * np.exp(0.3 * np.cumsum(rng.normal(0, 0.02, count)))
    close = price * np.exp(np.cumsum(rng.normal(0, 1, count) * volatility))
    open_ = np.concatenate([[price], close[:-1]])
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.5, count)) * volatility)
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.5, count)) * volatility)
    low, high = np.floor(low / tick) * tick, np.ceil(high / tick) * tick
    prices = [np.clip(np.round(p / tick) * tick, low, high) for p in (open_, close)]
    volume = rng.lognormal(5, 0.8, count)
    values = np.column_stack([prices[0], high, low, prices[1], volume, volume * prices[1], np.ceil(volume), volume / 2])
    return Candles(
        symbol=[symbol] * count,
        interval_ms=np.full(count, INTERVAL_MS, dtype=np.int64),
        open_time_ms=start_ms + INTERVAL_MS * np.arange(count, dtype=np.int64),
        values=np.ascontiguousarray(values),
        forming=np.zeros(count, dtype=np.bool_),
    )
