import asyncio
import gc
import weakref
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from candlecast import features as feature_state
from candlecast.errors import DeadlineExceeded, ModelUnavailable, Overloaded, Stopped, StorageUnavailable
from candlecast.features import Features
from candlecast.lifecycle import poll
from candlecast.values import Known
from candlecast.work import Answer, Waiter, Work
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.market_simulator import candles
from tests.recorders import until


class HeldModel(FakeModel):
    """A FakeModel that answers when told to."""

    def __init__(self):
        super().__init__()
        self.go = asyncio.Event()

    async def __call__(self, windows):
        await self.go.wait()
        return await super().__call__(windows)


def forecaster(model, recorder, **limits):
    return fakes.forecaster(Features(symbols_max=10, conflicts_max=3), model, recorder, **limits)


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
            await f.accept(slice_of(NEED, NEED + 1)).answer(1, patient=True)
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


async def test_forecasts_that_a_model_missed_are_made_when_it_is_back():
    model, recorder = FakeModel(), FakeRecorder()
    async with forecaster(model, recorder) as f:
        await warm(f)
        model.broken = True
        works = [f.accept(slice_of(i, i + 1)) for i in range(NEED, NEED + 3)]
        for work in works:
            with pytest.raises(ModelUnavailable):
                await work.answer(5_000, patient=False)
        model.broken = False
        answers = [await work.answer(5_000, patient=True) for work in works]
    assert [answer.recorded.new.tolist() for answer in answers] == [[True]] * 3
    assert len(recorder.forecasts) == 3


async def test_while_the_model_is_away_candles_are_stored_at_once():
    model, recorder = FakeModel(), FakeRecorder()
    async with forecaster(model, recorder) as f:
        await warm(f)
        model.broken = True
        with pytest.raises(ModelUnavailable):
            await f.accept(slice_of(NEED, NEED + 1)).answer(5_000, patient=False)

        async def stored():
            return len(recorder.candles) == NEED + 1

        await poll("the candle's row", stored, timeout_ms=5_000, interval_ms=1)
        assert recorder.forecasts == {}
    assert len(recorder.candles) == NEED + 1


async def test_a_model_that_stays_away_is_given_up_and_the_answer_says_why():
    model, recorder = FakeModel(), FakeRecorder()
    async with forecaster(model, recorder, model_wait_ms=0) as f:
        await warm(f)
        model.broken = True
        answer = await f.accept(slice_of(NEED, NEED + 1))
        assert isinstance(answer.error, ModelUnavailable)
        assert answer.forecasts is None


async def test_stopping_does_not_wait_for_a_model_that_is_away():
    model, recorder = FakeModel(), FakeRecorder()
    async with asyncio.timeout(5), forecaster(model, recorder, model_wait_ms=3_600_000) as f:
        await warm(f)
        model.broken = True
        work = f.accept(slice_of(NEED, NEED + 1))
        with pytest.raises(ModelUnavailable):
            await work.answer(5_000, patient=False)
    assert isinstance((await work).error, ModelUnavailable)


async def test_storage_that_cannot_be_asked_about_a_late_candle_loses_no_other(monkeypatch):
    recorder = FakeRecorder()

    async def unavailable(candles):
        raise StorageUnavailable("no table today")

    async with forecaster(FakeModel(), recorder) as f:
        await f.accept(slice_of(1, NEED + 1), forecast=False)
        monkeypatch.setattr(recorder, "known", unavailable)
        late_and_next = HISTORY.take(np.array([0, NEED + 1]))
        answer = await f.accept(late_and_next)
    assert answer.moved.pushed.verdict.tolist() == [feature_state.LATE, feature_state.ACCEPTED]
    assert answer.known == {0: Known.NOT_STORED}  # LATE to the caller, whatever storage might have known
    assert len(recorder.forecasts) == 1
    assert len(recorder.candles) == NEED + 1


class HeldRecorder(FakeRecorder):
    """A FakeRecorder whose disk takes nothing until told to."""

    def __init__(self):
        super().__init__()
        self.go = asyncio.Event()

    async def record(self, *args, durable=True):
        recorded = await super().record(*args, durable=durable)
        if durable:
            await self.go.wait()
        return recorded

    async def settled(self):
        await self.go.wait()


