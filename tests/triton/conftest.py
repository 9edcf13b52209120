"""A real tritonserver and a small ONNX model whose answer depends on every value of its row."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from candlecast.lifecycle import poll
from candlecast.settings import CHECKOUT
from candlecast.triton.client import TritonModel
from candlecast.triton.embedded import SHM_DIR, EmbeddedTriton
from candlecast.triton.repository import render_config

WINDOW, COLUMNS, OUTPUTS = 96, 8, 20
ENV_DIR = CHECKOUT / ".venv-triton"
F32 = NDArray[np.float32]


def windows(batch: int, seed: int = 0) -> F32:
    """Return [batch, window, column] of small integers: every sum of the model is exact, in whatever order."""
    return np.random.default_rng(seed).integers(-4, 5, (batch, WINDOW, COLUMNS)).astype(np.float32)


def onnx_bytes(seed: int = 7) -> bytes:
    """Return the model: one matrix of small integers applied to the flattened window."""
    weights = np.random.default_rng(seed).integers(-3, 4, (WINDOW * COLUMNS, OUTPUTS)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["features", "shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["outputs"]),
        ],
        "rows",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WINDOW, COLUMNS])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", OUTPUTS])],
        [
            numpy_helper.from_array(np.array([-1, WINDOW * COLUMNS]), "shape"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_model(repository: Path, *, name: str = "rows", content: bytes | None = None, config: str = "") -> Path:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / "model.onnx").write_bytes(onnx_bytes() if content is None else content)
    (repository / name / "config.pbtxt").write_text(config or render_config(name, WINDOW, COLUMNS, OUTPUTS))
    return repository


def left_behind(triton: EmbeddedTriton, group: int) -> list[str]:
    """Return what is left of a server: live processes of its group, entries of its shared memory."""
    processes = [
        f"process {process.info['name']}"
        for process in psutil.process_iter(["pid", "name", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and _group(process.info["pid"]) == group
    ]
    return processes + [f"shm {path.name}" for path in SHM_DIR.glob(f"{triton.shm_prefix}*")]


async def gone(triton: EmbeddedTriton, group: int) -> None:
    """Wait until nothing is left of a server that is ending."""
    async with asyncio.timeout(5):
        while True:
            if not left_behind(triton, group):
                return
            await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def stubs(triton: EmbeddedTriton) -> list[psutil.Process]:
    """The living ones: a stub that has ended stays a zombie until Triton reaps it."""
    children = psutil.Process(triton.pid).children(recursive=True)
    return [process for process in children if "stub" in _program(process)]


def _program(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return "".join(process.cmdline()[:1])
    return ""


async def freeze(process: psutil.Process) -> None:
    """Stop a process and wait until all of its threads stand still."""

    async def still() -> bool:
        return all(") T " in _stat(process.pid, thread.id) for thread in process.threads())

    process.suspend()
    await poll("a standstill", still, timeout_ms=5_000, interval_ms=5)


def _stat(pid: int, thread: int) -> str:
    return Path(f"/proc/{pid}/task/{thread}/stat").read_text()


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


@pytest.fixture(scope="session")
def reference() -> Callable[[F32], F32]:
    """The same model by ONNX Runtime in this process."""
    session = onnxruntime.InferenceSession(onnx_bytes(), providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["outputs"], {"features": inputs})[0]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., EmbeddedTriton]:
    """Return a maker of servers of this test's own, for a repository it has written."""

    def make(repository: Path, **changes: object) -> EmbeddedTriton:
        arguments = {"env_dir": ENV_DIR, "models": ["rows"], "work_dir": tmp_path / "work"} | changes
        return EmbeddedTriton(repository=repository, **arguments)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
async def triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedTriton]:
    """The server that tests share and leave unhurt."""
    root = tmp_path_factory.mktemp("triton")
    repository = write_model(root / "repository")
    async with EmbeddedTriton(
        env_dir=ENV_DIR, repository=repository, models=["rows"], work_dir=root / "work"
    ) as triton:
        yield triton


@pytest.fixture(scope="session")
async def model(triton: EmbeddedTriton) -> AsyncIterator[TritonModel]:
    async with TritonModel(triton.address, "rows", timeout_ms=10_000) as model:
        yield model
