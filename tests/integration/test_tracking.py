"""Outcomes are followed beside serving: live, after downtime, and when PostgreSQL goes away meanwhile."""

import asyncio
import os
import signal
import sys
import time

import numpy as np
import psutil

from candlecast.store.outcomes import Pass
from candlecast.store.performance import strategies
from candlecast.tracking import outcomes as tracking
from candlecast.tracking import process
from candlecast.tracking.outcomes import Tracking
from candlecast.tracking.process import TrackingProcess
from tests.integration.test_outcomes import FEES, rows, told, walk, write
from tests.recorders import Store, until

LIMIT_S = 180
COUNTED = "SELECT horizon_bars, forecasts FROM ml_accuracy ORDER BY 1"


async def known(pool, symbol="BTCUSDT"):
    """Return of how many forecasts each horizon is known."""
    found = await rows(pool, symbol=symbol)
    return [sum(row[f"hit_{bars}"] is not None for row in found) for bars in (1, 4, 16, 48)]


async def is_known(pool, count):
    return await known(pool) == [count - bars for bars in (1, 4, 16, 48)]


async def test_what_the_drain_stores_gets_its_outcomes(pool, dsn, tmp_path):
    candles = walk(100, seed=1)
    given = told(candles, seed=2)
    follower = Tracking(dsn, FEES, gather_s=0)
    async with asyncio.timeout(LIMIT_S), follower, Store(tmp_path, pool, stored=follower.stored) as store:
        await follower.caught_up()
        for start in (0, 60, 61):
            stop = {0: 60, 60: 61, 61: 100}[start]
            await store.record(candles.take(np.arange(start, stop)), given.part(start, stop))
            await store.caught_up()
            await follower.caught_up()
            assert await known(pool) == [max(stop - bars, 0) for bars in (1, 4, 16, 48)]
        (own,) = await strategies(pool, 365)
        assert own["strategy"] == "candlecast"
        assert own["signals"] == int((given.direction != 0).sum())
        assert follower.waiting == 0
    assert follower.failure is None


async def test_what_closed_while_nobody_looked_is_found_at_the_start_in_bounded_passes(pool, dsn, monkeypatch):
    monkeypatch.setattr(tracking, "CANDLES_MAX", 200)
    monkeypatch.setattr(tracking, "SERIES_MAX", 3)
    monkeypatch.setattr(tracking, "SERIES_PAGE", 2)
    for i in range(5):
        candles = walk(150, seed=i, symbol=f"S{i}USDT")
        await write(pool, candles, told(candles, seed=i))
    async with asyncio.timeout(LIMIT_S), Tracking(dsn, FEES, workers=2, sure_s=-1) as follower:
        await follower.caught_up()
        assert follower.forecasts >= 5 * 149
    for i in range(5):
        assert await known(pool, f"S{i}USDT") == [149, 146, 134, 102]


async def test_two_followers_at_once_count_nothing_twice(pool, dsn):
    for i in range(8):
        candles = walk(120, seed=i, symbol=f"S{i}USDT")
        await write(pool, candles, told(candles, seed=i))
    async with asyncio.timeout(LIMIT_S), Tracking(dsn, FEES) as one, Tracking(dsn, FEES) as other:
        await one.caught_up()
        await other.caught_up()
    counted = await pool.fetch(COUNTED)
    assert [tuple(row) for row in counted] == [(bars, 8 * (120 - bars)) for bars in (1, 4, 16, 48)]
    (exits,) = await pool.fetch("SELECT sum(signals) FROM ml_exit_counts")
    (trades,) = await pool.fetch("SELECT count(*) FROM ml_trades")
    assert exits[0] == trades[0] > 0


