"""One real PostgreSQL for the tests of this directory, a fresh schema for each test, and rows to store."""

import itertools
import os
import subprocess

import numpy as np
import pytest

from candlecast.filters import REASONS
from candlecast.interpret import interpret
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.pool import open_pool
from candlecast.values import Candles, FlowRecords, Forecasts, Model, StageTimes, symbols

FEATURES = ("rsi_14", "macd_hist_12_26_9", *(f"feature_{i}" for i in range(84)))
STATES = ("COLD", "WARMING", "READY", "STALE", "QUARANTINED")
LOW_CONFIDENCE, GAP_FILLED = (1 << REASONS.index(name) for name in ("LOW_CONFIDENCE", "GAP_FILLED"))
INTERVAL_MS = 900_000
START_MS = 1_700_000_100_000
MODEL = Model("patchtst", 3, "ab" * 32, 0xFEDCBA9876543210)
_numbers = itertools.count()


@pytest.fixture(scope="session")
async def cluster(tmp_path_factory):
    """A directory with a data directory that was made once, and is copied by those who run a server in it."""
    directory = tmp_path_factory.mktemp("cluster")
    async with EmbeddedPostgres(directory / "data", directory / "log"):
        pass
    return directory


@pytest.fixture(scope="session")
async def postgres(cluster, tmp_path_factory):
    directory = tmp_path_factory.mktemp("postgres") / "copy"
    copy(cluster, directory)
    async with EmbeddedPostgres(directory / "data", directory / "log") as server:
        yield server


@pytest.fixture(scope="session")
async def seen(postgres):
    """The address, as the viewers' role, of a schema with something to see in every view."""
    from tests.viewers import filled

    return await filled(postgres.dsn)


@pytest.fixture
async def empty_dsn(postgres):
    """The address of an empty schema of its own."""
    schema = f"test_{next(_numbers)}"
    async with open_pool(postgres.dsn) as pool:
        await pool.fetch(f"CREATE SCHEMA {schema}")
    return f"{postgres.dsn}&search_path={schema}"


@pytest.fixture
async def dsn(empty_dsn):
    """The address of a migrated schema of its own."""
    await migrate(empty_dsn)
    return empty_dsn


@pytest.fixture
async def pool(dsn):
    async with open_pool(dsn) as pool:
        yield pool


def copy(cluster, directory):
    """Copy a cluster to a directory that is not there yet, with its owners."""
    subprocess.run(["cp", "-a", cluster, directory], check=True)


def candles(count, *, symbol="BTCUSDT", start_ms=START_MS, seed=0):
    """Contiguous candles; the optional columns absent in every second one."""
    values = np.random.default_rng([seed, count]).uniform(1, 100, (count, 8))
    values[::2, 5:] = np.nan
    return Candles(
        symbol=[symbol] * count,
        interval_ms=np.full(count, INTERVAL_MS, dtype=np.int64),
        open_time_ms=start_ms + INTERVAL_MS * np.arange(count, dtype=np.int64),
        values=values,
        forming=np.zeros(count, dtype=np.bool_),
    )


def forecasts(count, *, symbol="BTCUSDT", start_ms=START_MS, seed=0, model=MODEL):
    """Contiguous forecasts of one symbol; no two rows alike."""
    rng = np.random.default_rng([seed, count])
    outputs = rng.normal(0, 1, (count, 20)).astype(np.float32)
    outputs[:, 16:] = np.abs(outputs[:, 16:]) * 0.02
    meaning = interpret(outputs, np.ones(4))
    return Forecasts(
        symbol=[symbol] * count,
        interval_ms=np.full(count, INTERVAL_MS, dtype=np.int64),
        close_time_ms=start_ms + INTERVAL_MS * np.arange(1, count + 1, dtype=np.int64),
        close=rng.uniform(1, 100, count),
        volume=np.where(np.arange(count) % 2, np.nan, rng.uniform(1, 100, count)),
        forming=np.zeros(count, dtype=np.bool_),
        state=np.full(count, 2, dtype=np.uint8),
        gap_filled=rng.random(count) < 0.5,
        degraded=rng.random(count) < 0.5,
        model_agreement=np.where(np.arange(count) % 3, rng.random(count), np.nan).astype(np.float32),
        features_hash=rng.integers(0, 1 << 56, count, dtype=np.uint64),
        rows=rng.normal(0, 10, (count, len(FEATURES))).astype(np.float32),
        zero_variance=rng.integers(0, 5, count, dtype=np.int32),
        outputs=outputs,
        meaning=meaning,
        direction=meaning.side,
        strength=rng.integers(0, 3, count).astype(np.uint8),
        reasons=np.array([0, LOW_CONFIDENCE, LOW_CONFIDENCE | GAP_FILLED] * count, dtype=np.uint32)[:count],
        rule_score=rng.integers(-6, 7, count) / 6,
        hybrid_score=np.where(np.arange(count) % 5, rng.uniform(-1, 1, count), np.nan),
        size_multiplier=rng.choice([1.0, 1.5], count),
        gate_verdict=rng.integers(0, 4, count).astype(np.uint8),
        gate_probability=np.where(np.arange(count) % 2, rng.random(count), np.nan),
        model=model,
        times=StageTimes(1, 2, 3, 4, 5),
    )


def flow_records(count, *, symbol="BTCUSDT", start_ms=START_MS, asked=False, seed=0):
    """States of one symbol's order flow, a second apart; no two rows alike, some values undefined."""
    rng = np.random.default_rng([seed, count])
    rows = rng.normal(0, 1, (count, 8))
    rows[::3, 2], rows[::4, 1] = np.nan, np.nan
    return FlowRecords(
        symbol=symbols([symbol] * count),
        ts_ms=start_ms + 1_000 * np.arange(count, dtype=np.int64),
        rows=rows,
        gate_asked=np.full(count, asked),
        gate_verdict=(np.arange(count) % 4 if asked else np.zeros(count)).astype(np.uint8),
        gate_probability=np.where(np.arange(count) % 2, rng.random(count), np.nan) if asked else np.full(count, np.nan),
        degraded=(np.arange(count) % 3 == 0) & asked,
    )


def is_root():
    return os.geteuid() == 0
