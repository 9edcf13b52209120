"""On disk before anybody is told, each forecast once, whatever PostgreSQL does meanwhile."""

import asyncio
import errno
import os
from dataclasses import replace

import numpy as np
import pytest

from candlecast.errors import Overloaded, Stopped, StorageUnavailable
from candlecast.gate import RECORD
from candlecast.store import recorder as module
from candlecast.store.pool import open_pool
from candlecast.values import Known, Missed
from tests.integration.conftest import INTERVAL_MS, MODEL, START_MS, candles, flow_records, forecasts
from tests.journals import Disk
from tests.recorders import LIMIT_S, Store, keys, keys_of, locked, until


@pytest.fixture
async def store(tmp_path, pool):
    async with Store(tmp_path / "journal", pool) as store:
        yield store


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
async def spool(tmp_path, pool, disk):
    """A store whose rows stay in the journal, on a disk that does as it is told."""
    async with Store(tmp_path / "journal", pool, drains=False, disk=disk, timeout_ms=5_000) as store:
        yield store
        disk.room, disk.error = None, None
        disk.go.set()


async def test_a_forecast_is_new_once_and_its_candle_is_stored_with_it(dsn, store):
    assert await store.new(candles(3), forecasts(3)) == [True] * 3
    assert await store.new(candles(3), forecasts(3)) == [False] * 3
    assert await store.new(candles(4), forecasts(4)) == [False] * 3 + [True]
    await store.caught_up()
    assert await keys(dsn) == keys_of(forecasts(4))
    assert len(await keys(dsn, "candles")) == 4


async def test_each_model_and_version_has_its_own_forecast(dsn, store):
    for model in (MODEL, replace(MODEL, version=4), replace(MODEL, name="lstm")):
        assert all(await store.new(None, forecasts(2, model=model)))
    await store.caught_up()
    assert len(await keys(dsn)) == 6


async def test_of_many_callers_with_the_same_rows_exactly_one_hears_that_each_is_new(dsn, store):
    answers = await asyncio.gather(*(store.new(candles(9), forecasts(9)) for _ in range(25)))
    assert np.sum(answers, axis=0).tolist() == [1] * 9
    await store.caught_up()
    assert await keys(dsn) == keys_of(forecasts(9))


async def test_a_forecast_that_comes_after_a_newer_one_is_new_and_stored(dsn, store):
    for i in (2, 0, 3, 1):
        assert await store.new(None, forecasts(1, start_ms=START_MS + i * INTERVAL_MS)) == [True]
    for i in (1, 3):
        assert await store.new(None, forecasts(1, start_ms=START_MS + i * INTERVAL_MS)) == [False]
    await store.caught_up()
    assert await keys(dsn) == keys_of(forecasts(4))


async def test_a_key_that_is_twice_in_one_message_is_new_once(dsn, store):
    given = forecasts(3)
    given.close_time_ms[:] = given.close_time_ms[0]
    assert await store.new(None, given) == [True, False, False]
    await store.caught_up()
    assert len(await keys(dsn)) == 1


async def test_what_is_forming_is_answered_as_not_new_and_not_stored(dsn, store):
    given, bars = forecasts(4), candles(4)
    given.forming[[0, 2]] = True
    bars.forming[[1]] = True
    assert await store.new(bars, given) == [False, True, False, True]
    given.forming[:] = bars.forming[:] = True
    recorded = await store.record(bars, given)
    assert (recorded.new.tolist(), recorded.stored.tolist()) == ([False] * 4, [False] * 4)
    await store.caught_up()
    assert [t for _, t in await keys(dsn)] == given.close_time_ms[[1, 3]].tolist()
    assert [t for _, t in await keys(dsn, "candles")] == bars.open_time_ms[[0, 2, 3]].tolist()


async def test_a_forecast_is_said_to_be_stored_once_it_is_in_postgresql_and_not_before(dsn, store):
    async with locked(dsn):
        first = await store.record(candles(3), forecasts(3))
        again = await store.record(candles(3), forecasts(3))
    assert (first.stored.tolist(), again.stored.tolist()) == ([False] * 3, [False] * 3)
    await store.caught_up()
    again = await store.record(candles(3), forecasts(3))
    assert (again.new.tolist(), again.stored.tolist()) == ([False] * 3, [True] * 3)


