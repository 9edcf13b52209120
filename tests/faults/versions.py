"""Rows of the model itself: one that computes nonsense, and many switches from one to another."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from candlecast.client import ServerError
from candlecast.v1 import models_pb2 as pb
from tests.bad_models import BAD
from tests.faults.holdings import Holdings
from tests.faults.scene import Scene, Seen, row
from tests.faults.switches import Models, admin, pushed
from tests.versions import repository, variant


def environment(directory: Path) -> Mapping[str, str]:
    return {"CANDLECAST_MODEL_REPOSITORY": str(repository(directory)), "CANDLECAST_ROLLBACK_STANDBY": "0"}


def with_a_standby(directory: Path) -> Mapping[str, str]:
    limits = {
        "CANDLECAST_MODEL_TRIAL_TIMEOUT_MS": "10000",
        "CANDLECAST_MODEL_BYTES_MAX": str(64 * 1024**2),
        "CANDLECAST_MODEL_WINDOW_MS_MAX": "4",
    }
    return {"CANDLECAST_MODEL_REPOSITORY": str(repository(directory))} | limits


@row(18, "models that misfit, are damaged, hang, or compute NaN", 16, stays_ready=True, environment=with_a_standby)
async def bad_models(scene: Scene) -> Seen:
    """Twelve are refused before Triton sees them; one that is not finite in traffic is rolled back by itself."""
    seen = Seen(notes={"refused": {}, "rolled_back_s": []})
    kinds = list(BAD.items())
    if scene.times < len(kinds):
        kinds = scene.dice.sample(kinds, scene.times - 1)
    async with admin(scene.stack) as models:
        await rolled_back(scene, models, 99)
        scene.before = await Holdings.of(scene.stack)  # with a version more, and what its load once took
        for number, (what, (write, code)) in enumerate(kinds, 10):
            folder = scene.directory / f"run-{number}"
            await asyncio.to_thread(write, folder)
            manifest = json.loads((folder / "manifest.json").read_text())
            (folder / "manifest.json").write_text(json.dumps(manifest | {"version": number}))
            try:
                await models.push(folder)
                raise AssertionError(f"{what} was taken")
            except ServerError as error:
                word = str(error).split(": ")[1]
            assert word == code, (what, word)
            seen.notes["refused"][word] = seen.notes["refused"].get(word, 0) + 1
            seen.add()
        for number in range(100, 100 + scene.times - len(kinds)):
            took_s = await rolled_back(scene, models, number)
            seen.notes["rolled_back_s"].append(round(took_s, 2))
            seen.add(recover_s=took_s)
    assert not scene.load.failures, scene.load.failures
    return seen


async def rolled_back(scene: Scene, models: Models, number: int) -> float:
    """Promote a version that is right on its golden inputs alone; return the seconds until it is out."""
    bundle = await asyncio.to_thread(variant, scene.directory / f"run-{number}", number, nan_unless_golden=True)
    await models.push(bundle.path)
    before = await models.champion()
    await models.promote(number)
    begun = time.monotonic()
    await back(models, before)
    took_s = time.monotonic() - begun
    await scene.load.until_answered(2)
    assert (await models.versions())[number].reason.startswith("NOT_FINITE")
    return took_s


async def back(models: Models, champion: int) -> None:
    """Return once this one answers again."""
    async with asyncio.timeout(10):
        while await models.champion() != champion:
            await asyncio.sleep(0.02)


@row(19, "the model is switched under load", 100, stays_ready=True, environment=environment)
async def switches(scene: Scene) -> Seen:
    """Each switch loads a version, moves the traffic and unloads the other; what `make rollout-proof` does at 70 %."""
    seen = Seen(notes={"switch_s": []})
    async with admin(scene.stack) as models:
        await pushed(models, scene.directory)
        for version in (2, 3):
            await models.switch(version)
        scene.before = await Holdings.of(scene.stack)
        quiet: list[float] = []
        during: list[float] = []
        for i in range(scene.times):
            begin = len(scene.load.latencies_ms)
            await scene.load.until_answered(20)
            quiet += scene.load.latencies_ms[begin:]
            begin, begun = len(scene.load.latencies_ms), time.monotonic()
            await models.switch(2 + i % 2)
            seen.notes["switch_s"].append(round(time.monotonic() - begun, 2))
            during += scene.load.latencies_ms[begin:]
            seen.add()
        versions = await models.versions()
        assert sum(one.loaded for one in versions.values()) == 1
        assert sum(one.state == pb.MODEL_STATE_CHAMPION for one in versions.values()) == 1
    assert not scene.load.failures, scene.load.failures
    ratio = float(np.percentile(during, 99) / np.percentile(quiet, 99))
    seen.notes |= {"p99_ratio": round(ratio, 2), "p99_ms": round(float(np.percentile(quiet, 99)), 1)}
    return seen
