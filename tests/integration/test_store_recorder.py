"""Exactly once, whatever happens: the recorder against a real PostgreSQL that is locked, killed, frozen or full."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import numpy as np
import psutil
import pytest

from candlecast.errors import ConfigurationError, InvalidRequest, Overloaded, Stopped, StorageUnavailable
from candlecast.store import writer as module
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.pool import open_pool
from candlecast.store.recorder import Recorder
from tests.integration.conftest import FEATURES, INTERVAL_MS, MODEL, START_MS, STATES, candles, copy, forecasts


@pytest.fixture(params=[1, 1_000_000], ids=["by COPY", "at once"], autouse=True)
def mechanism(request, monkeypatch):
    """Both ways in which rows travel keep every promise."""
    monkeypatch.setattr(module, "COPY_ROWS_MIN", request.param)


def recorder(pool, **options):
    return Recorder(pool, feature_names=FEATURES, states=STATES, **options)


async def keys(dsn, table="ml_predictions"):
    """Return the keys in a table, in order; a doubled one twice."""
    time = "close_time" if table == "ml_predictions" else "open_time"
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(f"SELECT symbol, {time} FROM {table} ORDER BY symbol, {time}")
        return [(row[0], round(row[1].timestamp() * 1000)) for row in rows]
    finally:
        await connection.close()


def keys_of(*given):
    return sorted((s, t) for f in given for s, t in zip(f.symbol, f.close_time_ms.tolist(), strict=True))


async def until(true, timeout_s=20.0):
    async with asyncio.timeout(timeout_s):
        while True:
            if await true():
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def locked(dsn):
    """Hold up every writer while the body runs."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE candles, ml_predictions IN EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def record_while_locked(dsn, *records):
    """Start records that cannot end, and return their tasks when all rows are queued."""
    tasks = [asyncio.create_task(record) for record in records]
    await asyncio.sleep(0)
    return tasks


async def test_a_forecast_is_new_once_and_its_candle_with_it(dsn, pool):
    async with recorder(pool) as writer:
        assert (await writer.record(candles(3), forecasts(3))).tolist() == [True] * 3
        assert (await writer.record(candles(3), forecasts(3))).tolist() == [False] * 3
        assert (await writer.record(None, forecasts(4))).tolist() == [False] * 3 + [True]
        assert (await writer.record(candles(5), None)).tolist() == []
    assert await keys(dsn) == keys_of(forecasts(4))
    assert len(await keys(dsn, "candles")) == 5


async def test_another_model_or_version_is_another_forecast(dsn, pool):
    models = [MODEL, replace(MODEL, version=4), replace(MODEL, name="lstm")]
    async with recorder(pool) as writer:
        for model in models:
            assert (await writer.record(None, forecasts(2, model=model))).all()
    assert len(await keys(dsn)) == 6


async def test_the_first_values_of_a_candle_stay(dsn, pool):
    async with recorder(pool) as writer:
        await writer.record(candles(2, seed=1), None)
        await writer.record(candles(2, seed=2), None)
    rows = await pool.fetch("SELECT open FROM candles ORDER BY open_time")
    assert [row[0] for row in rows] == candles(2, seed=1).values[:, 0].tolist()


async def test_of_many_callers_with_the_same_rows_exactly_one_hears_that_each_is_new(dsn, pool):
    given = forecasts(20)
    async with recorder(pool, flush_rows_max=50) as writer:
        answers = await asyncio.gather(*(writer.record(candles(20), given) for _ in range(25)))
    assert np.sum(answers, axis=0).tolist() == [1] * 20
    assert await keys(dsn) == keys_of(given)


async def test_two_recorders_write_the_same_rows_once(dsn, pool):
    given = [forecasts(10, symbol=f"S{i}") for i in range(10)]
    async with recorder(pool) as one, recorder(pool) as two:
        answers = await asyncio.gather(*(writer.record(None, f) for f in given for writer in (one, two)))
    assert np.sum(answers) == 100
    assert await keys(dsn) == keys_of(*given)


async def test_a_key_that_is_twice_in_one_message_is_new_once(dsn, pool):
    given = forecasts(3)
    given.close_time_ms[:] = given.close_time_ms[0]
    async with recorder(pool) as writer:
        assert (await writer.record(None, given)).tolist() == [True, False, False]
    assert len(await keys(dsn)) == 1


