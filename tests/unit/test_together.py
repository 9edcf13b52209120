"""Those who ask for newest forecasts go together, and wait for no stranger."""

import asyncio

import numpy as np
import pytest

from candlecast import features as feature_state
from candlecast.errors import DeadlineExceeded, ModelUnavailable
from candlecast.features import Features
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.market_simulator import candles

NEED = Features(symbols_max=1, conflicts_max=1).need
HISTORY = {symbol: candles(symbol, NEED + 4) for symbol in "AB"}
INTERVAL_MS = int(HISTORY["A"].interval_ms[0])


class CountingFeatures(Features):
    """Remembers which symbols were looked up."""

    def __init__(self):
        super().__init__(symbols_max=10, conflicts_max=3)
        self.looked_up = []

    def newest(self, symbols, interval_ms):
        self.looked_up.append([symbol.decode() for symbol in symbols])
        return super().newest(symbols, interval_ms)


class HeldModel(FakeModel):
    """Holds what is asked while `go` is not set."""

    def __init__(self):
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, windows):
        await self.go.wait()
        return await super().__call__(windows)


def bars(symbol, start, stop):
    return HISTORY[symbol].take(np.arange(start, stop))


async def warm(f, *symbols):
    for symbol in symbols:
        await f.accept(bars(symbol, 0, NEED), forecast=False)
        await f.accept(bars(symbol, NEED, NEED + 1))


def closes(work, answer):
    """Return what each of a work's symbols was answered with: its name and the hash of its features."""
    forecasts, pushed = answer.forecasts, answer.moved.pushed
    rows = [int(pushed.window[place]) for place in work.places]
    return [(forecasts.names[row], int(forecasts.features_hash[row])) if row >= 0 else None for row in rows]


async def test_those_who_ask_in_one_turn_look_each_symbol_up_once_and_each_gets_what_was_asked_for():
    features, model = CountingFeatures(), FakeModel()
    async with fakes.forecaster(features, model, FakeRecorder()) as f:
        await warm(f, "A", "B")
        model.rows = 0
        asks = [f.newest(names, INTERVAL_MS) for names in (["A", "B"], ["B", "A", "B"], ["NEVER", "A"])]
        answers = [closes(work, await work) for work in asks]
        assert f.rows == 0
    assert features.looked_up == [["A", "B", "NEVER"]] and model.rows == 2
    (a, b), (b_again, a_again, b_too), (never, a_too) = answers
    assert (a[0], b[0], never) == ("A", "B", None)
    assert a == a_again == a_too and b == b_again == b_too


@pytest.mark.parametrize(("other", "groups"), [({"durable": False}, 2), ({"interval_ms": 2 * INTERVAL_MS}, 3)])
async def test_asks_of_another_interval_or_wait_go_apart(other, groups):
    features = CountingFeatures()
    async with fakes.forecaster(features, FakeModel(), FakeRecorder()) as f:
        await warm(f, "A")
        await asyncio.gather(*(f.newest(["A"], **{"interval_ms": INTERVAL_MS} | more).done for more in ({}, other, {})))
    assert features.looked_up == [["A"]] * groups


async def test_no_group_of_asks_has_more_symbols_than_the_limit():
    features = CountingFeatures()
    async with fakes.forecaster(features, FakeModel(), FakeRecorder(), rows_max=1_000) as f:
        names = [[f"{chr(65 + i)}{k}" for k in range(40)] for i in range(2)]
        asks = [f.newest(names[i], INTERVAL_MS) for i in (0, 0, 1)]
        await asyncio.gather(*(work.done for work in asks))
    assert [len(symbols) for symbols in features.looked_up] == [40, 40]


async def test_an_ask_sees_the_candles_that_were_accepted_before():
    async with fakes.forecaster(CountingFeatures(), FakeModel(), FakeRecorder()) as f:
        await warm(f, "A")
        sent = f.accept(bars("A", NEED + 1, NEED + 2))
        answer = await f.newest(["A"], INTERVAL_MS)
        assert answer.forecasts.close_time_ms == (await sent).forecasts.close_time_ms


async def test_what_is_remembered_waits_for_nobody_who_asks_the_model_in_the_same_turn():
    model = HeldModel()
    async with fakes.forecaster(CountingFeatures(), model, FakeRecorder(), cache_ttl_s=60) as f:
        await warm(f, "A")
        f.accept(bars("B", 0, NEED + 1), forecast=False)  # a window, and no forecast
        model.go.clear()
        both, *remembered = (f.newest(names, INTERVAL_MS) for names in (["A", "B"], ["A"], ["A", "A"]))
        answered, _ = await asyncio.wait({work.done for work in remembered}, timeout=5)
        waits, hits = not both.done.done(), f.ml_cache_hits_total
        model.broken = True
        model.go.set()
        assert (len(answered), waits, hits) == (2, True, 3)
        for work in remembered:
            assert {name for name, _ in closes(work, work.done.result())} == {"A"}
        with pytest.raises(ModelUnavailable):
            await both.answer(5_000, patient=False)
        model.broken = False
        assert [name for name, _ in closes(both, await both)] == ["A", "B"]
    assert f.rows == 0


