"""What came after forecasts, by the real PostgreSQL, against labels and the simulator that training uses."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from candlecast import outputs
from candlecast.store import outcomes, records
from candlecast.store.batch import Batch
from candlecast.store.outcomes import CANDLES_MIN
from candlecast.store.records import Origin
from candlecast.store.writer import Writer
from candlecast.training import labels
from candlecast.training.simulator import Bars, Exit, Rules, Signals, simulate
from candlecast.values import Candles
from tests.integration.conftest import FEATURES, INTERVAL_MS, MODEL, START_MS, STATES, forecasts

FEES = 0.001


def walk(count, *, symbol="BTCUSDT", seed=0, start_ms=START_MS):
    """Candles of a random walk that jumps between bars, too, so that opens pass stops and takes."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, count)))
    open_ = np.roll(close, 1) * np.exp(rng.normal(0, 0.004, count))
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.003, count)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.003, count)))
    values = np.column_stack([open_, high, low, close, np.ones(count), *[np.full(count, np.nan)] * 3])
    times = start_ms + INTERVAL_MS * np.arange(count, dtype=np.int64)
    return Candles([symbol] * count, np.full(count, INTERVAL_MS), times, values, np.zeros(count, dtype=np.bool_))


def told(candles, *, seed=0, model=MODEL):
    """A forecast at the close of each candle, a third LONG, a third SHORT."""
    given = forecasts(len(candles), symbol=candles.names[0], seed=seed, model=model)
    rng = np.random.default_rng(seed + 1)
    return replace(
        given,
        close_time_ms=candles.open_time_ms + INTERVAL_MS,
        close=candles.values[:, 3],
        direction=rng.integers(-1, 2, len(candles)).astype(np.int8),
    )


async def write(pool, candles=None, given=None):
    """Store rows as the drain does."""
    async with pool.connection() as connection:
        writer = await Writer.on(connection)
        data = records.candles(candles, 1).tobytes() if candles is not None else b""
        origin = Origin.of(given.model, len(FEATURES), STATES) if given is not None else None
        forecast_data = records.predictions(given, FEATURES).tobytes() if given is not None else b""
        assert await writer.write(Batch(data, forecast_data, (), origin)) == []


async def settle(pool, *series, candles_max=10_000, sure_s=outcomes.SURE_S):
    async with pool.connection() as connection:
        await outcomes.prepare(connection)
        return await outcomes.settle(
            connection, series or [("BTCUSDT", INTERVAL_MS)], FEES, candles_max=candles_max, sure_s=sure_s
        )


async def rows(pool, what="*", symbol="BTCUSDT"):
    return await pool.fetch(f"SELECT {what} FROM ml_outcomes WHERE symbol = $1 ORDER BY close_time", symbol)


async def test_returns_directions_hits_and_errors_are_those_of_the_labels_of_training(pool):
    candles = walk(200)
    given = told(candles)
    await write(pool, candles, given)
    done = await settle(pool)
    assert (done.forecasts, done.unfinished, done.stuck) == (199, (), ())
    stored = await rows(pool)
    _, high, low, close = candles.values[:, :4].T
    wanted = labels.label(candles.open_time_ms, INTERVAL_MS, high, low, close)
    said = given.meaning.probabilities.argmax(axis=2)
    for h, bars in enumerate(outputs.HORIZON_BARS):
        actual = np.array([row[f"actual_return_{bars}"] or math.nan for row in stored])
        assert np.isfinite(actual).sum() == 200 - bars
        np.testing.assert_array_equal(actual[wanted.at].astype(np.float32), wanted.returns[:, h])
        came = [outputs.CLASSES[c] for c in wanted.directions[:, h]]
        assert [stored[i][f"actual_direction_{bars}"] for i in wanted.at] == came
        hits = [stored[i][f"hit_{bars}"] for i in wanted.at]
        assert hits == (said[wanted.at, h] == wanted.directions[:, h]).tolist()
        error = np.array([stored[i][f"error_{bars}"] for i in wanted.at])
        np.testing.assert_allclose(error, wanted.returns[:, h] - given.outputs[wanted.at, h], rtol=1e-5, atol=1e-6)
    assert all(row["hit_48"] is None for row in stored[200 - 48 :])