async def is_late(future):
    """Say whether something is not done soon; it goes on."""
    await asyncio.wait({future}, timeout=0.02)
    return not future.done()


async def test_an_answer_waits_for_the_disk_unless_it_is_not_to_be_durable():
    recorder = HeldRecorder()
    async with forecaster(FakeModel(), recorder) as f:
        f.accept(slice_of(0, NEED), forecast=False)
        waits = f.accept(slice_of(NEED, NEED + 1))
        answer = await asyncio.wait_for(f.accept(slice_of(NEED + 1, NEED + 2), durable=False), 5)
        assert (answer.durable, answer.recorded.new.tolist()) == (False, [True])
        assert not waits.done.done()
        recorder.go.set()
        assert (await waits).durable


async def test_all_is_settled_once_it_is_on_disk():
    recorder = HeldRecorder()
    async with forecaster(FakeModel(), recorder) as f:
        f.accept(slice_of(0, NEED), forecast=False, durable=False)
        settled = asyncio.ensure_future(f.settled())
        assert await is_late(settled)
        recorder.go.set()
        await asyncio.wait_for(settled, 5)


async def test_settled_waits_for_candles_that_were_not_given_to_the_recorder_yet():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder) as f:
        await f.settled()
        await warm(f)
        f.accept(slice_of(NEED, NEED + 1))
        settled = asyncio.ensure_future(f.settled())
        assert await is_late(settled)
        model.go.set()
        await asyncio.wait_for(settled, 5)
        assert len(recorder.candles) == NEED + 1


async def test_settled_does_not_wait_for_a_model_that_is_away():
    model, recorder = FakeModel(), FakeRecorder()
    async with forecaster(model, recorder, model_wait_ms=3_600_000) as f:
        await warm(f)
        model.broken = True
        f.accept(slice_of(NEED, NEED + 1))
        await asyncio.wait_for(f.settled(), 5)
        assert len(recorder.candles) == NEED + 1
        assert recorder.forecasts == {}


