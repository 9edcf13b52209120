"""A simulated market with a planted signal, as candle files, and a bundle trained on it. Knows no real data."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlecast.models.bundle import Bundle
from candlecast.training.config import Config
from candlecast.training.fit import FitConfig
from candlecast.training.patchtst import NetworkConfig
from candlecast.training.train import train

INTERVAL_MS = 900_000
START_MS = 1_704_067_200_000
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
SMALL = Config(
    folds=1,
    stride=3,
    network=NetworkConfig(width=64, layers=1, heads=2, feedforward=128),
    fit=FitConfig(epochs=2, batch_rows=64, learning_rate=2e-3, threads=1),
)


def simulate(seed: int, bars: int) -> pl.DataFrame:
    """Return candles whose drift keeps its sign for about 150 bars: the past says where the price goes."""
    rng = np.random.default_rng(seed)
    regime = np.where(np.cumsum(rng.random(bars) < 1 / 150) % 2 == 0, 1.0, -1.0)
    close = 100 * np.exp(np.cumsum(0.0015 * regime + 0.003 * rng.standard_normal(bars)))
    opened = np.concatenate([[100.0], close[:-1]])
    wick = 1 + 0.001 * np.abs(rng.standard_normal((2, bars)))
    return pl.DataFrame(
        {
            "ts": START_MS + INTERVAL_MS * np.arange(bars),
            "open": opened,
            "high": np.maximum(opened, close) * wick[0],
            "low": np.minimum(opened, close) / wick[1],
            "close": close,
            "volume": rng.lognormal(3, 1, bars),
        }
    )


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("market")
    for seed, symbol in enumerate(SYMBOLS):
        simulate(seed, 5000).write_parquet(folder / f"{symbol}-15m.parquet")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def trained(market: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle that is trained once for all workers; leave it as it is."""
    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    out = shared / "trained" / "patchtst"
    with (shared / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return (
            Bundle.load(out)
            if out.exists()
            else train("patchtst", market, out, reference_symbol=SYMBOLS[0], config=SMALL)
        )