async def test_the_process_of_the_server_finds_what_there_is_and_what_is_stored(pool, dsn, tmp_path):
    candles = walk(100, seed=5)
    given = told(candles, seed=6)
    await write(pool, candles.take(np.arange(60)), given.part(0, 60))
    one = TrackingProcess(dsn, FEES, log_path=tmp_path / "log", gather_s=0)
    async with asyncio.timeout(LIMIT_S), one, Store(tmp_path / "journal", pool, stored=one.stored) as store:
        await until(lambda: is_known(pool, 60))
        assert os.getpriority(os.PRIO_PROCESS, one.pid) == tracking.NICE
        await store.record(candles.take(np.arange(60, 100)), given.part(60, 100))
        await until(lambda: is_known(pool, 100))
        pid = one.pid
    assert not psutil.pid_exists(pid)


async def test_a_process_that_is_killed_again_and_again_leaves_each_outcome_once(pool, dsn, tmp_path, monkeypatch):
    for i in range(4):
        candles = walk(250, seed=i, symbol=f"S{i}USDT")
        await write(pool, candles, told(candles, seed=i))
    wanted = [(bars, 4 * (250 - bars)) for bars in (1, 4, 16, 48)]
    rng, killed = np.random.default_rng(0), []
    # A pass for each series and CANDLES_MIN candles, and half of the time nothing, so that kills find it at work.
    program = (
        "from candlecast.tracking import outcomes as o, process; o.SERIES_MAX, o.CANDLES_MAX = 1, 1; process.main()"
    )
    monkeypatch.setattr(process, "COMMAND", [sys.executable, "-c", program])
    one = TrackingProcess(dsn, FEES, log_path=tmp_path / "log", sure_s=-1, share=0.3)
    async with asyncio.timeout(LIMIT_S), one:
        while [tuple(row) for row in await pool.fetch(COUNTED)] != wanted:
            (row,) = await pool.fetch("SELECT count(*) FROM ml_outcome_rows")
            if row[0] > 100 * len(killed) and len(killed) < 2 and one.pid not in killed:
                await asyncio.sleep(rng.uniform(0, 0.05))
                killed.append(one.pid)
                os.kill(one.pid, signal.SIGKILL)
            await asyncio.sleep(0.02)
    assert len(killed) == 2
    (rows_,) = await pool.fetch("SELECT count(*), count(exit_code) FROM ml_outcome_rows")
    (exits,) = await pool.fetch("SELECT sum(signals) FROM ml_exit_counts")
    (trades,) = await pool.fetch("SELECT count(*) FROM ml_trades")
    assert rows_[0] == 4 * 249
    assert rows_[1] == exits[0] == trades[0] > 0


async def test_a_worker_leaves_serving_its_share_of_the_time(monkeypatch):
    async def settle(*_, **__):
        await asyncio.sleep(0.02)
        return Pass(1, (), ())

    monkeypatch.setattr(tracking.outcomes, "settle", settle)
    one = Tracking("", FEES, share=0.25)
    one.look_at((f"S{i}USDT", 900_000) for i in range(3 * tracking.SERIES_MAX))
    begin = time.monotonic()
    await one._settle([None])
    assert time.monotonic() - begin >= 3 * 0.02 / 0.25
    assert (one.forecasts, one.waiting) == (3, 0)


async def test_a_connection_that_breaks_costs_nothing_but_time(pool, dsn, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "BACKOFF_MIN_S", 0.05)
    candles = walk(80, seed=3)
    given = told(candles, seed=4)
    await write(pool, candles.take(np.arange(40)), given.part(0, 40))
    async with asyncio.timeout(LIMIT_S), Tracking(dsn, FEES, gather_s=0) as follower:
        await follower.caught_up()
        await pool.fetch("ALTER TABLE ml_accuracy_counts RENAME TO gone")
        await write(pool, candles.take(np.arange(40, 80)), given.part(40, 80))
        follower.look_at([("BTCUSDT", 900_000)])
        await until(lambda: follower.failure is not None)
        assert await known(pool) == [39, 36, 24, 0]  # not a part of a pass is written
        await pool.fetch("ALTER TABLE gone RENAME TO ml_accuracy_counts")
        await follower.caught_up()
    assert await known(pool) == [79, 76, 64, 32]
    assert "outcomes wait" in caplog.text
