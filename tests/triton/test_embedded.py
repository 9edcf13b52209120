"""What EmbeddedTriton promises: starts that tell why they failed, stops that leave nothing."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from candlecast.errors import ConfigurationError, ModelUnavailable
from candlecast.triton.client import TritonModel
from candlecast.triton.embedded import SHM_DIR, EmbeddedTriton
from candlecast.triton.environment import Environment
from candlecast.triton.repository import render_config
from tests.triton.conftest import (
    COLUMNS,
    ENV_DIR,
    F32,
    OUTPUTS,
    WINDOW,
    gone,
    onnx_bytes,
    stubs,
    windows,
    write_model,
)

Make = Callable[..., EmbeddedTriton]
Reference = Callable[[F32], F32]


async def test_it_listens_on_loopback_grpc_alone(triton: EmbeddedTriton) -> None:
    sockets = [
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for process in [psutil.Process(triton.pid), *stubs(triton)]
        for connection in process.net_connections(kind="inet")
        if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    ]
    assert sockets == [("127.0.0.1", int(triton.address.rpartition(":")[2]))]


async def test_it_can_be_entered_again_and_leaves_nothing(make: Make, tmp_path: Path, reference: Reference) -> None:
    triton = make(write_model(tmp_path / "repository"))
    for _ in range(2):
        async with triton, TritonModel(triton.address, "rows", timeout_ms=5_000) as model:
            await model.check_golden(windows(4), reference(windows(4)))
            group = triton.pid
            assert any(SHM_DIR.glob(f"{triton.shm_prefix}*"))
        assert await triton.wait() == 0
        await gone(triton, group)
    assert (tmp_path / "work" / "triton.log.1").exists()


def test_a_stub_gives_way_before_it_imports_what_takes_long(tmp_path: Path) -> None:
    environment, backends = Environment.find(ENV_DIR), tmp_path / "backends"
    environment.lay_out(backends)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import triton_python_backend_utils; print(*sys.modules)"
    command = [ENV_DIR / "bin" / "python", "-c", code, backends / "python"]
    modules = subprocess.run(command, env=environment.variables, capture_output=True, text=True, check=True).stdout
    assert 0 < modules.index(" giving_way ") < modules.index(" numpy ")


@pytest.mark.parametrize(
    ("content", "columns", "reason"),
    [
        (onnx_bytes()[:2000], COLUMNS, "Protobuf parsing failed"),
        (b"", COLUMNS, "model.onnx"),
        (onnx_bytes(), COLUMNS + 1, r"\['batch', 96, 8\] in the model, TYPE_FP32 \[-1, 96, 9\] in config.pbtxt"),
    ],
    ids=["truncated", "empty", "shape"],
)
async def test_a_model_that_does_not_fit_fails_the_start_with_the_reason(
    make: Make, tmp_path: Path, content: bytes, columns: int, reason: str
) -> None:
    config = render_config("rows", WINDOW, columns, OUTPUTS)
    triton = make(write_model(tmp_path / "repository", content=content, config=config))
    with pytest.raises(ModelUnavailable, match=reason):
        await triton.__aenter__()
    await gone(triton, triton.pid)


async def test_a_start_that_takes_too_long_says_so_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    triton = make(write_model(tmp_path / "repository"), start_timeout_ms=1)
    with pytest.raises(ModelUnavailable, match=r"not ready within 0\.001 s"):
        await triton.__aenter__()
    await gone(triton, triton.pid)


async def test_a_start_that_cannot_succeed_says_what_to_change(make: Make, tmp_path: Path) -> None:
    repository = write_model(tmp_path / "repository")
    with pytest.raises(ConfigurationError, match="run `make`"):
        await make(repository, env_dir=tmp_path / "nowhere").__aenter__()
    with pytest.raises(ConfigurationError, match="no model 'nobody'"):
        await make(repository, models=["nobody"]).__aenter__()
    with pytest.raises(ConfigurationError, match="shell"):
        await make(repository, work_dir=tmp_path / "a b").__aenter__()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port} is not free"):
            await make(repository, port=port).__aenter__()