def simulated(candles, given, kept):
    """Each forecast's trade by the simulator of training: a symbol for each, with that one signal."""
    count = len(candles)
    columns = np.where(kept[:, None], candles.values[:, :4], np.nan)
    open_, high, low, close = (np.repeat(column[:, None], count, axis=1) for column in columns.T)
    bars = Bars(tuple(map(str, range(count))), INTERVAL_MS, candles.open_time_ms, open_, high, low, close)
    side = np.diag(given.direction)
    stop, take = (
        np.repeat(column[None], count, axis=0) for column in (given.meaning.stop_loss, given.meaning.take_profit)
    )
    outcome = simulate(bars, Signals(side.astype(np.int8), np.ones(side.shape), stop, take), Rules(fees=0, slippage=0))
    return {int(trade.symbol[0]): trade for trade in map(outcome.trades.take, np.arange(len(outcome.trades))[:, None])}


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "with gaps"])
async def test_stops_and_takes_are_those_of_the_backtest(pool, gaps):
    candles = walk(260, seed=3)
    given = told(candles, seed=5)
    kept = np.ones(len(candles), dtype=bool)
    if gaps:
        kept[np.random.default_rng(1).choice(np.arange(1, 250), 50, replace=False)] = False
    given = given.part(0, len(given))
    await write(pool, candles.take(kept), given)
    await settle(pool, sure_s=-1)
    trades, stored, seen = simulated(candles, given, kept), await rows(pool), {}
    last = len(candles) - 1
    for i, row in enumerate(stored):
        if given.direction[i] == 0:
            assert row["exit_reason"] is None
        elif i < last and not kept[i + 1]:
            assert (row["exit_reason"], row["exit_return"]) == ("NO_ENTRY", None)
            assert i not in trades
        elif i not in trades or trades[i].why[0] == Exit.END:
            assert row["exit_reason"] is None  # not known yet
        else:
            trade = trades[i]
            assert row["exit_reason"] == Exit(int(trade.why[0])).name
            wanted = trade.side[0] * (trade.exit[0] / trade.entry[0] - 1)
            assert row["exit_return"] == pytest.approx(wanted, rel=1e-6, abs=1e-9)
            assert row["exit_bars"] == trade.exit_bar[0] - trade.entry_bar[0] + 1
        seen[row["exit_reason"]] = seen.get(row["exit_reason"], 0) + 1
    assert {"STOP", "TAKE", "TIME"} <= set(seen), seen
    assert all(seen[reason] > 3 for reason in ("STOP", "TAKE"))


async def test_many_small_passes_while_candles_arrive_give_what_one_gives(pool):
    candles, other = walk(300, seed=7), walk(300, seed=7, symbol="ETHUSDT")
    given, alike = told(candles, seed=9), replace(told(other, seed=9), symbol=["ETHUSDT"] * 300)
    series = [("BTCUSDT", INTERVAL_MS), ("ETHUSDT", INTERVAL_MS)]
    for start in range(0, 300, 15):
        some = np.arange(start, start + 15)
        await write(pool, candles.take(some), given.part(start, start + 15))
        await settle(pool, series[0])
    await write(pool, other, alike)
    left = [series[1]]
    passes = 0
    while left:
        done = await settle(pool, *left, candles_max=CANDLES_MIN, sure_s=-1)
        left, passes = list(done.unfinished), passes + 1
        assert done.stuck == ()
    assert passes > 3
    columns = [name for name in dict((await rows(pool))[0]) if name != "symbol"]
    one_by_one, at_once = [
        [tuple(row[name] for name in columns) for row in await rows(pool, symbol=symbol)] for symbol, _ in series
    ]
    assert one_by_one == at_once
    for view in ("ml_accuracy_by_symbol_and_day", "ml_exit_counts", "ml_trades", "ml_positions"):
        first, second = [
            [
                tuple(round(v, 9) if isinstance(v, float) else v for n, v in row.items() if n not in ("symbol", "key"))
                for row in await pool.fetch(f"SELECT * FROM {view} WHERE symbol = $1", symbol)
            ]
            for symbol, _ in series
        ]
        assert sorted(map(repr, first)) == sorted(map(repr, second))
        assert first, view
    before = await pool.fetch("SELECT * FROM ml_accuracy")
    assert (await settle(pool, *series)).forecasts == 0
    assert await pool.fetch("SELECT * FROM ml_accuracy") == before


