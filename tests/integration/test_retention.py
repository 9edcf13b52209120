"""`candlecast retention`: what is old goes into files row for row, and no interruption loses or doubles a row."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime
from operator import itemgetter
from pathlib import Path

import asyncpg
import numpy as np
import polars as pl
import pytest

from candlecast import candle_files
from candlecast.cli import main
from candlecast.errors import CandlecastError, StorageUnavailable
from candlecast.store import outcomes, retention
from candlecast.store.pool import open_pool
from candlecast.store.retention import Part, month_after
from tests.integration.conftest import INTERVAL_MS, START_MS, candles, flow_records, forecasts
from tests.recorders import Store
from tests.stack import CANDLECAST

OLD = date(2023, 11, 1)  # of START_MS
KEPT = {"candles": 3, "ml_predictions": 3, "order_flow_features": 3}
ROWS = 300


@pytest.fixture
async def stored(dsn, pool):
    """Candles, forecasts and order flow of 2023-11, and a few candles of now."""
    now_ms = int(datetime.now(UTC).timestamp()) // 900 * 900_000 - 10 * INTERVAL_MS
    with tempfile.TemporaryDirectory() as directory:
        async with Store(Path(directory), pool) as store:
            await store.record(candles(ROWS), forecasts(ROWS))
            await store.record(candles(5, start_ms=now_ms, seed=1), None)
            await store.recorder.record_flow(flow_records(50))
            await store.caught_up()
    return dsn


@pytest.fixture
async def connection(stored):
    async with open_pool(stored, connections_max=1) as pool, pool.connection() as connection:
        yield connection


async def parts(connection):
    return (await retention.plan(connection, KEPT, 0, datetime.now(UTC).date())).old


async def tables(connection):
    """Return the partitions and what they became, with their rows."""
    names = await connection.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
        r" AND relname ~ '_\d{4}_\d{2}' ORDER BY 1"
    )
    return {name: (await connection.fetch(f"SELECT count(*) FROM {name}"))[0][0] for (name,) in names}


async def command(dsn, capsys, directory, *flags):
    arguments = ["retention", "--json", "--database-url", dsn, "--archive-dir", str(directory), *flags]
    code = await asyncio.to_thread(main, arguments)
    said = capsys.readouterr()
    return code, json.loads(said.out) if code == 0 else said.err


async def test_old_months_are_in_files_row_for_row_and_gone_from_their_tables(
    stored, pool, tmp_path, monkeypatch, capsys
):
    for name in ("CANDLES", "PREDICTIONS", "FLOW"):
        monkeypatch.setenv(f"CANDLECAST_RETENTION_{name}_MONTHS", "3")
    monkeypatch.setattr(retention, "ARCHIVE_ROWS", 128)  # several parts
    async with pool.connection() as own:
        await outcomes.prepare(own)
        await outcomes.settle(own, [("BTCUSDT", INTERVAL_MS)], 0, candles_max=1_000)
    keys = {"candles": "open_time", "ml_predictions": "close_time", "order_flow_features": "ts"}
    before = {name: await pool.fetch(f"SELECT * FROM {name} WHERE {key} < '2023-12-01'") for name, key in keys.items()}
    assert sum(row["hit_48"] is not None for row in before["ml_predictions"]) == ROWS - 48
    recent = await pool.fetch("SELECT count(*) FROM candles WHERE open_time > '2024-01-01'")

    code, planned = await command(stored, capsys, tmp_path / "a", "--dry-run")
    assert code == 0 and [one["table"] for one in planned["months"]] == list(retention.TABLES)
    assert not (tmp_path / "a").exists()
    assert [len(await pool.fetch(f"SELECT FROM {name}")) for name in retention.TABLES] == [ROWS + 5, ROWS, 50]

    code, done = await command(stored, capsys, tmp_path / "a")
    assert code == 0 and [one["rows"] for one in done["months"]] == [ROWS, ROWS, 50]
    for name, rows in before.items():
        file = pl.read_parquet(tmp_path / "a" / f"{name}_2023_11.parquet")
        assert file.sort(keys[name]).rows() == [tuple(row) for row in sorted(rows, key=itemgetter(keys[name]))]
    assert not [name for name in await tables(pool) if "2023_11" in name]
    assert await pool.fetch("SELECT count(*) FROM candles") == recent == [(5,)]
    ahead = {f"{month_after(datetime.now(UTC).date(), n):candles_%Y_%m}" for n in range(3)}
    assert {row[0] for row in await pool.fetch("SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE inhparent = 'candles'::regclass")} == ahead  # fmt: skip

    code, again = await command(stored, capsys, tmp_path / "a")
    assert (code, again["months"], again["made_ahead"]) == (0, [], [])
    read = candle_files.read(tmp_path / "a" / "candles_2023_11.parquet")
    np.testing.assert_array_equal(read.values, candles(ROWS).values)
    assert read.open_time_ms[0] == START_MS


@pytest.mark.parametrize("step", ["archive", "verify", "drop"])
async def test_a_run_that_ends_in_the_middle_is_finished_by_the_next_without_a_row_lost_or_doubled(
    connection, tmp_path, monkeypatch, step
):
    part = next(part for part in await parts(connection) if part.table == "candles")
    broken = {"archive": "_sum", "verify": "_verify", "drop": None}[step]
    retired = await retention.retire(connection, part)
    with monkeypatch.context() as patch, pytest.raises((RuntimeError, CandlecastError)):
        if broken:

            def fail(*_):
                raise RuntimeError("killed")

            patch.setattr(retention, broken, fail)
        await retention.archive(connection, retired, tmp_path)
        raise RuntimeError("killed")
    assert (await tables(connection))[retired.name] == ROWS
    (tmp_path / f".{part.name}.parquet.4711.part").write_bytes(b"half")  # as kill -9 leaves it

    (left,) = [part for part in await parts(connection) if part.table == "candles"]
    assert left == Part("candles", OLD, retired.name, left.bytes, True)
    retention.make_room(tmp_path, 0)
    assert await retention.retire(connection, left) == left
    assert (await retention.archive(connection, left, tmp_path)).rows == ROWS
    await retention.drop(connection, left)
    assert [path.name for path in tmp_path.iterdir()] == ["candles_2023_11.parquet"]
    assert len(pl.read_parquet(tmp_path / "candles_2023_11.parquet")) == ROWS
    assert not [part for part in await parts(connection) if part.table == "candles"]


async def test_a_month_of_forecasts_goes_with_its_outcomes_and_one_from_before_they_were_apart_as_it_is(
    connection, pool, tmp_path
):
    old = "retired_ml_predictions_2023_10_1"
    await pool.fetch(f"CREATE TABLE {old} AS SELECT * FROM ml_predictions LIMIT 10")
    left, forecasts_ = [part for part in await parts(connection) if part.table == "ml_predictions"]
    assert (left.name, left.month, left.retired) == (old, date(2023, 10, 1), True)
    retired = await retention.retire(connection, forecasts_)
    assert {name.rpartition("_")[0] for name in await tables(connection) if name.startswith("retired_ml")} == {
        old.rpartition("_")[0], "retired_ml_prediction_rows_2023_11", "retired_ml_outcome_rows_2023_11",
    }  # fmt: skip
    for part, rows in ((retired, ROWS), (left, 10)):
        assert (await retention.archive(connection, part, tmp_path)).rows == rows
        await retention.drop(connection, part)
    assert not [name for name in await tables(connection) if "ml_" in name]
    columns = [pl.read_parquet_schema(tmp_path / f"ml_predictions_2023_{month}.parquet") for month in (10, 11)]
    assert columns[0] == columns[1]


@pytest.mark.parametrize("where", ["_sum", "_verify"])
async def test_kill_9_while_a_file_is_written_or_before_the_drop_costs_no_row(stored, pool, tmp_path, where):
    program = f"""
