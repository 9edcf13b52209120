import asyncio

import numpy as np
import pytest

from candlecast import features as feature_state
from candlecast.errors import DeadlineExceeded, Overloaded, Stopped
from candlecast.features import Features
from candlecast.filters import Thresholds
from candlecast.forecaster import Forecaster, answer_within
from candlecast.values import Model
from tests.fakes import FakeModel, FakeRecorder
from tests.market_simulator import candles


class HeldModel(FakeModel):
    """A FakeModel that answers when told to."""

    def __init__(self):
        super().__init__()
        self.go = asyncio.Event()

    async def __call__(self, windows):
        await self.go.wait()
        return await super().__call__(windows)


def forecaster(model, recorder, rows_max=2_000):
    return Forecaster(
        Features(symbols_max=10, conflicts_max=3),
        model,
        recorder,
        model=Model("fake", 1, "0" * 64, feature_state.FEATURE_SET_HASH),
        temperatures=np.ones(4),
        thresholds=Thresholds(),
        batch_rows_max=12,
        batches_in_flight_max=2,
        rows_max=rows_max,
    )


NEED = Features(symbols_max=1, conflicts_max=1).need
HISTORY = candles("BTCUSDT", NEED + 40)


def slice_of(start, stop):
    return HISTORY.take(np.arange(start, stop))


async def warm(f):
    await f.accept(slice_of(0, NEED), forecast=False)


async def test_many_candles_of_one_symbol_in_one_batch_give_the_forecasts_of_one_by_one():
    at_once, one_by_one = FakeRecorder(), FakeRecorder()
    async with forecaster(FakeModel(), at_once) as f:
        await warm(f)
        await f.accept(slice_of(NEED, NEED + 40))
    async with forecaster(FakeModel(), one_by_one) as f:
        await warm(f)
        for i in range(NEED, NEED + 40):
            await f.accept(slice_of(i, i + 1))
    assert len(at_once.forecasts) == 40
    for key, outputs in one_by_one.forecasts.items():
        np.testing.assert_array_equal(at_once.forecasts[key], outputs)


async def test_a_caller_that_left_takes_nothing_from_the_table():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder) as f:
        await warm(f)
        with pytest.raises(DeadlineExceeded):
            await answer_within(f.accept(slice_of(NEED, NEED + 1)), timeout_ms=1)
        assert recorder.forecasts == {}
        model.go.set()
    assert len(recorder.forecasts) == 1


async def test_candles_beyond_the_limit_are_refused_before_any_state_moves():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder, rows_max=NEED) as f:
        await warm(f)
        first = f.accept(slice_of(NEED, NEED + 30))
        with pytest.raises(Overloaded):
            f.accept(slice_of(NEED + 30, NEED + 40).take(np.arange(10).repeat(NEED)))
        model.go.set()
        await first
        answer = await f.accept(slice_of(NEED + 30, NEED + 40))
        assert (answer.moved.pushed.verdict == feature_state.ACCEPTED).all()


async def test_stopping_finishes_what_was_accepted_and_refuses_the_rest():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder) as f:
        await warm(f)
        f.accept(slice_of(NEED, NEED + 40))
        model.go.set()
    assert len(recorder.forecasts) == 40
    with pytest.raises(Stopped):
        f.accept(slice_of(0, 1))


async def test_stage_times_and_row_summary_belong_to_the_forecast():
    async with forecaster(FakeModel(), FakeRecorder()) as f:
        await warm(f)
        forecasts = (await f.accept(slice_of(NEED, NEED + 3), decode_us=7)).forecasts
    assert forecasts.times.decode_us == 7
    assert forecasts.rows.shape == (3, len(feature_state.NAMES))
    np.testing.assert_array_equal(forecasts.outputs, FakeModel.answer(forecasts.rows))
    np.testing.assert_array_equal(forecasts.close, HISTORY.values[NEED : NEED + 3, 3])
    assert (forecasts.zero_variance >= 0).all()