async def test_who_leaves_before_the_turn_is_not_looked_up_and_those_who_stay_are():
    features = CountingFeatures()
    async with fakes.forecaster(features, FakeModel(), FakeRecorder()) as f:
        await warm(f, "A", "B")
        left, stays = f.newest(["B"], INTERVAL_MS), f.newest(["A"], INTERVAL_MS)
        left.was_left = True
        assert [name for name, _ in closes(stays, await stays)] == ["A"]
        assert f.rows == 0 and left.done.cancelled()
    assert features.looked_up == [["A"]]


async def test_a_core_that_fails_ends_all_asks_of_the_group_and_gives_their_room_back(monkeypatch):
    features = CountingFeatures()
    async with fakes.forecaster(features, FakeModel(), FakeRecorder()) as f:
        monkeypatch.setattr(Features, "newest", lambda *_: 1 / 0)
        for work in (f.newest(["A"], INTERVAL_MS), f.newest(["B"], INTERVAL_MS)):
            with pytest.raises(ZeroDivisionError):
                await work
        assert f.rows == 0


async def test_asks_that_wait_when_the_server_stops_are_answered():
    async with fakes.forecaster(CountingFeatures(), FakeModel(), FakeRecorder()) as f:
        await warm(f, "A")
        work = f.newest(["A"], INTERVAL_MS)
    answer = work.done.result()
    assert answer.moved.pushed.verdict.tolist() == [feature_state.DUPLICATE]


async def test_an_ask_that_is_late_before_its_turn_says_that_nothing_has_moved(monkeypatch):
    async with fakes.forecaster(CountingFeatures(), FakeModel(), FakeRecorder()) as f:
        monkeypatch.setattr(f, "_schedule_pump", lambda: None)
        work = f.newest(["A"], INTERVAL_MS)
        with pytest.raises(DeadlineExceeded, match="nothing has moved"):
            await work.answer(1, patient=False)
        assert work.was_left


@pytest.mark.parametrize("fails", [False, True])
async def test_who_needs_the_model_waits_for_nobody_who_waits_for_what_another_asks_it(fails):
    class HoldsTheFirst(FakeModel):
        def __init__(self):
            super().__init__()
            self.go, self.asked = asyncio.Event(), asyncio.Event()

        async def __call__(self, windows):
            if not self.asked.is_set():
                self.asked.set()
                await self.go.wait()
            return await super().__call__(windows)

    model = HoldsTheFirst()
    async with fakes.forecaster(CountingFeatures(), model, FakeRecorder(), cache_ttl_s=60) as f:
        for symbol in "AB":
            await f.accept(bars(symbol, 0, NEED + 1), forecast=False)
        sent = f.newest(["A"], INTERVAL_MS)
        await model.asked.wait()
        waits, other = f.newest(["A"], INTERVAL_MS), f.newest(["B"], INTERVAL_MS)
        answered, _ = await asyncio.wait({other.done}, timeout=5)
        held = not waits.done.done()
        model.broken = fails
        model.go.set()
        if fails:
            for work in (sent, waits):
                with pytest.raises(ModelUnavailable):
                    await work.answer(5_000, patient=False)
            model.broken = False
        await sent  # if it failed, it asks again as the other does, in whatever order
        assert [name for name, _ in closes(waits, await waits)] == ["A"]
        assert answered and held and model.rows == 2 + fails
    assert f.rows == 0


async def test_who_does_not_wait_for_the_disk_goes_past_those_who_do():
    class SlowDisk(FakeRecorder):
        go = asyncio.Event()

        async def record(self, *args, durable=True):
            if durable and args[1] is not None:
                await self.go.wait()
            return await super().record(*args, durable=durable)

    async with fakes.forecaster(CountingFeatures(), FakeModel(), SlowDisk()) as f:
        for symbol in "AB":
            await f.accept(bars(symbol, 0, NEED + 1), forecast=False)
        sent = f.newest(["A", "B"], INTERVAL_MS)
        await asyncio.sleep(0)  # it has gone
        waits, passes = f.newest(["A"], INTERVAL_MS), f.newest(["B"], INTERVAL_MS, durable=False)
        answered, _ = await asyncio.wait({passes.done}, timeout=5)
        held = not (sent.done.done() or waits.done.done())
        SlowDisk.go.set()
        await asyncio.gather(sent, waits)
    assert answered and held and f.rows == 0


@pytest.mark.parametrize("cache_ttl_s", [0.0, 60.0])
async def test_who_asks_for_what_has_no_window_waits_for_no_model(cache_ttl_s):
    model = HeldModel()
    async with fakes.forecaster(CountingFeatures(), model, FakeRecorder(), cache_ttl_s=cache_ttl_s) as f:
        await f.accept(bars("A", 0, NEED + 1), forecast=False)
        model.go.clear()
        asks, cold = f.newest(["A"], INTERVAL_MS), f.newest(["NEVER"], INTERVAL_MS)
        answered, _ = await asyncio.wait({cold.done}, timeout=5)
        model.go.set()
        await asks
    assert answered and closes(cold, cold.done.result()) == [None]
