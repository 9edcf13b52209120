"""What TritonModel promises, against the real tritonserver that all these tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from candlecast.errors import InvalidRequest, ModelUnavailable
from candlecast.triton.client import Tensor, TritonModel
from candlecast.triton.embedded import EmbeddedTriton
from tests.triton.conftest import COLUMNS, F32, OUTPUTS, WINDOW, windows

Reference = Callable[[F32], F32]


async def test_every_batch_size_gives_the_values_of_onnx_runtime(model: TritonModel, reference: Reference) -> None:
    for batch in range(1, 34):
        inputs = windows(batch, seed=batch)
        inference = await model.infer(inputs)
        np.testing.assert_array_equal(inference.outputs, reference(inputs), err_msg=f"batch {batch}")
        assert inference.version == "1"


async def test_concurrent_mixed_batches_get_their_own_rows(model: TritonModel, reference: Reference) -> None:
    for seed in range(3):
        sizes = np.random.default_rng(seed).integers(1, 13, 60).tolist()
        inputs = [windows(size, seed=1000 * seed + k) for k, size in enumerate(sizes)]
        answers = await asyncio.gather(*map(model.infer, inputs))
        for sent, answer in zip(inputs, answers, strict=True):
            np.testing.assert_array_equal(answer.outputs, reference(sent))


async def test_rows_that_are_not_contiguous_are_sent_in_order(model: TritonModel, reference: Reference) -> None:
    inputs = windows(8)[::-2]
    np.testing.assert_array_equal((await model.infer(inputs)).outputs, reference(np.ascontiguousarray(inputs)))


async def test_a_row_with_nan_gives_nan_for_that_row_only(model: TritonModel, reference: Reference) -> None:
    inputs = windows(9)
    expected = reference(inputs)
    inputs[4, 50, 3] = np.nan
    neighbour = windows(5, seed=1)
    answer, beside = await asyncio.gather(model.infer(inputs), model.infer(neighbour))
    assert np.isnan(answer.outputs[4]).all()
    others = [k for k in range(9) if k != 4]
    np.testing.assert_array_equal(answer.outputs[others], expected[others])
    np.testing.assert_array_equal(beside.outputs, reference(neighbour))


@pytest.mark.parametrize(
    "shape", [(3, WINDOW, COLUMNS + 1), (3, WINDOW - 1, COLUMNS), (WINDOW, COLUMNS), (65, WINDOW, COLUMNS)], ids=str
)
async def test_a_wrong_shape_is_refused_and_its_neighbours_are_unhurt(
    model: TritonModel, reference: Reference, shape: tuple[int, ...]
) -> None:
    bad = [model.infer(np.zeros(shape, np.float32)) for _ in range(8)]
    inputs = [windows(k + 1, seed=k) for k in range(8)]
    answers = await asyncio.gather(*bad, *map(model.infer, inputs), return_exceptions=True)
    for refused in answers[:8]:
        assert isinstance(refused, InvalidRequest)
        assert refused.field == "windows"
    for sent, answer in zip(inputs, answers[8:], strict=True):
        assert not isinstance(answer, BaseException)
        np.testing.assert_array_equal(answer.outputs, reference(sent))


async def test_metadata_names_versions_tensors_and_shapes(model: TritonModel) -> None:
    metadata = await model.metadata()
    assert metadata.versions == ("1",)
    assert metadata.inputs == (Tensor("features", "FP32", (-1, WINDOW, COLUMNS)),)
    assert metadata.outputs == (Tensor("outputs", "FP32", (-1, OUTPUTS)),)


async def test_golden_values_pass_within_the_tolerance_and_not_beyond(model: TritonModel, reference: Reference) -> None:
    inputs = windows(4)
    golden = reference(inputs)
    largest = np.abs(golden).max()
    assert await model.check_golden(inputs, golden) == "1"
    nearly, wrong = golden.copy(), golden.copy()
    nearly[2, 5] += 1.9e-3 * largest
    wrong[2, 5] += 2.2e-3 * largest
    await model.check_golden(inputs, nearly)
    with pytest.raises(ModelUnavailable, match=r"rows version 1 computes wrong values: maximum relative error 0.0022"):
        await model.check_golden(inputs, wrong)


async def test_golden_refuses_swapped_rows_other_shapes_and_nan(model: TritonModel, reference: Reference) -> None:
    inputs = windows(4)
    golden = reference(inputs)
    with pytest.raises(ModelUnavailable, match="wrong values"):
        await model.check_golden(inputs, golden[[1, 0, 2, 3]])
    with pytest.raises(ModelUnavailable, match=r"shape \(4, 20\), not \(4, 19\)"):
        await model.check_golden(inputs, golden[:, :19])
    inputs[0, 0, 0] = np.nan
    with pytest.raises(ModelUnavailable, match="not finite"):
        await model.check_golden(inputs, golden)


async def test_an_unknown_model_is_unavailable(triton: EmbeddedTriton) -> None:
    async with TritonModel(triton.address, "nobody", timeout_ms=5_000) as nobody:
        assert not await nobody.ready()
        with pytest.raises(ModelUnavailable, match="unknown model"):
            await nobody.infer(windows(1))


async def test_an_address_where_nobody_listens_is_unavailable() -> None:
    async with TritonModel("127.0.0.1:1", "rows", timeout_ms=5_000) as nobody:
        assert not await nobody.ready()
        with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:1: UNAVAILABLE"):
            await nobody.infer(windows(1))


async def test_a_cancelled_caller_leaves_and_the_next_is_served(triton: EmbeddedTriton, reference: Reference) -> None:
    async with TritonModel(triton.address, "rows", timeout_ms=10_000, late_calls_max=100) as model:
        for _ in range(50):
            caller = asyncio.create_task(model.infer(windows(12)))
            await asyncio.sleep(0)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        inputs = windows(3, seed=3)
        np.testing.assert_array_equal((await model.infer(inputs)).outputs, reference(inputs))


async def test_load_and_unload_need_the_control_header(triton: EmbeddedTriton) -> None:
    async with grpc.aio.insecure_channel(triton.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="expecting header"):
            await stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="rows"))
        with pytest.raises(grpc.aio.AioRpcError, match="expecting header"):
            await stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest())
        index = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), metadata=[triton.control_header])
    assert [(model.name, model.state) for model in index.models] == [("rows", "READY")]