async def test_what_is_forming_is_answered_as_not_new_and_not_stored(dsn, pool):
    given, bars = forecasts(4), candles(4)
    given.forming[[0, 2]] = True
    bars.forming[[1]] = True
    async with recorder(pool) as writer:
        assert (await writer.record(bars, given)).tolist() == [False, True, False, True]
        given.forming[:] = bars.forming[:] = True
        assert (await writer.record(bars, given)).tolist() == [False] * 4
    assert [t for _, t in await keys(dsn)] == given.close_time_ms[[1, 3]].tolist()
    assert [t for _, t in await keys(dsn, "candles")] == bars.open_time_ms[[0, 2, 3]].tolist()


async def test_any_month_finds_its_partition_and_the_edges_are_in_utc(dsn, pool):
    edge = int(datetime(2024, 2, 29, 23, 45, tzinfo=UTC).timestamp() * 1000)
    starts = [edge, 0, int(datetime(2017, 8, 17, tzinfo=UTC).timestamp() * 1000), START_MS]
    async with recorder(pool) as writer:
        given = [forecasts(2, symbol=f"S{i}", start_ms=start) for i, start in enumerate(starts)]
        for i, f in enumerate(given):
            assert (await writer.record(candles(2, symbol=f"S{i}", start_ms=starts[i]), f)).all()
    assert await keys(dsn) == keys_of(*given)
    rows = await pool.fetch("SELECT tableoid::regclass::text, count(*) FROM candles WHERE symbol = 'S0' GROUP BY 1")
    assert sorted(tuple(row) for row in rows) == [("candles_2024_02", 1), ("candles_2024_03", 1)]


async def test_a_partition_that_went_away_is_created_again(dsn, pool):
    async with recorder(pool) as writer:
        await writer.record(None, forecasts(1))
        await pool.fetch("DROP TABLE ml_predictions_2023_11")
        assert (await writer.record(None, forecasts(2))).all()
    assert len(await keys(dsn)) == 2


async def test_the_decoded_view_shows_the_very_numbers(pool):
    given = forecasts(40)
    given.rows[0, :8] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, np.finfo("f4").max, np.finfo("f4").tiny]
    given.outputs[1, :3] = [np.nan, np.inf, -np.inf]
    async with recorder(pool) as writer:
        await writer.record(None, given)
    rows = await pool.fetch("SELECT * FROM ml_predictions_decoded ORDER BY close_time")

    def column(name):
        return [row[name] for row in rows]

    for name, expected in (("features", given.rows), ("outputs", given.outputs)):
        found = np.array(column(name), dtype=np.float32)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found[:, 1:]), np.signbit(expected[:, 1:]))
    probabilities = given.meaning.probabilities.reshape(40, 12).astype(np.float32)
    np.testing.assert_array_equal(np.array(column("probabilities"), dtype=np.float32), probabilities)
    assert column("confidence") == given.meaning.confidence.tolist()
    assert [tuple(why) for why in column("reasons")] == given.reasons
    assert column("features_hash") == given.features_hash.tolist()
    assert column("feature_set_hash")[0] == f"{MODEL.feature_set_hash:x}"
    assert column("bundle_sha256")[0] == MODEL.bundle_sha256
    assert column("interpret_us")[0] == given.times.interpret_us


async def test_while_a_flush_is_under_way_those_who_come_share_the_next_one(dsn, pool):
    given = [forecasts(2, symbol=f"S{i}") for i in range(40)]
    async with recorder(pool) as writer:
        await writer.record(None, forecasts(1, symbol="FIRST"))
        async with locked(dsn):
            tasks = await record_while_locked(dsn, *(writer.record(None, f) for f in given))
        assert all(answer.all() for answer in await asyncio.gather(*tasks))
    rows = await pool.fetch("SELECT count(DISTINCT xmin::text) FROM ml_predictions WHERE symbol <> 'FIRST'")
    assert rows[0][0] <= 2


async def test_a_flush_has_a_limit_and_a_large_message_is_cut(dsn, pool):
    async with recorder(pool, flush_rows_max=10) as writer:
        assert (await writer.record(candles(25), forecasts(25))).all()
    rows = await pool.fetch("SELECT max(n) FROM (SELECT count(*) AS n FROM ml_predictions GROUP BY xmin::text) AS t")
    assert rows[0][0] <= 10
    assert len(await keys(dsn, "candles")) == 25


