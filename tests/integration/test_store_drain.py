"""Each row once, whatever happens: the drain into a real PostgreSQL that is locked, killed, frozen or not ready."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import msgpack
import numpy as np
import psutil
import pytest

from candlecast.filters import reasons_of
from candlecast.packed import SCORES
from candlecast.store import records
from candlecast.store import writer as module
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.pool import open_pool
from candlecast.store.records import LAYOUT
from candlecast.values import Missed
from tests.integration.conftest import FEATURES, INTERVAL_MS, MODEL, START_MS, STATES, candles, copy, forecasts
from tests.recorders import LIMIT_S, Store, keys, keys_of, locked, until


@pytest.fixture(params=[1, 1_000_000], ids=["by COPY", "at once"], autouse=True)
def mechanism(request, monkeypatch):
    """Both ways in which rows travel keep every promise."""
    monkeypatch.setattr(module, "COPY_ROWS_MIN", request.param)


@pytest.fixture
async def store(tmp_path, pool):
    async with Store(tmp_path / "journal", pool) as store:
        yield store


async def test_the_first_values_of_a_candle_stay(store, pool):
    await store.record(candles(2, seed=1), None)
    await store.record(candles(2, seed=2), None)
    await store.caught_up()
    rows = await pool.fetch("SELECT open FROM candles ORDER BY open_time")
    assert [row[0] for row in rows] == candles(2, seed=1).values[:, 0].tolist()


async def test_two_servers_with_a_journal_each_write_the_same_rows_once(tmp_path, dsn, pool, store):
    given = [forecasts(10, symbol=f"S{i}") for i in range(10)]
    async with Store(tmp_path / "other", pool) as other:
        await asyncio.gather(*(s.record(candles(10, symbol=f.names[0]), f) for f in given for s in (store, other)))
        await other.caught_up()
    await store.caught_up()
    assert await keys(dsn) == keys_of(*given)
    assert len(await keys(dsn, "candles")) == 100


async def test_any_month_finds_its_partition_and_the_edges_are_in_utc(dsn, pool, store):
    edge = int(datetime(2024, 2, 29, 23, 45, tzinfo=UTC).timestamp() * 1000)
    starts = [edge, 0, int(datetime(2017, 8, 17, tzinfo=UTC).timestamp() * 1000), START_MS]
    given = [forecasts(2, symbol=f"S{i}", start_ms=start) for i, start in enumerate(starts)]
    for i, f in enumerate(given):
        await store.record(candles(2, symbol=f"S{i}", start_ms=starts[i]), f)
    await store.caught_up()
    assert await keys(dsn) == keys_of(*given)
    rows = await pool.fetch("SELECT tableoid::regclass::text, count(*) FROM candles WHERE symbol = 'S0' GROUP BY 1")
    assert sorted(tuple(row) for row in rows) == [("candles_2024_02", 1), ("candles_2024_03", 1)]


async def test_a_partition_that_went_away_is_created_again(dsn, pool, store):
    await store.record(None, forecasts(1))
    await store.caught_up()
    await pool.fetch("DROP TABLE ml_prediction_rows_2023_11")
    await store.record(None, forecasts(3))
    await store.caught_up()
    assert await keys(dsn) == keys_of(forecasts(3))[1:]  # the first was dropped with its table, by hand


def given_with_every_oddity():
    given = forecasts(40)
    given.state[:] = np.arange(40) % len(STATES)
    given.rows[0, :8] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, np.finfo("f4").max, np.finfo("f4").tiny]
    given.rows[1] = np.nan
    given.outputs[1, :3] = [np.nan, np.inf, -np.inf]
    given.direction[:3] = [1, -1, 0]
    for name in records.NUMBERS:
        getattr(given.meaning, name)[2] = np.nan
    return given


def null_for_nan(values):
    return [None if value != value else value for value in values.tolist()]


def columns_of(given):
    """Return the columns of the table that a forecast fills, said in the plainest way."""
    meaning, times, single = given.meaning, given.times, np.float32
    finite = [row[np.isfinite(row)].astype(float) for row in given.rows]

    def summary(of):
        return [float(single(of(row))) if len(row) else None for row in finite]

    return {
        "symbol": given.names,
        "interval_ms": given.interval_ms.tolist(),
        "close_time": [datetime.fromtimestamp(t / 1000, UTC) for t in given.close_time_ms.tolist()],
        "model": [given.model.name] * 40,
        "version": [given.model.version] * 40,
        "bundle_sha256": [bytes.fromhex(given.model.bundle_sha256)] * 40,
        "feature_set_hash": [given.model.feature_set_hash - (1 << 64)] * 40,
        "close": given.close.tolist(),
        "volume": null_for_nan(given.volume),
        "state": [STATES[code] for code in given.state],
        "gap_filled": given.gap_filled.tolist(),
        "features": [row.astype("<f4").tobytes() for row in given.rows],
        "features_hash": given.features_hash.tolist(),
        "feature_count": [len(FEATURES)] * 40,
        "nan_count": [int(np.isnan(row).sum()) for row in given.rows],
        "zero_variance_count": given.zero_variance.tolist(),
        "features_mean": summary(np.mean),
        "features_std": summary(np.std),
        "features_min": summary(np.min),
        "features_max": summary(np.max),
        "rsi": null_for_nan(given.rows[:, FEATURES.index("rsi_14")]),
        "macd": null_for_nan(given.rows[:, FEATURES.index("macd_hist_12_26_9")]),
        **dict.fromkeys(("bb_position", "atr_pct", "volume_ratio", "trend_strength"), [None] * 40),
        "outputs": [row.astype("<f4").tobytes() for row in given.outputs],
        "probabilities": [p.astype("<f4").tobytes() for p in meaning.probabilities],
        "direction": [{1: "LONG", 0: "NEUTRAL", -1: "SHORT"}[side] for side in given.direction.tolist()],
        "strength": [("WEAK", "NORMAL", "STRONG")[code] for code in given.strength],
        **{name: null_for_nan(getattr(meaning, name)) for name in records.NUMBERS},
        "reasons": [list(reasons_of(bits)) for bits in given.reasons.tolist()],
        **{name: null_for_nan(getattr(given, name)) for name in SCORES},
        **{name: [getattr(times, name)] * 40 for name in records.STAGES},
    }


async def test_every_column_comes_back_as_it_was_given(pool, store):
    given, bars = given_with_every_oddity(), candles(40)
    await store.record(bars, given)
    await store.caught_up()
    rows = await pool.fetch("SELECT * FROM ml_predictions ORDER BY close_time")
    for name, expected in columns_of(given).items():
        found = [row[name] for row in rows]
        if name in ("features_mean", "features_std"):  # summed in another order
            np.testing.assert_allclose(*(np.array(x, dtype=float) for x in (found, expected)), rtol=1e-5, atol=1e-6)
        else:
            assert found == expected, name
    rows = await pool.fetch(f"SELECT {', '.join(records.VALUES)} FROM candles ORDER BY open_time")
    assert [list(row) for row in rows] == [null_for_nan(values) for values in bars.values]


async def test_of_several_models_in_one_transaction_each_row_has_its_own(dsn, pool, store):
    models = [MODEL, replace(MODEL, version=4, bundle_sha256="cd" * 32), replace(MODEL, name="lstm")]
    async with locked(dsn):
        for i, model in enumerate(models * 2):
            await store.record(candles(2, symbol=f"S{i}"), forecasts(2, symbol=f"S{i}", model=model))
    await store.caught_up()
    rows = await pool.fetch(
        "SELECT symbol, model, version, encode(bundle_sha256, 'hex') FROM ml_predictions ORDER BY 1"
    )
    expected = [(f"S{i}", m.name, m.version, m.bundle_sha256) for i, m in enumerate(models * 2) for _ in range(2)]
    assert [tuple(row) for row in rows] == expected
    assert len(await keys(dsn, "candles")) == 12


async def test_the_decoded_view_shows_the_very_numbers(pool, store):
    given = forecasts(40)
    given.rows[0, :8] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, np.finfo("f4").max, np.finfo("f4").tiny]
    given.outputs[1, :3] = [np.nan, np.inf, -np.inf]
    await store.record(None, given)
    await store.caught_up()
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
    assert [tuple(why) for why in column("reasons")] == [reasons_of(bits) for bits in given.reasons.tolist()]
    assert column("features_hash") == given.features_hash.tolist()
    assert column("feature_set_hash")[0] == f"{MODEL.feature_set_hash:x}"
    assert column("bundle_sha256")[0] == MODEL.bundle_sha256
    assert column("interpret_us")[0] == given.times.interpret_us


async def test_what_waits_shares_transactions_up_to_their_limit(tmp_path, dsn, pool):
    async with Store(tmp_path / "journal", pool, rows_max=40) as store:
        async with locked(dsn):
            await asyncio.gather(*(store.record(None, forecasts(2, symbol=f"S{i}")) for i in range(100)))
        await store.caught_up()
    sql = "SELECT count(*), max(n) FROM (SELECT count(*) AS n FROM ml_prediction_rows GROUP BY xmin::text) AS t"
    ((transactions, rows),) = await pool.fetch(sql)
    assert (transactions <= 8, rows) == (True, 40)


@pytest.mark.parametrize("poison", ["A\0B", None], ids=["NUL", "time"])
async def test_a_row_that_is_never_taken_is_set_aside_and_the_others_get_through(dsn, store, poison):
    bad, good = forecasts(30, symbol="BAD"), forecasts(30, symbol="GOOD")
    if poison is None:
        bad.close_time_ms[17] = 1 << 60
    else:
        bad.symbol[17] = poison
    async with locked(dsn):
        for f in (bad, good):
            assert all(await store.new(candles(9), f))
    await store.caught_up()
    assert all(await store.new(None, forecasts(2, symbol="AFTER")))
    await store.caught_up()
    (refused,) = store.refused()
    assert [*refused["row"].values()][:3] == [bad.names[17], INTERVAL_MS, int(bad.close_time_ms[17])]
    assert refused["row"]["state"] == "READY"
    assert refused["row"]["reasons"] == list(reasons_of(int(bad.reasons[17])))
    assert refused["row"]["features"] == bad.rows[17].tobytes().hex()
    assert (refused["row"]["model"], refused["row"]["version"]) == (MODEL.name, MODEL.version)
    assert refused["row"]["volume"] is None  # absent, as in the table
    assert refused["why"]
    assert store.drain.refused_rows == 1
    await store.recorder.check()
    assert len(await keys(dsn)) == 29 + 30 + 2
    assert len(await keys(dsn, "candles")) == 9


async def test_a_candle_and_a_missed_forecast_that_are_never_taken_are_set_aside_too(dsn, store):
    bars = candles(5)
    bars.open_time_ms[2] = 1 << 60
    missed = [Missed(name, INTERVAL_MS, START_MS, MODEL.name, MODEL.version, "R") for name in ("GOOD", "B\0D")]
    await store.record(bars, forecasts(5), missed)
    await store.caught_up()
    assert len(await keys(dsn, "candles")) == 4
    assert await keys(dsn) == keys_of(forecasts(5))
    assert await keys(dsn, "ml_missed_predictions") == [("GOOD", START_MS)]
    assert [line["row"]["symbol"] for line in store.refused()] == ["BTCUSDT", "B\0D"]


STRANGE = {
    "bytes": b"\xc1",
    "number": msgpack.packb(7),
    "two": msgpack.packb(([], [])),
    "rows": msgpack.packb(([], [], [])),
    "layout": msgpack.packb((LAYOUT + 1, b"", b"", [], None)),
    "torn": msgpack.packb((LAYOUT, b"half a candle", b"", [], None)),
    "orphan": msgpack.packb((LAYOUT, b"", b"forecasts of nobody", [], None)),
}


@pytest.mark.parametrize("record", STRANGE.values(), ids=STRANGE)
async def test_a_record_that_nobody_understands_is_set_aside_and_the_others_get_through(dsn, store, record):
    async with locked(dsn):
        await store.record(None, forecasts(2))
        await store.journal.append(record)
        await store.record(None, forecasts(3))
    await store.caught_up()
    assert await keys(dsn) == keys_of(forecasts(3))
    assert [line["row"] for line in store.refused()] == [{"record": record.hex()}]


async def test_a_kill_between_commit_and_mark_writes_the_rows_once(tmp_path, dsn, pool, monkeypatch):
    async with Store(tmp_path / "journal", pool, stop_timeout_ms=1) as store:
        committed = asyncio.Event()

        async def killed(position):
            committed.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(store.journal, "advance", killed)
        await store.record(candles(3), forecasts(3))
        await asyncio.wait_for(committed.wait(), LIMIT_S)
        assert await keys(dsn) == keys_of(forecasts(3))
    async with Store(tmp_path / "journal", pool) as store:
        assert store.journal.size > 0
        await store.caught_up()
        assert store.journal.size == 0
    assert await keys(dsn) == keys_of(forecasts(3))
    assert len(await keys(dsn, "candles")) == 3


async def test_leaving_waits_no_longer_than_its_limit_and_the_next_start_stores_the_rest(tmp_path, dsn, pool):
    given = [forecasts(2, symbol=f"S{i}") for i in range(9)]
    async with asyncio.timeout(LIMIT_S), locked(dsn), Store(tmp_path / "journal", pool, stop_timeout_ms=30) as store:
        for f in given:
            await store.record(None, f)
    assert await keys(dsn) == []
    async with Store(tmp_path / "journal", pool) as store:
        await store.caught_up()
    assert await keys(dsn) == keys_of(*given)


async def test_leaving_stores_what_waits(tmp_path, dsn, pool):
    given = [forecasts(2, symbol=f"S{i}") for i in range(9)]
    store = await Store(tmp_path / "journal", pool).__aenter__()
    async with locked(dsn):
        for f in given:
            await store.record(None, f)
        leaving = asyncio.create_task(store.__aexit__(None, None, None))
        await asyncio.sleep(0.02)
        assert not leaving.done()
    await asyncio.wait_for(leaving, LIMIT_S)
    assert await keys(dsn) == keys_of(*given)


async def test_why_rows_cannot_be_stored_is_said_until_they_can(tmp_path, dsn):
    async with open_pool(dsn, command_timeout_ms=100) as pool, Store(tmp_path / "journal", pool) as store:
        async with locked(dsn):
            await store.record(None, forecasts(2))
            await until(lambda: store.drain.failure is not None)
        await store.caught_up()
        await until(lambda: store.drain.failure is None)
    assert await keys(dsn) == keys_of(forecasts(2))


async def test_before_the_migration_rows_wait_for_it(tmp_path, empty_dsn):
    async with open_pool(empty_dsn) as pool, Store(tmp_path / "journal", pool) as store:
        await store.record(candles(2), forecasts(2))
        await until(lambda: "candlecast migrate" in (store.drain.failure or ""))
        await migrate(empty_dsn)
        await store.caught_up()
    assert await keys(empty_dsn) == keys_of(forecasts(2))


async def test_a_drain_with_nothing_to_do_is_in_nobodys_way(dsn, pool):
    async with pool.connection() as connection:
        await module.Writer.on(connection)
        other = await asyncpg.connect(dsn)
        try:
            await other.execute("ALTER TABLE candles ADD COLUMN later bigint", timeout=5)
            await other.execute("ALTER TYPE candle_input ADD ATTRIBUTE later bigint CASCADE", timeout=5)
        finally:
            await other.close()


@pytest.fixture
async def own(cluster, tmp_path):
    """A server of one's own, to be mistreated."""
    copy(cluster, tmp_path / "copy")
    running = EmbeddedPostgres(tmp_path / "copy" / "data", tmp_path / "log")
    async with running:
        await migrate(running.dsn)
        yield running


