"""Steps of a rollout over stand-ins for Triton: what answers, what is written, and what nobody may notice."""

from __future__ import annotations

import asyncio

import pytest

from candlecast.errors import ModelRefused, ModelUnavailable, Refusal, StorageUnavailable, WrongState
from candlecast.lifecycle import poll
from candlecast.models import ensemble
from candlecast.models.states import State
from tests.fakes import fitting_bundle
from tests.rollouts import KINDS, WHO, World, states


@pytest.fixture(params=KINDS)
def world(tmp_path, request):
    return World(tmp_path, request.param)


async def test_a_version_answers_from_its_promotion_on_and_the_former_one_again_after_a_rollback(world):
    async with world.rollouts() as rollouts:
        assert await world.bar() == 1
        assert (await rollouts.push(world.bundle(2), **WHO)).state is State.VERIFIED
        assert await rollouts.push(world.bundle(2), **WHO) == await rollouts.get(2)
        assert world.library.published() == [1]
        await rollouts.promote(2, **WHO)
        assert await world.bar() == 2
        assert world.loaded == world.open == {1, 2}
        await rollouts.rollback(**WHO)
        assert await world.bar() == 1

        async def is_gone():
            return world.loaded == world.open == {1}

        await poll("the end of version 2", is_gone, timeout_ms=2_000)
        assert await states(rollouts) == {1: State.CHAMPION, 2: State.RETIRED}
        with pytest.raises(WrongState, match="answers"):
            await rollouts.unload(1, **WHO)


async def test_without_a_standby_the_former_champion_goes_and_comes_back_from_the_library(world):
    async with world.rollouts(standby=0) as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        await rollouts.promote(2, **WHO)

        async def is_gone():
            return world.loaded == world.open == {2}

        await poll("the end of version 1", is_gone, timeout_ms=2_000)
        assert world.library.published() == [2]
        await rollouts.rollback(**WHO)
        assert await world.bar() == 1


async def test_a_version_that_triton_does_not_load_fails_and_leaves_no_trace(world):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        for harm in (
            lambda: world.unloadable.add(("patchtst", 2)),
            lambda: world.broken.update({2: ModelUnavailable("not finite")}),
        ):
            harm()
            with pytest.raises(ModelRefused) as refused:
                await rollouts.promote(2, **WHO)
            assert (await rollouts.get(2)).state is State.FAILED
            assert (await rollouts.get(2)).reason == str(refused.value)
            assert world.library.published() == [1]
            assert world.loaded == world.open == {1}
            assert await world.bar() == 1
            world.unloadable.clear()
        assert refused.value.refusal is Refusal.NOT_FINITE
        world.broken.clear()
        await rollouts.promote(2, **WHO)  # tried again, it goes its way
        assert await world.bar() == 2


async def test_what_does_not_verify_is_refused_and_may_be_pushed_again_when_it_is_mended(world):
    async with world.rollouts() as rollouts:
        bundle = world.bundle(2)
        (bundle.parents[1] / "patchtst" / "2" / "model.onnx").write_bytes(b"other")
        with pytest.raises(ModelRefused, match="SHA256_MISMATCH"):
            await rollouts.push(bundle, **WHO)
        assert (await rollouts.get(2)).state is State.REFUSED
        with pytest.raises(WrongState, match="REFUSED"):
            await rollouts.load(2, **WHO)
        (bundle.parents[1] / "patchtst" / "2" / "model.onnx").write_bytes(b"onnx")
        assert (await rollouts.push(bundle, **WHO)).state is State.VERIFIED
        for damage in ("{", '{"name": "patchtst"}', '{"name": "patchtst", "version": "3"}'):
            (bundle / "manifest.json").write_text(damage)
            with pytest.raises(ModelRefused, match="DAMAGED"):
                await rollouts.push(bundle, **WHO)
        other = fitting_bundle(world.root / "lstm", name="lstm", version=3).path
        with pytest.raises(ModelRefused, match="WRONG_MODEL"):
            await rollouts.push(other, **WHO)


async def test_a_restart_takes_up_champion_challenger_and_shadow(world):
    async with world.rollouts() as rollouts:
        for version in (2, 3, 4):
            await rollouts.push(world.bundle(version), **WHO)
        await rollouts.promote(2, **WHO)
        await rollouts.split(3, 1.0, **WHO)
        await rollouts.shadow(4, **WHO)
    assert world.open == set()
    async with world.rollouts() as rollouts:

        async def are_back():
            return world.open == {1, 2, 3, 4} and world.forecaster.shadow is not None

        await poll("all that was there", are_back, timeout_ms=2_000)
        routes = world.forecaster.routes
        assert (routes.champion.model.version, routes.challenger.model.version, routes.share) == (2, 3, 1.0)
        assert world.forecaster.shadow.lane.model.version == 4
        await rollouts.rollback(**WHO)
        assert routes.champion.model.version == 1


async def test_a_step_that_was_cut_off_is_undone_by_the_next_start(world):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
    world.library.publish(2)  # and then the power went
    async with world.rollouts():

        async def is_undone():
            return world.library.published() == [1] and world.loaded == {1}

        await poll("only the champion", is_undone, timeout_ms=2_000)


