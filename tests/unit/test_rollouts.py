"""Steps of a rollout over stand-ins for Triton: what answers, what is written, and what nobody may notice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest

from candlecast.errors import BundleError, ModelRefused, ModelUnavailable, Refusal, StorageUnavailable, WrongState
from candlecast.features import Features
from candlecast.lifecycle import poll
from candlecast.models.library import Library, champion_of
from candlecast.models.rollout import Policy, Rollouts
from candlecast.models.states import State
from candlecast.models.verify import Trials
from candlecast.triton.control import READY
from candlecast.watch import Limits
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder, fitting_bundle
from tests.market_simulator import candles

NEED = Features(symbols_max=1, conflicts_max=1).need
WHO = {"who": "tester", "why": "a test"}
LIMITS = Limits(rows_min=4, not_finite_max=3, latency_ms=5, confidence_ratio=0.2)


class World:
    """A Triton that loads what lies in the repository, and rollouts over it."""

    def __init__(self, root):
        self.root = root
        self.loaded: set[int] = set()
        self.broken: dict[int, Exception] = {}  # by version: what asking and checking raise
        self.unloadable: set[int] = set()
        self.nan: set[int] = set()
        self.empty: set[int] = set()  # every direction is as likely
        self.delay_s: dict[int, float] = {}  # by version
        self.away = False
        self.recorded: list = []
        self.database_is_away = False
        self.open: set[int] = set()
        fitting_bundle(root / "models" / "patchtst" / "1")

    # Triton
    async def load(self, name):
        if self.away:
            raise ModelUnavailable("nobody there")
        found = set(self.library.published())
        self.loaded = found - self.unloadable
        if found & self.unloadable:
            raise ModelUnavailable(f"load failed: version {found & self.unloadable}")

    async def versions(self, name):
        if self.away:
            raise ModelUnavailable("nobody there")
        return dict.fromkeys(self.loaded, (READY, ""))

    @asynccontextmanager
    async def connect(self, bundle):
        number = bundle.manifest.version
        self.open.add(number)
        try:
            yield Connection(self, number)
        finally:
            self.open.discard(number)

    async def record(self, events):
        if self.database_is_away:
            raise StorageUnavailable("no database")
        self.recorded += events

    @property
    def library(self):
        return Library(self.root / "state", self.root / "models", "patchtst")

    @asynccontextmanager
    async def rollouts(self, **policy):
        """Enter rollouts over a forecaster that answers with the champion, as the server does."""
        number = champion_of(self.root / "state", self.root / "models", "patchtst") or 1
        first = fakes.bundle.Bundle.load(self.library.published_path(number))
        self.loaded = set(self.library.published())
        async with AsyncExitStack() as stack:
            way = await stack.enter_async_context(AsyncExitStack())
            connection = await way.enter_async_context(self.connect(first))
            features, self.recorder = Features(symbols_max=10, conflicts_max=3), FakeRecorder()
            self.forecaster = fakes.forecaster(features, connection.ask, self.recorder)
            self.forecaster.routes.champion.model = fakes.Model("patchtst", number, first.sha256, 0)
            self.forecaster.routes.champion._check = connection.check
            trials = Trials(None, "patchtst", "BTCUSDT", 10**9, 10**9, 10_000, 50)
            rollouts = await stack.enter_async_context(
                Rollouts(
                    self.library, self, self.forecaster, first=first, way=way, connect=self.connect, trials=trials,
                    record=self.record, policy=Policy(limits=LIMITS, batch_rows_max=4, **policy),
                )
            )  # fmt: skip
            await stack.enter_async_context(self.forecaster)
            self.given = iter(range(NEED, 10_000))
            await self.forecaster.accept(candles("BTCUSDT", NEED + 400).take(np.arange(NEED)), forecast=False)
            yield rollouts

    async def bar(self, count=1):
        """Close bars; return the model that answered."""
        at = np.array([next(self.given) for _ in range(count)])
        answer = await self.forecaster.accept(candles("BTCUSDT", NEED + 400).take(at))
        return answer.forecasts.model.version

    def bundle(self, version):
        return fitting_bundle(self.root / f"run-{version}", version=version).path


class Connection:
    def __init__(self, world, number):
        self.world, self.number, self.model = world, number, FakeModel()

    async def ask(self, windows):
        await self.check()
        await asyncio.sleep(self.world.delay_s.get(self.number, 0))
        answers = await self.model(windows)
        if self.number in self.world.empty:
            answers[:, 4:16] = 0
        if self.number in self.world.nan:
            answers[:] = np.nan
        return answers

    async def check(self):
        if self.world.away:
            raise ModelUnavailable("nobody there")
        if self.number in self.world.broken:
            raise self.world.broken[self.number]

    async def check_fit(self):
        if self.number not in self.world.loaded:
            raise BundleError("not there")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def states(rollouts):
    return {one.version: one.state for one in await rollouts.list()}


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
        for harm in (lambda: world.unloadable.add(2), lambda: world.broken.update({2: ModelUnavailable("not finite")})):
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
        (bundle / "model.onnx").write_bytes(b"other")
        with pytest.raises(ModelRefused, match="SHA256_MISMATCH"):
            await rollouts.push(bundle, **WHO)
        assert (await rollouts.get(2)).state is State.REFUSED
        with pytest.raises(WrongState, match="REFUSED"):
            await rollouts.load(2, **WHO)
        (bundle / "model.onnx").write_bytes(b"onnx")
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
    again = fitting_bundle(world.library.published_path(1), onnx=b"trained again")
    async with world.rollouts(standby=0) as rollouts:
        assert (await rollouts.get(1)).sha256 == again.sha256
        await rollouts.promote(2, **WHO)

        async def is_gone():
            return world.library.published() == [2]

        await poll("the end of version 1", is_gone, timeout_ms=2_000)
        await rollouts.rollback(**WHO)
        assert fakes.bundle.Bundle.load(world.library.published_path(1)).sha256 == again.sha256


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


async def test_somebody_elses_version_in_the_repository_is_taken_up_only_when_it_verifies(world):
    async with world.rollouts() as rollouts:
        fitting_bundle(world.root / "models" / "patchtst" / "5", version=5)
        damaged = fitting_bundle(world.root / "models" / "patchtst" / "6", version=6).path
        (damaged / "model.onnx").write_bytes(b"other")
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
