import asyncio
import shutil
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from bench.seed_predictions import FORECASTS
from candlecast.errors import ConfigurationError, StorageUnavailable
from candlecast.store import records, retention
from candlecast.store.migrate import MIGRATIONS, check_schema, migrate
from candlecast.store.pool import open_pool
from candlecast.store.writer import INBOXES
from candlecast.values import SYMBOL_BYTES
from tests.integration.conftest import FEATURES, candles, forecasts

NAMES = sorted(path.name for path in MIGRATIONS.glob("*.sql"))


@pytest.fixture
def files(tmp_path):
    """A copy of the migrations."""
    return shutil.copytree(MIGRATIONS, tmp_path / "migrations")


async def fetch(dsn, statement):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def test_each_file_is_applied_once_and_in_order(empty_dsn):
    assert await migrate(empty_dsn) == NAMES
    assert await migrate(empty_dsn) == []
    rows = await fetch(empty_dsn, "SELECT name, length(sha256) FROM schema_migrations ORDER BY applied_at, name")
    assert [tuple(row) for row in rows] == [(name, 64) for name in NAMES]


async def test_of_several_at_once_one_applies_and_the_others_wait(empty_dsn):
    done = await asyncio.gather(*(migrate(empty_dsn) for _ in range(4)))
    assert sorted(done) == [[], [], [], NAMES]


async def test_a_new_file_is_all_that_is_applied(dsn, files):
    (files / "9000_more.sql").write_text("CREATE TABLE more (n integer);")
    assert await migrate(dsn, files) == ["9000_more.sql"]


async def test_a_file_that_fails_leaves_nothing_and_those_before_stay(empty_dsn, files):
    (files / "9000_half.sql").write_text("CREATE TABLE half (n integer); SELECT 1 / 0;")
    with pytest.raises(asyncpg.PostgresError, match="division by zero"):
        await migrate(empty_dsn, files)
    assert (await fetch(empty_dsn, "SELECT to_regclass('half')"))[0][0] is None
    (files / "9000_half.sql").write_text("CREATE TABLE half (n integer);")
    assert await migrate(empty_dsn, files) == ["9000_half.sql"]


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(dsn, files):
    with (files / NAMES[0]).open("a") as file:
        file.write("\n-- a word more\n")
    with pytest.raises(ConfigurationError, match=f"{NAMES[0]} was changed after it was applied"):
        await migrate(dsn, files)


async def test_a_schema_newer_than_the_files_is_refused(dsn, files):
    (files / NAMES[-1]).unlink()
    with pytest.raises(ConfigurationError, match=f"newer than this candlecast: it has {NAMES[-1]}"):
        await migrate(dsn, files)


async def test_a_file_that_comes_before_an_applied_one_is_refused(dsn, files):
    (files / "0000_late.sql").write_text("SELECT 1;")
    with pytest.raises(ConfigurationError, match=f"has {NAMES[0]} where we have 0000_late.sql"):
        await migrate(dsn, files)


async def test_the_check_tells_an_old_schema_from_a_new_one(empty_dsn, files):
    async with open_pool(empty_dsn) as pool:
        with pytest.raises(ConfigurationError, match=f"lacks {NAMES[0]}: run `candlecast migrate`"):
            await check_schema(pool)
        await migrate(empty_dsn)
        await check_schema(pool)
        (files / NAMES[-1]).unlink()
        with pytest.raises(ConfigurationError, match="newer"):
            await check_schema(pool, files)


async def test_no_files_are_a_mistake(empty_dsn, tmp_path):
    with pytest.raises(ConfigurationError, match="holds no migrations"):
        await migrate(empty_dsn, tmp_path)


async def test_what_a_writer_hands_over_has_the_columns_of_the_table(dsn):
    statement = """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
        WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
    """
    translated = {"symbol", "open_time_ms", "close_time_ms", "state", "direction", "strength", "reasons"}
    translated |= {"gate_verdict", "ts_ms"}
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(INBOXES)
        for name, table in (
            ("candle_inbox", "candles"), ("prediction_inbox", "ml_prediction_rows"), ("candle_input", "candles"),
            ("flow_inbox", "order_flow_features"),
        ):  # fmt: skip
            given = {tuple(row) for row in await connection.fetch(statement, name)}
            stored = {tuple(row) for row in await connection.fetch(statement, table)}
            assert given
            assert {column for column, _ in given - stored} <= translated
    finally:
        await connection.close()