async def test_a_champion_that_was_trained_again_in_its_place_is_what_is_kept(world):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        await rollouts.promote(2, **WHO)
        await rollouts.rollback(**WHO)
    again = world.write(world.root / "models", 1, onnx=b"trained again")
    async with world.rollouts(standby=0) as rollouts:
        assert (await rollouts.get(1)).sha256 == again.sha256
        await rollouts.promote(2, **WHO)

        async def is_gone():
            return world.library.published() == [2]

        await poll("the end of version 1", is_gone, timeout_ms=2_000)
        await rollouts.rollback(**WHO)
        assert ensemble.load(world.library.published_path(1)).sha256 == again.sha256


async def test_events_wait_for_the_database_and_a_restart_and_are_told_once(world):
    world.database_is_away = True
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
    assert world.recorded == []
    world.database_is_away = False
    async with world.rollouts() as rollouts:

        async def are_told():
            return len(world.recorded) == 3

        await poll("three events", are_told, timeout_ms=2_000)
        told = [(one.version, one.to_state) for one in world.recorded]
        assert told == [(1, State.CHAMPION), (2, State.PUSHED), (2, State.VERIFIED)]
        await rollouts.promote(2, **WHO)

        async def are_all_told():
            return len(world.recorded) == 7

        await poll("seven events", are_all_told, timeout_ms=2_000)
    assert len({one.id for one in world.recorded}) == 7
    assert {one.who for one in world.recorded[1:]} == {"tester"}


async def test_a_step_that_cannot_be_written_is_not_taken(world, monkeypatch):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        await rollouts.load(2, **WHO)

        def full(*_):
            raise OSError(28, "no space left on device")

        monkeypatch.setattr(rollouts._library, "write", full)
        with pytest.raises(StorageUnavailable, match="no space"):
            await rollouts.promote(2, **WHO)
        assert await world.bar() == 1
        monkeypatch.undo()
        await rollouts.promote(2, **WHO)
        assert await world.bar() == 2
        monkeypatch.setattr(rollouts._library, "write", full)
        await rollouts.rollback(**WHO)  # what is wrong has to stop, whatever the disk says
        assert await world.bar() == 1


async def test_somebody_elses_version_in_the_repository_is_taken_up_only_when_it_verifies(world):
    async with world.rollouts() as rollouts:
        world.write(world.root / "models", 5)
        world.write(world.root / "models", 6)
        (world.root / "models" / "patchtst" / "6" / "model.onnx").write_bytes(b"other")
        assert await rollouts.strangers() == [5, 6]
        assert (await rollouts.adopt(5, **WHO)).state is State.VERIFIED
        with pytest.raises(ModelRefused):
            await rollouts.adopt(6, **WHO)
        assert world.library.published() == [1, 5]
        await rollouts.shadow(5, **WHO)
        assert await rollouts.strangers() == []


async def test_steps_at_the_same_time_go_one_after_the_other(world):
    async with world.rollouts() as rollouts:
        for version in (2, 3):
            await rollouts.push(world.bundle(version), **WHO)
        await asyncio.gather(*(rollouts.promote(version, **WHO) for version in (2, 3, 2, 3)), return_exceptions=True)
        answering = await world.bar()
        assert [one.version for one in await rollouts.list() if one.state is State.CHAMPION] == [answering]


async def test_a_rollback_to_a_version_that_waits_for_its_last_request_keeps_it(world):
    async with world.rollouts(standby=0) as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        lane = world.forecaster.routes.champion
        with lane.held():  # a request is under way, so its unload waits
            await rollouts.promote(2, **WHO)
            await asyncio.sleep(0)
            await rollouts.rollback(**WHO)

        async def is_gone():
            return world.open == {1}

        await poll("the end of version 2, and of it alone", is_gone, timeout_ms=2_000)
        assert world.forecaster.routes.champion is lane
        assert await world.bar() == 1


async def test_a_version_whose_unload_has_begun_takes_no_traffic(world):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        await rollouts.load(2, **WHO)
        lane = rollouts._presence.lanes.pop(2)  # as an unload does before it lets go of the lock
        for step in (rollouts.promote(2, **WHO), rollouts.shadow(2, **WHO), rollouts.split(2, 0.5, **WHO)):
            with pytest.raises(WrongState, match="just unloaded"):
                await step
        assert (await states(rollouts)) == {1: State.CHAMPION, 2: State.WARM}
        assert await world.bar() == 1
        rollouts._presence.lanes[2] = lane


@pytest.mark.parametrize("first", ["promote", "unload"])
async def test_a_version_that_is_promoted_and_unloaded_at_once_answers_or_is_gone(world, first):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        await rollouts.load(2, **WHO)
        steps = [rollouts.promote(2, **WHO), rollouts.unload(2, **WHO)]
        done = await asyncio.gather(*(steps if first == "promote" else steps[::-1]), return_exceptions=True)
        assert sum(isinstance(one, WrongState) for one in done) <= 1
        answering = await world.bar()
        assert (await states(rollouts))[answering] is State.CHAMPION
        assert answering in world.open
