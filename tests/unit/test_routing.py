"""Which version answers which window, and that each answer is of one version."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest

from candlecast.errors import ModelUnavailable
from candlecast.lifecycle import poll
from candlecast.routing import DAY_MS, Lane, Routes, chosen
from candlecast.shadow import BATCH_ROWS, Shadow
from candlecast.values import Model, symbols

NAMES = symbols([f"S{i}USDT" for i in range(400)])
NOON = np.full(400, 20_000 * DAY_MS + DAY_MS // 2)


class Voice:
    """Answers with its number and the number of the window."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.go = asyncio.Event()
        self.go.set()
        self.broken = False
        self.asked: list[int] = []

    async def __call__(self, windows):
        self.asked.append(len(windows))
        await self.go.wait()
        if self.broken:
            raise ModelUnavailable("not today")
        return np.column_stack([np.full(len(windows), self.number), windows[:, 0, 0]]).astype(np.float32)


def lane(voice: Voice) -> Lane:
    return Lane(
        voice,
        model=Model("patchtst", voice.number, "0" * 64, 0),
        temperatures=np.full(4, float(voice.number)),
        batch_rows_max=16,
        in_flight_max=2,
        queue_rows_max=4_096,
    )


@pytest.fixture
async def two():
    """Two voices and their lanes, entered."""
    async with AsyncExitStack() as stack:
        voices = [Voice(1), Voice(2)]
        lanes = [await stack.enter_async_context(lane(voice)) for voice in voices]
        stack.callback(lambda: [voice.go.set() for voice in voices])  # also when a test has failed
        yield voices, lanes


def windows(count: int):
    return np.arange(count, dtype=np.float32)[:, None, None] * np.ones((1, 3, 2), np.float32)


def test_a_share_of_the_symbols_is_chosen_the_same_all_day_and_another_the_next():
    first, last = NOON // DAY_MS * DAY_MS, NOON // DAY_MS * DAY_MS + DAY_MS - 1
    picked = chosen(NAMES, NOON, 2, 0.25)
    assert 70 < picked.sum() < 130
    for moment in (first, last):
        np.testing.assert_array_equal(chosen(NAMES, moment, 2, 0.25), picked)
    next_day = chosen(NAMES, NOON + DAY_MS, 2, 0.25)
    assert (next_day != picked).sum() > 40
    assert (chosen(NAMES, NOON, 3, 0.25) != picked).sum() > 40  # another challenger, other symbols
    assert (chosen(NAMES, NOON, 2, 0.5) | ~picked).all()  # a larger share keeps the smaller one's
    assert chosen(NAMES, NOON, 2, 1.0).all()
    order = np.random.default_rng(1).permutation(400)
    np.testing.assert_array_equal(chosen(NAMES[order], NOON, 2, 0.25), picked[order])


async def test_each_window_is_answered_by_the_version_of_its_symbol_in_its_place(two):
    _, (champion, challenger) = two
    routes = Routes(champion)
    routes.split(challenger, 0.25)
    said = await routes.ask(windows(400), NAMES, NOON)
    theirs = chosen(NAMES, NOON, 2, 0.25)
    np.testing.assert_array_equal(said.by_challenger, theirs)
    np.testing.assert_array_equal(said.outputs[:, 0], np.where(theirs, 2, 1))
    np.testing.assert_array_equal(said.outputs[:, 1], np.arange(400))
    np.testing.assert_array_equal(said.temperatures[:, 0], np.where(theirs, 2.0, 1.0))


async def test_what_the_challenger_does_not_answer_the_champion_does(two):
    (_, second), (champion, challenger) = two
    routes = Routes(champion)
    second.broken = True
    for share in (0.25, 1.0):
        routes.split(challenger, share)
        said = await routes.ask(windows(400), NAMES, NOON)
        assert not said.by_challenger.any()
        np.testing.assert_array_equal(said.outputs[:, 0], 1)
    assert challenger.watch.of_late().failures > 0


