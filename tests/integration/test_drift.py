"""Drift of stored forecasts: measured from the tables, kept in one, told of once, over restarts too."""

from datetime import timedelta

import numpy as np
import pytest

from candlecast.models.reference import PREDICTIONS, Part, Reference, Spread, Usual
from candlecast.store import drift as store
from candlecast.tracking.drift import DriftWatch
from candlecast.tracking.measures import Limits
from tests.integration.conftest import FEATURES, INTERVAL_MS, MODEL, START_MS, candles, forecasts
from tests.recorders import Store

DAY = 96
DAYS = 4
GROUPS = ("momentum", "momentum", *("volume",) * 40, *("time",) * 44)
LIMITS = Limits(psi=0.3, psi_end=0.15, ks=0.3, ks_end=0.2, alerts_per_day_max=5)


def four_days(seed, *, moved):
    """Forecasts of one symbol; on the last day the group momentum has moved, if told."""
    given = forecasts(DAY * DAYS, seed=seed, symbol=f"S{seed}USDT")
    given.rows[:, 42:] += np.arange(DAY * DAYS, dtype=np.float32)[:, None]
    if moved:
        given.rows[-DAY:, 0] += 20
    return given


def watch(dsn, heard, limits=LIMITS, rows_max=2_000, reference=None):
    async def tell(drifted):
        heard.append(str(drifted))

    return DriftWatch(
        dsn, lambda: MODEL, lambda model: reference, FEATURES, GROUPS, limits,
        reference=timedelta(days=1), newest=timedelta(days=1),
        rows_max=rows_max, interval_s=3_600, tell=tell,
    )  # fmt: skip


async def stored(directory, pool, given):
    async with Store(directory, pool) as store:
        for part in given:
            await store.record(candles(1, symbol=part.names[0], start_ms=START_MS), part)
        await store.caught_up()


async def test_drift_is_measured_kept_and_told_of_once(dsn, pool, tmp_path):
    heard = []
    assert await watch(dsn, heard).look(pool) == ()  # nothing is stored
    await stored(tmp_path, pool, [four_days(seed, moved=True) for seed in range(4)])
    first = watch(dsn, heard)
    found = {one.subject: one for one in await first.look(pool)}
    assert {name for name, one in found.items() if one.drifting} == {"momentum"}
    assert set(found) == {"momentum", "volume", "direction", "confidence"}
    assert found["momentum"].worst == "rsi_14"
    assert first.drifting()["momentum",] == 1 and first.psi()["volume",] < 0.1
    assert len(heard) == 1 and heard[0].startswith("patchtst v3: momentum drifts from its first days, PSI ")
    (row,) = await pool.fetch("SELECT * FROM ml_drift WHERE drifting")
    assert (row["subject"], row["alerted"], row["psi"]) == ("momentum", True, found["momentum"].psi)
    assert (row["reference_rows"], row["newest_rows"]) == (4 * DAY, 4 * (DAY - 2))  # a day from a whole hour on
    assert row["newest_to"] - row["newest_from"] == timedelta(days=1)

    assert [one.alerted for one in await watch(dsn, heard).look(pool)] == [False] * 4  # after a restart
    calm = Limits(psi=99, psi_end=98, ks=1, ks_end=1, alerts_per_day_max=5)
    assert not any(one.drifting for one in await watch(dsn, heard, calm).look(pool))
    assert heard[1:] == ["patchtst v3: momentum no longer drifts"]
    none_left = Limits(psi=0.3, psi_end=0.15, ks=0.3, ks_end=0.2, alerts_per_day_max=1)
    await watch(dsn, heard, none_left).look(pool)
    assert len(heard) == 2
    await watch(dsn, heard).look(pool)  # what was kept back is told while it lasts
    assert len(heard) == 3


async def test_samples_are_bounded_and_spread_over_their_span(dsn, pool, tmp_path):
    await stored(tmp_path, pool, [four_days(seed, moved=False) for seed in range(6)])
    spans = await store.spans(pool, MODEL.name, MODEL.version, timedelta(days=1), timedelta(days=1))
    assert spans is not None
    some = await store.sample(pool, MODEL.name, MODEL.version, spans[0], 100, len(FEATURES))
    assert 60 <= len(some.side) <= 200
    assert np.ptp(some.rows[:, 42].round()) > DAY / 2
    begun, newest = await store.spans(pool, MODEL.name, MODEL.version, timedelta(days=3), timedelta(days=2))
    assert begun is None and newest[1] - newest[0] == timedelta(days=2)
    assert len((await store.sample(pool, MODEL.name, MODEL.version, spans[0], 100, 3)).side) == 0