async def test_who_stops_waiting_for_settled_disturbs_nobody():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder) as f:
        await warm(f)
        work = f.accept(slice_of(NEED, NEED + 1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(f.settled(), 0.02)
        model.broken = True
        model.go.set()
        with pytest.raises(ModelUnavailable):
            await work.answer(5_000, patient=False)
        model.broken = False
        assert (await work.answer(5_000, patient=True)).recorded.new.tolist() == [True]


async def test_a_forecast_that_was_given_up_is_a_miss_of_the_newest_candle_and_older_ones_have_lapsed():
    model, recorder = FakeModel(), FakeRecorder()
    async with forecaster(model, recorder, model_wait_ms=0) as f:
        await warm(f)
        model.broken = True
        await f.accept(slice_of(NEED, NEED + 3))
        misses, interval_ms = f.misses, int(HISTORY.interval_ms[0])
        closes = (HISTORY.open_time_ms[NEED : NEED + 3] + interval_ms).tolist()
        assert misses.open == {("BTCUSDT", interval_ms): (closes[2], "MODEL_UNAVAILABLE")}
        assert [miss.close_time_ms for miss in misses.lapsed] == closes[:2]
        await f.record_missed(misses.lapsed)
    assert [miss.reason for miss in recorder.missed] == ["MODEL_UNAVAILABLE SUPERSEDED"] * 2


async def test_a_core_that_refuses_the_batch_gives_its_room_back(monkeypatch):
    async with forecaster(FakeModel(), FakeRecorder()) as f:
        with pytest.raises(TypeError):
            await f.accept(replace(slice_of(0, 1), interval_ms=np.array([1.5])))
        await warm(f)


async def test_a_candle_that_is_sent_again_is_acknowledged_no_sooner_than_it_is_recorded():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder) as f:
        await warm(f)
        first = f.accept(slice_of(NEED, NEED + 2))
        again = f.accept(slice_of(NEED, NEED + 1))  # not the newest: it has no forecast of its own to wait for
        assert again is not first
        assert await is_late(again.done)
        model.go.set()
        answer = await again
        assert answer.moved.pushed.verdict.tolist() == [feature_state.DUPLICATE]
        assert ("BTCUSDT", int(HISTORY.interval_ms[0]), int(HISTORY.open_time_ms[NEED])) in recorder.candles


async def test_who_asks_for_newest_candles_or_repeats_one_waits_for_no_stranger():
    """Whoever waited for all that is under way would be answered when the last of a flood is."""

    class HoldsTheSecond(HeldModel):
        asked = 0

        async def __call__(self, windows):
            self.asked += 1
            return await (HeldModel if self.asked == 2 else FakeModel).__call__(self, windows)

    model = HoldsTheSecond()
    async with forecaster(model, FakeRecorder()) as f:
        await warm(f)
        await f.accept(replace(slice_of(0, NEED), symbol=["OTHER"] * NEED), forecast=False)
        await f.accept(slice_of(NEED, NEED + 1))
        stranger = f.accept(replace(slice_of(NEED, NEED + 1), symbol=["OTHER"]))
        assert await is_late(stranger.done)
        works = f.newest(["OTHER"], int(HISTORY.interval_ms[0])), f.accept(slice_of(NEED, NEED + 1))
        answered, _ = await asyncio.wait({work.done for work in works}, timeout=5)
        held = not stranger.done.done()
        model.go.set()
        await stranger
    assert held and len(answered) == 2
    assert [len(work.done.result().forecasts.symbol) for work in works] == [1, 1]
    assert works[1].done.result().moved.pushed.verdict.tolist() == [feature_state.DUPLICATE]


async def test_small_calls_go_together_and_each_gets_its_own_part():
    model, one_by_one = FakeModel(), FakeRecorder()
    async with forecaster(FakeModel(), one_by_one) as f:
        await warm(f)
        for i in range(NEED, NEED + 8):
            await f.accept(slice_of(i, i + 1))
    recorder = FakeRecorder()
    calls = []

    async def counted(*given, **how):
        calls.append(given[1])
        return await FakeRecorder.record(recorder, *given, **how)

    recorder.record = counted
    async with forecaster(model, recorder) as f:
        await warm(f)
        late = slice_of(0, 1)
        late.open_time_ms[:] -= 900_000
        works = [f.accept(slice_of(NEED, NEED + 3)), f.accept(late), f.accept(slice_of(NEED + 3, NEED + 8))]
        answers = [await work for work in works]
    assert len([forecasts for forecasts in calls if forecasts is not None]) == 1
    assert [len(answer.moved.pushed.verdict) for answer in answers] == [3, 1, 5]
    assert answers[1].known == {0: Known.NOT_STORED} and answers[1].forecasts is None
    assert answers[0].known == answers[2].known == {}
    for answer, start in ((answers[0], 0), (answers[2], 3)):
        assert answer.moved.pushed.window.tolist() == list(range(len(answer.forecasts)))
        assert answer.recorded.new.all() and len(answer.recorded.new) == len(answer.forecasts)
        for i in range(len(answer.forecasts)):
            bar = NEED + start + i
            key = ("BTCUSDT", 900_000, int(HISTORY.open_time_ms[bar]) + 900_000)
            assert int(answer.forecasts.close_time_ms[i]) == key[2]
            np.testing.assert_array_equal(answer.forecasts.outputs[i], one_by_one.forecasts[key])
            np.testing.assert_array_equal(answer.forecasts.meaning.returns[i], one_by_one.forecasts[key][:4])
            np.testing.assert_array_equal(answer.moved.windows[i, -1], answer.forecasts.rows[i])


async def test_while_the_model_is_busy_what_waits_is_the_next_group_and_order_is_kept():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder) as f:
        await warm(f)
        first = [f.accept(slice_of(NEED, NEED + 1))]
        for _ in range(3):  # as many groups as may wait for the model, and one more
            await asyncio.sleep(0)
            first.append(f.accept(slice_of(NEED + len(first), NEED + len(first) + 1)))
        await asyncio.sleep(0)
        waiting = [f.accept(slice_of(i, i + 1)) for i in range(NEED + 4, NEED + 9)]
        await asyncio.sleep(0)
        assert f._features.status("BTCUSDT", 900_000).have < NEED + 9  # they have not moved the state
        large = f.accept(slice_of(NEED + 9, NEED + 30))  # goes at once, and so does what came before it
        assert f._features.status("BTCUSDT", 900_000).have == NEED + 30
        model.go.set()
        for work in (*first, *waiting, large):
            assert ((await work).moved.pushed.verdict == feature_state.ACCEPTED).all()
    assert len(recorder.forecasts) == 30


