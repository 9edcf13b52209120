"""`candlecast up` with the setting triton_backend: the program is made when it is absent, and forecasts come by it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from candlecast.cli import up
from candlecast.errors import ConfigurationError
from candlecast.models.bundle import Bundle
from candlecast.settings import CHECKOUT, load
from tests.stack import Stack


def test_up_makes_the_program_once_and_serves_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o755)  # PostgreSQL may run as another user
    bundle = tmp_path / "models" / "patchtst" / "1"
    shutil.copytree(CHECKOUT / "triton_models", tmp_path / "models")
    assert not Bundle.load(bundle).has_program
    monkeypatch.setenv("CANDLECAST_TRITON_BACKEND", "pytorch_cpu")
    monkeypatch.setenv("CANDLECAST_MODEL_REPOSITORY", str(tmp_path / "models"))
    stack = Stack(tmp_path / "state")
    stack.start(timeout_s=180)
    try:
        assert "making model.pt2" in stack.output
        stubs = [p for p in stack.processes()["tritonserver"].children(recursive=True) if "stub" in p.name()]
        assert any("torch" in region.path for region in stubs[0].memory_maps())
    finally:
        assert stack.stop() == 0
    assert Bundle.load(bundle).has_program

    asyncio.run(up._served(load()))  # as the next start does

    assert "making" not in capsys.readouterr().err


def test_requests_larger_than_a_run_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="batch_rows_max: 65 is over 64, the most that triton_backend onnx"):
        up._how_to_run(load(batch_rows_max=65))
    with pytest.raises(ConfigurationError, match="over 64, the most that triton_backend pytorch_cpu"):
        up._how_to_run(load(batch_rows_max=65, triton_backend="pytorch_cpu"))
    assert up._how_to_run(load()) == {}
    on_gpu = up._how_to_run(load(batch_rows_max=256, triton_backend="pytorch"))
    assert (on_gpu["config"], on_gpu["gpu"]) == ("pytorch", True)
    assert not up._how_to_run(load(triton_backend="pytorch_cpu"))["gpu"]