async def test_misses_count_each_close_once_in_the_order_of_time(dsn, pool, tmp_path):
    await stored(tmp_path, pool, [four_days(seed, moved=False) for seed in range(2)])
    await pool.fetch(
        "INSERT INTO ml_outcome_rows (symbol, interval_ms, close_time, model, version, hit_1)"
        " SELECT symbol, interval_ms, close_time, model, version, symbol = 'S0USDT' AND close_time < $1"
        " FROM ml_prediction_rows WHERE close_time <= $2",
        _time(10),
        _time(20),
    )
    found = await store.misses(pool, MODEL.name, MODEL.version, _time(0))
    assert found == pytest.approx([0.5] * 9 + [1.0] * 11)


async def test_against_what_it_was_trained_on_drift_is_measured_from_the_first_forecasts_on(dsn, pool, tmp_path):
    heard = []
    given = [four_days(seed, moved=False) for seed in range(4)]
    rows = np.concatenate([one.rows for one in given])
    said = np.concatenate(
        [np.column_stack([one.meaning.confidence, one.meaning.probabilities.reshape(-1, 12)]) for one in given]
    ).astype(np.float32)
    rows[:, 2:42] += 100  # the model was trained on another volume
    span = _time(-1_000), _time(-100)
    usual = Usual(1, 1, np.zeros(len(FEATURES)), np.zeros(len(FEATURES)))
    reference = Reference(Part(span, Spread.of(rows), [usual]), Part(span, Spread.of(said), []))
    await stored(tmp_path, pool, [one.take(np.arange(DAY)) for one in given])
    first = watch(dsn, heard, reference=reference)
    found = {one.subject: one for one in await first.look(pool)}
    assert set(found) == {"momentum", "volume", "confidence", "probabilities"}  # of directions there are too few days
    assert {name for name, one in found.items() if one.drifting} == {"volume"}
    assert len(heard) == 1 and heard[0].startswith("patchtst v3: volume drifts from what it was trained on, PSI ")
    assert first.has_reference() == 1 and first.ks()["volume",] > 0.9 and first.measured_s
    (row,) = await pool.fetch("SELECT * FROM ml_drift WHERE drifting")
    assert (row["against"], row["reference_from"], row["reference_rows"]) == ("BUNDLE", span[0], 4 * 4 * DAY)

    assert watch(dsn, heard).has_reference() is None
    without = watch(dsn, heard)
    assert await without.look(pool) == ()  # nothing to hold it to yet
    assert without.has_reference() == 0


async def test_directions_are_held_to_the_first_days_whatever_the_bundle_says(dsn, pool, tmp_path, caplog):
    given = [four_days(seed, moved=False) for seed in range(4)]
    await stored(tmp_path, pool, given)
    spread = Spread.of(np.concatenate([one.rows for one in given]))
    span = _time(0), _time(9)
    said = Spread.of(np.random.default_rng(0).random((900, len(PREDICTIONS))).astype(np.float32))
    kinds = {"momentum": "BUNDLE", "volume": "BUNDLE", "direction": "FIRST_DAYS", "confidence": "FIRST_DAYS"}
    of_both = kinds | {"confidence": "BUNDLE", "probabilities": "BUNDLE"}
    for predictions, wanted in ((None, kinds), (Part(span, said, []), of_both)):
        reference = Reference(Part(span, spread, []), predictions)
        looked = await watch(dsn, [], reference=reference).look(pool)
        assert {one.subject: one.against for one in looked} == wanted and len(looked) == len(wanted)
    caplog.clear()
    found = {one.subject: one.against for one in await watch(dsn, []).look(pool)}
    assert set(found.values()) == {"FIRST_DAYS"} and len(found) == 4
    assert "drift reference=none model=patchtst version=3" in caplog.text


def _time(bars):
    from tests.integration.filled import utc

    return utc(START_MS + bars * INTERVAL_MS)
