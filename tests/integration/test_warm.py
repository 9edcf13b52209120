"""A restart: rows after it are those of a state that never stopped, bit by bit, with the real core and PostgreSQL."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from candlecast import feature_page
from candlecast.features import ACCEPTED, NAMES, OPTIONAL_INPUTS, STATES, Features
from candlecast.server import warm
from candlecast.server.warm import warm_up
from candlecast.snapshots import Snapshots
from candlecast.store.history import accepted_after, before_the_newest, recent_symbols, unforecast
from candlecast.store.migrate import migrate
from candlecast.store.pool import open_pool
from candlecast.values import Candles
from tests import market_simulator
from tests.market_simulator import INTERVAL_MS

REFERENCE, QUARANTINED = "BTCUSDT", "S07"
SYMBOLS = (REFERENCE, *(f"S{i:02}" for i in range(29)))
BARS, REBUILT, SAVED_AT, AFTER = 1_500, 1_100, (1_440, 1_484), 8
"""Bars that are stored; of which a rebuild takes these; after which snapshots are taken; bars that are compared."""
COLUMNS = (
    "symbol", "interval_ms", "open_time", "open", "high", "low", "close", "volume", "quote_volume", "trades",
    "taker_buy_volume", "accepted_ns",
)  # fmt: skip


def empty():
    return Features(symbols_max=100, conflicts_max=3, optional_inputs=OPTIONAL_INPUTS, reference_symbol=REFERENCE)


@dataclass
class Life:
    """A state that never stopped, what it has left behind, and how it goes on."""

    features: Features
    directory: Path  # of its snapshots
    next_batches: list[Candles]
    next_moved: list[tuple] = field(default_factory=list)


def batches(rng, start_ms):
    """Yield the batches of a market, two a bar: gaps of 1 to 4, repeated candles, the reference late now and then.

    Then two symbols in turn take their bar without it, or all do; what compares them with it is 0 for 96 bars.
    """
    markets = {s: market_simulator.candles(s, BARS + AFTER, start_ms=start_ms, seed=i) for i, s in enumerate(SYMBOLS)}
    silent, late = dict.fromkeys(SYMBOLS, 0), []
    for bar in range(BARS + AFTER):
        parts = (late, [])
        late = []
        if reference_part := int(bar % 10 == 5):
            early = {SYMBOLS[1 + (bar // 10 * 2 + i) % (len(SYMBOLS) - 1)] for i in range(2)}
        else:
            early = set(rng.choice(SYMBOLS, 20, replace=False).tolist())
        for symbol in SYMBOLS:
            candle = markets[symbol].take(np.array([bar]))
            if silent[symbol] < -5 and rng.random() < 0.004:
                silent[symbol] = int(rng.integers(1, 5))
            silent[symbol] -= 1
            if silent[symbol] >= 0:
                continue
            if symbol != REFERENCE:
                parts[symbol not in early].append(candle)
            elif bar in (300, 1_300):
                late.append(candle)
            else:
                parts[reference_part].append(candle)
            if bar and rng.random() < 0.02:
                parts[1].append(markets[symbol].take(np.array([bar - 1])))
        for part in parts:
            if part:
                yield bar, Candles.joined(part)


def row(candles, i, accepted_ns):
    symbol, interval_ms, open_time_ms = candles.names[i], int(candles.interval_ms[i]), int(candles.open_time_ms[i])
    values = [None if value != value else value for value in candles.values[i].tolist()]
    return (symbol, interval_ms, datetime.fromtimestamp(open_time_ms / 1000, UTC), *values, accepted_ns)


async def store(dsn, rows):
    connection = await asyncpg.connect(dsn)
    try:
        months = sorted({row[2].date().replace(day=1) for row in rows})
        await connection.execute("SELECT create_month_partitions('candles', $1)", months)
        await connection.copy_records_to_table("candles", records=rows, columns=COLUMNS)
    finally:
        await connection.close()


def conflict(features, candles):
    """Contradict the newest candle of a symbol until it is quarantined."""
    for i in range(3):
        values = candles.values.copy()
        values[:, 4] += i + 1
        features.push(Candles(candles.symbol, candles.interval_ms, candles.open_time_ms, values, candles.forming))


async def settled():
    return None


def saving(directory, features):
    return Snapshots(directory, features, settled, interval_s=1_000)


class WhileCandlesComeIn:
    """A market that moves on while its snapshots are taken."""

    def __init__(self, features, go_on):
        self.features, self.go_on, self.taken = features, go_on, 0

    def __getattr__(self, name):
        return getattr(self.features, name)

    def snapshot(self, symbol, interval_ms):
        self.taken += 1
        if self.taken % 5 == 4:
            self.go_on()
        return self.features.snapshot(symbol, interval_ms)


@pytest.fixture(scope="module")
async def module_dsn(postgres):
    async with open_pool(postgres.dsn) as pool:
        await pool.fetch("CREATE SCHEMA warm")
    dsn = f"{postgres.dsn}&search_path=warm"
    await migrate(dsn)
    return dsn


@pytest.fixture(scope="module")
async def life(module_dsn, tmp_path_factory):
    midnight_ms = int(time.time()) // 86_400 * 86_400_000  # the hours of its candles are the same whenever it runs
    start_ms = midnight_ms - (BARS + AFTER) * INTERVAL_MS
    live, directory = empty(), tmp_path_factory.mktemp("life") / "snapshots"
    rows, script = [], list(batches(np.random.default_rng(5), start_ms))
    told = iter([(bar, batch) for bar, batch in script if bar < BARS])
    bar = 0

    def go_on():
        nonlocal bar
        bar, batch = next(told)
        verdict = live.push(batch, windows=False).pushed.verdict
        accepted_ns = start_ms * 1_000_000 + len(rows)
        rows.extend(row(batch, i, accepted_ns) for i in np.flatnonzero(verdict == ACCEPTED).tolist())
        return batch

    for at in SAVED_AT:
        while bar < at:
            batch = go_on()
        while QUARANTINED not in batch.names:
            batch = go_on()
        if at == SAVED_AT[0]:
            conflict(live, batch.take(np.array([batch.names.index(QUARANTINED)])))
        assert await saving(directory, WhileCandlesComeIn(live, go_on)).save()
    assert len(list(directory.iterdir())) == 2
    with suppress(StopIteration):
        while True:
            go_on()
    await store(module_dsn, rows)
    life = Life(live, directory, [batch for bar, batch in script if bar >= BARS])
    life.next_moved = [moved(live, batch) for batch in life.next_batches]
    assert {STATES[code] for state, *_ in life.next_moved for code in state.tolist()} == {"READY", "QUARANTINED"}
    return life


def moved(features, batch):
    """Return all that a batch gives."""
    moved = features.push(batch)
    pushed = moved.pushed
    return pushed.state, pushed.verdict, pushed.have, pushed.gap_filled, pushed.features_hash, moved.windows


@pytest.fixture
async def pool(module_dsn):
    async with open_pool(module_dsn) as pool:
        yield pool


async def warmed(pool, directory, **options):
    features = empty()
    options = {"rebuild_candles_max": REBUILT, "rebuild_age_max_h": 48, "symbols_max": 100} | options
    figures = await warm_up(features, saving(directory, features), pool, empty, **options)
    return features, figures


def copied(life, directory):
    """Copy the snapshots; return their files, the older first."""
    directory.mkdir()
    for path in life.directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return sorted(directory.iterdir())


def assert_goes_on_bit_by_bit(features, life):
    for batch, expected in zip(life.next_batches, life.next_moved, strict=True):
        for found, wanted in zip(moved(features, batch), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def assert_goes_on_as_a_rebuilt_state_does(features, life):
    """Windowed columns are equal bit by bit; those that never quite forget are close."""
    memory = json.loads(feature_page.MEMORY_FILE.read_text())["bars"]
    warmup = {feature.name: feature.warmup_bars for feature in feature_page._rust.catalog()}
    windowed = np.array([memory[name] <= warmup[name] for name in NAMES])
    assert windowed.sum() > 150
    for batch, (state, verdict, _, gap_filled, _, windows) in zip(life.next_batches, life.next_moved, strict=True):
        found = moved(features, batch)
        ready = np.array([symbol != QUARANTINED for symbol in batch.names])  # conflicts are not stored
        np.testing.assert_array_equal(found[0][ready], state[ready])
        np.testing.assert_array_equal(found[1], verdict)
        np.testing.assert_array_equal(found[3], gap_filled)
        np.testing.assert_array_equal(found[5][:, :, windowed], windows[:, :, windowed])
        np.testing.assert_allclose(found[5], windows, rtol=2e-3, atol=2e-3)


async def test_after_a_restart_the_rows_are_those_of_a_state_that_never_stopped(pool, life):
    features, figures = await warmed(pool, life.directory)
    assert (figures.restored, figures.rebuilt, figures.damaged, figures.refused) == (30, 0, 0, 0)
    assert 25 * 10 < figures.replayed < 30 * 20
    assert_goes_on_bit_by_bit(features, life)
    assert STATES[features.status(QUARANTINED, INTERVAL_MS).state] == "QUARANTINED"


async def test_candles_in_another_order_would_give_other_rows(pool, life, monkeypatch):
    monkeypatch.setattr(warm, "_pushes", lambda accepted, reference: [np.arange(len(accepted.moved_ns))])
    features, _ = await warmed(pool, life.directory)
    with pytest.raises(AssertionError):
        assert_goes_on_bit_by_bit(features, life)


async def test_candles_in_small_portions_give_the_same_rows(pool, life, monkeypatch):
    monkeypatch.setattr("candlecast.store.history.ROWS", 7)
    features, _ = await warmed(pool, life.directory)
    assert_goes_on_bit_by_bit(features, life)


async def test_the_snapshots_before_serve_when_the_newest_are_damaged(pool, life, tmp_path):
    _, newest = copied(life, tmp_path / "snapshots")
    whole = newest.read_bytes()
    for at in (0, 1_000_000, len(whole) - 1):
        newest.write_bytes(whole[:at])
        features, figures = await warmed(pool, tmp_path / "snapshots")
        assert (figures.restored, figures.rebuilt, figures.damaged) == (30, 0, 1)
        assert_goes_on_bit_by_bit(features, life)


@pytest.mark.parametrize("symbols", [[REFERENCE], ["S03"], [REFERENCE, "S03", "S11"]], ids=str)
async def test_damaged_records_are_taken_from_the_snapshots_before(pool, life, tmp_path, symbols):
    _, newest = copied(life, tmp_path / "snapshots")
    damage(newest, symbols)
    features, figures = await warmed(pool, tmp_path / "snapshots")
    assert (figures.restored, figures.rebuilt, figures.damaged) == (30, 0, len(symbols))
    assert_goes_on_bit_by_bit(features, life)


@pytest.mark.parametrize("symbols", [[REFERENCE], ["S03", "S11"], [REFERENCE, "S03"]], ids=str)
async def test_symbols_damaged_in_both_files_are_rebuilt_and_no_other_suffers(pool, life, tmp_path, symbols):
    for path in copied(life, tmp_path / "snapshots"):
        damage(path, symbols)
    features, figures = await warmed(pool, tmp_path / "snapshots")
    assert (figures.restored, figures.rebuilt) == (30 - len(symbols), len(symbols))
    others = empty()
    for key in features.symbols():
        if key[0] not in symbols:
            others.restore(features.snapshot(*key))
    assert_goes_on_as_a_rebuilt_state_does(features, life)
    for key in others.symbols():
        uninterrupted = life.features.snapshot(*key)
        assert features.snapshot(*key) == uninterrupted, key


@pytest.mark.parametrize("how", ["no snapshots", "all damaged", "of another version"])
async def test_without_snapshots_everything_is_rebuilt_from_stored_candles(pool, life, tmp_path, how):
    if how != "no snapshots":
        for path in copied(life, tmp_path / "snapshots"):
            whole = path.read_bytes()
            path.write_bytes(whole[:100] if how == "all damaged" else b"CCSNAP\x63\x00" + whole[8:])
    features, figures = await warmed(pool, tmp_path / "snapshots")
    assert (figures.restored, figures.rebuilt, figures.refused) == (0, 30, 0)
    assert figures.damaged == (0 if how == "no snapshots" else 2)
    assert_goes_on_as_a_rebuilt_state_does(features, life)


async def test_symbols_are_rebuilt_some_at_a_time_with_the_same_result(pool, life, tmp_path, monkeypatch):
    monkeypatch.setattr(warm, "REBUILT_AT_ONCE", 4)
    features, figures = await warmed(pool, tmp_path)
    assert figures.rebuilt == 30
    assert_goes_on_as_a_rebuilt_state_does(features, life)


async def test_rebuilt_from_all_its_candles_a_state_is_the_same_but_for_conflicts(pool, life, tmp_path):
    features, _ = await warmed(pool, tmp_path, rebuild_candles_max=BARS + 100)
    for batch, expected in zip(life.next_batches, life.next_moved, strict=True):
        for found, wanted in zip(moved(features, batch)[1:], expected[1:], strict=True):
            np.testing.assert_array_equal(found, wanted)


async def test_a_symbol_that_went_silent_long_ago_stays_unknown_without_a_snapshot(pool, life, tmp_path):
    features, figures = await warmed(pool, tmp_path, rebuild_age_max_h=0.001)
    assert (figures.restored, figures.rebuilt, features.symbols()) == (0, 0, [])


async def test_more_symbols_than_there_is_room_for_are_left_out(pool, life, tmp_path, caplog):
    features = Features(symbols_max=5, conflicts_max=3, optional_inputs=OPTIONAL_INPUTS, reference_symbol=REFERENCE)
    await warm_up(
        features, saving(tmp_path, features), pool, empty, rebuild_candles_max=50, rebuild_age_max_h=48, symbols_max=100
    )
    assert len(features.symbols()) == 5
    assert features.symbols()[0] == (REFERENCE, INTERVAL_MS)
    assert "not rebuilt" in caplog.text


def damage(path, symbols):
    """Flip a bit of the snapshots of symbols, and of nothing else."""
    whole = bytearray(path.read_bytes())
    for symbol in symbols:
        head = whole.index(symbol.encode().ljust(32, b"\0"))
        whole[head + 50_000] ^= 1
    path.write_bytes(whole)


def candle(symbol, bar, accepted_ns, interval_ms=INTERVAL_MS, start=1_700_000_100_000):
    opened = datetime.fromtimestamp((start + bar * interval_ms) / 1000, UTC)
    return (symbol, interval_ms, opened, 1.0, 2.0, 0.5, 1.5, 10.0 + bar, None, 3.0, None, accepted_ns)


async def in_order(pool, after, reference_symbol="R"):
    """Return (symbol, bar, what it was accepted with) of the candles after."""
    found = []
    async for accepted in accepted_after(pool, after, reference_symbol):
        bars = (accepted.candles.open_time_ms - 1_700_000_100_000) // INTERVAL_MS
        found += zip(accepted.candles.names, bars.tolist(), accepted.moved_ns.tolist(), strict=True)
    return found


@pytest.fixture
async def own(dsn):
    async with open_pool(dsn) as pool:
        yield pool, dsn


async def test_stored_candles_come_back_in_the_order_in_which_they_were_accepted(own):
    pool, dsn = own
    now = 1_800_000_000_000_000_000
    await store(
        dsn, [candle("A", 0, now + 1), candle("R", 0, now + 2), candle("A", 1, now + 3), candle("R", 1, now + 3)]
    )
    everything = {("A", INTERVAL_MS): -1, ("R", INTERVAL_MS): -1, ("NEVER", INTERVAL_MS): -1}
    expected = [("A", 0, now + 1), ("R", 0, now + 2), ("R", 1, now + 3), ("A", 1, now + 3)]
    assert await in_order(pool, everything) == expected
    assert await in_order(pool, {("A", INTERVAL_MS): 1_700_000_100_000}) == [("A", 1, now + 3)]
    assert await in_order(pool, {}) == []


async def test_candles_of_which_nobody_knows_when_they_came_are_taken_at_their_close(own):
    pool, dsn = own
    await store(dsn, [candle("A", 0, 0), candle("A", 1, 0), candle("R", 0, 0), candle("R", 1, 0)])
    found = await in_order(pool, {("A", INTERVAL_MS): -1, ("R", INTERVAL_MS): -1})
    closes = [(1_700_000_100_000 + (bar + 1) * INTERVAL_MS) * 1_000_000 for bar in (0, 1)]
    assert found == [("R", 0, closes[0]), ("A", 0, closes[0]), ("R", 1, closes[1]), ("A", 1, closes[1])]


async def test_a_history_that_was_sent_after_its_newest_candles_comes_back_in_order_of_time(own):
    pool, dsn = own
    now = 1_800_000_000_000_000_000
    await store(
        dsn, [candle("A", 2, now + 1), candle("A", 0, now + 5), candle("A", 1, now + 5), candle("A", 3, now + 9)]
    )
    found = await in_order(pool, {("A", INTERVAL_MS): -1})
    assert found == [("A", 0, now + 5), ("A", 1, now + 5), ("A", 2, now + 5), ("A", 3, now + 9)]


async def test_symbols_with_a_recent_candle_are_found_across_months_and_intervals(own):
    pool, dsn = own
    month = 30 * 96
    rows = [candle(f"S{i}", bar, 1) for i in range(20) for bar in (0, 1, month)]
    rows += [candle("GONE", bar, 1) for bar in range(50)]
    rows += [candle("S3", 0, 1, interval_ms=60_000, start=1_700_000_100_000 + month * INTERVAL_MS)]
    await store(dsn, rows)
    since_ms = 1_700_000_100_000 + 100 * INTERVAL_MS
    found = await recent_symbols(pool, since_ms, 100)
    assert found == sorted([*((f"S{i}", INTERVAL_MS) for i in range(20)), ("S3", 60_000)])
    assert await recent_symbols(pool, since_ms, 4) == found[:4]
    assert await recent_symbols(pool, since_ms + 10**10, 4) == []


async def test_the_newest_candles_of_a_symbol_are_counted_from_the_end(own):
    pool, dsn = own
    await store(dsn, [candle("A", bar, 1) for bar in range(10)] + [candle("B", 0, 1)])
    keys = [("A", INTERVAL_MS), ("B", INTERVAL_MS), ("C", INTERVAL_MS)]
    assert await before_the_newest(pool, keys, 3) == [1_700_000_100_000 + 6 * INTERVAL_MS, -1, -1]
    assert await before_the_newest(pool, [], 3) == []


async def test_candles_without_a_forecast_of_the_model_made_or_missed_are_found(own):
    pool, _ = own
    for table in ("ml_prediction_rows", "ml_missed_predictions"):
        await pool.fetch(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    at = datetime.fromtimestamp(1_700_000_100, UTC)
    await pool.fetch("SELECT create_month_partitions('ml_prediction_rows', ARRAY[$1::timestamptz::date])", at)
    (bare,) = await pool.fetch(
        "SELECT string_agg(column_name, ', ') AS names, string_agg(CASE data_type"
        " WHEN 'bytea' THEN '''''::bytea' WHEN 'text' THEN '''READY''' WHEN 'ARRAY' THEN '''{}'''"
        " WHEN 'boolean' THEN 'false' ELSE '0' END, ', ') AS zeros FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = 'ml_prediction_rows' AND is_nullable = 'NO'"
        " AND column_default IS NULL"
        " AND column_name NOT IN ('symbol', 'interval_ms', 'close_time', 'model', 'version', 'direction', 'strength')"
    )
    made = [("A", 900_000, "patchtst", 1), ("B", 900_000, "patchtst", 2), ("C", 60_000, "patchtst", 1)]
    for key in made:
        await pool.fetch(
            "INSERT INTO ml_prediction_rows (symbol, interval_ms, model, version, close_time, direction, strength,"
            f" {bare['names']}) VALUES ($1, $2, $3, $4, $5, 'NEUTRAL', 'WEAK', {bare['zeros']})",
            *key, at,
        )  # fmt: skip
    await pool.fetch(
        "INSERT INTO ml_missed_predictions (symbol, interval_ms, close_time, model, version, reason)"
        " VALUES ('D', 900000, $1, 'patchtst', 1, 'MODEL_UNAVAILABLE')", at,
    )  # fmt: skip
    closes = [(symbol, 900_000, 1_700_000_100_000) for symbol in "ABCDE"] + [("A", 900_000, 1_700_001_000_000)]
    missing = [("B", 900_000), ("C", 900_000), ("E", 900_000), ("A", 900_000)]
    assert await unforecast(pool, closes, "patchtst", 1) == missing
    assert await unforecast(pool, [], "patchtst", 1) == []
