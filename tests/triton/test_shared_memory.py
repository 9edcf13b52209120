"""Windows handed over in shared memory: the same answers, and messages where Triton does not take it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from candlecast.settings import CHECKOUT
from candlecast.triton.client import KEY_HEADER, TritonModel
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.shared_memory import PREFIX, SharedWindows
from tests.triton.conftest import COLUMNS, F32, WINDOW, freeze, onnx_bytes, stubs, windows, write_model

Reference = Callable[[F32], F32]
ROWS_MAX = 64


async def regions(triton: EmbeddedTriton) -> set[str]:
    async with grpc.aio.insecure_channel(triton.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        status = await stub.SystemSharedMemoryStatus(
            service_pb2.SystemSharedMemoryStatusRequest(), metadata=[(KEY_HEADER, triton.memory_key)]
        )
    return set(status.regions)


async def test_answers_are_those_of_messages_wherever_the_windows_lie(
    triton: EmbeddedTriton, reference: Reference
) -> None:
    with SharedWindows(ROWS_MAX, (WINDOW, COLUMNS)) as shared:
        async with TritonModel(triton.address, "rows", 10_000, shared=shared, key=triton.memory_key) as model:
            inputs = windows(48, seed=5)
            inside = shared.room(48)
            inside[:] = inputs
            parts = [inside[k : k + 6] for k in range(0, 48, 6)]  # each a part of one place
            answers = await asyncio.gather(*(model.infer(part) for part in parts))
            np.testing.assert_array_equal(np.concatenate([a.outputs for a in answers]), reference(inputs))
            elsewhere = windows(5, seed=6)
            np.testing.assert_array_equal((await model.infer(elsewhere)).outputs, reference(elsewhere))
            too_many = windows(32, seed=7)  # no room for them beside the others: in a message
            np.testing.assert_array_equal((await model.infer(too_many)).outputs, reference(too_many))
            assert shared.name in await regions(triton)
        assert shared.name not in await regions(triton)


async def test_what_the_server_computes_is_what_lies_there_when_it_is_asked(
    triton: EmbeddedTriton, reference: Reference
) -> None:
    with SharedWindows(ROWS_MAX, (WINDOW, COLUMNS)) as shared:
        async with TritonModel(triton.address, "rows", 10_000, shared=shared, key=triton.memory_key) as model:
            place = shared.room(2)
            for seed in range(5):
                place[:] = windows(2, seed=seed)
                np.testing.assert_array_equal((await model.infer(place)).outputs, reference(place.copy()))


async def test_without_the_key_messages_carry_the_windows(
    triton: EmbeddedTriton, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    with SharedWindows(ROWS_MAX, (WINDOW, COLUMNS)) as shared:
        async with TritonModel(triton.address, "rows", 10_000, shared=shared) as model:
            inputs = windows(3)
            for _ in range(2):
                np.testing.assert_array_equal((await model.infer(inputs)).outputs, reference(inputs))
            assert [r.message for r in caplog.records if "no shared memory" in r.message] != []
    assert caplog.text.count("no shared memory") == 1


async def test_another_tritonserver_is_told_again(tmp_path: Path, reference: Reference) -> None:
    triton = EmbeddedTriton(
        env_dir=CHECKOUT / ".venv-triton",
        repository=write_model(tmp_path / "models"),
        models=["rows"],
        work_dir=tmp_path / "triton",
    )
    with SharedWindows(ROWS_MAX, (WINDOW, COLUMNS)) as shared:
        async with triton:
            port = int(triton.address.rpartition(":")[2])
            triton._port = port
            model = TritonModel(triton.address, "rows", 10_000, shared=shared, key=triton.memory_key)
            await model.__aenter__()
            inputs = windows(2)
            await model.infer(inputs)
        async with triton:
            np.testing.assert_array_equal((await model.infer(inputs)).outputs, reference(inputs))
            assert shared.name in await regions(triton)
            await model.__aexit__()


async def test_what_a_killed_server_left_at_triton_is_forgotten(triton: EmbeddedTriton) -> None:
    left = f"{PREFIX}{2**22 + 7}-0a"
    with SharedWindows(ROWS_MAX, (WINDOW, COLUMNS)) as shared:
        async with grpc.aio.insecure_channel(triton.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            await stub.SystemSharedMemoryRegister(
                service_pb2.SystemSharedMemoryRegisterRequest(name=left, key=f"/{shared.name}", byte_size=shared.size),
                metadata=[(KEY_HEADER, triton.memory_key)],
            )
        assert left in await regions(triton)
        async with TritonModel(triton.address, "rows", 10_000, shared=shared, key=triton.memory_key) as model:
            await model.infer(windows(1))
            found = await regions(triton)
            assert shared.name in found and left not in found


async def test_models_that_share_it_register_it_once_and_the_last_one_takes_it_back(tmp_path: Path) -> None:
    repository = write_model(tmp_path / "models")
    write_model(repository, name="others", content=onnx_bytes(seed=8))
    triton = EmbeddedTriton(
        env_dir=CHECKOUT / ".venv-triton", repository=repository, models=["rows", "others"], work_dir=tmp_path / "work"
    )
    with SharedWindows(ROWS_MAX, (WINDOW, COLUMNS)) as shared:
        async with triton:
            first, second = (
                TritonModel(triton.address, name, 10_000, shared=shared, key=triton.memory_key)
                for name in ("rows", "others")
            )
            inputs = shared.room(8)
            inputs[:] = windows(8)
            async with first:
                async with second:
                    answers = await asyncio.gather(first.infer(inputs), second.infer(inputs))
                    registration = shared.registration
                    for _ in range(3):
                        again = await asyncio.gather(second.infer(inputs), first.infer(inputs))
                        np.testing.assert_array_equal(again[0].outputs, answers[1].outputs)
                        np.testing.assert_array_equal(again[1].outputs, answers[0].outputs)
                    assert shared.registration == registration == 1
                    assert not np.array_equal(answers[0].outputs, answers[1].outputs)
                assert shared.name in await regions(triton)
                np.testing.assert_array_equal((await first.infer(inputs)).outputs, answers[0].outputs)
            assert shared.name not in await regions(triton)


async def test_it_is_taken_back_from_a_triton_that_still_reads_it(triton: EmbeddedTriton) -> None:
    async with grpc.aio.insecure_channel(triton.address) as channel:
        with SharedWindows(ROWS_MAX, (WINDOW, COLUMNS)) as shared:
            model = TritonModel(triton.address, "rows", 10_000, shared=shared, key=triton.memory_key)
            await model.__aenter__()
            await model.infer(windows(1))
            request = service_pb2.ModelInferRequest(
                model_name="rows", inputs=[{"name": "features", "datatype": "FP32", "shape": (1, WINDOW, COLUMNS)}]
            )
            parameters = request.inputs[0].parameters
            parameters["shared_memory_region"].string_param = shared.name
            parameters["shared_memory_byte_size"].int64_param = 4 * WINDOW * COLUMNS
            frozen = stubs(triton)
            for stub in frozen:
                await freeze(stub)
            reader = asyncio.ensure_future(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request))
            try:
                await asyncio.sleep(0.3)  # until it has the request
                leaving = asyncio.ensure_future(model.__aexit__())
                await asyncio.sleep(0.3)
                assert not leaving.done() and shared.name in await regions(triton)
            finally:
                for stub in frozen:
                    stub.resume()
            await reader
            await leaving
            assert shared.name not in await regions(triton)


def test_an_absence_that_was_repaired_meanwhile_is_not_repaired_again() -> None:
    shared = SharedWindows(ROWS_MAX, (WINDOW, COLUMNS))
    shared.registered()
    lost = shared.registration
    shared.forgotten(lost)  # by a request to the new tritonserver
    shared.registered()
    shared.forgotten(lost)  # by another one, sent before
    assert shared.registration == lost + 1
