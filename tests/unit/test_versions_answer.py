"""Versions of the model beside filters and cache: who would answer now is remembered, a shadow counts for nothing."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

import numpy as np
import pytest

from candlecast.features import Features
from candlecast.lifecycle import poll
from candlecast.portfolio import Limits
from candlecast.routing import chosen
from candlecast.shadow import Shadow
from candlecast.values import Candles, symbols
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.market_simulator import candles

NAMES = [f"S{i}USDT" for i in range(8)]
FREE = Limits(max_signals_per_minute=3, max_correlation=1.0, min_sharpe_ratio=-np.inf, max_position_score=1e9)
SURE = np.tile(np.array([0.01, 0.01, 0.01, 0.01, *[6, -6, -6] * 4, 0.01, 0.01, 0.01, 0.01], dtype=np.float32), (1, 1))


class Sure(FakeModel):
    """Is sure of LONG, whatever it sees; its first output is its number."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    async def __call__(self, windows):
        await super().__call__(windows)
        said = np.repeat(SURE, len(windows), axis=0)
        said[:, 0] += self.number / 1_000
        return said


def who(answer):
    """Return the number of the version that each row of an answer is of."""
    said = answer.forecasts
    numbers = np.full(len(said), said.model.version)
    if said.by_challenger is not None:
        numbers[said.by_challenger] = said.challenger.version
    np.testing.assert_allclose(said.outputs[:, 0], 0.01 + numbers / 1_000, rtol=1e-5)  # it is named who has spoken
    return numbers.tolist()


class Server:
    """A forecaster whose symbols are one candle before READY, and lanes of other versions."""

    def __init__(self, stack, **options):
        features = Features(symbols_max=20, conflicts_max=3)
        self.models, self.recorder, self.stack, need = {1: Sure(1)}, FakeRecorder(), stack, features.need
        self.forecaster = fakes.forecaster(features, self.models[1], self.recorder, cache_ttl_s=300, **options)
        self.histories = [candles(name, need + 2) for name in NAMES]
        self.need = need

    def close(self, k, of=tuple(range(8))):
        """Return a close of some symbols: 0 is the first that has a forecast."""
        return Candles.joined([self.histories[i].take(np.array([self.need - 1 + k])) for i in of])

    async def begin(self):
        await self.stack.enter_async_context(self.forecaster)
        for history in self.histories:
            await self.forecaster.accept(history.take(np.arange(self.need - 1)), forecast=False)

    async def lane(self, version):
        self.models[version] = Sure(version)
        model = replace(self.forecaster.routes.champion.model, version=version)
        made = self.forecaster.lane(self.models[version], model=model, temperatures=np.ones(4))
        return await self.stack.enter_async_context(made)


@pytest.fixture
async def server():
    async with AsyncExitStack() as stack:
        server = Server(stack)
        await server.begin()
        yield server


async def test_after_a_switch_and_back_the_version_of_now_answers(server):
    forecaster, newest = server.forecaster, server.close(0)
    first, second = forecaster.routes.champion, await server.lane(2)
    assert who(await forecaster.accept(newest)) == [1] * 8
    forecaster.routes.promote(second)
    assert who(await forecaster.accept(newest)) == [2] * 8
    assert forecaster.ml_cache_hits_total == 0
    assert who(await forecaster.accept(newest)) == [2] * 8
    assert (forecaster.ml_cache_hits_total, server.models[2].rows) == (8, 8)
    forecaster.routes.promote(first)
    assert who(await forecaster.newest(NAMES, 900_000)) == [1] * 8
    assert forecaster.ml_cache_hits_total == 8


async def test_with_a_challenger_each_symbol_is_answered_by_its_own_version_from_memory_too(server):
    forecaster, newest = server.forecaster, server.close(0)
    await forecaster.accept(newest)
    routes = forecaster.routes
    routes.split(await server.lane(2), 0.5)
    theirs = chosen(symbols(NAMES), newest.open_time_ms + newest.interval_ms, 2, 0.5)
    count = int(theirs.sum())
    assert 0 < count < 8
    expected = np.where(theirs, 2, 1).tolist()
    assert who(await forecaster.accept(newest)) == expected  # the champion's from memory, the challenger's anew
    assert (forecaster.ml_cache_hits_total, server.models[1].rows, server.models[2].rows) == (8 - count, 8, count)
    assert who(await forecaster.accept(newest)) == expected  # all from memory
    assert (forecaster.ml_cache_hits_total, server.models[1].rows, server.models[2].rows) == (16 - count, 8, count)
    newest = server.close(1)  # of the same day: now one batch is of both
    assert who(await forecaster.accept(newest)) == expected
    asked = server.models[1].rows, server.models[2].rows
    assert who(await forecaster.accept(newest)) == expected
    assert (server.models[1].rows, server.models[2].rows) == asked
    # The challenger becomes champion and has a challenger of its own for all: of no symbol is that one remembered.
    routes.promote(routes.challenger)
    routes.split(await server.lane(3), 1.0)
    assert who(await forecaster.accept(newest)) == [3] * 8
    routes.split(None, 0)
    rows = server.models[2].rows
    assert who(await forecaster.accept(newest)) == [2] * 8
    assert server.models[2].rows == rows + 8


async def test_a_switch_while_the_model_is_away_leaves_no_answer_of_three_versions(server):
    forecaster, routes = server.forecaster, server.forecaster.routes
    await forecaster.accept(server.close(0, [0]))
    second, third = await server.lane(2), await server.lane(3)
    server.models[1].broken = True
    both = forecaster.accept(server.close(0))  # the first from memory, the others when a model is back
    await poll("it was asked", lambda: _true(both.trouble.done()), timeout_ms=2_000, interval_ms=1)
    routes.promote(second)
    routes.split(third, 0.5)
    assert set(who(await both)) == {2, 3}
    assert forecaster.ml_cache_hits_total == 0


async def _true(value):
    return value


async def played(is_heard):
    """Play two closes; return the answers' directions, the open positions, and what the shadow said."""
    async with AsyncExitStack() as stack:
        server = Server(stack, limits=FREE)
        await server.begin()
        forecaster, told, kept = server.forecaster, [], []
        forecaster.listeners.append(told.append)

        async def record(forecasts):
            kept.append(forecasts)

        if is_heard:
            lane = await server.lane(2)
            forecaster.shadow = await stack.enter_async_context(Shadow(lane, forecaster.routes, record, rows_max=100))
        directions = []
        for k in range(2):
            answer = await forecaster.accept(server.close(k))
            directions.append(answer.forecasts.direction.tolist())
            if is_heard:
                await poll("it has spoken", lambda k=k: _true(len(kept) > k), timeout_ms=2_000, interval_ms=1)
        assert [set(who(answer)) for answer in told] == [{1}, {1}]
        assert not any(answer.forecasts.shadow for answer in told)
        assert len(forecaster._recall._cache) == 8  # the newest of each series, none of the shadow's
        assert who(await forecaster.accept(server.close(1))) == [1] * 8
        assert forecaster.ml_cache_hits_total == 8
        return directions, forecaster._signals.portfolio.core.open.series.tolist(), kept


async def test_a_shadow_takes_no_place_moves_no_position_and_is_neither_remembered_nor_told():
    directions, held, _ = await played(is_heard=False)
    assert [sum(close) for close in directions] == [3, 3], "as many as a minute has"
    *beside, kept = await played(is_heard=True)
    assert beside == [directions, held]
    assert [len(said) for said in kept] == [8, 8]
    assert all(said.shadow and (said.direction == 1).all() for said in kept)  # it is judged by itself