async def test_a_record_is_what_postgresql_itself_sends_and_takes(dsn):
    given, bars = forecasts(30), candles(30)
    made = {
        "candle_inbox": records.candles(bars, 1_700_000_000_123_456_789),
        "prediction_inbox": records.predictions(given, FEATURES),
    }
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(INBOXES)
        for inbox, ours in made.items():
            rows = [(symbol.ljust(SYMBOL_BYTES), *others) for symbol, *others in records.rows(ours)]
            sent = bytearray()

            async def take(data, sent=sent):
                sent += data

            async with connection.transaction():
                await connection.copy_records_to_table(inbox, records=rows)
                await connection.copy_from_table(inbox, output=take, format="binary")
            assert bytes(sent) == records.COPY_HEADER + ours.tobytes() + records.COPY_TRAILER
    finally:
        await connection.close()


async def test_a_month_is_created_once_when_many_need_it_at_once(dsn):
    async with open_pool(dsn, connections_max=8) as pool:
        dates = "ARRAY['2017-02-28', '2017-03-01', '1999-12-31']::date[]"
        call = f"SELECT create_month_partitions('candles', {dates})"
        await asyncio.gather(*(pool.fetch(call) for _ in range(16)))
        rows = await pool.fetch("SELECT relid::regclass::text FROM pg_partition_tree('candles') WHERE isleaf")
        assert sorted(row[0] for row in rows) == ["candles_1999_12", "candles_2017_02", "candles_2017_03"]
        with pytest.raises(StorageUnavailable, match="no partitioned table"):
            await pool.fetch("SELECT create_month_partitions('schema_migrations', ARRAY['2017-01-01'::date])")


async def test_outcomes_get_rows_of_their_own_and_ml_predictions_reads_as_before(empty_dsn, files):
    later = [files / name for name in NAMES if name >= "0030"]
    kept = [path.read_text() for path in later]
    for path in later:
        path.unlink()
    await migrate(empty_dsn, files)
    since = datetime(2026, 9, 29, tzinfo=UTC)  # two months
    connection = await asyncpg.connect(empty_dsn)
    try:
        for month in (9, 10):
            await connection.execute(
                "SELECT create_month_partitions('ml_predictions', ARRAY[make_date(2026, $1, 1)])", month
            )
        await connection.execute(FORECASTS, since, since + timedelta(days=4), 3, bytes(960))
        await connection.execute(
            "UPDATE ml_predictions SET actual_direction_1 = 'LONG', actual_direction_16 = 'NEUTRAL', error_1 = 0.25,"
            " exit_reason = CASE direction WHEN 'LONG' THEN 'STOP' WHEN 'SHORT' THEN 'NO_ENTRY' END,"
            " exit_return = CASE direction WHEN 'LONG' THEN -0.01 END,"
            " exit_bars = CASE direction WHEN 'LONG' THEN 3 END"
        )
        nothing = (
            "actual_return_1 = NULL, actual_return_16 = NULL, hit_1 = NULL, hit_4 = NULL, hit_16 = NULL, hit_48 = NULL"
        )
        await connection.execute(
            f"UPDATE ml_predictions SET {nothing}, actual_direction_1 = NULL, actual_direction_16 = NULL,"
            " error_1 = NULL, exit_reason = NULL, exit_return = NULL, exit_bars = NULL WHERE symbol = 'S00002'"
        )
    finally:
        await connection.close()
    views = ("ml_predictions", "ml_forecasts", "ml_predictions_decoded", "ml_outcomes")
    reads = [f"SELECT * FROM {view} ORDER BY symbol, close_time" for view in views]
    before = [await fetch(empty_dsn, read) for read in reads]
    for path, text in zip(later, kept, strict=True):
        path.write_text(text)
    await migrate(empty_dsn, files)
    after = [await fetch(empty_dsn, read) for read in reads]
    assert after == before
    assert [list(rows[0].keys()) for rows in after] == [list(rows[0].keys()) for rows in before]
    assert len(after[0]) == 4 * 96 * 3
    (count,) = await fetch(empty_dsn, "SELECT count(*) FROM ml_outcome_rows")
    assert count[0] == 4 * 96 * 2, "none for what nothing is known of"
    async with open_pool(empty_dsn) as pool, pool.connection() as one:  # and it goes on: months are found again
        found = await retention.plan(one, dict.fromkeys(retention.TABLES, 1), 0, date(2026, 12, 1))
        assert [(part.table, part.month.month) for part in found.old] == [("ml_predictions", 9), ("ml_predictions", 10)]
        await one.execute("SELECT create_month_partitions('ml_prediction_rows', ARRAY['2026-10-01'::date])")