async def test_each_of_several_models_that_spoke_of_a_close_gets_its_own(pool):
    candles = walk(70, seed=31)
    others = (MODEL, replace(MODEL, version=4), replace(MODEL, name="ensemble of ä", version=2_000_000_000))
    given = [told(candles, seed=33 + i, model=model) for i, model in enumerate(others)]
    for start, stop in ((0, 20), (20, 40), (40, 70)):  # so that rows are there already, and lack something
        await write(pool, candles.take(np.arange(start, stop)))
        for one in given:
            await write(pool, None, one.part(start, stop))
        await settle(pool)
    stored = await pool.fetch("SELECT * FROM ml_outcomes ORDER BY version, close_time")
    assert len(stored) == 3 * 70
    _, high, low, close = candles.values[:, :4].T
    wanted = labels.label(candles.open_time_ms, INTERVAL_MS, high, low, close)
    for i, one in enumerate(given):
        rows_ = stored[70 * i : 70 * (i + 1)]
        assert {(row["model"], row["version"]) for row in rows_} == {(others[i].name, others[i].version)}
        said = one.meaning.probabilities.argmax(axis=2)
        for h, bars in enumerate(outputs.HORIZON_BARS):
            hits = [rows_[k][f"hit_{bars}"] for k in wanted.at]
            assert hits == (said[wanted.at, h] == wanted.directions[:, h]).tolist()
            assert sum(row[f"hit_{bars}"] is not None for row in rows_) == 70 - bars
    counted = await pool.fetch("SELECT version, forecasts FROM ml_accuracy WHERE horizon_bars = 1 ORDER BY 1")
    assert [tuple(row) for row in counted] == [(model.version, 69) for model in others]


async def mark(pool):
    """Return the number of the last candle whose forecast is done with."""
    found = await pool.fetch("SELECT settled_to FROM ml_outcome_marks")
    return round((found[0][0].timestamp() * 1000 - START_MS) / INTERVAL_MS) - 1 if found else None


async def test_what_is_missing_is_waited_for_and_then_given_up(pool):
    candles = walk(160, seed=11)
    given = told(candles)
    kept = np.ones(160, dtype=bool)
    kept[[20, 130]] = False
    await write(pool, candles.take(kept), given.part(0, 100))
    assert (await settle(pool, candles_max=CANDLES_MIN)).stuck == (("BTCUSDT", INTERVAL_MS),)
    assert await mark(pool) is None  # no candle has been here for a minute
    # One candle, and forecasts of a model that was away, come after newer candles; the other one never comes.
    await write(pool, candles.take(np.array([20])), given.part(100, 160))
    await settle(pool)
    stored = await rows(pool)
    assert stored[19]["actual_return_1"] == pytest.approx(candles.values[20, 3] / candles.values[19, 3] - 1, rel=1e-6)
    known = [sum(row[f"hit_{bars}"] is not None for row in stored) for bars in outputs.HORIZON_BARS]
    assert known == [160 - bars - 1 for bars in outputs.HORIZON_BARS]
    assert await mark(pool) is None
    await settle(pool, sure_s=-1)
    assert await mark(pool) == 159 - 48


