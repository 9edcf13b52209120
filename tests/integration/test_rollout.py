"""Versions that come, speak and go, through everything real: tritonserver, the server, PostgreSQL, wire and command."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from contextlib import asynccontextmanager

import grpc
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from candlecast.client import AsyncClient, messages
from candlecast.features import NAMES, WINDOW, Features
from candlecast.lifecycle import poll
from candlecast.models.library import champion_of
from candlecast.models_client import pieces
from candlecast.routing import chosen
from candlecast.server.app import open_server
from candlecast.settings import CHECKOUT, load
from candlecast.store.model_events import model_events
from candlecast.store.predictions import recent_predictions
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.repository import write_config
from candlecast.v1 import models_pb2 as pb
from candlecast.v1 import models_pb2_grpc
from candlecast.values import Candles, symbols
from tests.fakes import fitting_bundle
from tests.integration.test_ensemble import answer, tiny
from tests.market_simulator import candles

NEED = Features(symbols_max=1, conflicts_max=1).need
TOKEN = "let me in"
COUNT = 12
SYMBOLS = [f"R{i}USDT" for i in range(COUNT)]


def written(path, version, *, onnx=None, seed=None):
    """Write a version whose numbers are those of no other."""
    content = onnx or tiny(version if seed is None else seed)
    windows = np.random.default_rng(9).normal(0, 1, (4, WINDOW, len(NAMES))).astype(np.float32)
    return fitting_bundle(path, version=version, onnx=content, golden=(windows, answer(content, windows)))


@pytest.fixture(scope="module")
async def triton(tmp_path_factory):
    root = tmp_path_factory.mktemp("rollout")
    written(root / "models" / "patchtst" / "1", 1)
    write_config(root / "models" / "patchtst", "patchtst", WINDOW, len(NAMES), 20)
    async with EmbeddedTriton(
        env_dir=CHECKOUT / ".venv-triton", repository=root / "models", models=["patchtst"], work_dir=root / "triton"
    ) as triton:
        yield root / "models", triton


class Bars:
    """Bar closes of all symbols, one after the other."""

    def __init__(self):
        one = candles("R0USDT", NEED + 900)
        self._bars = [self._bar(one, i) for i in range(NEED + 900)]
        self._next = NEED - 1

    @staticmethod
    def _bar(one, i):
        bar = one.take(np.full(COUNT, i))
        values = bar.values.copy()
        values[:, :4] *= 1 + np.arange(COUNT)[:, None] / 50
        return Candles(symbols(SYMBOLS), bar.interval_ms, bar.open_time_ms, values, bar.forming)

    def windows(self, count):
        """Return the windows of the first `count` bars after warm-up, bar by bar."""
        state = Features(symbols_max=COUNT, conflicts_max=3)
        state.push(Candles.joined(self._bars[: NEED - 1]), windows=False)
        return np.concatenate([state.push(bar).windows for bar in self._bars[NEED - 1 : NEED - 1 + count]])

    async def warm(self, client):
        await client.backfill(Candles.joined(self._bars[: NEED - 1]))

    async def close(self, client, *, packed=True):
        """Close the next bar; return by symbol what was forecast."""
        bar = self._bars[self._next]
        self._next += 1
        results = await client.predict(bar if packed else messages(bar))
        return {result.symbol: result.forecast for result in results}


@asynccontextmanager
async def serving(triton, dsn, tmp_path, **more):
    repository, server = triton
    settings = load(
        model_repository=repository, triton=server.address, triton_key=server.memory_key, database_url=dsn,
        triton_control_key=server.control_header[1], state_dir=tmp_path, grpc="127.0.0.1:0", canary_interval_ms=100,
        admin_token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest(), **more,
    )  # fmt: skip
    async with open_server(settings) as address, AsyncClient(address) as client, admin(address) as models:
        yield address, client, models


@asynccontextmanager
async def admin(address, token=TOKEN):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = models_pb2_grpc.ModelsStub(channel)

        async def call(method, request):
            return await getattr(stub, method)(request, metadata=(("authorization", f"Bearer {token}"),))

        yield call


async def states(models):
    found = (await models("List", pb.ListModelsRequest())).models
    return {one.version: pb.ModelState.Name(one.state).removeprefix("MODEL_STATE_") for one in found}


async def alias(models, version, name, share=0.0):
    wanted = pb.ModelState.Value(f"MODEL_STATE_{name}")
    return await models(
        "SetAlias", pb.SetAliasRequest(version=version, alias=wanted, share=share, why=f"a test {name}")
    )


def of_version(forecasts):
    return {symbol: one.model.version for symbol, one in forecasts.items()}


async def test_a_version_goes_its_whole_way_and_back_and_every_forecast_is_of_one(triton, pool, dsn, tmp_path):
    pushed = written(tmp_path / "run", 2)
    said = []
    async with serving(triton, dsn, tmp_path / "state") as (address, client, models):
        bars = Bars()
        await bars.warm(client)

        async def close(**options):
            said.append(await bars.close(client, **options))
            return said[-1]

        assert of_version(await close()) == dict.fromkeys(SYMBOLS, 1)
        command = [
            sys.executable, "-m", "candlecast", "models", "push", str(tmp_path / "run"), "--server", address, "--json",
            "--why", "it may be better", "--state-dir", str(tmp_path / "state"),
        ]  # fmt: skip
        (tmp_path / "state" / "admin_token").write_text(TOKEN)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        (listed,) = json.loads((await process.communicate())[0])
        assert (listed["state"], listed["bundle_sha256"], process.returncode) == ("VERIFIED", pushed.sha256, 0)
        assert listed["metrics"]["window_ms"] > 0

        await alias(models, 2, "SHADOW")
        assert of_version(await close()) == dict.fromkeys(SYMBOLS, 1)
        count = "SELECT count(*) FROM ml_predictions WHERE shadow"

        async def is_stored():
            return (await pool.fetch(count))[0][0] == COUNT

        await poll("what the shadow said", is_stored, timeout_ms=5_000)

        await alias(models, 2, "CHALLENGER", 0.4)
        for packed in (True, False):
            forecasts = await close(packed=packed)
            close_ms = np.array([one.close_time_ms for one in forecasts.values()])
            theirs = chosen(symbols(SYMBOLS), close_ms, 2, 0.4)
            assert 0 < theirs.sum() < COUNT
            assert list(of_version(forecasts).values()) == np.where(theirs, 2, 1).tolist()
            shas = {one.model.version: one.model.bundle_sha256 for one in forecasts.values()}
            assert shas[2] == pushed.sha256 != shas[1]

        assert (await alias(models, 2, "CHAMPION")).loaded
        assert of_version(await close()) == dict.fromkeys(SYMBOLS, 2)
        assert await states(models) == {1: "RETIRED", 2: "CHAMPION"}
        begun = time.monotonic()
        await models("Rollback", pb.RollbackRequest(why="a test"))
        assert time.monotonic() - begun < 5
        assert of_version(await close()) == dict.fromkeys(SYMBOLS, 1)
        await alias(models, 2, "CHAMPION")
        assert not (await models("Unload", pb.UnloadModelRequest(version=1))).loaded
        assert not (triton[0] / "patchtst" / "1").exists()
        with pytest.raises(grpc.aio.AioRpcError, match="promote another"):
            await models("Unload", pb.UnloadModelRequest(version=2))
        assert of_version(await close()) == dict.fromkeys(SYMBOLS, 2)

    assert champion_of(tmp_path / "state", triton[0], "patchtst") == 2
    async with serving(triton, dsn, tmp_path / "state") as (_, client, models):
        assert await states(models) == {1: "RETIRED", 2: "CHAMPION"}
        forecasts = await bars.close(client)  # its candles came back from snapshot and table
        assert of_version(forecasts) == dict.fromkeys(SYMBOLS, 2)
        said.append(forecasts)
        begun = time.monotonic()
        await models("Rollback", pb.RollbackRequest(why="from nothing"))
        assert time.monotonic() - begun < 5, "loaded from the library"
        said.append(await bars.close(client))
        assert of_version(said[-1]) == dict.fromkeys(SYMBOLS, 1)

        async def are_recorded():
            return len(await model_events(pool, "patchtst")) == len(events)

        events = (await models("ListEvents", pb.ListModelEventsRequest())).events
        await poll("events", are_recorded, timeout_ms=5_000)

    way = [(one["from_state"], one["to_state"]) for one in (await model_events(pool, "patchtst", 2))[::-1]]
    steps = "PUSHED", "VERIFIED", "LOADED", "WARM", "SHADOW", "CHALLENGER", "CHAMPION", "RETIRED"
    assert way[: len(steps)] == list(zip((None, *steps), steps, strict=False))
    (first,) = [one for one in events if (one.version, one.to_state) == (2, pb.MODEL_STATE_PUSHED)]
    assert first.why == "it may be better"
    assert "@" in first.who

    rows = await pool.fetch("SELECT symbol, close_time, version, shadow, features_hash, outputs FROM ml_predictions")
    keyed = {(r["symbol"], round(r["close_time"].timestamp() * 1000), r["version"], r["shadow"]): r for r in rows}
    answers = [one for forecasts in said for one in forecasts.values()]
    for one in answers:
        row = keyed[one.symbol, one.close_time_ms, one.model.version, False]
        assert row["features_hash"] == one.features_hash
        np.testing.assert_array_equal(
            np.frombuffer(row["outputs"], "<f4")[:4], np.float32([h.expected_return for h in one.horizons])
        )
    assert sum(not key[3] for key in keyed) == len(answers), "one answer for each, of one version"
    shadowed = {key[:2] for key in keyed if key[3]}
    assert shadowed == {(one.symbol, one.close_time_ms) for one in said[1].values()}
    assert {row["version"] for row in await recent_predictions(pool, limit=500)} == {1, 2}
    assert len(await recent_predictions(pool, limit=500)) == len(answers)


async def test_switches_under_load_fail_nobody_and_each_answer_has_the_numbers_of_its_version(
    triton, pool, dsn, tmp_path
):
    contents = {3: tiny(3)}
    written(tmp_path / "run", 3)
    said = []
    async with serving(triton, dsn, tmp_path / "state", rollback_standby=0, rollback_compared_s=0) as (
        _,
        client,
        models,
    ):
        bars, stop = Bars(), asyncio.Event()
        await bars.warm(client)

        async def load():
            while not stop.is_set():
                said.append(await bars.close(client))
                await asyncio.sleep(0.02)

        closing = asyncio.create_task(load())
        await push(models, tmp_path / "run")
        first = next(number for number, state in (await states(models)).items() if state == "CHAMPION")
        contents[first] = (triton[0] / "patchtst" / str(first) / "model.onnx").read_bytes()
        for number in (3, first):
            await alias(models, number, "CHAMPION")

            async def alone(number=number):
                found = (await models("List", pb.ListModelsRequest())).models
                return [one.version for one in found if one.loaded] == [number]

            await poll("one version in Triton", alone, timeout_ms=10_000)
        stop.set()
        await closing  # nothing failed

    assert {version for forecasts in said for version in of_version(forecasts).values()} == {first, 3}
    assert all(len(set(of_version(forecasts).values())) == 1 for forecasts in said)
    windows = bars.windows(len(said))
    expected = {number: answer(contents[number], windows) for number in (first, 3)}
    for i, forecasts in enumerate(said):
        for k, symbol in enumerate(SYMBOLS):
            one = forecasts[symbol]
            returns = [horizon.expected_return for horizon in one.horizons]
            of_its_version = expected[one.model.version][i * COUNT + k, :4]
            np.testing.assert_allclose(returns, of_its_version, rtol=1e-4, atol=1e-5)
    rows = await pool.fetch("SELECT count(*) AS n, count(DISTINCT (symbol, close_time)) AS d FROM ml_predictions")
    assert (rows[0]["n"], rows[0]["d"]) == (len(said) * COUNT, len(said) * COUNT)


async def test_a_champion_whose_outputs_are_not_finite_is_rolled_back_at_once_and_says_no_signal(
    triton, pool, dsn, tmp_path
):
    written(tmp_path / "run", 7, onnx=nan_unless_wild())
    async with serving(triton, dsn, tmp_path / "state") as (_, client, models):
        before = next(number for number, state in (await states(models)).items() if state == "CHAMPION")
        bars = Bars()
        await bars.warm(client)
        await bars.close(client)
        await push(models, tmp_path / "run")
        await alias(models, 7, "CHAMPION")
        forecasts = await bars.close(client)
        assert of_version(forecasts) == dict.fromkeys(SYMBOLS, 7)
        assert {one.reasons[0] for one in forecasts.values()} == {"OUTPUT_NOT_FINITE"}

        async def is_back():
            return (await states(models))[before] == "CHAMPION"

        await poll("the champion of before", is_back, timeout_ms=5_000)
        assert of_version(await bars.close(client)) == dict.fromkeys(SYMBOLS, before)
        (event,) = [
            one for one in (await models("ListEvents", pb.ListModelEventsRequest(version=7))).events
            if one.to_state == pb.MODEL_STATE_FAILED
        ]  # fmt: skip
        assert event.who == "candlecast"
        assert event.why.startswith("NOT_FINITE: 12 of 12")

        async def is_gone():
            return not (triton[0] / "patchtst" / "7").exists()

        await poll("version 7 out of the repository", is_gone, timeout_ms=5_000)


async def test_a_damaged_bundle_is_refused_with_its_reason_and_nobody_comes_in_without_the_token(triton, dsn, tmp_path):
    written(tmp_path / "run", 8)
    (tmp_path / "run" / "model.onnx").write_bytes(b"another")
    async with serving(triton, dsn, tmp_path / "state") as (address, _, models):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await push(models, tmp_path / "run")
        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert failed.value.details().startswith("SHA256_MISMATCH:")
        assert (await states(models))[8] == "REFUSED"
        for token in ("", "guess", TOKEN.upper()):
            async with admin(address, token) as stranger:
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await stranger("List", pb.ListModelsRequest())
            assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def push(models, folder):
    return await models("Push", pieces(folder, "a test"))


def nan_unless_wild():
    """Return a model that is well on the golden inputs, whose rows are random, and not finite on a market."""
    model = onnx.load_from_string(tiny(7))
    graph = model.graph
    graph.node[-1].output[0] = "before"
    ends = {"last": np.array([WINDOW - 1]), "earlier": np.array([WINDOW - 2])}
    for name, value in (ends | {"nan": np.float32(np.nan), "half": np.float32(0.5), "both": np.array([1, 2])}).items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    graph.node.extend(
        [
            helper.make_node("Gather", ["present", "last"], ["newest"], axis=1),
            helper.make_node("Gather", ["present", "earlier"], ["one_before"], axis=1),
            helper.make_node("Sub", ["newest", "one_before"], ["step"]),
            helper.make_node("Abs", ["step"], ["size"]),
            helper.make_node("ReduceMean", ["size", "both"], ["mean_size"], keepdims=0),  # [B]
            helper.make_node("Greater", ["mean_size", "half"], ["wild"]),
            helper.make_node("Unsqueeze", ["wild", "axes"], ["wild_row"]),
            helper.make_node("Where", ["wild_row", "before", "nan"], ["outputs"]),
        ]
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()
