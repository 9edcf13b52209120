"""Ensembles that come, speak and go as one version, through everything real; some share a member, one brings one."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc
import numpy as np
import pytest

from candlecast import ensemble as average
from candlecast import outputs as layout
from candlecast.features import NAMES, WINDOW
from candlecast.lifecycle import poll
from candlecast.models import ensemble
from candlecast.models.bundle import Bundle
from candlecast.models.library import models_in
from candlecast.models_client import pieces
from candlecast.routing import chosen
from candlecast.settings import CHECKOUT
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.repository import write_config
from candlecast.v1 import models_pb2 as pb
from candlecast.values import symbols
from tests.bundles import walked
from tests.fakes import fitting_bundle
from tests.integration.test_ensemble import answer, control, tiny
from tests.integration.test_rollout import COUNT, SYMBOLS, TOKEN, Bars, alias, of_version, serving, states

LOSSES = {"patchtst": 1.0, "lstm": 1.05, "xgboost": 1.02}


def member(root, name, version, seed):
    content = tiny(seed)
    windows = np.random.default_rng(9).normal(0, 1, (4, WINDOW, len(NAMES))).astype(np.float32)
    return fitting_bundle(
        root / name / str(version), name=name, version=version, metrics=walked(LOSSES[name]),
        temperatures=(1.0 + seed / 2,) * 4, onnx=content, golden=(windows, answer(content, windows)),
    )  # fmt: skip


def written(root, version, **members):
    """Write an ensemble of members, each of a version: 1 has the seed 1 of its name, …"""
    first = list(LOSSES).index
    for name, number in members.items():
        if not (root / name / str(number)).exists():
            member(root, name, number, 10 * number + first(name))
    bundles = [Bundle.load(root / name / str(number)) for name, number in members.items()]
    return ensemble.write(root / "ensemble" / str(version), ensemble.weigh(bundles, version))


@pytest.fixture
async def triton(tmp_path):
    repository = tmp_path / "models"
    written(repository, 1, patchtst=1, lstm=1)
    for name in ("patchtst", "lstm"):
        write_config(repository / name, name, WINDOW, len(NAMES), layout.COUNT)
    async with EmbeddedTriton(
        env_dir=CHECKOUT / ".venv-triton",
        repository=repository,
        models=lambda: sorted(models_in(repository, "ensemble")),
        work_dir=tmp_path / "triton",
    ) as triton:
        yield repository, triton


def expected(served, windows):
    """Return what an ensemble says to windows, computed apart: [B, 22]."""
    answers = [answer((one.path / "model.onnx").read_bytes(), windows) for one in served.members]
    return average.combine(answers, served.temperatures, served.weights)


async def test_an_ensemble_goes_its_whole_way_and_back_as_one_version(triton, pool, dsn, tmp_path):
    repository = triton[0]
    sets = {
        1: ensemble.Ensemble.load(repository / "ensemble" / "1"),
        2: written(tmp_path / "run", 2, patchtst=2, xgboost=1),
    }
    said, bars = [], Bars()
    windows = bars.windows(8)
    computed = {number: expected(one, windows) for number, one in sets.items()}
    async with serving(triton, dsn, tmp_path / "state", model="ensemble") as (address, client, models):
        await bars.warm(client)

        async def close():
            said.append(await bars.close(client))
            return of_version(said[-1])

        assert await close() == dict.fromkeys(SYMBOLS, 1)
        command = [
            sys.executable, "-m", "candlecast", "models", "push", str(sets[2].path), "--server", address, "--json",
            "--state-dir", str(tmp_path / "state"),
        ]  # fmt: skip
        (tmp_path / "state" / "admin_token").write_text(TOKEN)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        (listed,) = json.loads((await process.communicate())[0])
        assert (listed["state"], listed["bundle_sha256"], listed["absent"]) == ("VERIFIED", sets[2].sha256, [])
        assert set(listed["metrics"]["members"]) == {"patchtst v2", "xgboost v1"}
        assert models_in(repository, "ensemble") == {"patchtst", "lstm"}, "Triton has not seen it"

        await alias(models, 2, "SHADOW")
        assert await close() == dict.fromkeys(SYMBOLS, 1)
        shadowed = "SELECT symbol, outputs FROM ml_predictions WHERE shadow AND model = 'ensemble' AND version = 2"

        async def is_stored():
            return len(await pool.fetch(shadowed)) == COUNT

        await poll("what the shadow said", is_stored, timeout_ms=5_000)
        heard = {row["symbol"]: np.frombuffer(row["outputs"], "<f4") for row in await pool.fetch(shadowed)}
        numbers = computed[2][COUNT : 2 * COUNT, : layout.COUNT]
        np.testing.assert_allclose([heard[one] for one in SYMBOLS], numbers, rtol=1e-3, atol=1e-4)

        await alias(models, 2, "CHALLENGER", 0.4)
        by = await close()
        close_ms = np.array([one.close_time_ms for one in said[-1].values()])
        assert list(by.values()) == np.where(chosen(symbols(SYMBOLS), close_ms, 2, 0.4), 2, 1).tolist()
        assert set(by.values()) == {1, 2}

        await alias(models, 2, "CHAMPION")
        assert await close() == dict.fromkeys(SYMBOLS, 2)
        begun = time.monotonic()
        await models("Rollback", pb.RollbackRequest(why="a test"))
        assert time.monotonic() - begun < 5
        assert await close() == dict.fromkeys(SYMBOLS, 1)
        await alias(models, 2, "CHAMPION")
        assert not (await models("Unload", pb.UnloadModelRequest(version=1))).loaded
        assert models_in(repository, "ensemble") == {"patchtst", "xgboost"}
        assert not (repository / "lstm" / "1").exists()
        assert await close() == dict.fromkeys(SYMBOLS, 2)

    async with serving(triton, dsn, tmp_path / "state", model="ensemble") as (_, client, models):
        assert await states(models) == {1: "RETIRED", 2: "CHAMPION"}
        assert await close() == dict.fromkeys(SYMBOLS, 2)
        await models("Rollback", pb.RollbackRequest(why="from nothing"))  # lstm is loaded from the library
        assert await close() == dict.fromkeys(SYMBOLS, 1)

    for i, forecasts in enumerate(said):
        for k, symbol in enumerate(SYMBOLS):
            one = forecasts[symbol]
            assert not one.degraded
            numbers = computed[one.model.version][i * COUNT + k]
            returns = [horizon.expected_return for horizon in one.horizons]
            np.testing.assert_allclose(returns, numbers[layout.RETURNS], rtol=1e-3, atol=1e-5)
            assert one.model_agreement == pytest.approx(numbers[average.AGREEMENT], abs=1e-6)
            assert one.model.bundle_sha256 == sets[one.model.version].sha256
    rows = await pool.fetch("SELECT model, version, count(*) AS n FROM ml_predictions WHERE NOT shadow GROUP BY 1, 2")
    assert {row["model"] for row in rows} == {"ensemble"}
    assert sum(row["n"] for row in rows) == len(said) * COUNT, "one answer for each, of one version"


async def test_a_version_lives_on_without_a_member_and_a_set_that_does_not_hold_changes_nothing(triton, dsn, tmp_path):
    made = written(tmp_path / "run", 2, patchtst=1, xgboost=1)
    bad = written(tmp_path / "bad", 3, patchtst=1, lstm=2)
    content = bytearray((bad.members[1].path / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bad.members[1].path / "model.onnx").write_bytes(content)
    async with (
        serving(triton, dsn, tmp_path / "state", model="ensemble") as (_, client, models),
        control(triton[1]) as (
            unload,
            reload,
        ),
    ):
        bars = Bars()
        await bars.warm(client)
        with pytest.raises(grpc.aio.AioRpcError, match="SHA256_MISMATCH"):
            await models("Push", pieces(bad.path, "a test"))
        await models("Push", pieces(made.path, "a test"))  # shares patchtst v1 with what answers
        await alias(models, 2, "CHAMPION")
        assert of_version(await bars.close(client)) == dict.fromkeys(SYMBOLS, 2)
        await unload("xgboost")
        forecasts = await bars.close(client)
        assert of_version(forecasts) == dict.fromkeys(SYMBOLS, 2)
        assert {one.degraded for one in forecasts.values()} == {True}
        found = {one.version: one for one in (await models("List", pb.ListModelsRequest())).models}
        assert found[2].absent[0].startswith("xgboost v1: ")
        assert not found[1].absent
        assert found[3].state == pb.MODEL_STATE_REFUSED
        await reload("xgboost")

        async def is_whole():
            return not any(one.degraded for one in (await bars.close(client)).values())

        await poll("a whole ensemble", is_whole, timeout_ms=10_000, interval_ms=100)


async def test_switches_of_ensembles_under_load_fail_nobody(triton, pool, dsn, tmp_path):
    made = written(tmp_path / "run", 2, patchtst=1, xgboost=1)
    said = []
    async with serving(
        triton, dsn, tmp_path / "state", model="ensemble", rollback_standby=0, rollback_compared_s=0
    ) as (_, client, models):
        bars, stop = Bars(), asyncio.Event()
        await bars.warm(client)

        async def load():
            while not stop.is_set():
                said.append(await bars.close(client))
                await asyncio.sleep(0.02)

        closing = asyncio.create_task(load())
        await models("Push", pieces(made.path, "a test"))
        for number in (2, 1):
            await alias(models, number, "CHAMPION")

            async def alone(number=number):
                found = (await models("List", pb.ListModelsRequest())).models
                return [one.version for one in found if one.loaded] == [number]

            await poll("one version in Triton", alone, timeout_ms=10_000)
        stop.set()
        await closing  # nothing failed
    assert {version for forecasts in said for version in of_version(forecasts).values()} == {1, 2}
    assert all(len(set(of_version(forecasts).values())) == 1 for forecasts in said)
    assert not any(one.degraded for forecasts in said for one in forecasts.values()), "each of a whole set"
    rows = await pool.fetch("SELECT count(*) AS n, count(DISTINCT (symbol, close_time)) AS d FROM ml_predictions")
    assert (rows[0]["n"], rows[0]["d"]) == (len(said) * COUNT, len(said) * COUNT)