async def test_what_an_earlier_run_stored_is_known_when_it_is_remembered(dsn, store):
    store.recorder.remember("BTCUSDT", INTERVAL_MS, START_MS + INTERVAL_MS, MODEL)
    recorded = await store.record(None, forecasts(2))
    assert (recorded.new.tolist(), recorded.stored[0]) == ([False, True], True)


async def test_candles_of_one_record_are_accepted_together_and_later_ones_later(dsn, store):
    for i in range(3):
        await store.record(candles(2, start_ms=START_MS + 2 * i * INTERVAL_MS), None)
    await store.caught_up()
    rows = await store.pool.fetch("SELECT accepted_ns FROM candles ORDER BY open_time")
    times = [row[0] for row in rows]
    assert times[::2] == times[1::2] == sorted(set(times))
    assert times[0] > 1_700_000_000 * 10**9


async def test_a_reply_waits_for_the_disk(spool, disk):
    disk.go.clear()
    task = asyncio.create_task(spool.record(candles(2), forecasts(2)))
    again = asyncio.create_task(spool.record(candles(2), forecasts(2)))
    _, late = await asyncio.wait({task, again}, timeout=0.05)
    assert late == {task, again}  # nor is a forecast known that might still be lost
    assert disk.syncs == 0
    disk.go.set()
    assert (await task).new.all()
    assert disk.syncs > 0


async def test_a_reply_that_is_not_to_wait_comes_before_the_sync(spool, disk):
    disk.go.clear()
    recorded = await spool.record(candles(2), forecasts(2), durable=False)
    assert (recorded.new.tolist(), recorded.stored.tolist()) == ([True] * 2, [False] * 2)
    assert disk.syncs == 0


async def test_settled_waits_for_the_disk_and_for_nothing_else(dsn, spool, disk):
    await spool.recorder.settled()
    disk.go.clear()
    await spool.record(candles(2), forecasts(2), durable=False)
    settled = asyncio.create_task(spool.recorder.settled())
    _, late = await asyncio.wait({settled}, timeout=0.05)
    assert late
    disk.go.set()
    await asyncio.wait_for(settled, LIMIT_S)
    assert await keys(dsn) == []


async def test_a_caller_whose_patience_ends_is_told_and_its_rows_are_written_later(tmp_path, pool, dsn, disk):
    async with Store(tmp_path / "journal", pool, disk=disk, timeout_ms=30) as store:
        disk.go.clear()
        with pytest.raises(StorageUnavailable, match="the rows wait"):
            await store.record(None, forecasts(2))
        disk.go.set()
        await until(lambda: store.journal.end > 0)
        assert await store.new(None, forecasts(2)) == [False, False]
        await store.caught_up()
    assert await keys(dsn) == keys_of(forecasts(2))


