"""A simulated order flow, for trying the gate's pipeline without data. It is no market, and shows nothing about one.

The price is an Ornstein-Uhlenbeck process about a slow random walk, so it does revert; the book leans a little to where
it will go.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import polars as pl

from candlecast import _rust, gate
from candlecast.training.gate_data import Recording

START_MS: Final = 946_684_800_000  # 2000-01-01: nobody takes it for a recording
TRADES_PER_S: Final = 8.0
REVERSION_S: Final = 20.0
TICK: Final = 0.01


def simulated(trades: int = 40_000, seed: int = 0) -> Recording:
    """Return the records of so many simulated trades, by the core that serves live."""
    rng = np.random.default_rng(seed)
    step_s = rng.exponential(1 / TRADES_PER_S, trades)
    ts = START_MS + np.floor(np.cumsum(step_s) * 1000).astype(np.int64)
    kept = np.exp(-step_s / REVERSION_S)
    noise = 0.2 * np.sqrt(1 - kept**2) * rng.normal(size=trades)
    deviation = np.zeros(trades)
    for i in range(1, trades):
        deviation[i] = kept[i] * deviation[i - 1] + noise[i]
    price = 100 + np.cumsum(rng.normal(0, 0.002, trades)) + deviation
    price = np.round(price / TICK) * TICK
    lean = np.clip(0.5 - deviation + rng.normal(0, 0.3, trades), 0.05, 0.95)
    flow = _rust.OrderFlow(symbols_max=1)
    pushed = flow.push(
        "SIMULATED",
        trades=(ts, np.arange(trades), price, rng.exponential(1.0, trades)),
        quotes=(ts, price - TICK, 10 * lean, price + TICK, 10 * (1 - lean)),
    )
    rows = pl.DataFrame({"ts": ts}).hstack(pl.from_numpy(pushed.rows, schema=list(gate.RECORD)))
    sha256 = hashlib.sha256(pushed.rows.tobytes()).hexdigest()
    return Recording(f"simulated-{seed}", [{"name": f"simulated-{seed}-{trades}", "sha256": sha256}], rows)