async def test_accuracy_is_that_of_the_rows_beside_their_base_rates(pool):
    candles, given = walk(600, seed=13), None
    given = told(candles, seed=15)
    await write(pool, candles, given)
    await settle(pool)
    _, high, low, close = candles.values[:, :4].T
    came = labels.label(candles.open_time_ms, INTERVAL_MS, high, low, close)
    (row,) = await pool.fetch("SELECT * FROM ml_accuracy WHERE horizon_bars = 48")
    classes, p = came.directions[:, 3], given.meaning.probabilities[came.at, 3].astype(np.float32).astype(float)
    share = np.bincount(classes, minlength=3) / len(classes)
    of_came = p[np.arange(len(classes)), classes]
    assert row["forecasts"] == len(came.at) == 552
    assert row["hit_rate"] == pytest.approx((p.argmax(axis=1) == classes).mean())
    assert row["base_rate"] == pytest.approx(share.max())
    assert row["log_loss"] == pytest.approx(-np.log(of_came).mean())
    base = -(share[share > 0] * np.log(share[share > 0])).sum()
    assert row["base_log_loss"] == pytest.approx(base)
    assert row["skill"] == pytest.approx(1 - row["log_loss"] / base)
    assert row["brier"] == pytest.approx(((p - np.eye(3)[classes]) ** 2).sum(axis=1).mean())
    assert row["base_brier"] == pytest.approx(1 - (share**2).sum())
    moved = classes != labels.NEUTRAL
    sides = (p[:, 1] > p[:, 0]) == (classes == labels.SHORT)
    assert row["side_hit_rate"] == pytest.approx(sides[moved].mean())
    error = came.returns[:, 3] - given.outputs[came.at, 3]
    assert row["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert row["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert row["bias"] == pytest.approx(error.mean(), rel=1e-5)
    bins = await pool.fetch("SELECT * FROM ml_calibration WHERE horizon_bars = 48 ORDER BY confidence_from")
    top = p.max(axis=1)
    for found in bins:
        inside = np.floor(top * 20) == round(found["confidence_from"] * 20)
        assert found["forecasts"] == inside.sum()
        assert found["mean_confidence"] == pytest.approx(top[inside].mean())
        assert found["hit_rate"] == pytest.approx((p.argmax(axis=1) == classes)[inside].mean())
    assert sum(found["forecasts"] for found in bins) == 552


async def test_outputs_that_are_not_finite_have_returns_and_no_hit(pool):
    candles, given = walk(60, seed=17), None
    given = told(candles)
    given.meaning.confidence[:] = np.nan
    given.outputs[:, :] = np.nan
    await write(pool, candles, replace(given, direction=np.zeros(60, dtype=np.int8)))
    await settle(pool)
    first = (await rows(pool))[0]
    assert first["actual_return_48"] is not None
    assert (first["hit_48"], first["error_48"]) == (None, None)
    assert await pool.fetch("SELECT * FROM ml_accuracy") == []


async def test_what_a_shadow_says_is_judged_and_is_no_signal_of_ours(pool):
    candles = walk(80, seed=27)
    await write(pool, candles, told(candles, seed=29))
    await pool.fetch("UPDATE ml_prediction_rows SET shadow = true")
    await settle(pool)
    assert (await pool.fetch("SELECT sum(forecasts) FROM ml_accuracy WHERE horizon_bars = 1"))[0][0] == 79
    assert (await pool.fetch("SELECT sum(signals) FROM ml_exit_counts"))[0][0] > 0
    assert await pool.fetch("SELECT * FROM ml_strategy_signals") == []
    assert await rows(pool) == []


async def test_the_servers_own_signals_are_logged_at_once_and_closed_when_their_end_is_known(pool):
    candles = walk(40, seed=19)
    given = told(candles, seed=21)
    given.direction[:] = [1] + [0] * 39
    given.meaning.stop_loss[:], given.meaning.take_profit[:] = 0.005, 0.05
    candles.values[2, :4] = [100, 101, 50, 60]  # through the stop, whatever it is
    candles.values[1, :4] = [100, 100.1, 99.9, 100]
    given.close[0] = 99.0
    given.size_multiplier[0] = 1.5
    await write(pool, candles.take(np.array([0])), given.part(0, 1))
    await settle(pool)
    (position,) = await pool.fetch("SELECT * FROM ml_positions")
    assert (position["strategy"], position["side"], position["entry_price"]) == ("candlecast", "LONG", 99.0)
    assert position["size"] == pytest.approx(1.5 / 99)
    assert position["prediction_close_time"] == datetime.fromtimestamp(given.close_time_ms[0] / 1000, UTC)
    await write(pool, candles.take(np.array([1])))
    await settle(pool)
    (position,) = await pool.fetch("SELECT * FROM ml_positions")
    assert position["entry_price"] == 100.0  # the next open, now that it is known
    await write(pool, candles.take(np.array([2])))
    await settle(pool)
    assert await pool.fetch("SELECT * FROM ml_positions") == []
    (trade,) = await pool.fetch("SELECT * FROM ml_trades")
    size = 1.5 / 99
    assert (trade["exit_reason"], trade["exit_price"]) == ("STOP", 99.5)
    assert trade["fees"] == pytest.approx(0.001 * size * (100 + 99.5))
    assert trade["pnl"] == pytest.approx((99.5 - 100) * size - trade["fees"])
    assert trade["is_winner"] is False
    assert trade["exit_time"] == datetime.fromtimestamp((candles.open_time_ms[2] + INTERVAL_MS) / 1000, UTC)
    stale = {row[0] for row in await pool.fetch("SELECT day FROM ml_strategy_stale WHERE strategy = 'candlecast'")}
    assert trade["exit_time"].date() in stale


async def test_changes_are_written_without_reading_the_month_they_are_of(pool):
    async with pool.connection() as connection:
        await outcomes.prepare(connection)
        await connection.execute("SELECT create_month_partitions('ml_outcome_rows', ARRAY['2024-01-01'::date])")
        plan = await connection.fetch("EXPLAIN " + outcomes.STATEMENTS["outcome_write"])
    said = [row[0] for row in plan]
    assert [line.strip().partition("  (")[0] for line in said if "Scan" in line] == ["->  Seq Scan on outcome_change"]
    assert any("Conflict Resolution: UPDATE" in line for line in said)
