"""A version before Triton sees it: what is no model, or breaks its reader, is refused. The twelve: test_dropped.py."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from candlecast.errors import ModelRefused, Refusal
from candlecast.models import bundle
from candlecast.models.verify import Trials, verify
from candlecast.settings import CHECKOUT
from tests import bad_models

TRIALS = Trials(
    python=CHECKOUT / ".venv-triton" / "bin" / "python3",
    name="patchtst",
    reference_symbol="BTCUSDT",
    bytes_max=256 * 1024**2,
    memory_bytes_max=1024**3,
    timeout_ms=20_000,
    window_ms_max=5,
)


async def test_a_good_model_holds_and_is_measured(tmp_path: Path) -> None:
    written = bad_models.good(tmp_path / "1")

    loaded, measured = await verify(tmp_path / "1", 1, TRIALS)

    assert loaded.sha256 == written.sha256
    assert 0 < measured["window_ms"] < 5
    assert measured["golden_error"] < 1e-5


async def test_the_shipped_model_holds() -> None:
    await verify(CHECKOUT / "triton_models" / "patchtst" / "1", 1, replace(TRIALS, window_ms_max=50))


async def test_one_that_swells_is_refused_and_takes_no_more_than_it_may(tmp_path: Path) -> None:
    bad_models.swells_on_load(tmp_path / "1")

    with pytest.raises(ModelRefused) as refused:
        await verify(tmp_path / "1", 1, TRIALS)

    assert refused.value.refusal is Refusal.TOO_LARGE


async def test_other_values_than_the_golden_ones_are_refused(tmp_path: Path) -> None:
    bad_models.good(tmp_path / "1", onnx=bad_models.tiny(seed=1))

    with pytest.raises(ModelRefused) as refused:
        await verify(tmp_path / "1", 1, TRIALS)

    assert refused.value.refusal is Refusal.GOLDEN_MISMATCH


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "golden_inputs.npy", "manifest.json"])
async def test_a_pipe_in_the_place_of_a_file_is_refused_and_never_read(tmp_path: Path, name: str) -> None:
    bad_models.good(tmp_path / "1")
    (tmp_path / "1" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "1" / name)

    with pytest.raises(ModelRefused) as refused:
        await verify(tmp_path / "1", 1, TRIALS)

    assert refused.value.refusal is Refusal.DAMAGED


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{}", '{"name": "gate"}'])
async def test_a_manifest_made_to_break_its_reader_is_refused(tmp_path: Path, text: str) -> None:
    bad_models.good(tmp_path / "1")
    (tmp_path / "1" / "manifest.json").write_text(text)

    with pytest.raises(ModelRefused) as refused:
        await verify(tmp_path / "1", 1, TRIALS)

    assert refused.value.refusal is Refusal.DAMAGED


async def test_an_array_whose_header_promises_terabytes_is_refused(tmp_path: Path) -> None:
    bad_models.good(tmp_path / "1")
    path, manifest_path = tmp_path / "1" / bundle.GOLDEN_OUTPUTS, tmp_path / "1" / "manifest.json"
    content = path.read_bytes()
    promising = content.replace(b"(4, 20), }" + b" " * 11, b"(99999999999, 20), } ")
    assert len(promising) == len(content) and promising != content
    path.write_bytes(promising)
    manifest = json.loads(manifest_path.read_text())
    manifest["files"][bundle.GOLDEN_OUTPUTS] = hashlib.sha256(promising).hexdigest()
    manifest_path.write_text(json.dumps(manifest))

    with pytest.raises(ModelRefused) as refused:
        await verify(tmp_path / "1", 1, TRIALS)

    assert refused.value.refusal is Refusal.DAMAGED
