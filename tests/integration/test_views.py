"""The views that dashboards read: what is counted while it is written is what counting afterwards would give."""

import re
from datetime import UTC, date, datetime

import pytest

from candlecast.settings import CHECKOUT
from candlecast.store import views
from candlecast.store.performance import refresh
from tests.integration.conftest import INTERVAL_MS, START_MS, candles
from tests.integration.test_outcomes import settle, told, walk, write

SINCE, UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
ARGUMENTS = {
    "newest_forecasts": (10,),
    "candles_of_symbol": ("BTCUSDT", INTERVAL_MS, UNTIL, 5),
    "intervals_of_symbol": ("BTCUSDT",),
    "forecasts_of_symbol": ("BTCUSDT", INTERVAL_MS, SINCE, UNTIL, 5),
    "forecasts_per_hour": (SINCE, UNTIL),
    "confidence_distribution": (SINCE,),
    "reasons": (SINCE,),
    "latency_hours": (SINCE,),
    "missed": (SINCE,),
    "models": (5, 0),
    "newest_version": ("patchtst",),
    "trainings": (5, 0),
    "training": ("00000000-0000-0000-0000-000000000000",),
    "top_features": (None, None, 5),
    "importance_history": ("rsi_14", None, 5),
    "feature_definition": ("rsi_14",),
    "newest_rows": (5, UNTIL),
    "model_history": (5,),
    "trades_of_symbol": ("BTCUSDT", SINCE, UNTIL, 5),
    "strategy_days": (["candlecast"],),
    "strategy_symbols": ("candlecast", 5, 0),
    "strategy_trades": ("candlecast", 5),
    "strategy_positions": ("candlecast", 5),
    "signal_quality": ("candlecast",),
} | {
    name: ("patchtst", 3, INTERVAL_MS, date(2020, 1, 1))
    for name in ("accuracy_horizons", "calibration", "accuracy_days", "exits")
}


@pytest.fixture
async def filled(pool):
    """Two symbols with forecasts, outcomes and the server's own signals."""
    for seed, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        bars = walk(120, symbol=symbol, seed=seed)
        await write(pool, bars, told(bars, seed=seed))
        await settle(pool, (symbol, INTERVAL_MS))
    return pool


@pytest.mark.parametrize("name", sorted(views.VIEWS))
async def test_every_statement_of_the_pages_runs_on_real_rows_and_on_none(pool, name):
    await views.rows(pool, name, *ARGUMENTS.get(name, ()))