async def test_a_caller_who_left_leaves_its_rows_to_be_stored(dsn, store):
    async with locked(dsn):
        task = asyncio.create_task(store.record(None, forecasts(2)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.caught_up()
    assert await keys(dsn) == keys_of(forecasts(2))


async def test_a_large_message_is_cut_and_all_of_it_is_told(tmp_path, dsn, pool, monkeypatch):
    monkeypatch.setattr(module, "RECORD_ROWS_MAX", 10)
    async with Store(tmp_path / "journal", pool, rows_max=10) as store:
        assert all(await store.new(candles(25), forecasts(45)))
        await store.caught_up()
    rows = await pool.fetch(
        "SELECT max(n) FROM (SELECT count(*) AS n FROM ml_prediction_rows GROUP BY xmin::text) AS t"
    )
    assert rows[0][0] <= 10
    assert (len(await keys(dsn)), len(await keys(dsn, "candles"))) == (45, 25)


def room_for(rows):
    return {"journal_bytes_max": rows * module.ROW_BYTES_MAX}


async def test_at_the_limit_callers_are_refused_before_anything_happens(tmp_path, pool):
    async with Store(tmp_path / "journal", pool, drains=False, **room_for(10)) as store:
        with store.recorder.admit(6):  # room that is taken is room
            with pytest.raises(Overloaded, match=r"0 bytes wait for PostgreSQL, 20480 is the limit"):
                store.recorder.admit(5)
            with store.recorder.admit(4) as place:  # and its owner is never refused
                await place.record(candles(2), forecasts(2))
        assert store.journal.size > 0
        with pytest.raises(Overloaded):
            store.recorder.admit(10)
        store.recorder.admit(1).__exit__(None, None, None)
        assert 0 < store.recorder.fullness < 1


async def test_there_is_room_again_when_postgresql_has_taken_what_waited(tmp_path, dsn, pool):
    async with Store(tmp_path / "journal", pool, **room_for(10)) as store:
        async with locked(dsn):
            await store.record(candles(5), forecasts(5))
            with pytest.raises(Overloaded):
                store.recorder.admit(10)
        await store.caught_up()
        with store.recorder.admit(10):
            pass


async def test_instead_of_refusing_the_oldest_can_be_given_up_and_it_is_counted(tmp_path, pool, dsn):
    given = [forecasts(4, symbol=f"S{i}") for i in range(20)]
    options = room_for(20) | {"drop_oldest": True, "segment": 8_192}
    async with Store(tmp_path / "journal", pool, drains=False, **options) as store:
        for f in given:
            assert all(await store.new(None, f))
        assert store.recorder.fullness < 1.5
        assert store.recorder.dropped_bytes > 0
        await store.recorder.check()
    async with Store(tmp_path / "journal", pool) as store:
        await store.caught_up()
    left = await keys(dsn)
    assert 0 < len(left) < 80
    assert left == sorted(set(keys_of(*given[-len(left) // 4 :])))


async def test_the_check_is_about_the_disk_and_not_about_postgresql(tmp_path, dsn, disk):
    async with (
        open_pool(dsn, command_timeout_ms=50) as pool,
        Store(tmp_path / "journal", pool, disk=disk, timeout_ms=30) as store,
    ):
        async with locked(dsn):
            await store.record(candles(2), forecasts(2))
            await until(lambda: store.drain.failure is not None)
            await store.recorder.check()
            assert await store.new(candles(3), forecasts(3)) == [False, False, True]
        disk.room = 0
        with pytest.raises(StorageUnavailable, match="no room"):
            await store.record(candles(4), forecasts(4))
        with pytest.raises(StorageUnavailable, match="no room"):
            await store.recorder.check()
        with pytest.raises(StorageUnavailable, match="no room"):
            store.recorder.admit(1)
        disk.room = None
        await until(lambda: store.journal.blocked is None)
        await store.recorder.check()
        await store.caught_up()
    assert await keys(dsn) == keys_of(forecasts(4))


async def test_the_check_fails_when_the_journal_is_full(tmp_path, pool):
    async with Store(tmp_path / "journal", pool, drains=False, **room_for(2)) as store:
        with store.recorder.admit(1) as place:
            await place.record(candles(9), forecasts(9))
        with pytest.raises(StorageUnavailable, match="the journal is full"):
            await store.recorder.check()


async def test_after_a_failed_sync_everybody_is_told_until_the_next_start(tmp_path, dsn, pool, disk):
    async with Store(tmp_path / "journal", pool, disk=disk) as store:
        await store.record(candles(2), forecasts(2))
        disk.error = OSError(errno.EIO, os.strerror(errno.EIO))
        with pytest.raises(StorageUnavailable, match="start again when the disk is well"):
            await store.record(candles(3), forecasts(3))
        for refused in (store.recorder.check(), store.recorder.settled()):
            with pytest.raises(StorageUnavailable):
                await refused
        with pytest.raises(StorageUnavailable):
            store.recorder.admit(1)
        async with asyncio.timeout(LIMIT_S):
            await store.drain.caught_up(store.journal.end)
    assert await keys(dsn) == keys_of(forecasts(2))


async def test_after_leaving_nothing_is_admitted(tmp_path, pool):
    async with Store(tmp_path / "journal", pool) as store:
        pass
    with pytest.raises(Stopped):
        store.recorder.admit(1)


async def test_leaving_stores_also_what_nobody_waited_for(tmp_path, dsn, pool):
    async with Store(tmp_path / "journal", pool) as store:
        for i in range(9):
            await store.record(None, forecasts(2, symbol=f"S{i}"), durable=False)
    assert len(await keys(dsn)) == 18


def missed(*close_times_ms):
    return [Missed("BTCUSDT", INTERVAL_MS, t, MODEL.name, MODEL.version, "MODEL_UNAVAILABLE") for t in close_times_ms]


async def test_a_missed_forecast_is_on_record_once_and_never_one_that_was_made(dsn, store):
    await store.record(None, forecasts(1))
    made, other = START_MS + INTERVAL_MS, START_MS + 2 * INTERVAL_MS
    for _ in range(2):
        await store.record(None, None, missed(made, other))
    await store.caught_up()
    rows = await store.pool.fetch("SELECT extract(epoch FROM close_time) * 1000, reason FROM ml_missed_predictions")
    assert [tuple(row) for row in rows] == [(other, "MODEL_UNAVAILABLE")]


async def test_a_late_candle_is_compared_with_all_that_was_recorded_before(dsn, store):
    bars = candles(3)
    async with locked(dsn):
        await store.record(bars, None)
        asked = asyncio.create_task(store.recorder.known(bars))
        await asyncio.sleep(0.02)
    assert await asyncio.wait_for(asked, LIMIT_S) == [Known.SAME] * 3
    bars.values[1, 4] += 1
    later = candles(1, start_ms=START_MS + 9 * INTERVAL_MS)
    assert await store.recorder.known(bars) == [Known.SAME, Known.OTHER_VALUES, Known.SAME]
    assert await store.recorder.known(later) == [Known.NOT_STORED]


async def test_a_rehearsal_leaves_nothing_behind(dsn, pool, store):
    assert (await store.recorder.rehearse(candles(3), forecasts(3))).new.tolist() == [True] * 3
    assert store.journal.end == 0
    assert await pool.fetch("SELECT 1 FROM candles UNION ALL SELECT 1 FROM ml_predictions") == []
    assert all(await store.new(candles(3), forecasts(3)))
    await store.caught_up()
    assert await keys(dsn) == keys_of(forecasts(3))


@pytest.mark.parametrize("count", [5, 400])  # as parameters, and by COPY
async def test_order_flow_is_stored_once_with_null_for_what_is_undefined(pool, store, count):
    for given in (flow_records(count), flow_records(count, asked=True, seed=1), flow_records(count, seed=2)):
        await store.recorder.record_flow(given)
    await store.caught_up()
    for given in (flow_records(count), flow_records(count, asked=True, seed=1)):
        rows = await pool.fetch(
            "SELECT * FROM order_flow_features WHERE gate_asked = $1 ORDER BY ts", bool(given.gate_asked[0])
        )
        assert [round(row["ts"].timestamp() * 1000) for row in rows] == given.ts_ms.tolist()
        for k, name in enumerate(RECORD):
            assert [row[name] for row in rows] == [None if x != x else x for x in given.rows[:, k].tolist()]
        p = given.gate_probability.tolist()
        assert [row["gate_probability"] for row in rows] == [None if x != x else x for x in p]
        approved = [(None, None, False, True)[code] for code in given.gate_verdict.tolist()]
        assert [row["gate_approved"] for row in rows] == approved
        assert [row["degraded"] for row in rows] == given.degraded.tolist()


async def test_order_flow_waits_in_the_journal_while_postgresql_is_away(pool, store, dsn):
    async with locked(dsn):
        await store.recorder.record_flow(flow_records(3))
        await store.new(candles(1), forecasts(1))
    await store.caught_up()
    assert len(await pool.fetch("SELECT FROM order_flow_features")) == 3


async def test_a_full_journal_refuses_order_flow(tmp_path, pool):
    async with Store(tmp_path / "small", pool, drains=False, journal_bytes_max=2_048) as store:
        with pytest.raises(Overloaded):
            await store.recorder.record_flow(flow_records(3))
        assert store.journal.end == store.journal.mark