@asynccontextmanager
async def own_store(own, tmp_path, **options):
    async with open_pool(own.dsn, **options) as pool, Store(tmp_path / "journal", pool, rows_max=30) as store:
        yield store


async def load(store, symbol, messages):
    for i in range(messages):
        start_ms = START_MS + 3 * i * INTERVAL_MS
        bars, given = (make(3, symbol=symbol, start_ms=start_ms) for make in (candles, forecasts))
        assert all(await store.new(bars, given))


async def load_while(store, dsn, fault):
    """Bring a fault over PostgreSQL when some rows are there; each is there once at the end.

    The fault calls what it is given while PostgreSQL is away.
    """
    loads = [asyncio.create_task(load(store, f"S{i}", 120)) for i in range(8)]
    await until(lambda: more_than(dsn, 100))
    await fault(lambda: load(store, "AWAY", 1))
    async with asyncio.timeout(30):
        await asyncio.gather(*loads)
        await store.drain.caught_up(store.journal.end)
    expected = sorted((f"S{i}", START_MS + (k + 1) * INTERVAL_MS) for i in range(8) for k in range(360))
    assert await keys(dsn) == keys_of(forecasts(3, symbol="AWAY")) + expected
    assert len(await keys(dsn, "candles")) == 8 * 360 + 3


