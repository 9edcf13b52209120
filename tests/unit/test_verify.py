"""A version before Triton sees it: what is no model, or breaks its reader, is refused. The twelve: test_dropped.py."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from candlecast.errors import ModelRefused, Refusal
from candlecast.models import bundle, ensemble
from candlecast.models.verify import Trials, verify
from candlecast.settings import CHECKOUT
from tests import bad_models
from tests.bundles import walked

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
    bad_models.good(tmp_path / "1")

    measured = await verify(tmp_path / "1", 1, TRIALS)

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


def two(root: Path, *, seed: int = 0) -> Path:
    """Write an ensemble of two into a repository; a seed other than 0 spoils the second."""
    first = bad_models.good(root / "patchtst" / "1", metrics=walked(1.0))
    other = bad_models.tiny(seed) if seed else None
    second = bad_models.good(root / "lstm" / "1", name="lstm", metrics=walked(1.05), onnx=other)
    return ensemble.write(root / "ensemble" / "1", ensemble.weigh([first, second], 1)).path


async def test_each_member_of_an_ensemble_is_tried_and_their_times_add_up(tmp_path: Path) -> None:
    trials = replace(TRIALS, name="ensemble")
    measured = await verify(two(tmp_path), 1, trials)

    members = measured["members"]
    assert {name: one["weight"] for name, one in members.items()} == {"patchtst v1": 0.666667, "lstm v1": 0.333333}
    assert measured["window_ms"] == pytest.approx(sum(one["window_ms"] for one in members.values()), abs=1e-3)

    slowest = max(one["window_ms"] for one in members.values())
    with pytest.raises(ModelRefused, match="its members take") as refused:
        await _verify_as_if_each_took(slowest, tmp_path, replace(trials, window_ms_max=1.5 * slowest))
    assert refused.value.refusal is Refusal.TOO_SLOW


async def _verify_as_if_each_took(window_ms: float, root: Path, trials: Trials) -> None:
    async def tried(folder: Path, trials: Trials) -> dict[str, float]:
        return {"window_ms": window_ms}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("candlecast.models.verify.tried", tried)
        await verify(root / "ensemble" / "1", 1, trials)


async def test_a_member_that_does_not_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="GOLDEN_MISMATCH: lstm v1: "):
        await verify(two(tmp_path, seed=5), 1, replace(TRIALS, name="ensemble"))


async def test_an_ensemble_is_none_of_a_models_versions_and_no_model_goes_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="WRONG_MODEL"):
        await verify(two(tmp_path), 1, TRIALS)
    bad_models.good(tmp_path / "1", name="ensemble")
    with pytest.raises(ModelRefused, match=r"WRONG_MODEL: .*the name of ensembles"):
        await verify(tmp_path / "1", 1, replace(TRIALS, name="ensemble"))