import os, sys
from candlecast.cli import main
from candlecast.store import outcomes, retention
retention.{where} = lambda *_: os.kill(os.getpid(), 9)
sys.exit(main(["retention", "--archive-dir", sys.argv[1]]))"""
    environment = os.environ | {"DATABASE_URL": stored, "CANDLECAST_RETENTION_CANDLES_MONTHS": "3"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    killed = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, timeout=60)
    assert killed.returncode == -9
    (left,) = [name for name in await tables(pool) if name.startswith("retired")]
    assert await pool.fetch(f"SELECT count(*) FROM {left}") == [(ROWS,)]
    done = await asyncio.to_thread(
        subprocess.run, [*CANDLECAST, "retention", "--archive-dir", tmp_path], env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["candles_2023_11.parquet"]
    assert pl.read_parquet(tmp_path / "candles_2023_11.parquet")["open_time"].n_unique() == ROWS
    assert not [name for name in await tables(pool) if name.startswith("retired")]


async def test_a_file_that_is_not_what_was_written_keeps_its_month(connection, tmp_path, monkeypatch):
    retired = await retention.retire(connection, (await parts(connection))[0])
    write = retention.tables.write

    def write_less(out, schema, *more):
        write(out, schema, *more)
        pl.read_parquet(out).with_columns(close=pl.lit(1.0)).write_parquet(out)

    monkeypatch.setattr(retention.tables, "write", write_less)
    with pytest.raises(CandlecastError, match="its month is kept"):
        await retention.archive(connection, retired, tmp_path)
    assert (await tables(connection))[retired.name] == ROWS


async def test_rows_that_come_late_get_a_partition_and_then_a_file_of_their_own(connection, pool, tmp_path):
    first = await retention.retire(connection, (await parts(connection))[0])
    async with Store(tmp_path / "journal", pool) as store:  # while the month is out, and not dropped yet
        await store.record(candles(7, symbol="ETHUSDT"), None)
        await store.caught_up()
    assert (await retention.archive(connection, first, tmp_path)).file.name == "candles_2023_11.parquet"
    await retention.drop(connection, first)
    second = await retention.retire(connection, (await parts(connection))[0])
    done = await retention.archive(connection, second, tmp_path)
    assert (done.file.name, done.rows) == ("candles_2023_11.2.parquet", 7)
    assert len(pl.read_parquet(tmp_path / "candles_2023_11.parquet")) == ROWS


async def test_a_month_in_use_is_left_and_a_second_run_at_once_refused(connection, stored, monkeypatch):
    monkeypatch.setattr(retention, "LOCK_TIMEOUT_MS", 20)
    monkeypatch.setattr(retention, "LOCK_ATTEMPTS_MAX", 2)
    monkeypatch.setattr(retention, "LOCK_PAUSE_S", 0.01)
    part = (await parts(connection))[0]
    other = await asyncpg.connect(stored)
    try:
        async with other.transaction():
            await other.fetch("SELECT FROM candles LIMIT 1")
            with pytest.raises(StorageUnavailable, match="is in use"):
                await retention.retire(connection, part)
        assert (await parts(connection))[0] == part
        await retention.begin(connection)
        with pytest.raises(CandlecastError, match="under way"):
            await retention.begin(other)
    finally:
        await other.close()


async def test_without_room_nothing_begins(tmp_path):
    with pytest.raises(CandlecastError, match="make room"):
        retention.make_room(tmp_path, 1 << 60)
    (tmp_path / "file").touch()
    with pytest.raises(CandlecastError, match="cannot be written"):
        retention.make_room(tmp_path / "file", 0)


def test_months_are_counted_over_years():
    assert [month_after(date(2024, 1, 1), n) for n in (-13, -1, 0, 11, 12)] == [
        date(2022, 12, 1), date(2023, 12, 1), date(2024, 1, 1), date(2024, 12, 1), date(2025, 1, 1),
    ]  # fmt: skip
