"""The newest forecast of each series, from memory."""

from dataclasses import replace

import numpy as np
import pytest

from candlecast.cache import ForecastCache
from candlecast.features import Features
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.integration.conftest import MODEL, START_MS, forecasts
from tests.market_simulator import candles


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def made(count, **options):
    """Forecasts of `count` series of one close."""
    given = forecasts(count, **options)
    return replace(given, close_time_ms=np.full(count, START_MS))


def recall(cache, given, series, **changes):
    columns = {
        "close_time_ms": given.close_time_ms,
        "features_hash": given.features_hash,
        "models": (MODEL,),
        "of_model": np.zeros(len(series), dtype=np.int64),
    } | changes
    return cache.recall(np.array(series), **columns)


def test_what_was_kept_comes_back_and_the_rest_is_asked():
    cache, given = ForecastCache(ttl_s=300, rows_max=100), made(3)
    cache.keep(np.array([5, 1, 3]), given)
    wanted = given.take(np.array([2, 0, 1, 0]))
    recalled = recall(cache, wanted, [3, 7, 1, 5])
    assert (recalled.fresh.tolist(), recalled.known.tolist()) == ([1], [0, 2, 3])
    fresh = made(1, seed=9)
    joined = recalled.joined(fresh)
    np.testing.assert_array_equal(joined.features_hash[[0, 2, 3]], given.features_hash[[2, 1, 0]])
    np.testing.assert_array_equal(joined.meaning.probabilities[1], fresh.meaning.probabilities[0])
    assert recalled.joined(None) is None


@pytest.mark.parametrize(
    "changes",
    [{"close_time_ms": np.full(2, START_MS + 1)}, {"features_hash": np.zeros(2, dtype=np.uint64)},
     {"models": (replace(MODEL, version=4),)}],
    ids=["close", "features", "model"],
)  # fmt: skip
def test_another_close_other_features_and_another_model_are_not_known(changes):
    cache, given = ForecastCache(ttl_s=300, rows_max=100), made(2)
    cache.keep(np.array([0, 1]), given)
    assert recall(cache, given, [0, 1], **changes).forecasts is None


def test_a_forecast_is_forgotten_with_time_and_when_there_are_too_many():
    clock = Clock()
    cache = ForecastCache(ttl_s=300, rows_max=4, clock=clock)
    first, second = made(2, seed=1), made(2, seed=2)
    cache.keep(np.array([0, 1]), first)
    clock.now = 200
    cache.keep(np.array([2, 3]), second)
    assert recall(cache, first, [0, 1]).known.tolist() == [0, 1]
    clock.now = 301
    assert recall(cache, first, [0, 1]).forecasts is None
    assert recall(cache, second, [2, 3]).known.tolist() == [0, 1]
    cache.keep(np.array([4, 5, 6]), made(3, seed=3))
    assert recall(cache, second, [2, 3]).forecasts is None
    assert len(cache) == 3


def test_what_is_not_the_newest_of_any_series_is_not_held():
    cache = ForecastCache(ttl_s=300, rows_max=10_000)
    for bar in range(50):
        given = made(3, seed=bar)
        cache.keep(np.array([0, 1, 2]), replace(given, close_time_ms=given.close_time_ms + bar))
    assert len(cache) == 3
    one = made(1, seed=99)
    cache.keep(np.array([1]), replace(one, close_time_ms=one.close_time_ms + 50))
    assert len(cache) == 4  # two of the batch before are the newest of their series
    cache.keep(np.array([0, 2, 2]), replace(made(3, seed=7), close_time_ms=np.full(3, START_MS + 60)))
    assert len(cache) == 4
    assert recall(cache, replace(one, close_time_ms=one.close_time_ms + 50), [1]).known.tolist() == [0]


def test_nothing_is_kept_of_forming_candles_nor_with_a_ttl_of_0():
    given = replace(made(2), forming=np.array([True, True]))
    for cache in (ForecastCache(ttl_s=300, rows_max=9), ForecastCache(ttl_s=0, rows_max=9)):
        cache.keep(np.array([0, 1]), given if cache._ttl_s else made(2))
        assert len(cache) == 0


async def test_the_newest_candle_again_and_its_symbol_are_answered_without_the_model_and_stored_once():
    features, model, recorder = Features(symbols_max=9, conflicts_max=3), FakeModel(), FakeRecorder()
    history = candles("BTCUSDT", features.need + 2)
    newest = history.take(np.array([features.need]))
    async with fakes.forecaster(features, model, recorder, cache_ttl_s=300) as forecaster:
        await forecaster.accept(history.take(np.arange(features.need)), forecast=False)
        first = await forecaster.accept(newest)
        model.broken = True  # whoever asked it would hear so
        again = await forecaster.accept(newest)
        asked = await forecaster.newest(["BTCUSDT"], 900_000)
        model.broken = False
        assert (model.rows, forecaster.ml_cache_hits_total) == (1, 2)
        for answer in (again, asked):
            np.testing.assert_array_equal(answer.forecasts.outputs, first.forecasts.outputs)
            assert answer.recorded.new.tolist() == [False]
            assert answer.forecasts.times.model_us == 0
        # By the wall clock the symbol is stale: it says so, and no signal leaves.
        assert asked.forecasts.direction.tolist() == [0] and asked.forecasts.reasons[0] & 8
        await forecaster.accept(history.take(np.array([features.need + 1])))
        assert (model.rows, len(recorder.forecasts)) == (2, 2)


async def test_known_and_new_candles_of_one_message_go_their_ways_and_come_back_in_order():
    features, model, recorder = Features(symbols_max=9, conflicts_max=3), FakeModel(), FakeRecorder()
    histories = [candles(name, features.need + 1) for name in ("AUSDT", "BUSDT", "CUSDT")]
    async with fakes.forecaster(features, model, recorder, cache_ttl_s=300) as forecaster:
        for history in histories:
            await forecaster.accept(history.take(np.arange(features.need)), forecast=False)
        newest = [history.take(np.array([features.need])) for history in histories]
        await forecaster.accept(newest[1])
        answer = await forecaster.accept(type(newest[0]).joined(newest))
        assert (model.rows, forecaster.ml_cache_hits_total) == (3, 1)
        np.testing.assert_array_equal(answer.forecasts.outputs, FakeModel.answer(answer.moved.windows[:, -1]))
        assert answer.forecasts.names == ["AUSDT", "BUSDT", "CUSDT"]
        assert answer.recorded.new.tolist() == [True, False, True]
