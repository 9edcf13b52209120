"""An ensemble through everything real: two small models in a tritonserver, the server, PostgreSQL, the wire."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import numpy as np
import onnx
import onnxruntime
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import service_pb2, service_pb2_grpc

from candlecast import ensemble as average
from candlecast import outputs as layout
from candlecast.client import AsyncClient, messages
from candlecast.features import NAMES, WINDOW, Features
from candlecast.lifecycle import poll
from candlecast.models import ensemble
from candlecast.models.bundle import Bundle
from candlecast.server.app import open_server
from candlecast.settings import CHECKOUT, load
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.repository import write_config
from tests.fakes import fitting_bundle
from tests.market_simulator import candles

NEED = Features(symbols_max=1, conflicts_max=1).need
LOSSES = {"patchtst": 1.0, "lstm": 1.05}


def tiny(seed: int) -> bytes:
    """Return a model that squeezes the mean of each column and multiplies by a small matrix; no NaN goes in."""
    weights = np.random.default_rng(seed).normal(0, 0.2, (len(NAMES), layout.COUNT)).astype(np.float32)
    nodes = [
        helper.make_node("IsNaN", ["features"], ["absent"]),
        helper.make_node("Where", ["absent", "zero", "features"], ["present"]),
        helper.make_node("ReduceMean", ["present", "axes"], ["mean"], keepdims=0),
        helper.make_node("Tanh", ["mean"], ["squeezed"]),
        helper.make_node("MatMul", ["squeezed", "weights"], ["outputs"]),
    ]
    constants = {"zero": np.float32(0), "axes": np.array([1]), "weights": weights}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WINDOW, len(NAMES)])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", layout.COUNT])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def answer(content: bytes, windows):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["outputs"], {"features": windows})[0]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A model repository with two members and the ensemble of them."""
    root = tmp_path_factory.mktemp("models")
    for seed, (name, loss) in enumerate(LOSSES.items()):
        content = tiny(seed)
        windows = np.random.default_rng(9).normal(0, 1, (4, WINDOW, len(NAMES))).astype(np.float32)
        horizons = {horizon: {"log_loss": {"model": loss, "base": 1.1}} for horizon in layout.HORIZONS}
        fitting_bundle(
            root / name / "1",
            name=name,
            metrics={"walk_forward": {"mean": {"horizons": horizons}}},
            temperatures=(1.0 + seed,) * 4,
            onnx=content,
            golden=(windows, answer(content, windows)),
        )
        write_config(root / name, name, WINDOW, len(NAMES), layout.COUNT)
    bundles = [Bundle.load(root / name / "1") for name in LOSSES]
    ensemble.write(root / "ensemble" / "1", ensemble.weigh(bundles, 1))
    return root


@pytest.fixture(scope="module")
async def triton(repository, tmp_path_factory):
    async with EmbeddedTriton(
        env_dir=CHECKOUT / ".venv-triton",
        repository=repository,
        models=list(LOSSES),
        work_dir=tmp_path_factory.mktemp("triton"),
    ) as triton:
        yield triton


@asynccontextmanager
async def control(triton):
    async with grpc.aio.insecure_channel(triton.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def unload(name):
            request = service_pb2.RepositoryModelUnloadRequest(model_name=name)
            await stub.RepositoryModelUnload(request, metadata=[triton.control_header])

        async def load(name):
            request = service_pb2.RepositoryModelLoadRequest(model_name=name)
            await stub.RepositoryModelLoad(request, metadata=[triton.control_header])

        yield unload, load


async def is_serving(address):
    async with grpc.aio.insecure_channel(address) as channel:
        found = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    return found.status == health_pb2.HealthCheckResponse.SERVING


async def test_forecasts_go_on_degraded_without_a_member_and_are_whole_again_with_it(
    repository, triton, pool, dsn, tmp_path
):
    settings = load(
        model="ensemble",
        model_repository=repository,
        triton=triton.address,
        triton_key=triton.memory_key,
        database_url=dsn,
        state_dir=tmp_path,
        grpc="127.0.0.1:0",
        canary_interval_ms=100,
        model_wait_ms=100,
    )
    simulated = candles("BTCUSDT", NEED + 60)
    history, given = messages(simulated), iter(range(NEED - 1, NEED + 60))
    moved = Features(symbols_max=1, conflicts_max=3).push(simulated)
    whole = ensemble.Ensemble.load(repository / "ensemble" / "1")
    alone = [answer((bundle.path / "model.onnx").read_bytes(), moved.windows) for bundle in whole.members]
    seen = []

    async with (
        control(triton) as (unload, reload),
        open_server(settings) as address,
        AsyncClient(address) as client,
    ):
        await client.backfill(history[: NEED - 1])

        async def forecast():
            (result,) = await client.predict([history[next(given)]])
            seen.append(result.forecast)
            return result.forecast

        async def is_whole_again():
            return not (await forecast()).degraded

        assert not (await forecast()).degraded
        await unload("lstm")
        assert (await forecast()).degraded
        assert await is_serving(address)
        assert (await forecast()).model_agreement == 1  # of those who are there
        await reload("lstm")
        await poll("a whole ensemble", is_whole_again, timeout_ms=10_000, interval_ms=100)

        await asyncio.gather(*map(unload, LOSSES))

        async def is_not_serving():
            return not await is_serving(address)

        await poll("NOT_SERVING without any member", is_not_serving, timeout_ms=5_000)
        with pytest.raises(Exception, match="MODEL_UNAVAILABLE"):
            await AsyncClient.predict(client, [history[next(given)]])
        await asyncio.gather(*map(reload, LOSSES))
        await poll("SERVING", lambda: is_serving(address), timeout_ms=10_000, interval_ms=100)
        await poll("a whole ensemble", is_whole_again, timeout_ms=10_000, interval_ms=100)

    sha256 = bytes.fromhex(whole.sha256)
    rows = await pool.fetch(
        "SELECT close_time, degraded, model_agreement, outputs, version, bundle_sha256"
        " FROM ml_predictions WHERE model = 'ensemble' ORDER BY close_time"
    )
    assert {(row["version"], row["bundle_sha256"]) for row in rows} == {(1, sha256)}
    by_time = {round(row["close_time"].timestamp() * 1000): row for row in rows}
    assert len(by_time) == len(rows)
    for said in seen:
        row, at = by_time[said.close_time_ms], (said.close_time_ms - seen[0].close_time_ms) // 900_000
        given_by = [answers[at : at + 1] for answers in alone]
        # While both come back, it may be either of them that is still missing.
        possible = [[given_by[0], None], [None, given_by[1]]] if said.degraded else [given_by]
        combined = (average.combine(given, whole.temperatures, whole.weights)[0] for given in possible)
        stored = np.array([*np.frombuffer(row["outputs"], "<f4"), row["model_agreement"], row["degraded"]])
        assert any(np.allclose(stored, numbers, rtol=1e-4, atol=1e-5) for numbers in combined)
        assert (row["degraded"], row["model_agreement"]) == (said.degraded, said.model_agreement)
        assert said.model.name == "ensemble"
    assert len({said.model_agreement for said in seen}) > 1