async def test_at_the_limit_callers_are_refused_before_anything_happens(dsn, pool):
    async with recorder(pool, rows_max=10) as writer:
        async with locked(dsn):
            (task,) = await record_while_locked(dsn, writer.record(candles(3), forecasts(3)))
            with pytest.raises(Overloaded, match="6 rows wait for PostgreSQL, 10 is the limit"):
                writer.admit(5)
            with pytest.raises(Overloaded):
                await writer.record(None, forecasts(5, symbol="OTHER"))
            with writer.admit(4) as place:  # room that is taken is room, and its owner is never refused
                with pytest.raises(Overloaded):
                    writer.admit(1)
                second = asyncio.create_task(place.record(None, forecasts(3, symbol="SECOND")))
                await asyncio.sleep(0)
            writer.admit(1).__exit__(None, None, None)
            with pytest.raises(Overloaded):
                writer.admit(2)
        await asyncio.gather(task, second)
        with writer.admit(10):
            pass
    assert len(await keys(dsn)) == 6


async def test_a_caller_whose_patience_ends_is_told_and_its_rows_are_stored_later(dsn, pool):
    async with recorder(pool, timeout_ms=30) as writer:
        async with locked(dsn):
            with pytest.raises(StorageUnavailable, match="the rows stay queued"):
                await writer.record(None, forecasts(2))
        await until(lambda: stored(dsn, 2))
        assert (await writer.record(None, forecasts(2))).tolist() == [False, False]
        with writer.admit(50_000):
            pass


async def test_a_caller_who_left_leaves_its_rows_to_be_stored(dsn, pool):
    async with recorder(pool) as writer:
        async with locked(dsn):
            (task,) = await record_while_locked(dsn, writer.record(None, forecasts(2)))
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await keys(dsn) == keys_of(forecasts(2))


async def stored(dsn, count):
    return len(await keys(dsn)) == count


@pytest.mark.parametrize("poison", ["A\0B", "\ud800", None], ids=["NUL", "surrogate", "time"])
async def test_a_row_that_is_never_taken_is_named_and_the_others_get_through(dsn, pool, poison):
    bad, good = forecasts(30, symbol="BAD"), forecasts(30, symbol="GOOD")
    if poison is None:
        bad.close_time_ms[17] = 1 << 60
    else:
        bad.symbol[17] = poison
    async with recorder(pool) as writer:
        async with locked(dsn):
            tasks = await record_while_locked(dsn, *(writer.record(candles(9), f) for f in (bad, good)))
        refused, taken = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(refused, InvalidRequest)
        assert "PostgreSQL refuses 1: " in str(refused)
        assert taken.all()
        assert (await writer.record(None, forecasts(2, symbol="AFTER"))).all()
        await writer.check()
    assert len(await keys(dsn)) == 29 + 30 + 2
    assert len(await keys(dsn, "candles")) == 9


async def test_a_candle_that_is_never_taken_is_named_too(dsn, pool):
    bars = candles(5)
    bars.open_time_ms[2] = 1 << 60
    async with recorder(pool) as writer:
        with pytest.raises(InvalidRequest, match="refuses 1: "):
            await writer.record(bars, forecasts(5))
    assert (len(await keys(dsn, "candles")), len(await keys(dsn))) == (4, 5)


async def test_leaving_writes_what_waits(dsn, pool):
    writer = await recorder(pool).__aenter__()
    async with locked(dsn):
        tasks = await record_while_locked(dsn, *(writer.record(None, forecasts(2, symbol=f"S{i}")) for i in range(9)))
        leaving = asyncio.create_task(writer.__aexit__(None, None, None))
        await asyncio.sleep(0)
        with pytest.raises(Stopped):
            writer.admit(1)
        assert not leaving.done()
    await leaving
    assert all(answer.all() for answer in await asyncio.gather(*tasks))
    assert len(await keys(dsn)) == 18


async def test_leaving_waits_no_longer_than_its_limit_and_tells_those_who_wait(dsn, pool):
    async with locked(dsn):
        async with recorder(pool, stop_timeout_ms=30) as writer:
            tasks = await record_while_locked(
                dsn, *(writer.record(None, forecasts(1, symbol=f"S{i}")) for i in range(3))
            )
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Stopped] * 3
    assert await keys(dsn) == []


async def test_a_failing_flush_fails_the_check_until_it_succeeds(dsn):
    async with open_pool(dsn, command_timeout_ms=100) as pool, recorder(pool, timeout_ms=20_000) as writer:
        async with locked(dsn):
            (task,) = await record_while_locked(dsn, writer.record(None, forecasts(2)))
            await until(lambda: failing(writer))
        assert (await task).all()
        await writer.check()


