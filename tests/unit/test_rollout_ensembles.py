"""Ensembles that come and go as one version: all of its members or none, one that is missing, one that is shared."""

from __future__ import annotations

import json
import shutil

import pytest

from candlecast.errors import ModelRefused, ModelUnavailable, Refusal
from candlecast.lifecycle import poll
from candlecast.models import ensemble
from candlecast.models.bundle import Bundle
from candlecast.models.library import models_in
from candlecast.models.states import State
from tests.bundles import walked
from tests.fakes import fitting_bundle
from tests.rollouts import WHO, World, states


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, "ensemble")


def with_trees(world, version):
    """Write an ensemble with a member of a model that no other has; return its folder."""
    root = world.root / f"run-{version}"
    first = Bundle.load(world.bundle(version).parents[1] / "patchtst" / str(version))
    trees = fitting_bundle(root / "xgboost" / "3", name="xgboost", version=3, metrics=walked(1.02))
    return ensemble.write(root / "ensemble" / str(version), ensemble.weigh([first, trees], version)).path


def models(world):
    return world.root / "models"


async def until_gone(rollouts, version):
    async def is_gone():
        return not (await rollouts.get(version)).is_loaded

    await poll(f"the end of version {version}", is_gone, timeout_ms=2_000)


async def test_a_missing_member_degrades_what_answers_until_it_is_well_again(world):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        await rollouts.promote(2, **WHO)
        assert not (await world.forecasts()).degraded.any()
        world.missing.add("lstm")
        said = await world.forecasts()
        assert said.model.version == 2
        assert said.degraded.all()
        assert list(rollouts.absent(2)) == ["lstm v1"]
        assert rollouts.absent_now == 1
        assert (await states(rollouts))[2] is State.CHAMPION, "the others answer"
        world.missing.clear()
        await world.forecaster.routes.check()  # the canary's
        assert rollouts.absent_now == 0
        assert not (await world.forecasts()).degraded.any()


async def test_the_guard_asks_a_challengers_missing_member_again(world):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        await rollouts.split(2, 1.0, **WHO)
        world.missing.add("lstm")
        assert (await world.forecasts()).degraded.all()
        world.missing.clear()

        async def is_whole():
            await rollouts.look()
            return not rollouts.absent(2)

        await poll("a whole challenger", is_whole, timeout_ms=5_000)


async def test_a_version_that_lacks_a_member_does_not_begin_to_answer_but_may_be_gone_back_to(world):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        world.missing.add("lstm")
        with pytest.raises(ModelRefused, match="lstm"):
            await rollouts.promote(2, **WHO)
        assert (await rollouts.get(2)).state is State.FAILED
        assert world.library.published() == [1]
        assert world.loaded == {1}
        world.missing.clear()
        await rollouts.promote(2, **WHO)
        world.missing.add("lstm")
        await rollouts.rollback(**WHO)
        assert (await world.forecasts()).model.version == 1


async def test_when_triton_does_not_load_one_member_none_of_the_version_stays(world):
    async with world.rollouts() as rollouts:
        world.unloadable.add(("xgboost", 3))
        await rollouts.push(with_trees(world, 2), **WHO)
        with pytest.raises(ModelRefused, match="xgboost"):
            await rollouts.promote(2, **WHO)
        assert world.library.published() == [1]
        assert world.triton == {"patchtst": {1}, "lstm": {1}}
        assert not list((models(world) / "xgboost").glob("[0-9]*"))
        assert await world.bar() == 1
        world.unloadable.clear()
        await rollouts.promote(2, **WHO)
        assert await world.bar() == 2


async def test_a_shared_member_stays_and_a_model_without_versions_ends(world):
    async with world.rollouts(standby=0) as rollouts:
        await rollouts.push(with_trees(world, 2), **WHO)
        await rollouts.push(world.bundle(3), **WHO)
        await rollouts.promote(2, **WHO)
        await until_gone(rollouts, 1)
        assert world.triton == {"patchtst": {2}, "xgboost": {3}}
        assert (models(world) / "xgboost" / "config.pbtxt").exists()
        assert models_in(models(world), "ensemble") == {"patchtst", "xgboost"}, "what Triton starts with"
        await rollouts.promote(3, **WHO)
        await until_gone(rollouts, 2)
        assert world.triton == {"patchtst": {3}, "lstm": {1}}
        await rollouts.load(2, **WHO)
        loads = len(world.loads)
        shutil.rmtree(world.root / "run-3")
        await rollouts.push(world.bundle(4), **WHO)  # its lstm is there already
        await rollouts.promote(4, **WHO)
        assert world.loads[loads:].count("lstm") == 0
        await until_gone(rollouts, 3)
        assert world.triton == {"patchtst": {2, 4}, "lstm": {1}, "xgboost": {3}}


