import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from candlecast.store.candles import known, rows_of
from candlecast.store.predictions import recent_predictions
from candlecast.store.queries import STATEMENTS
from candlecast.values import Known
from tests.integration.conftest import INTERVAL_MS, START_MS, candles, forecasts
from tests.recorders import Store


async def store(pool, *records):
    """Store through a journal."""
    with tempfile.TemporaryDirectory() as directory:
        async with Store(Path(directory), pool) as written:
            for bars, given in records:
                await written.record(bars, given)
            await written.caught_up()


async def test_known_tells_the_same_from_other_values_and_from_what_is_not_there(pool):
    bars = candles(12)
    await store(pool, (bars.take(np.arange(10)), None))
    asked = bars.take(np.arange(12))
    asked.values[3, 4] = np.nextafter(asked.values[3, 4], 0)
    asked.values[5, 6] = np.nan  # given when it was stored
    asked.values[6, 6] = 1.0  # absent when it was stored
    found = await known(pool, asked)
    assert [i for i, answer in enumerate(found) if answer is Known.OTHER_VALUES] == [3, 5, 6]
    assert [i for i, answer in enumerate(found) if answer is Known.NOT_STORED] == [10, 11]
    order = np.array([11, 3, 0, 0, 7])
    assert await known(pool, asked.take(order)) == [found[i] for i in order]


async def test_known_asks_by_symbol_and_interval_and_of_months_that_have_no_partition(pool):
    await store(pool, (candles(1), None))
    asked = candles(1)
    asked.interval_ms[0] = 60_000
    assert await known(pool, asked) == [Known.NOT_STORED]
    assert await known(pool, candles(1, symbol="ETHUSDT")) == [Known.NOT_STORED]
    assert await known(pool, candles(1, start_ms=0)) == [Known.NOT_STORED]
    assert await known(pool, candles(0)) == []


async def test_known_answers_for_a_forming_candle_too(pool):
    asked = candles(3)
    asked.forming[1] = True
    await store(pool, (asked, None))
    assert await known(pool, asked) == [Known.SAME, Known.NOT_STORED, Known.SAME]


async def test_known_looks_up_each_candle_in_the_index(pool):
    await store(pool, (candles(400), None))
    await pool.fetch("ANALYZE candles")
    async with pool.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        plan = await connection.fetch("EXPLAIN " + STATEMENTS["known_candles"], rows_of(candles(400)))
        await connection.execute("RESET plan_cache_mode")
    text = "\n".join(row[0] for row in plan)
    assert "Index" in text
    assert "Seq Scan on candles" not in text


async def test_recent_predictions_are_newest_first_in_pages_without_gap_or_overlap(pool):
    given = [forecasts(7, symbol=symbol, seed=i) for i, symbol in enumerate(("AAAUSDT", "BBBUSDT", "CCCUSDT"))]
    await store(pool, *((None, f) for f in given))
    expected = sorted(((t, f.names[0]) for f in given for t in f.close_time_ms.tolist()), reverse=True)
    found, page = [], await recent_predictions(pool, limit=4)
    while page:
        assert len(page) <= 4
        found += page
        page = await recent_predictions(pool, limit=4, before=page[-1])
    assert [(row["close_time_ms"], row["symbol"]) for row in found] == expected

    of_one = await recent_predictions(pool, "BBBUSDT", limit=5)
    of_one += await recent_predictions(pool, "BBBUSDT", limit=5, before=of_one[-1])
    assert [(row["close_time_ms"], row["symbol"]) for row in of_one] == [k for k in expected if k[1] == "BBBUSDT"]
    assert await recent_predictions(pool, "NOBODY") == []


async def test_recent_predictions_are_fit_for_json_also_when_an_output_is_not_finite(pool):
    given = forecasts(2)
    given.outputs[1, [0, 17]] = np.nan, np.inf
    given.meaning.confidence[1] = np.nan
    await store(pool, (None, given))
    newest, older = json.loads(json.dumps(await recent_predictions(pool), allow_nan=False))
    assert newest["returns"]["15m"] is None
    assert newest["risks"]["max_rally_1h"] is None
    assert newest["confidence"] is None
    np.testing.assert_array_equal(np.float32(list(older["returns"].values())), given.outputs[0, :4])
    assert older["close_time_ms"] == START_MS + INTERVAL_MS
    assert older["features_hash"] == f"{given.features_hash[0]:014x}"
    assert older["confidence"] == given.meaning.confidence[0]


async def test_recent_predictions_read_by_index_and_not_the_whole_table(pool):
    await store(pool, (None, forecasts(300)), (None, forecasts(300, start_ms=0)))
    await pool.fetch("ANALYZE ml_prediction_rows")
    async with pool.connection() as connection:
        for name, given in (("recent_predictions", []), ("recent_predictions_of_symbol", ["BTCUSDT"])):
            last = [datetime.max.replace(tzinfo=UTC), "", 0, "", 0]
            plan = await connection.fetch("EXPLAIN (ANALYZE, COSTS off) " + STATEMENTS[name], 3, *last, *given)
            text = "\n".join(row[0] for row in plan)
            assert "Seq Scan on ml_prediction" not in text, text
