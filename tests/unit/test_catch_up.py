"""What the model missed is made while it is worth something, and otherwise put on record."""

import numpy as np
import pytest

from candlecast import catch_up
from candlecast.catch_up import CatchUp
from candlecast.errors import Overloaded, StorageUnavailable
from candlecast.features import Features
from candlecast.lifecycle import poll
from candlecast.values import Candles
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.market_simulator import INTERVAL_MS, START_MS, candles

NEED = Features(symbols_max=1, conflicts_max=1).need


class Scene:
    """A forecaster whose model is away: `missed` candles of each symbol have no forecast. The clock is ours."""

    def __init__(self, symbols, missed, fresh_intervals=1.0):
        self.history = [candles(f"S{i}", NEED + 20) for i in range(symbols)]
        self.model, self.recorder = FakeModel(), FakeRecorder()
        self.features = Features(symbols_max=symbols, conflicts_max=3)
        self.forecaster = fakes.forecaster(self.features, self.model, self.recorder, model_wait_ms=0, rows_max=10_000)
        self.misses = self.forecaster.misses
        self.missed, self.sent = missed, 0
        self.clock_ms = self.closed_ms(missed) + 1
        self.refused = None
        self.asked = []
        self.catch_up = CatchUp(
            self.misses,
            self.features,
            self,
            self.record,
            fresh_intervals=fresh_intervals,
            clock_ms=lambda: self.clock_ms,
        )

    async def __aenter__(self):
        await self.forecaster.__aenter__()
        await self.send(NEED, forecast=False)
        self.model.broken = True
        for _ in range(self.missed):
            await self.send(1)
        return self

    async def __aexit__(self, *error):
        await self.forecaster.__aexit__(*error)

    async def send(self, count, **options):
        """Send the next candles of every symbol."""
        index = np.arange(self.sent, self.sent + count)
        self.sent += count
        await self.forecaster.accept(Candles.joined([c.take(index) for c in self.history]), **options)

    def closed_ms(self, nth):
        """Return when a candle closed: 1 is the first after what warmed the symbols up."""
        return START_MS + (NEED + nth) * INTERVAL_MS

    def newest(self, symbols, interval_ms):
        self.asked.append(len(symbols))
        return self.forecaster.newest(symbols, interval_ms)

    async def record(self, missed):
        if self.refused is not None:
            raise self.refused
        await self.forecaster.record_missed(missed)

    @property
    def made(self):
        return sorted(key[2] for key in self.recorder.forecasts)

    @property
    def on_record(self):
        return [(miss.close_time_ms, miss.reason) for miss in self.recorder.missed]


async def test_a_forecast_that_is_still_fresh_is_made_once():
    async with Scene(1, 1) as scene:
        scene.model.broken = False
        await scene.catch_up.check()
        assert scene.made == [scene.closed_ms(1)]
        assert (scene.on_record, scene.misses.open) == ([], {})
        await scene.catch_up.check()
        assert scene.asked == [1]


async def test_one_that_a_newer_miss_supersedes_is_on_record_and_the_newer_one_is_made():
    async with Scene(1, 3) as scene:
        scene.model.broken = False
        await scene.catch_up.check()
        assert scene.made == [scene.closed_ms(3)]
        assert scene.on_record == [(scene.closed_ms(i), "MODEL_UNAVAILABLE SUPERSEDED") for i in (1, 2)]


async def test_one_whose_symbol_went_on_is_on_record():
    async with Scene(1, 1) as scene:
        scene.model.broken = False
        await scene.send(1)
        await scene.catch_up.check()
        assert scene.made == [scene.closed_ms(2)]
        assert scene.on_record == [(scene.closed_ms(1), "MODEL_UNAVAILABLE SUPERSEDED")]