async def test_what_is_under_way_stays_with_its_version_when_another_is_promoted(two):
    (first, _), (champion, other) = two
    routes = Routes(champion)
    first.go.clear()
    asked = asyncio.create_task(routes.ask(windows(40), NAMES[:40], NOON[:40]))
    await asyncio.sleep(0)
    routes.promote(other)
    drained = asyncio.create_task(champion.drained())
    later = await routes.ask(windows(40), NAMES[:40], NOON[:40])
    assert (later.outputs[:, 0] == 2).all()
    assert not drained.done(), "a question is under way"
    first.go.set()
    assert ((await asked).outputs[:, 0] == 1).all()  # all of it, though most of it waited in the queue
    await asyncio.wait_for(drained, 1)


async def test_a_lane_counts_as_open_for_as_long_as_it_may_have_to_stand_in(two):
    (_, second), (champion, challenger) = two
    routes = Routes(champion)
    routes.split(challenger, 0.25)
    second.go.clear()
    second.broken = True
    asked = asyncio.create_task(routes.ask(windows(400), NAMES, NOON))
    await asyncio.sleep(0.01)
    drained = asyncio.create_task(champion.drained())
    await asyncio.sleep(0.01)
    assert not drained.done()
    second.go.set()
    assert ((await asked).outputs[:, 0] == 1).all()
    await asyncio.wait_for(drained, 1)


def shadow(lane_of_shadow: Lane, routes: Routes, kept: list, rows_max: int = 100) -> Shadow:
    async def record(said):
        kept.append(said)

    return Shadow(lane_of_shadow, routes, record, rows_max=rows_max)


class Forecast:
    """What Shadow looks at in forecasts."""

    def __init__(self, said):
        self.outputs, self.meaning = said.outputs, self
        self.confidence = said.outputs[:, 1].astype(np.float64)


async def until(true):
    async def check():
        return bool(true())

    await poll("it", check, timeout_ms=2_000, interval_ms=1)


async def test_a_shadow_asks_a_little_at_a_time_and_only_when_no_answer_is_under_way(two):
    (first, second), (champion, shadowed) = two
    routes, kept = Routes(champion), []
    first.go.clear()
    async with shadow(shadowed, routes, kept) as heard:
        asked = asyncio.create_task(routes.ask(windows(4), NAMES[:4], NOON[:4]))
        await asyncio.sleep(0.001)
        heard.hear(windows(10), Forecast)
        await asyncio.sleep(0.02)
        assert second.asked == [], "an answer was under way"
        first.go.set()
        await asked
        await until(lambda: kept)
    assert second.asked == [BATCH_ROWS, BATCH_ROWS, 2]
    np.testing.assert_array_equal(kept[0].outputs[:, 1], np.arange(10))
    assert (kept[0].outputs[:, 0] == 2).all()


async def test_a_shadow_that_is_behind_hears_no_more_than_there_is_room_for(two):
    (_, second), (champion, shadowed) = two
    second.go.clear()
    async with shadow(shadowed, Routes(champion), kept := [], rows_max=16) as heard:
        for _ in range(3):
            heard.hear(windows(8), Forecast)
        assert heard.not_heard == 8
        second.go.set()
        await until(lambda: len(kept) == 2)
        heard.hear(windows(16), Forecast)
        await until(lambda: len(kept) == 3)
    assert heard.not_heard == 8


async def test_a_shadow_that_fails_goes_on_with_the_next(two, monkeypatch):
    (_, second), (champion, shadowed) = two
    monkeypatch.setattr("candlecast.shadow.FAILURE_PAUSE_S", 0.001)
    second.broken = True
    async with shadow(shadowed, Routes(champion), kept := []) as heard:
        heard.hear(windows(3), Forecast)
        await until(lambda: heard.not_heard == 3)
        second.broken = False
        heard.hear(windows(5), Forecast)
        await until(lambda: kept)
    assert len(kept[0].outputs) == 5