async def test_beside_a_group_fewer_wait_until_it_is_answered_and_as_many_go():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder) as f:
        await warm(f)

        async def later(start, stop):
            works = [f.accept(slice_of(i, i + 1)) for i in range(start, stop)]
            for _ in range(3):
                await asyncio.sleep(0)
            return works

        def have():
            return f._features.status("BTCUSDT", 900_000).have

        try:
            works = await later(NEED, NEED + 3)
            assert have() == NEED + 3
            works += await later(NEED + 3, NEED + 5)
            assert have() == NEED + 3  # two do not go beside three
            works += await later(NEED + 5, NEED + 6)
            assert have() == NEED + 6
            works += await later(NEED + 6, NEED + 7)
        finally:
            model.go.set()
        for work in works:
            assert (await work.answer(5_000, patient=True)).forecasts is not None


@pytest.mark.parametrize("durable", [False, True])
async def test_no_group_waits_for_a_disk_that_its_callers_would_not_wait_for(durable):
    model, recorder = FakeModel(), FakeRecorder()
    disk = asyncio.Event()

    async def slow(*given, durable=True, **how):
        if durable:
            await disk.wait()
        return await FakeRecorder.record(recorder, *given, durable=durable, **how)

    async with forecaster(model, recorder) as f:
        await warm(f)
        recorder.record = slow
        first = [f.accept(slice_of(NEED + i, NEED + i + 1)) for i in range(2)]
        await asyncio.sleep(0.01)
        second = f.accept(slice_of(NEED + 2, NEED + 3), durable=durable)
        if durable:
            with pytest.raises(DeadlineExceeded, match="nothing has moved"):
                await second.answer(20, patient=True)
        else:
            assert (await second.answer(5_000, patient=True)).forecasts is not None
        disk.set()
        for work in first:
            await work


async def test_no_group_waits_for_what_storage_knows_of_a_late_candle():
    model, recorder = FakeModel(), FakeRecorder()
    storage = asyncio.Event()

    async def slow(late):
        await storage.wait()
        return [Known.NOT_STORED] * len(late)

    recorder.known = slow
    async with forecaster(model, recorder) as f:
        await warm(f)
        late = slice_of(0, 1)
        late.open_time_ms[:] -= 900_000
        others = [f.accept(slice_of(NEED + i, NEED + i + 1)) for i in range(2)]
        asked = f.accept(late)
        for work in others:
            await work.answer(5_000, patient=True)
        try:
            after = await f.accept(slice_of(NEED + 2, NEED + 3)).answer(2_000, patient=True)
            assert after.forecasts is not None and not asked.done.done()
        finally:
            storage.set()
        assert (await asked).known == {0: Known.NOT_STORED}


async def test_who_needs_no_model_is_answered_while_it_is_away():
    model, recorder = FakeModel(), FakeRecorder()
    async with forecaster(model, recorder, model_wait_ms=3_600_000) as f:
        await warm(f)
        model.broken = True
        needs = f.accept(slice_of(NEED, NEED + 1))
        cold = f.accept(candles("ETHUSDT", 1))
        assert (await cold.answer(5_000, patient=True)).moved.pushed.verdict.tolist() == [feature_state.ACCEPTED]
        with pytest.raises(ModelUnavailable):
            await needs.answer(5_000, patient=False)


