"""A simulated market whose future is known as a distribution: what may follow each state, which every candle shows.

Each bar is in one of three states: RISING, FALLING or CALM. The next bar moves by DRIFT of the state and a normal
error, then the state stays with probability STAY or becomes one of the other two. The share of taker buys in a bar's
volume says its state: BUYS of the state, give or take a little. So whoever sees the last candle knows all that can be
known.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast import outputs

INTERVAL_MS = 900_000
START_MS = 1_704_067_200_000
STATES = ("RISING", "FALLING", "CALM")
DRIFT = np.array([0.004, -0.004, 0.0])
NOISE = 0.0015
STAY = 0.9
BUYS = np.array([0.75, 0.25, 0.5])
ACTIVITY = np.array([3.0, 1 / 3, 1.0])


def market(seed: int, bars: int) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Return candles and the state of each [bars]."""
    rng = np.random.default_rng(seed)
    state = np.empty(bars, dtype=np.int64)
    state[0] = 0
    moved, step = rng.random(bars) > STAY, rng.integers(1, 3, bars)
    for t in range(1, bars):
        state[t] = (state[t - 1] + step[t]) % 3 if moved[t] else state[t - 1]
    change = np.concatenate([[0.0], DRIFT[state[:-1]] + NOISE * rng.standard_normal(bars - 1)])
    close = 100 * np.cumprod(1 + change)
    opened = np.concatenate([[100.0], close[:-1]])
    volume = 1000 * ACTIVITY[state] * rng.lognormal(0, 0.1, bars)
    wick = 1 + 0.0005 * np.abs(rng.standard_normal((2, bars)))
    candles = pl.DataFrame(
        {
            "ts": START_MS + INTERVAL_MS * np.arange(bars),
            "open": opened,
            "high": np.maximum(opened, close) * wick[0],
            "low": np.minimum(opened, close) / wick[1],
            "close": close,
            "volume": volume,
            "taker_buy_volume": volume * (BUYS[state] + rng.uniform(-0.05, 0.05, bars)),
        }
    )
    return candles, state


def oracle(paths: int = 400_000, seed: int = 1) -> NDArray[np.float64]:
    """Return what may follow each state [3, 4 horizons, 3 classes], by so many futures of each."""
    rng = np.random.default_rng(seed)
    answer = np.empty((len(STATES), len(outputs.HORIZONS), 3))
    for first in range(len(STATES)):
        state = np.full(paths, first)
        price = np.ones(paths)
        for bar in range(1, max(outputs.HORIZON_BARS) + 1):
            price *= 1 + DRIFT[state] + NOISE * rng.standard_normal(paths)
            moved = rng.random(paths) > STAY
            state = np.where(moved, (state + rng.integers(1, 3, paths)) % 3, state)
            if bar in outputs.HORIZON_BARS:
                h = outputs.HORIZON_BARS.index(bar)
                rose, fell = (price - 1 > outputs.THRESHOLDS[h]).mean(), (price - 1 < -outputs.THRESHOLDS[h]).mean()
                answer[first, h] = rose, fell, 1 - rose - fell
    return answer