async def test_one_whose_symbol_goes_on_just_before_it_is_asked_for_is_on_record():
    async with Scene(1, 1) as scene:
        scene.model.broken = False

        async def late(symbols, interval_ms):
            await scene.send(1)
            return await scene.forecaster.newest(symbols, interval_ms)

        scene.newest = late
        await scene.catch_up.check()
        await scene.catch_up.check()
        assert scene.made == [scene.closed_ms(2)]
        assert scene.on_record == [(scene.closed_ms(1), "MODEL_UNAVAILABLE SUPERSEDED")]


@pytest.mark.parametrize(("late_ms", "is_made"), [(0, True), (1, False)])
async def test_one_that_is_too_old_is_on_record_and_not_made(late_ms, is_made):
    async with Scene(1, 1, fresh_intervals=0.5) as scene:
        scene.model.broken = False
        scene.clock_ms = scene.closed_ms(1) + INTERVAL_MS // 2 + late_ms
        await scene.catch_up.check()
        assert scene.made == [scene.closed_ms(1)] * is_made
        assert scene.on_record == [(scene.closed_ms(1), "MODEL_UNAVAILABLE TOO_OLD")] * (not is_made)
        assert scene.misses.open == {}


async def test_while_the_model_is_away_nothing_is_given_up_and_it_is_tried_again():
    async with Scene(2, 1) as scene:
        for _ in range(3):
            with pytest.raises(Overloaded, match="still away"):
                await scene.catch_up.check()
        assert (len(scene.misses.open), scene.on_record) == (2, [])
        scene.model.broken = False
        await scene.catch_up.check()
        assert (scene.made, scene.misses.open) == ([scene.closed_ms(1)] * 2, {})


async def test_what_cannot_be_put_on_record_is_put_there_later_in_order():
    async with Scene(1, 4) as scene:
        scene.refused = StorageUnavailable("no disk today")
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await scene.catch_up.check()
        assert scene.on_record == []
        scene.refused, scene.model.broken = None, False
        await scene.catch_up.check()
        assert [close for close, _ in scene.on_record] == [scene.closed_ms(i) for i in (1, 2, 3)]
        assert scene.made == [scene.closed_ms(4)]


async def test_many_are_put_on_record_a_limited_number_at_a_time(monkeypatch):
    monkeypatch.setattr(catch_up, "RECORDED_MAX", 2)
    async with Scene(1, 6) as scene:
        counts, record = [], scene.forecaster.record_missed

        async def counted(missed):
            counts.append(len(missed))
            await record(missed)

        monkeypatch.setattr(scene.forecaster, "record_missed", counted)
        scene.model.broken = False
        await scene.catch_up.check()
        assert counts == [2, 2, 1]
        assert [close for close, _ in scene.on_record] == [scene.closed_ms(i) for i in range(1, 6)]


async def test_what_is_kept_grows_with_symbols_and_not_with_time():
    async with Scene(3, 5) as scene:
        assert len(scene.misses.open) == 3
        with pytest.raises(Overloaded):
            await scene.catch_up.check()
        assert (scene.misses.lapsed, len(scene.on_record)) == ([], 12)


async def test_symbols_are_asked_for_a_limited_number_at_a_time(monkeypatch):
    monkeypatch.setattr(catch_up, "SYMBOLS_MAX", 3)
    async with Scene(7, 1) as scene:
        scene.model.broken = False
        await scene.catch_up.check()
        assert scene.asked == [3, 3, 1]
        assert len(scene.made) == 7


async def test_it_goes_on_by_itself_also_after_an_error(monkeypatch):
    monkeypatch.setattr(catch_up, "CHECK_MS", 1)
    async with Scene(1, 1) as scene:
        asked, failures = scene.newest, 0

        def nobody(symbols, interval_ms):
            nonlocal failures
            failures += 1
            raise RuntimeError("a mistake of ours")

        async def failed():
            return failures > 1

        async def made():
            return scene.made == [scene.closed_ms(1)]

        scene.newest = nobody
        async with scene.catch_up:
            await poll("two failures", failed, timeout_ms=5_000, interval_ms=1)
            scene.newest, scene.model.broken = asked, False
            await poll("the forecast", made, timeout_ms=5_000, interval_ms=1)
