"""Versions that are taken out by themselves, over stand-ins for Triton, and those that are not at fault."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from candlecast.errors import ModelUnavailable
from candlecast.lifecycle import poll
from candlecast.models.states import State
from tests.rollouts import KINDS, LIMITS, WHO, World, states


@pytest.fixture(params=KINDS)
def world(tmp_path, request):
    return World(tmp_path, request.param)


async def promoted(world, rollouts):
    await rollouts.push(world.bundle(2), **WHO)
    await rollouts.promote(2, **WHO)
    assert await world.bar() == 2


async def test_nan_outputs_are_rolled_back_and_the_event_says_so(world):
    async with world.rollouts() as rollouts:
        await promoted(world, rollouts)
        world.nan.add(2)
        await world.bar(2)
        await rollouts.look()
        assert await world.bar() == 2, "two are borne"
        await rollouts.look()
        assert await world.bar() == 1
        bad = await rollouts.get(2)
        assert (bad.state, bad.reason.split(":")[0]) == (State.FAILED, "NOT_FINITE")
        event = next(one for one in await rollouts.events(2) if one.to_state is State.FAILED)
        assert (event.who, event.from_state) == ("candlecast", State.CHAMPION)


async def test_failures_of_the_version_are_rolled_back_and_those_of_an_outage_are_not(world):
    async with world.rollouts() as rollouts:
        await promoted(world, rollouts)
        lane = world.forecaster.routes.champion
        world.away = True
        for _ in range(20):
            lane.watch.failed()
        await rollouts.look()
        world.away = False
        await rollouts.look()
        assert await world.bar() == 2, "nobody could answer"
        for _ in range(20):
            lane.watch.failed()
        await rollouts.look()
        assert await world.bar() == 2, "it may have been an outage that is over"
        world.broken[2] = ModelUnavailable("version 2 cannot")
        for _ in range(20):
            lane.watch.failed()
        await rollouts.look()
        del world.broken[2]
        assert await world.bar() == 1
        assert (await rollouts.get(2)).reason.startswith("ERRORS")


async def test_a_slow_version_is_rolled_back_and_a_slow_machine_is_not(world):
    async with world.rollouts() as rollouts:
        await promoted(world, rollouts)
        await rollouts.rollback(**WHO)
        await world.bar(10)  # what the next one is compared with
        await rollouts.promote(2, **WHO)
        world.delay_s = {1: 0.03, 2: 0.03}
        for _ in range(2 * LIMITS.rows_min):
            assert await world.bar() == 2
            await rollouts.look()
        world.delay_s = {2: 0.03}

        async def is_rolled_back():
            return await world.bar() == 1

        await poll("the version of before", is_rolled_back, timeout_ms=5_000)
        assert (await rollouts.get(2)).reason.startswith("LATENCY")


async def test_a_version_that_knows_nothing_is_rolled_back_and_a_market_that_nobody_knows_is_not(world):
    async with world.rollouts() as rollouts:
        await promoted(world, rollouts)
        await rollouts.rollback(**WHO)
        await world.bar(10)  # what the next one is compared with
        await rollouts.promote(2, **WHO)
        world.empty = {1, 2}
        for _ in range(2 * LIMITS.rows_min):
            assert await world.bar() == 2
            await rollouts.look()
        world.empty = {2}

        async def is_rolled_back():
            return await world.bar() == 1

        await poll("the version of before", is_rolled_back, timeout_ms=5_000)
        assert (await rollouts.get(2)).reason.startswith("CONFIDENCE")


async def test_the_last_version_goes_on_however_bad_it_is_and_that_is_said_once(world):
    async with world.rollouts() as rollouts:
        world.nan.add(1)
        await world.bar(4)
        for _ in range(3):
            await rollouts.look()
        assert (await rollouts.get(1)).state is State.CHAMPION
        assert ["no rollback" in one.why for one in await rollouts.events()].count(True) == 1


@pytest.mark.parametrize("state", ["shadow", "challenger"])
async def test_a_bad_shadow_or_challenger_is_taken_out_and_the_champion_goes_on(world, state):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        await (rollouts.shadow(2, **WHO) if state == "shadow" else rollouts.split(2, 1.0, **WHO))
        world.nan.add(2)
        for _ in range(4):
            await world.bar()

        async def is_out():
            await rollouts.look()
            return (await rollouts.get(2)).state is State.FAILED and world.open == {1}

        await poll("the end of version 2", is_out, timeout_ms=2_000)
        assert await world.bar() == 1
        assert (world.forecaster.shadow, world.forecaster.routes.challenger) == (None, None)


def events_of(rollouts, version, state):
    return [one for one in rollouts._ledger.events(version, 100) if one.to_state is state]


@pytest.mark.parametrize("state", ["shadow", "challenger"])
async def test_two_looks_at_once_take_a_bad_version_out_once(world, state):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        await (rollouts.shadow(2, **WHO) if state == "shadow" else rollouts.split(2, 1.0, **WHO))
        for _ in range(4):
            world.forecaster.routes.champion.watch.spoke(np.array([0.7]))
        rollouts._presence.lanes[2].watch.answered(np.zeros((9, 1, 1)), np.full((9, 20), np.nan), 0.001)
        await asyncio.gather(*(rollouts.look() for _ in range(3)))
        assert len(events_of(rollouts, 2, State.FAILED)) == 1
        assert (await states(rollouts))[1] is State.CHAMPION


async def test_two_looks_at_once_roll_back_once_and_not_to_the_version_before_the_one_before(world):
    async with world.rollouts(standby=2) as rollouts:
        for version in (2, 3):
            await rollouts.push(world.bundle(version), **WHO)
            await rollouts.promote(version, **WHO)
        world.nan.add(3)
        await world.bar(4)
        await asyncio.gather(*(rollouts.look() for _ in range(3)))
        assert await states(rollouts) == {1: State.RETIRED, 2: State.CHAMPION, 3: State.FAILED}


async def test_what_somebody_did_while_the_guard_asked_whose_fault_it_is_stands(world, monkeypatch):
    async with world.rollouts(standby=2) as rollouts:
        for version in (2, 3):
            await rollouts.push(world.bundle(version), **WHO)
            await rollouts.promote(version, **WHO)

        async def meanwhile(lane, why, other):
            await rollouts.rollback(**WHO)
            return True

        monkeypatch.setattr(rollouts._guard, "_is_its_own", meanwhile)
        world.nan.add(3)
        await world.bar(4)
        await rollouts.look()
        assert await states(rollouts) == {1: State.RETIRED, 2: State.CHAMPION, 3: State.RETIRED}
