"""Versions come and go beside one that answers: what the real tritonserver does in explicit mode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from candlecast.errors import ModelUnavailable
from candlecast.lifecycle import poll
from candlecast.triton.client import TritonModel
from candlecast.triton.control import READY, Control
from candlecast.triton.embedded import EmbeddedTriton
from tests.triton.conftest import ENV_DIR, onnx_bytes, stubs, windows, write_model


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("versions") / "repository")


@pytest.fixture(scope="module")
async def own(repository: Path) -> AsyncIterator[EmbeddedTriton]:
    async with EmbeddedTriton(
        env_dir=ENV_DIR, repository=repository, models=["rows"], work_dir=repository.parent / "work"
    ) as triton:
        yield triton


def publish(repository: Path, version: int, content: bytes) -> None:
    new = repository / "rows" / ".new"
    new.mkdir()
    (new / "model.onnx").write_bytes(content)
    new.rename(repository / "rows" / str(version))


def withdraw(repository: Path, version: int) -> None:
    (repository / "rows" / str(version)).rename(repository.parent / f"gone-{version}-{time.monotonic_ns()}")


@asynccontextmanager
async def asked(model: TritonModel) -> AsyncIterator[list[float]]:
    """Ask a version again and again; every answer must come, and be its own."""
    inputs = windows(3)
    expected = (await model.infer(inputs)).outputs
    stop, took_ms = asyncio.Event(), list[float]()

    async def ask() -> None:
        while not stop.is_set():
            begun = time.perf_counter()
            answer = await model.infer(inputs)
            took_ms.append((time.perf_counter() - begun) * 1e3)
            np.testing.assert_array_equal(answer.outputs, expected)
            await asyncio.sleep(0.002)

    task = asyncio.create_task(ask())
    try:
        yield took_ms
    finally:
        stop.set()
        await task


async def test_a_further_version_comes_and_goes_without_a_word_from_the_one_that_answers(
    own: EmbeddedTriton, repository: Path, record_property
) -> None:
    first_stubs = {process.pid for process in stubs(own)}
    async with (
        Control(own.address, own.control_header[1], timeout_ms=20_000) as control,
        TritonModel(own.address, "rows", timeout_ms=5_000, version="2") as second,
    ):
        first = await TritonModel(own.address, "rows", timeout_ms=5_000, version="1").__aenter__()
        async with asked(first) as took_ms:
            await asyncio.sleep(0.3)
            quiet = np.percentile(took_ms, 99)
            begun = time.monotonic()
            publish(repository, 2, onnx_bytes(seed=8))
            await control.load("rows")
            load_s = time.monotonic() - begun
            assert (await second.infer(windows(3))).version == "2"
            assert {state for state, _ in (await control.versions("rows")).values()} == {READY}
            both_stubs = {process.pid for process in stubs(own)}
            assert len({process.nice() for process in stubs(own)}) == 1, "one gives way although it answers"
            assert first_stubs < both_stubs, "version 1 was loaded again"

            publish(repository, 3, b"no model")
            with pytest.raises(ModelUnavailable, match="3"):
                await control.load("rows")
            assert {process.pid for process in stubs(own)} == both_stubs
            withdraw(repository, 3)

        await first.__aexit__()  # a stream that asked version 1 would keep it
        async with asked(second):
            withdraw(repository, 1)
            await control.load("rows")

            async def only_its_stubs_are_left() -> bool:
                return {process.pid for process in stubs(own)} == both_stubs - first_stubs

            await poll("the end of the stubs of version 1", only_its_stubs_are_left, timeout_ms=10_000)
            assert [v for v, (state, _) in (await control.versions("rows")).items() if state == READY] == [2]
        async with TritonModel(own.address, "rows", timeout_ms=5_000, version="1") as gone:
            with pytest.raises(ModelUnavailable):
                await gone.infer(windows(1))
    record_property("load_s", round(load_s, 2))
    record_property("p99_ms", [round(float(quiet), 1), round(float(np.percentile(took_ms, 99)), 1)])
    print(f"load {load_s:.2f} s; p99 quiet {quiet:.1f} ms, with loads {np.percentile(took_ms, 99):.1f} ms")


async def test_whoever_has_no_key_loads_nothing(own: EmbeddedTriton) -> None:
    async with Control(own.address, None, timeout_ms=5_000) as control:
        with pytest.raises(ModelUnavailable, match="restricted"):
            await control.load("rows")