async def test_statements_read_views_alone(pool):
    tables = {row[0] for row in await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")}
    for name, statement in views.VIEWS.items():
        read = set(re.findall(r"(?:FROM|JOIN)\s+([a-z_]+)", statement))
        assert not read & tables, f"{name} reads a table"


async def test_forecasts_are_counted_once_however_often_they_are_written(pool):
    given = told(candles(300))
    await write(pool, None, given)  # by COPY
    await write(pool, None, given)
    await write(pool, None, told(candles(10)))  # as parameters
    (day,) = await pool.fetch(
        "SELECT sum(forecasts) AS n, sum(signals) AS signals, sum(longs) AS longs, sum(gap_filled) AS gaps,"
        " sum(mean_confidence * forecasts) AS confidence, sum(nan_features) AS nans FROM ml_predictions_per_day"
    )
    (row,) = await pool.fetch(
        "SELECT count(*) AS n, count(*) FILTER (WHERE direction <> 'NEUTRAL') AS signals,"
        " count(*) FILTER (WHERE direction = 'LONG') AS longs, count(*) FILTER (WHERE gap_filled) AS gaps,"
        " sum(confidence) AS confidence, sum(nan_count) AS nans FROM ml_predictions"
    )
    assert dict(day) == pytest.approx(dict(row))
    assert row["n"] == 300
    found = await pool.fetch("SELECT reason, forecasts FROM ml_reasons_per_day")
    unnested = await pool.fetch("SELECT r, count(*) FROM ml_predictions, unnest(reasons) AS r GROUP BY 1")
    counted = {}
    for reason, n in found:
        counted[reason] = counted.get(reason, 0) + n
    assert counted == dict(map(tuple, unnested))


async def test_percentiles_of_latency_are_at_most_a_fifth_above_the_stages(pool):
    await write(pool, None, told(candles(20)))  # stages 1 to 5 µs, 15 in all
    found = {row["stage"]: row for row in await views.rows(pool, "latency_hours", SINCE)}
    assert set(found) == {*views.STAGES, "total"}
    for stage, us in (*zip(views.STAGES, (1, 2, 3, 4, 5), strict=True), ("total", 15)):
        for name in ("p50_us", "p95_us", "p99_us"):
            assert us <= found[stage][name] <= (us + 1) * 2**0.25 - 1 + 1e-9
        assert found[stage]["forecasts"] == 20


async def test_what_was_stored_before_the_views_came_is_counted_by_the_migration(filled):
    for table in ("ml_prediction_hours", "ml_reason_hours", "ml_latency_hours", "ml_accuracy_days"):
        columns = "sum(forecasts), count(*)"
        before = await filled.fetch(f"SELECT {columns} FROM {table}")
        await filled.fetch(f"DELETE FROM {table}")
        for file in ("0020_views.sql", "0020_views_of_outcomes.sql"):
            text = (CHECKOUT / "migrations" / file).read_text()
            for statement in re.findall(rf"^INSERT INTO {table}\b.*?;", text, re.DOTALL | re.MULTILINE):
                await filled.fetch(statement)
        assert await filled.fetch(f"SELECT {columns} FROM {table}") == before


async def test_accuracy_over_all_symbols_is_the_sum_of_the_symbols_also_when_outcomes_come_late(pool):
    bars = walk(300)
    await write(pool, bars, told(bars))
    await settle(pool, candles_max=120)
    await settle(pool)  # adds to counts that are there
    sums = "sum(forecasts) AS n, sum(hits) AS hits, sum(log_loss) AS loss, sum(error_size) AS error"
    (days,) = await pool.fetch(f"SELECT {sums} FROM ml_accuracy_days")
    (counts,) = await pool.fetch(f"SELECT {sums} FROM ml_accuracy_counts")
    assert dict(days) == pytest.approx(dict(counts))
    assert counts["n"] > 1_000
    for view in ("ml_accuracy", "ml_accuracy_by_day"):
        (read,) = await pool.fetch(f"SELECT sum(forecasts) AS n, sum(hit_rate * forecasts) AS hits FROM {view}")
        assert dict(read) == pytest.approx({"n": counts["n"], "hits": counts["hits"]})
    rows = await views.rows(pool, "accuracy_horizons", "patchtst", 3, INTERVAL_MS, date(2020, 1, 1))
    assert [row["horizon_bars"] for row in rows] == [1, 4, 16, 48]
    assert all(0 <= row["hit_rate"] <= 1 and row["base_rate"] >= 1 / 3 for row in rows)


async def test_signals_become_trades_and_risk(filled):
    await refresh(filled)
    (found,) = await filled.fetch(
        "SELECT sum(signals) AS signals, sum(opened) AS opened, sum(closed) AS closed FROM ml_signal_conversion"
        " WHERE strategy IN ('', 'candlecast')"
    )
    (told_,) = await filled.fetch("SELECT count(*) FROM ml_predictions WHERE direction <> 'NEUTRAL'")
    assert found["signals"] == told_[0]
    assert 0 < found["closed"] <= found["opened"] <= found["signals"]
    risk = await views.rows(filled, "strategy_days", ["candlecast"])
    assert risk and all(row["fall_from_peak"] >= -1e-9 for row in risk)
    shares = await filled.fetch("SELECT sum(share) FROM ml_stop_take_effectiveness GROUP BY model, day, direction")
    assert all(row[0] == pytest.approx(1) for row in shares)
    trades = await views.rows(filled, "trades_of_symbol", "BTCUSDT", SINCE, UNTIL, 500)
    assert {trade["status"] for trade in trades} <= {"OPEN", "CLOSED"}
    assert any(trade["pnl"] is not None for trade in trades)


async def test_the_newest_forecast_of_each_symbol(filled):
    newest = await views.rows(filled, "newest_forecasts", 10)
    assert [row["symbol"] for row in newest] == ["BTCUSDT", "ETHUSDT"]
    assert {row["close_time_ms"] for row in newest} == {START_MS + 120 * INTERVAL_MS}
    assert len(newest[0]["returns"]) == 4 and len(newest[0]["stages_us"]) == 5


GROWS = r"ml_prediction_rows|ml_outcome_rows|candles|ml_signals|ml_missed_predictions"
"""Tables with a row for every forecast, candle or signal, and their partitions."""


@pytest.mark.parametrize("name", sorted(views.VIEWS))
async def test_no_page_reads_all_of_what_grows(filled, name):
    """Of few rows it would be cheapest to read all: that is made dear, so a plan that still does has no index."""
    async with filled.connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = [row[0] for row in await connection.fetch("EXPLAIN " + views.VIEWS[name], *ARGUMENTS.get(name, ()))]
    read_all = [line for line in plan if re.search(rf"Seq Scan on ({GROWS})", line)]
    assert not read_all, "\n".join(plan)