async def more_than(dsn, count):
    return len(await keys(dsn)) > count


async def test_kill_9_of_a_backend_loses_nothing_and_doubles_nothing(own, tmp_path):
    async def kill(record):
        async with open_pool(own.dsn, connections_max=1) as other:
            others = "pg_stat_activity WHERE application_name = 'candlecast' AND pid <> pg_backend_pid()"
            rows = await other.fetch(f"SELECT pid FROM {others} ORDER BY state_change DESC")  # who wrote last
        os.kill(rows[0][0], signal.SIGKILL)
        await record()

    async with own_store(own, tmp_path) as store:
        await load_while(store, own.dsn, kill)


async def test_kill_9_of_the_server_loses_nothing_and_doubles_nothing(own, tmp_path):
    async def kill(record):
        os.kill(own.pid, signal.SIGKILL)
        assert await own.wait() == -signal.SIGKILL
        await record()
        await own.__aexit__(None, None, None)
        await own.__aenter__()

    async with own_store(own, tmp_path) as store:
        await load_while(store, own.dsn, kill)


async def test_a_frozen_server_loses_nothing_and_doubles_nothing(own, tmp_path):
    async with own_store(own, tmp_path, command_timeout_ms=300, connect_timeout_ms=300) as store:

        async def freeze(record):
            family = [psutil.Process(own.pid), *psutil.Process(own.pid).children()]
            try:
                for process in family:
                    with suppress(psutil.NoSuchProcess):
                        process.suspend()
                await record()
                await until(lambda: store.drain.failure is not None)
                await store.recorder.check()
            finally:
                for process in family:
                    with suppress(psutil.NoSuchProcess):
                        process.resume()

        await load_while(store, own.dsn, freeze)