async def test_a_pool_of_one_connection_is_too_small(dsn):
    async with open_pool(dsn, connections_max=1) as pool:
        with pytest.raises(ConfigurationError, match="database_connections_max: 2 or more"):
            recorder(pool)


async def failing(writer):
    try:
        await writer.check()
    except StorageUnavailable:
        return True
    return False


async def test_before_the_migration_rows_wait_for_it(empty_dsn):
    async with open_pool(empty_dsn) as pool, recorder(pool, timeout_ms=20_000) as writer:
        task = asyncio.create_task(writer.record(None, forecasts(2)))
        await until(lambda: failing(writer))
        await migrate(empty_dsn)
        assert (await task).all()


@pytest.fixture
async def own(cluster, tmp_path):
    """A server of one's own, to be mistreated."""
    copy(cluster, tmp_path / "copy")
    running = EmbeddedPostgres(tmp_path / "copy" / "data", tmp_path / "log")
    async with running:
        await migrate(running.dsn)
        yield running


async def load(writer, symbol, messages):
    """Record messages one after the other, as a client does which sends again what was not acknowledged."""
    for i in range(messages):
        given = forecasts(3, symbol=symbol, start_ms=START_MS + 3 * i * INTERVAL_MS)
        bars = candles(3, symbol=symbol, start_ms=START_MS + 3 * i * INTERVAL_MS)
        while True:
            try:
                await writer.record(bars, given)
                break
            except StorageUnavailable:
                await asyncio.sleep(0.01)


async def load_while(writer, dsn, fault):
    """Make load, bring the fault over it when rows are there, and check that each is there once at the end."""
    loads = [asyncio.create_task(load(writer, f"S{i}", 120)) for i in range(8)]
    await until(lambda: more_than(dsn, 100))
    await fault()
    async with asyncio.timeout(30):
        await asyncio.gather(*loads)
    expected = sorted((f"S{i}", START_MS + (k + 1) * INTERVAL_MS) for i in range(8) for k in range(360))
    assert await keys(dsn) == expected
    assert len(await keys(dsn, "candles")) == 8 * 360


async def more_than(dsn, count):
    return len(await keys(dsn)) > count


async def test_kill_9_of_a_backend_loses_nothing_and_doubles_nothing(own):
    async def kill():
        async with open_pool(own.dsn, connections_max=1) as other:
            others = "pg_stat_activity WHERE application_name = 'candlecast' AND pid <> pg_backend_pid()"
            rows = await other.fetch(f"SELECT pid FROM {others} ORDER BY state_change DESC")  # who wrote last
        os.kill(rows[0][0], signal.SIGKILL)

    async with open_pool(own.dsn) as pool, recorder(pool, timeout_ms=200) as writer:
        await load_while(writer, own.dsn, kill)


async def test_kill_9_of_the_server_loses_nothing_and_doubles_nothing(own):
    async def kill():
        os.kill(own.pid, signal.SIGKILL)
        assert await own.wait() == -signal.SIGKILL
        await own.__aexit__(None, None, None)
        await own.__aenter__()

    async with open_pool(own.dsn) as pool, recorder(pool, timeout_ms=200) as writer:
        await load_while(writer, own.dsn, kill)


async def test_a_frozen_server_loses_nothing_and_doubles_nothing(own):
    async with (
        open_pool(own.dsn, command_timeout_ms=300, connect_timeout_ms=300) as pool,
        recorder(pool, timeout_ms=200) as writer,
    ):

        async def freeze():
            family = [psutil.Process(own.pid), *psutil.Process(own.pid).children()]
            try:
                for process in family:
                    with suppress(psutil.NoSuchProcess):
                        process.suspend()
                await until(lambda: failing(writer))
            finally:
                for process in family:
                    with suppress(psutil.NoSuchProcess):
                        process.resume()

        await load_while(writer, own.dsn, freeze)


async def test_a_rehearsal_leaves_nothing_behind(dsn, pool):
    async with recorder(pool) as writer:
        assert (await writer.rehearse(candles(3), forecasts(3))).tolist() == [True] * 3
        assert await pool.fetch("SELECT 1 FROM candles UNION ALL SELECT 1 FROM ml_predictions") == []
        assert (await writer.record(candles(3), forecasts(3))).all()