async def test_whoever_leaves_before_his_turn_is_skipped_and_nothing_has_moved():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder, rows_max=NEED + 5) as f:
        await warm(f)
        held = []
        for i in range(3):  # as many groups as may wait for the model
            held.append(f.accept(slice_of(NEED + i, NEED + i + 1)))
            await asyncio.sleep(0)
        impatient = f.accept(slice_of(NEED + 3, NEED + 4))
        with pytest.raises(DeadlineExceeded, match="nothing has moved"):
            await impatient.answer(1, patient=False)
        cancelled = asyncio.ensure_future(f.accept(slice_of(NEED + 3, NEED + 4)).answer(5_000, patient=True))
        await asyncio.sleep(0)
        cancelled.cancel()
        stays = f.accept(slice_of(NEED + 3, NEED + 5))
        with pytest.raises(DeadlineExceeded, match="the work goes on"):
            await held[0].answer(1, patient=False)
        model.go.set()
        answer = await asyncio.wait_for(stays.answer(5_000, patient=True), 5)
        assert answer.moved.pushed.verdict.tolist() == [feature_state.ACCEPTED] * 2
    assert len(recorder.forecasts) == 5
    assert f._rows == 0


async def test_a_caller_that_is_cancelled_as_its_answer_comes_leaves_no_trouble():
    loop, troubles = asyncio.get_running_loop(), []
    work = Work(slice_of(0, 1), None, 0, True, loop.create_future(), loop.create_future())
    loop.set_exception_handler(lambda loop, context: troubles.append(context))
    try:
        waiting = asyncio.create_task(work.answer(5_000, patient=True))
        await asyncio.sleep(0)
        work.done.set_result(None)
        waiting.cancel()
        await asyncio.wait({waiting})
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert waiting.cancelled() and not troubles


@pytest.mark.parametrize("kind", ["answered", "late", "model away"])
async def test_nothing_holds_windows_once_their_caller_has_his_answer(kind):
    held, model, recorder = list[weakref.ref](), HeldModel(), FakeRecorder()
    gc.disable()  # what holds itself is taken away some time; after a flood that is late
    try:
        async with forecaster(model, recorder, model_wait_ms=2_000) as f:
            f.listeners.append(lambda answer: held.append(weakref.ref(answer.moved.windows)))
            await warm(f)
            model.broken = kind == "model away"
            if kind != "late":
                model.go.set()
            work = f.accept(slice_of(NEED, NEED + 1))
            outcomes = []
            Waiter(work, outcomes.append, 100, patient=False)
            with suppress(DeadlineExceeded):
                await work.answer(100, patient=True)
            await until(lambda: outcomes)
            assert type(outcomes.pop()) is {"late": DeadlineExceeded, "model away": ModelUnavailable}.get(kind, Answer)
            model.broken = False
            model.go.set()
            await work
            del work
            await until(lambda: held and not any(windows() is not None for windows in held))
    finally:
        gc.enable()


async def test_what_the_model_is_asked_just_now_is_not_asked_again():
    model, recorder = HeldModel(), FakeRecorder()
    async with forecaster(model, recorder, cache_ttl_s=60) as f:
        await warm(f)
        interval_ms = int(HISTORY.interval_ms[0])
        first = f.accept(slice_of(NEED, NEED + 1))
        again = [f.newest(["BTCUSDT"], interval_ms), f.newest(["BTCUSDT"], interval_ms)]
        assert await is_late(again[0].done)
        model.go.set()
        wanted, *given = [(await work).forecasts for work in (first, *again)]
        assert model.rows == 1 and f.ml_cache_hits_total == 2
        for forecasts in given:
            np.testing.assert_array_equal(forecasts.outputs, wanted.outputs)
    assert len(recorder.forecasts) == 1


async def test_who_waited_for_a_model_that_another_asked_in_vain_asks_himself():
    model = HeldModel()
    async with forecaster(model, FakeRecorder(), cache_ttl_s=60) as f:
        await warm(f)
        f.accept(slice_of(NEED, NEED + 1))
        again = f.newest(["BTCUSDT"], int(HISTORY.interval_ms[0]))
        assert await is_late(again.done)
        model.broken = True
        model.go.set()
        with pytest.raises(ModelUnavailable):
            await again.answer(5_000, patient=False)
        model.broken = False
        assert (await again).forecasts is not None