async def test_another_bundle_under_a_members_name_and_version_is_kept_out_of_the_repository(world):
    async with world.rollouts() as rollouts:
        root = world.bundle(2).parents[1]
        first = Bundle.load(root / "patchtst" / "2")
        other = fitting_bundle(root / "lstm" / "1", name="lstm", metrics=walked(1.05), onnx=b"another")
        changed = ensemble.write(root / "ensemble" / "2", ensemble.weigh([first, other], 2))
        await rollouts.push(changed.path, **WHO)
        with pytest.raises(ModelRefused, match="another lstm v1") as refused:
            await rollouts.promote(2, **WHO)
        assert refused.value.refusal is Refusal.WRONG_MODEL
        assert world.library.published() == [1]
        assert await world.bar() == 1


def without_a_member(folder):
    shutil.rmtree(folder.parents[1] / "lstm")


def damaged(folder):
    (folder.parents[1] / "lstm" / "1" / "model.onnx").write_bytes(b"other")


def heavy(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for member, weight in zip(manifest["members"], (0.9, 0.1), strict=True):
        member["weight"] = weight
    (folder / "manifest.json").write_text(json.dumps(manifest))


def boasting(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for loss in manifest["members"][0]["log_loss"].values():
        loss["skill"] = 0.5
    manifest["members"][0]["weight"] = 11 / 12
    manifest["members"][1]["weight"] = 1 / 12
    (folder / "manifest.json").write_text(json.dumps(manifest))


def climbing(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["members"][1]["name"] = "../../lstm"
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (without_a_member, "DAMAGED"),
        (damaged, "SHA256_MISMATCH"),
        (heavy, "WRONG_WEIGHTS"),
        (boasting, "WRONG_WEIGHTS"),
        (climbing, "DAMAGED"),
    ],
)
async def test_a_set_that_does_not_hold_is_refused_and_says_why(world, harm, code):
    async with world.rollouts() as rollouts:
        folder = world.bundle(2)
        harm(folder)
        with pytest.raises(ModelRefused, match=code):
            await rollouts.push(folder, **WHO)
        assert (await states(rollouts)).get(2) in (State.REFUSED, None)
        assert await world.bar() == 1


async def test_a_set_that_answers_wrongly_together_is_not_warmed(world, monkeypatch):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        monkeypatch.setattr(
            ensemble.Ensemble, "golden_outputs", 1 + ensemble.Ensemble.load(world.bundle(2)).golden_outputs
        )
        with pytest.raises(ModelRefused, match="GOLDEN_MISMATCH: the set computes wrong values"):
            await rollouts.load(2, **WHO)
        assert world.loaded == {1}


@pytest.mark.parametrize("done", ["manifest", "a member"])
async def test_a_publication_that_was_cut_off_is_undone_by_the_next_start(world, done):
    async with world.rollouts() as rollouts:
        await rollouts.push(with_trees(world, 2), **WHO)
    kept = world.library.path(2)
    (models(world) / "ensemble" / "2").mkdir()
    shutil.copy(kept / "manifest.json", models(world) / "ensemble" / "2")
    if done == "a member":
        shutil.copytree(kept / "xgboost" / "3", models(world) / "xgboost" / "3")
    async with world.rollouts():

        async def is_undone():
            return world.library.published() == [1] and world.triton == {"patchtst": {1}, "lstm": {1}}

        await poll("only the champion", is_undone, timeout_ms=2_000)
        assert not list((models(world) / "xgboost").glob("[0-9]*"))


async def test_members_that_are_gone_from_the_repository_come_back_from_the_library(world):
    async with world.rollouts(standby=0) as rollouts:
        await rollouts.push(with_trees(world, 2), **WHO)
        await rollouts.promote(2, **WHO)
        await until_gone(rollouts, 1)
    shutil.rmtree(models(world) / "xgboost")
    world.library.publish(2)  # as the server does before it loads what answers
    async with world.rollouts() as rollouts:
        assert await world.bar() == 2
        await rollouts.rollback(**WHO)
        assert await world.bar() == 1


async def test_a_pushed_ensemble_is_one_folder_that_needs_no_repository(world):
    async with world.rollouts() as rollouts:
        whole = ensemble.Ensemble.load(world.bundle(2))
        await rollouts.push(whole.path, **WHO)
        shutil.rmtree(world.root / "run-2")
        kept = ensemble.Ensemble.load(world.library.path(2))
        assert kept.sha256 == whole.sha256
        assert {one.path.parents[1] for one in kept.members} == {world.library.path(2)}
        shutil.copytree(kept.path, world.root / "elsewhere")
        assert await rollouts.push(world.root / "elsewhere", **WHO) == await rollouts.get(2)


async def test_an_outage_of_triton_fails_no_version(world):
    async with world.rollouts() as rollouts:
        await rollouts.push(world.bundle(2), **WHO)
        world.away = True
        with pytest.raises(ModelUnavailable):
            await rollouts.load(2, **WHO)
        world.away = False
        await rollouts.load(2, **WHO)
        assert (await rollouts.get(2)).state is State.WARM
